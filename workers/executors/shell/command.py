"""What to run, and the running of it, from the worker's side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cgroups, keeper, remains
from .doorway import Doorway
from .mode import NAMESPACE, OFF, mode, network, wrapped
from .output import Filter, OnOutput, Output
from .view import View

SHELL = "/bin/sh"
PASSED_ON = ("PATH", "LANG", "TERM")
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
DRAIN_SECONDS = 2.0  # how long to read on after the command is gone
OVERDUE_SECONDS = 10.0  # past the keeper's own limits: it hangs or was stopped
CHUNK_BYTES = 256 * 1024
MAX_DRAINED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the kernel enforces; None leaves one as it is.

    ``memory`` (bytes) and ``processes`` bound the command as a whole where it gets a control
    group. Elsewhere ``memory`` bounds the addresses of each process, and ``processes`` counts
    those of the user; root is then not bounded. ``fsize`` (bytes) is for each file.
    """

    fsize: int | None = 8 * 2**30
    processes: int | None = None
    memory: int | None = None
    core: int = 0

    def as_rlimits(self, grouped: Collection[str], *, alone: bool) -> dict[str, int]:
        """Return those that the group does not enforce, by the kernel's names.

        ``alone`` tells whether the kernel counts the command's processes apart from others.
        """
        named: dict[str, int | None] = {"fsize": self.fsize, "core": self.core}
        if "memory" not in grouped:
            named["as"] = self.memory
        if "processes" not in grouped and self.processes is not None:
            own = cgroups.OWN_PROCESSES if alone else remains.count_of_user()
            named["nproc"] = self.processes + own
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Command:
    """One command line for ``/bin/sh -c`` and its terms.

    ``folder`` is the attempt's own: the record of the command's processes is kept there. Where
    bubblewrap is on the command sees what ``view`` says; without anything writable in it, its
    ``cwd`` is. Off the network it can still call the ``reach`` of this machine (host, port).
    ``opening`` is the first that it reads from its standard input, which then stays open for
    more; with None it has no input.
    """

    run: str
    cwd: Path
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 600
    grace_seconds: float = 5
    limits: Limits = field(default_factory=Limits)
    view: View = field(default_factory=View)
    reach: tuple[str, int] | None = None
    sandbox: str = "auto"
    opening: str | None = None


