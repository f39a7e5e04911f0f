"""Makes sure that nothing is left of commands whose worker is gone.

The keeper ends a command with its worker. Should somebody have killed the keeper too, its
command may still be running in a folder that the next attempt is about to take over. So every
command leaves a record in the attempt's folder before it starts, and carries the record's id
in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cgroups
from .keeper import descendants

MARK = "HOLDFAST_COMMAND_ID"
FOLDER = "processes"
LINUX = sys.platform == "linux"


class StillAlive(Exception):
    """Processes of an earlier command refuse to die. One sentence for a person."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one command's processes. ``leader`` is the keeper (or its wrapper).

    ``groups`` are the folders of its control group, if it has one.
    """

    id: str
    boot: str
    leader: tuple[int, str]
    command: tuple[int, str] | None
    groups: tuple[Path, ...] = ()


def boot_id() -> str:
    """Return what changes with every boot of this machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started_at(pid: int) -> str:
    """Return when the process started, in the system's own words; empty when there is none.

    A process id is given out again; together with its start it is not.
    """
    if LINUX:
        fields = _stat(pid)
        return fields[19] if fields else ""
    try:
        shown = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return shown.stdout.strip()


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; empty for a zombie or nobody."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def count_of_user() -> int:
    """Return how many threads this process's user has on the machine, as RLIMIT_NPROC counts."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc") if LINUX else ():
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def write(
    folder: Path,
    mark: str,
    leader: int,
    command: int | None = None,
    groups: Sequence[Path] = (),
) -> Path:
    """Record a command's processes in ``folder``, whole or not at all; return the record's path."""
    path = folder / FOLDER / f"{mark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "id": mark,
        "boot": boot_id(),
        "leader": [leader, started_at(leader)],
        "command": [command, started_at(command)] if command else None,
        "groups": [str(group) for group in groups],
    }
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content))
    draft.replace(path)
    return path


def ensure_dead(folder: Path, wait_seconds: float = 10.0) -> int:
    """End whatever still runs of the commands recorded in ``folder``; return how many processes.

    Does nothing about processes of another boot. Raises StillAlive when one can't be ended.
    """
    return sum(
        end(folder, path.stem, wait_seconds) for path in sorted((folder / FOLDER).glob("*.json"))
    )


def end(folder: Path, mark: str, wait_seconds: float = 10.0) -> int:
    """End whatever still runs of one recorded command and forget it; return how many processes."""
    record = _read(folder / FOLDER / f"{mark}.json")
    ended: set[int] = set()
    if record is not None and record.boot == boot_id():
        ended = _end(record, wait_seconds)
    forget(folder, mark)
    return len(ended)


def forget(folder: Path, mark: str) -> None:
    """Drop the record of a command of which nothing is left."""
    (folder / FOLDER / f"{mark}.json").unlink(missing_ok=True)


def _read(path: Path) -> Record | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        command = raw["command"]
        return Record(
            id=str(raw["id"]),
            boot=str(raw["boot"]),
            leader=(int(raw["leader"][0]), str(raw["leader"][1])),
            command=(int(command[0]), str(command[1])) if command else None,
            groups=tuple(Path(str(group)) for group in raw.get("groups", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _end(record: Record, wait_seconds: float) -> set[int]:
    ended: set[int] = set()
    until = time.monotonic() + wait_seconds
    leader, start = record.leader
    if started_at(leader) == start != "":
        # The keeper knows its descendants best; a stopped one must first go on.
        ended |= {leader, *descendants(leader)}
        with contextlib.suppress(OSError):
            os.kill(leader, signal.SIGTERM)
            os.kill(leader, signal.SIGCONT)
        patience = min(until, time.monotonic() + 2.0)
        while started_at(leader) == start and time.monotonic() < patience:
            time.sleep(0.01)
    cgroups.end(record.groups, wait_seconds=0.0)
    while True:
        left = _living(record)
        if not left:
            cgroups.end(record.groups)
            return ended
        ended |= left
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= until:
            raise StillAlive(
                f"Processes {', '.join(map(str, sorted(left)))} of an earlier attempt can't be "
                "ended. End them by hand, then retry the card."
            )
        time.sleep(0.01)


def _living(record: Record) -> set[int]:
    """Return the processes that belong to the record: by descent, by session, by mark."""
    found: set[int] = set()
    leader, start = record.leader
    if started_at(leader) == start != "":
        found |= {leader, *descendants(leader)}
    if not LINUX:
        if record.command and started_at(record.command[0]) == record.command[1] != "":
            found.add(record.command[0])
        return found
    session, session_start = record.command or (0, "")
    leader_now = started_at(session) if session else ""
    session_is_ours = bool(session) and leader_now in ("", session_start)
    mark = f"{MARK}={record.id}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or (pid := int(name)) == os.getpid():
            continue
        fields = _stat(pid)
        if not fields:
            continue
        if (session_is_ours and fields[3] == str(session)) or _carries(pid, mark):
            found |= {pid, *descendants(pid)}
    return found


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\x00")
    except OSError:
        return False
