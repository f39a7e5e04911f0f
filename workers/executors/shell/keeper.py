"""Keeps one command: starts it, ends it on time, and leaves nothing of it behind.

Run as a script (``python -I -S keeper.py``) by the process that wants the command. It is its
own small process because of what must still happen after ``kill -9`` of that process:

    worker ── control ──> keeper ── fork ──> /bin/sh -c …  (own session)
           <── report ──          <── re-parented: whatever the command left behind

* ``control`` is a pipe that only the worker holds open. Its end means the worker is gone, and
  the keeper kills the command at once. No timer, no polling.
* On Linux the keeper is a child subreaper: a descendant that daemonised itself is handed to
  the keeper, not to init, so it is still found, killed and reaped.

The keeper must run where nothing is installed and start fast: standard library only, no
imports from this project.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_CHILD_SUBREAPER = 37

GONE = b"G"  # not said by the worker but by the end of its pipe

LINUX = sys.platform == "linux"
SETTLE_SECONDS = 5.0  # how long to wait for killed processes to be gone
NICE = 5  # the server comes first
OOM_SCORE = 500  # when memory runs out the command goes first, not the server


def prctl(option: int, value: int) -> bool:
    """Return whether the kernel took the option; False where there is no prctl."""
    if not LINUX:
        return False
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def parents() -> dict[int, int]:
    """Return the parent of every process that can be seen; empty where there is no /proc."""
    found: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    found[int(name)] = int(fields[1])
    return found


def descendants(root: int) -> list[int]:
    """Return the living processes below ``root``, nearest first. Zombies don't count."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += below
    return found