@dataclass(frozen=True, slots=True)
class Confined:
    """What held a command: the mode's name, how it stood to the network, what limits it had.

    ``network`` is on, off, or open: on although it should have been off, which can't be done
    here. ``group`` names the limits that held for all its processes together.
    """

    mode: str
    network: str
    group: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"mode": self.mode, "network": self.network, "group": list(self.group)}


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. ``error`` is set when it could not be run or watched to its end."""

    exit_code: int | None
    signal: int | None
    timed_out: bool
    cancelled: bool
    duration_seconds: float
    output_tail: str
    output_bytes: int
    truncated: bool
    survivors: int
    error: str | None
    confined: Confined

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and not (self.timed_out or self.cancelled or self.error)


def environment(
    *,
    home: Path,
    tmp: Path,
    extra: Mapping[str, str],
    also: Iterable[str] = (),
    source: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return a command's whole environment: an allowlist of ours, then ``extra``.

    Nothing else of this process's environment gets through; ``also`` names further variables
    an operator lets pass. Python is unbuffered, so that its output is live.
    """
    env = {name: source[name] for name in (*PASSED_ON, *also) if source.get(name)}
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("LANG", "C.UTF-8")
    env.setdefault("TERM", "dumb")
    return {
        **env,
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


class Execution:
    """One run of a command: ``run`` blocks until nothing is left of it, ``cancel`` ends it.

    ``on_text`` gets this execution, a stream's name and text the moment it is read, also past
    the cap of what is handed on; with ``tick_seconds`` it is called that often with no text,
    too. It may answer the command by ``send`` and ``hang_up``, which no other thread may call.
    """

    def __init__(
        self,
        command: Command,
        on_output: OnOutput,
        *,
        new_filter: Callable[[], Filter] | None = None,
        on_text: Callable[[Execution, str, str], None] | None = None,
        tick_seconds: float | None = None,
        **output: Any,
    ) -> None:
        self.command = command
        self.id = uuid.uuid4().hex
        self._on_text, self._tick_seconds = on_text, tick_seconds if on_text else None
        listen = None if on_text is None else lambda stream, text: on_text(self, stream, text)
        self._output = Output(on_output, new_filter=new_filter, on_text=listen, **output)
        self._unsent = bytearray((command.opening or "").encode())
        self._over_at: float | None = None  # when what was hung up on must have ended
        # Re-entrant: a signal handler may cancel while this very thread holds it.
        self._lock = threading.RLock()
        self._control: int | None = None
        self._order = b""
        self._group: cgroups.Group | None = None
        self._doorway: Doorway | None = None
        self._survivors = 0
        self._mode = mode(command.sandbox)
        self._network = network(command.view, command.sandbox)

    def cancel(self, *, at_once: bool = False) -> None:
        """Have the command ended, ``at_once`` or after its grace. Any thread, at any time."""
        with self._lock:
            order = b"K" if at_once else b"T"
            self._order += order
            if self._control is not None:
                with contextlib.suppress(OSError):
                    os.write(self._control, order)

    def send(self, text: str) -> None:
        """Give the command more to read. Never blocks; what it doesn't read in time is lost."""
        self._unsent += text.encode()

    def hang_up(self, within_seconds: float) -> None:
        """Close the command's input, and end it unless it ends by itself within the seconds."""
        if self._over_at is None:
            self._over_at = time.monotonic() + within_seconds

    def flush(self) -> None:
        """Hand on what was read so far."""
        self._output.flush()

    def run(self) -> Result:
        """Run the command and return how it ended; nothing of it is left then.

        Raises what the output callback raises, after the command is ended.
        """
        began = time.monotonic()
        if self._order:
            return self._result({"cancelled": True}, began)
        pipes = _Pipes(talks=self.command.opening is not None)
        try:
            report = self._keep(pipes, began)
        except OSError as error:
            self._tidy()
            report = {"error": f"The command could not be started: {error}."}
        finally:
            pipes.close()
        return self._result(report, began)

    def _keep(self, pipes: _Pipes, began: float) -> dict[str, Any]:
        process = self._start(pipes)
        report: dict[str, Any] | None = None
        try:
            pipes.close_far_ends()
            self._instruct(pipes, process)
            report = self._follow(pipes, process, began)
            self._output.close()
        except BaseException:
            # The callback refused, or a signal ends this worker: so ends the command.
            self.cancel(at_once=True)
            raise
        finally:
            self._finish(pipes, process, report)
        return report or {
            "signal": int(signal.SIGKILL),
            "cancelled": bool(self._order),
            "survivors": self._survivors,
            "error": "The process that keeps the command was killed or hung; the command was "
            "ended with it.",
        }

    def _start(self, pipes: _Pipes) -> subprocess.Popen[bytes]:
        command, limits = self.command, self.command.limits
        argv = [sys.executable, "-I", "-S", keeper.__file__]
        argv += [str(pipes.control_read), str(pipes.report_write)]
        view = command.view
        if not view.writable:
            view = dataclasses.replace(view, writable=(command.cwd,))
        argv = wrapped(argv, command.sandbox, view, command.env.get("PATH", DEFAULT_PATH))
        passed = [pipes.control_read, pipes.report_write]
        if self._network == OFF and command.reach is not None:
            self._doorway = Doorway(command.reach)
            passed.append(self._doorway.theirs.fileno())
        self._group = cgroups.make(self.id, memory=limits.memory, processes=limits.processes)
        if self._group is not None:
            argv = self._group.entering(argv)
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if pipes.in_read is None else pipes.in_read,
            stdout=pipes.out_write,
            stderr=pipes.err_write,
            pass_fds=passed,
            env={"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", remains.MARK: self.id},
            cwd=command.folder,
            start_new_session=True,
        )

    def _instruct(self, pipes: _Pipes, process: subprocess.Popen[bytes]) -> None:
        """Put the command on record, then let it start: the keeper waits for its orders."""
        command = self.command
        self._put_on_record(process.pid)
        spec = {
            "argv": [SHELL, "-c", command.run],
            "env": {**command.env, remains.MARK: self.id},
            "cwd": str(command.cwd),
            "timeout_seconds": command.timeout_seconds,
            "grace_seconds": command.grace_seconds,
            "limits": command.limits.as_rlimits(
                self._group.limits if self._group else (), alone=self._in_namespace
            ),
            "door": self._doorway.theirs.fileno() if self._doorway else None,
            "port": command.reach[1] if command.reach else None,
        }
        with self._lock:
            data = memoryview(json.dumps(spec).encode() + b"\n" + self._order)
            while data:
                data = data[os.write(pipes.control_write, data) :]
            self._control = pipes.control_write

    @property
    def _in_namespace(self) -> bool:
        return self._mode.name == NAMESPACE

    def _put_on_record(self, leader: int, pid: int | None = None) -> None:
        groups = self._group.folders if self._group else ()
        remains.write(self.command.folder, self.id, leader, pid, groups)

    def _follow(
        self, pipes: _Pipes, process: subprocess.Popen[bytes], began: float
    ) -> dict[str, Any] | None:
        """Read output and reports until all ends are closed; return the keeper's last report."""
        command = self.command
        reports = _Reports()
        give_up = began + command.timeout_seconds + command.grace_seconds
        give_up += keeper.SETTLE_SECONDS + OVERDUE_SECONDS
        drained = 0
        tick_at = began
        with selectors.DefaultSelector() as selector:
            selector.register(pipes.report_read, selectors.EVENT_READ, "report")
            selector.register(pipes.out_read, selectors.EVENT_READ, "stdout")
            selector.register(pipes.err_read, selectors.EVENT_READ, "stderr")
            while self._await_room(selector, pipes):
                now = time.monotonic()
                pauses = [max(0.0, give_up - now)]
                if (due_in := self._output.due_in()) is not None:
                    pauses.append(due_in)
                if self._tick_seconds is not None and not reports.ended:
                    pauses.append(max(0.0, tick_at - now))
                if self._over_at is not None and not self._order:
                    pauses.append(max(0.0, self._over_at - now))
                ready = selector.select(min(pauses))
                over = pauses[0] == 0.0
                now = time.monotonic()
                if self._over_at is not None and now >= self._over_at and not self._order:
                    self.cancel()
                if self._tick_seconds is not None and now >= tick_at and not reports.ended:
                    tick_at = now + self._tick_seconds
                    assert self._on_text is not None
                    self._on_text(self, "", "")
                for key, _ in ready:
                    if key.data == "input":
                        self._write(pipes)
                        continue
                    data = os.read(key.fd, CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fd)
                    if key.data == "report":
                        for heard in reports.feed(data):
                            if (pid := heard.get("started")) and not self._in_namespace:
                                self._put_on_record(process.pid, pid)
                        if not data:
                            # All is over; what the pipes still hold is worth a moment.
                            give_up = time.monotonic() + DRAIN_SECONDS
                    elif data:
                        self._output.feed(key.data, data)
                        drained += len(data) if reports.ended else 0
                    else:
                        self._output.end(key.data)
                if self._output.due_in() == 0.0:
                    self._output.flush()
                # An escaped process could go on writing into the pipes for ever.
                if over and (not ready or drained > MAX_DRAINED_BYTES):
                    break
        return reports.last

    def _await_room(self, selector: selectors.BaseSelector, pipes: _Pipes) -> bool:
        """Have the selector wait for room in the command's input if there is something to send;
        return whether anything but that is waited for."""
        waiting = selector.get_map()
        if pipes.in_write is not None:
            asked = pipes.in_write in waiting
            if self._unsent and not asked:
                selector.register(pipes.in_write, selectors.EVENT_WRITE, "input")
            elif asked and not self._unsent:
                selector.unregister(pipes.in_write)
            if self._over_at is not None and not self._unsent:
                pipes.close_input()
        return any(key.data != "input" for key in waiting.values())

    def _write(self, pipes: _Pipes) -> None:
        """Send as much as there is room for; what nobody reads any more is dropped."""
        assert pipes.in_write is not None
        try:
            del self._unsent[: os.write(pipes.in_write, self._unsent[:CHUNK_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    def _finish(
        self,
        pipes: _Pipes,
        process: subprocess.Popen[bytes],
        report: Mapping[str, Any] | None,
    ) -> None:
        """Leave nothing behind: not the keeper, not what it failed to end, not the record."""
        with self._lock:
            self._control = None
        pipes.close_control()
        try:
            process.wait(keeper.SETTLE_SECONDS + 2)
        except subprocess.TimeoutExpired:
            process.kill()
        if report is None or report.get("survivors"):
            try:
                remains.end(self.command.folder, self.id)
            except remains.StillAlive:
                self._survivors = 1
        process.wait()
        self._tidy()

    def _tidy(self) -> None:
        """Remove what was made around the command."""
        if self._doorway is not None:
            self._doorway.close()
        if self._group is not None and not cgroups.end(self._group.folders):
            self._survivors = self._survivors or 1
        if not self._survivors:
            remains.forget(self.command.folder, self.id)

    def _result(self, report: Mapping[str, Any], began: float) -> Result:
        return Result(
            exit_code=report.get("exit_code"),
            signal=report.get("signal"),
            timed_out=bool(report.get("timed_out")),
            cancelled=bool(report.get("cancelled")),
            duration_seconds=round(time.monotonic() - began, 3),
            output_tail=self._output.tail(),
            output_bytes=self._output.bytes,
            truncated=self._output.truncated,
            survivors=max(int(report.get("survivors") or 0), self._survivors),
            error=report.get("error"),
            confined=Confined(
                self._mode.name,
                self._network,
                tuple(sorted(self._group.limits)) if self._group else (),
            ),
        )


class _Reports:
    """What the keeper says, line by line."""

    def __init__(self) -> None:
        self._buffer = b""
        self.last: dict[str, Any] | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the whole lines in ``data``, decoded; no data means the end."""
        self.ended = not data
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        heard: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for item in heard:
            if "exit_code" in item:
                self.last = item
        return heard


class _Pipes:
    """The pipes between a worker and a keeper, each end closed exactly once.

    The one to the command's input is there if the command ``talks``.
    """

    def __init__(self, *, talks: bool = False) -> None:
        self._open: set[int] = set()
        self.in_read: int | None = None
        self.in_write: int | None = None
        if talks:
            self.in_read, self.in_write = self._pipe()
            os.set_blocking(self.in_write, False)
        self.control_read, self.control_write = self._pipe()
        self.report_read, self.report_write = self._pipe()
        self.out_read, self.out_write = self._pipe()
        self.err_read, self.err_write = self._pipe()

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def _close(self, *ends: int) -> None:
        for end in ends:
            if end in self._open:
                self._open.remove(end)
                os.close(end)

    def close_far_ends(self) -> None:
        """Close what only the keeper may hold, so that its end is seen."""
        self._close(self.control_read, self.report_write, self.out_write, self.err_write)
        if self.in_read is not None:
            self._close(self.in_read)

    def close_input(self) -> None:
        """Tell the command that nothing more will be said to it."""
        if self.in_write is not None:
            self._close(self.in_write)
            self.in_write = None

    def close_control(self) -> None:
        """Tell the keeper that nobody waits any longer."""
        self._close(self.control_write)

    def close(self) -> None:
        self._close(*tuple(self._open))
