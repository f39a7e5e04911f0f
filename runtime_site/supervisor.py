"""Keeps the parts running: starts them, starts them again, ends them all.

Run as ``python -m runtime_site.supervisor`` by the ``runtime`` command, which becomes this
process. It imports nothing but the standard library, so that it stays small and has nothing
of its own that could fail.

Nothing is left behind, however it ends. Each part has its own session, so Ctrl-C reaches only
this process, which then asks the parts to end and after a while makes them. On Linux a part
dies with this process even by ``kill -9``, and what a part leaves behind becomes this
process's child, to be ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

GRACE_SECONDS = 8.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: A part that lived this long was well: its next pause is a short one.
WELL_SECONDS = 20.0
#: A part that never was well and ended by itself so often will not come up: give up with one
#: sentence. A SIGKILL comes from outside (a person, the out-of-memory killer) and says nothing
#: about whether the part can come up.
HOPELESS_DEATHS = 4
#: The address is shown when the web answers, or after so long without an answer.
ANSWER_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass
class Part:
    """One child: how to start it and how it fares."""

    name: str
    command: list[str]
    fds: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    deaths: int = 0
    was_well: bool = False
    ended: str = ""


class Supervisor:
    """The parts of one installation on this host."""

    def __init__(self, parts: list[Part], welcome: str, address: tuple[str, int] | None) -> None:
        self.parts = parts
        self._welcome = welcome
        self._address = address
        self._question: socket.socket | None = None  # put to the web process, not answered yet
        self._asked = 0  # how often to stop
        self._me = os.getpid()

    def run(self) -> int:
        """Run until asked to stop, or until a part is hopeless. Return the exit status."""
        wake = self._listen()
        if _libc is not None:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        status = 0
        began = time.monotonic()
        try:
            while not self._asked:
                hopeless = self._tend()
                if hopeless is not None:
                    say(
                        f"the part {hopeless.name} does not come up ({hopeless.ended}); "
                        "its messages above say why."
                    )
                    status = 1
                    break
                pause = self._until_due()
                if self._welcome:
                    pause = min(pause, 0.1)
                    if self._answers() or time.monotonic() - began > ANSWER_SECONDS:
                        sys.stdout.write(f"{self._welcome}\n")
                        sys.stdout.flush()
                        self._welcome = ""
                self._sleep(wake, pause)
        finally:
            self._stop(wake)
        return status

    # -- starting and starting again -----------------------------------------------------------

    def _tend(self) -> Part | None:
        """Reap the dead and start what is due. Return a part that is hopeless, if any."""
        now = time.monotonic()
        for part in self.parts:
            if part.process is not None and part.process.poll() is not None:
                self._mourn(part, now)
                if not part.was_well and part.deaths >= HOPELESS_DEATHS:
                    return part
            if part.process is None and now >= part.due_at:
                self._start(part)
        self._reap_strays()
        return None

    def _start(self, part: Part) -> None:
        part.started_at = time.monotonic()
        part.process = subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            pass_fds=part.fds,
            start_new_session=True,
            preexec_fn=self._tie_child,
            env={**os.environ, "HOLDFAST_PART": part.name},
        )

    def _tie_child(self) -> None:
        """In the child, before it becomes the part: let it die with this process."""
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != self._me:
                os._exit(1)

    def _mourn(self, part: Part, now: float) -> None:
        assert part.process is not None
        lived = now - part.started_at
        part.was_well = part.was_well or lived >= WELL_SECONDS
        part.pause = FIRST_PAUSE_SECONDS if lived >= WELL_SECONDS else part.pause
        part.deaths += part.process.returncode != -signal.SIGKILL
        part.ended = spell(part.process.returncode)
        say(f"the part {part.name} ended ({part.ended}).")
        kill_group(part.process.pid)
        part.process = None
        part.due_at = now + part.pause
        part.pause = min(part.pause * 2, LONGEST_PAUSE_SECONDS)

    def _until_due(self) -> float:
        waiting = [part.due_at for part in self.parts if part.process is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 60.0

    def _answers(self) -> bool:
        """Whether the web process answers; always, where there is none.

        Asked again, it waits for the answer to the first question instead of asking another: a
        process that is slow to start would have to answer all of them first.
        """
        if self._address is None:
            return True
        try:
            if self._question is None:
                self._question = socket.create_connection(self._address, timeout=0.5)
                self._question.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = self._question.recv(32)
        except TimeoutError:
            return False
        except OSError:
            answer = b""
        if self._question is not None:
            self._question.close()
            self._question = None
        return answer.startswith(b"HTTP/")

    # -- ending ----------------------------------------------------------------------------------

    def _stop(self, wake: int) -> None:
        """End every part and whatever they left, within GRACE_SECONDS and a little."""
        running = [part.process for part in self.parts if part.process is not None]
        for process in running:
            # The leader alone: django-q ends its pool itself, and a signal to the pool's
            # members would keep it from doing so.
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        ends = time.monotonic() + GRACE_SECONDS
        while any(process.poll() is None for process in running):
            if time.monotonic() >= ends or self._asked > 1:
                break
            self._sleep(wake, 0.1)
        for process in running:
            kill_group(process.pid)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            for process in running:
                process.poll()
            self._reap_strays()
            strays = children()
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not strays:
                return
            time.sleep(0.02)

    def _reap_strays(self) -> None:
        """Reap adopted processes that ended; Popen reaps the parts."""
        known = {part.process.pid for part in self.parts if part.process is not None}
        for pid in children():
            if pid not in known:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    # -- signals -----------------------------------------------------------------------------------

    def _listen(self) -> int:
        """Let signals wake ``_sleep``; return the descriptor it watches."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        return reading

    def _ask(self, *_: Any) -> None:
        self._asked += 1

    def _sleep(self, wake: int, seconds: float) -> None:
        if self._asked and seconds > 1:
            return
        if select.select([wake], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)


def kill_group(leader: int) -> None:
    """Kill what is left of a part's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def children() -> list[int]:
    """Return this process's children, the dead but unreaped included; none without /proc."""
    found = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    me = str(os.getpid()).encode()
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    if file.read().rpartition(b")")[2].split()[1] == me:
                        found.append(int(name))
    return found


def spell(status: int) -> str:
    """Return how a process ended, for people."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"


def say(sentence: str) -> None:
    """Write one line of our own among the parts' logs."""
    when = time.strftime("%H:%M:%S")
    sys.stderr.write(f"{when} runtime warning holdfast: {sentence}\n")
    sys.stderr.flush()


def main(spec: str) -> int:
    """Run the parts that ``spec`` (JSON) describes."""
    told = json.loads(spec)
    parts = [Part(one["name"], one["command"], one["fds"]) for one in told["parts"]]
    address = tuple(told["address"]) if told["address"] else None
    return Supervisor(parts, told["welcome"], address).run()  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