class Keeper:
    """One command, from fork to the last of its descendants."""

    def __init__(self, control: int, report: int) -> None:
        self.control, self.report = control, report
        self.pid = 0
        self.status: int | None = None

    def say(self, **what: Any) -> None:
        # Whoever listened may be gone; then the end of ``control`` says so as well.
        with contextlib.suppress(OSError):
            os.write(self.report, json.dumps(what).encode() + b"\n")

    def run(self, spec: dict[str, Any], order: bytes) -> None:
        wake_read, wake_write = os.pipe()
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        # Handlers must exist for the wake-up descriptor to be written to.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        # The pipe is the rule; this covers a copy of its other end that somebody inherited.
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        grace = float(spec["grace_seconds"])
        until = time.monotonic() + float(spec["timeout_seconds"])
        timed_out = cancelled = orphaned = asked = False
        if select.select([self.control], [], [], 0)[0]:
            order += os.read(self.control, 64) or GONE
        if spec.get("door") is not None:
            open_door(spec["door"], spec["port"])
        if order:
            cancelled, orphaned = GONE not in order, GONE in order
        else:
            self.pid = self._start(spec)
            self.say(started=self.pid)

        while self.pid and self.status is None:
            if order:
                cancelled = cancelled or not timed_out
                if b"K" in order:
                    break
                if not asked:
                    asked, until = True, time.monotonic() + grace
                    self.signal_all(signal.SIGTERM)
            elif time.monotonic() >= until:
                if asked:
                    break
                timed_out = asked = True
                until = time.monotonic() + grace
                self.signal_all(signal.SIGTERM)
            order = b""
            pause = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self.control, wake_read], [], [], pause)
            if wake_read in ready:
                os.read(wake_read, 4096)
            if self.control in ready:
                order = os.read(self.control, 64)
                orphaned = not order
            self.reap()
            if orphaned or self.stopped:
                orphaned = True
                break

        survivors = self.finish(orphaned)
        status = self.status
        self.say(
            exit_code=os.WEXITSTATUS(status)
            if status is not None and os.WIFEXITED(status)
            else None,
            signal=os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            timed_out=timed_out,
            cancelled=cancelled,
            survivors=survivors,
        )

    def _stop(self, *_: Any) -> None:
        self.stopped = True

    def finish(self, at_once: bool) -> int:
        """End whatever the command left running; return how many could not be ended."""
        if self.status is not None and not at_once and descendants(os.getpid()):
            # The command ended by itself: let its leftovers close their files.
            self.signal_all(signal.SIGTERM)
            self._wait_for_none(0.5)
        return self.kill_all()

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the command's group and every descendant, stopped ones included."""
        self.signal_group(number)
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)

    def signal_group(self, number: signal.Signals) -> None:
        # Once the command is reaped its id may be somebody else's, where descent can tell.
        if self.pid and (self.status is None or not LINUX):
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)

    def kill_all(self) -> int:
        """Kill every descendant and reap it; return how many are left after SETTLE_SECONDS."""
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            # Stop them first, or a fork bomb outruns the list of its own processes.
            stopped: set[int] = set()
            for _ in range(50):
                fresh = set(descendants(os.getpid())) - stopped
                if not fresh:
                    break
                for pid in fresh:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGSTOP)
                stopped |= fresh
            self.signal_group(signal.SIGKILL)
            for pid in stopped:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            left = len(descendants(os.getpid()))
            if not left and (self.status is not None or not self.pid):
                return 0
            if time.monotonic() >= until:
                return left
            time.sleep(0.005)

    def _wait_for_none(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while descendants(os.getpid()) and time.monotonic() < until:
            time.sleep(0.01)
            self.reap()

    def reap(self) -> None:
        """Collect every child that ended, noting the command's own status."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def _start(self, spec: dict[str, Any]) -> int:
        """Fork the command and return its process id, which is also its group's and session's."""
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(spec, keeper)
        # Only the command may hold these, or their end would never be seen.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        return pid

    def _become(self, spec: dict[str, Any], keeper: int) -> NoReturn:
        try:
            os.setsid()
            # Should the keeper be killed, at least the shell goes with it.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(127)
            # No set-uid program: what it starts could not be killed by us.
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            if LINUX:
                with (
                    contextlib.suppress(OSError),
                    open("/proc/self/oom_score_adj", "w") as file,
                ):
                    file.write(str(OOM_SCORE))
            with contextlib.suppress(OSError):
                os.nice(NICE)
            for name, value in spec["limits"].items():
                kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
                if kind is not None:
                    hard = resource.getrlimit(kind)[1]
                    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
                    with contextlib.suppress(OSError, ValueError):
                        resource.setrlimit(kind, (limit, limit))
            signal.set_wakeup_fd(-1)
            for number in signal.valid_signals():
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.chdir(spec["cwd"])
            os.closerange(3, 1024)
            os.execve(spec["argv"][0], spec["argv"], spec["env"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            with contextlib.suppress(OSError):
                os.write(2, f"holdfast: the command could not be started: {error}\n".encode())
        finally:
            os._exit(126)


def open_door(door: int, port: int) -> None:
    """Listen on this machine's own ``port`` and send the listening sockets out through ``door``.

    Only in a network of one's own: what calls there is answered by whoever gets the sockets.
    """
    import socket

    listeners: list[socket.socket] = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError):
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(64)
            listeners.append(listener)
    with socket.socket(fileno=door) as out:
        with contextlib.suppress(OSError):
            socket.send_fds(out, [b"d"], [listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()


def read_spec(control: int) -> tuple[dict[str, Any] | None, bytes]:
    """Return what to run and any order that came right behind it.

    None when the worker was gone before it had finished saying what.
    """
    data = b""
    while b"\n" not in data:
        piece = os.read(control, 65536)
        if not piece:
            return None, b""
        data += piece
    line, _, order = data.partition(b"\n")
    spec: dict[str, Any] = json.loads(line)
    return spec, order


def main() -> None:
    """Keep the command described on the control pipe until nothing of it is left."""
    control, report = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (control, report):
        os.set_inheritable(descriptor, False)
    spec, order = read_spec(control)
    if spec is not None:
        Keeper(control, report).run(spec, order)


if __name__ == "__main__":
    main()
