"""Looking for processes from tests that kill them."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

_numbers = itertools.count(1)


def alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def carrying(word: str) -> list[int]:
    """Return the living processes with ``word`` in their command line, but for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes() and alive(int(path.parent.name)):
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def working_for(attempt: str) -> list[int]:
    """Return the living processes that an executor started for the attempt."""
    mark = f"HOLDFAST_ATTEMPT={attempt}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0") and alive(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def worker_above(pids: list[int]) -> int:
    """Return the built-in worker that started these commands; 0 when none of them runs any more."""
    for pid in pids:
        with contextlib.suppress(OSError):
            while pid > 1:
                if b"workers" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def odd_sleep() -> str:
    """Return a number of seconds, about ten minutes, that nobody else on the machine sleeps."""
    return f"{600 + next(_numbers)}.{os.getpid()}{os.times().elapsed:.0f}"
