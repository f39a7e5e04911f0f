"""A control group per command, where this process may make one.

A group counts every process that descends from its first one, whatever sessions and namespaces
they go to, so its limits hold for all of them together and ``kill`` misses none. Version 2 is
used where it has the controllers; the older hierarchies fill in for those it lacks. Where
neither can be written, commands get limits per process instead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PREFIX = "holdfast-"
STALE_SECONDS = 3600.0
GONE_SECONDS = 2.0
#: The keeper and the wrapper around it.
OWN_PROCESSES = 8
CONTROLLERS = ("memory", "pids", "cpu")
#: Commands get a quarter of what the server gets when both want the processor.
_WEIGHT, _SHARES = "25", "256"
_ENTER = 'while [ "$1" != -- ]; do echo 0 > "$1"; shift; done 2>/dev/null; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Place:
    """A group below which new ones can be made, and which controllers they have."""

    folder: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Group:
    """One command's group: a folder in each hierarchy. ``limits`` names what it bounds."""

    folders: tuple[Path, ...]
    limits: frozenset[str]

    def entering(self, argv: Sequence[str]) -> list[str]:
        """Return a command that enters the group and then becomes ``argv``."""
        files = [str(folder / "cgroup.procs") for folder in self.folders]
        return ["/bin/sh", "-c", _ENTER, "sh", *files, "--", *argv]


def make(mark: str, *, memory: int | None = None, processes: int | None = None) -> Group | None:
    """Return a new group with its limits (bytes, and a number); None where none can be made."""
    folders: list[Path] = []
    limits: set[str] = set()
    for place in places():
        folder = place.folder / f"{PREFIX}{mark}"
        try:
            folder.mkdir()
        except OSError:
            continue
        folders.append(folder)
        limits |= set(_limit(folder, place, memory, processes))
    return Group(tuple(folders), frozenset(limits)) if folders else None


def _limit(folder: Path, place: Place, memory: int | None, processes: int | None) -> Iterator[str]:
    old = place.version == 1
    if "cpu" in place.controllers:
        _put(folder / ("cpu.shares" if old else "cpu.weight"), _SHARES if old else _WEIGHT)
    if "pids" in place.controllers and processes is not None:
        most = str(processes + OWN_PROCESSES)
        yield from ["processes"] * _put(folder / "pids.max", most)
    if "memory" in place.controllers and memory is not None:
        name = "memory.limit_in_bytes" if old else "memory.max"
        yield from ["memory"] * _put(folder / name, str(memory))
        # No swapping around the limit, where swap is counted at all.
        both = str(memory) if old else "0"
        _put(folder / ("memory.memsw.limit_in_bytes" if old else "memory.swap.max"), both)


def end(folders: Sequence[Path], wait_seconds: float = GONE_SECONDS) -> bool:
    """Kill whatever is left in a group's folders and remove them; return whether that worked."""
    until = time.monotonic() + wait_seconds
    left = [folder for folder in folders if folder.name.startswith(PREFIX)]
    while left:
        for folder in left:
            _kill(folder)
        left = [folder for folder in left if not _removed(folder)]
        if left and time.monotonic() >= until:
            return False
        if left:
            time.sleep(0.005)
    return True


def _kill(folder: Path) -> None:
    if _put(folder / "cgroup.kill", "1"):
        return
    with contextlib.suppress(OSError):
        for line in (folder / "cgroup.procs").read_text().split():
            if int(line) not in (0, os.getpid()):  # 0: of a namespace that can't be seen from here
                with contextlib.suppress(OSError):
                    os.kill(int(line), signal.SIGKILL)


def _removed(folder: Path) -> bool:
    # A command may have made groups of its own below, where it is root.
    with contextlib.suppress(OSError):
        for here, _, _ in os.walk(folder, topdown=False):
            os.rmdir(here)
    return not folder.exists()


@functools.cache
def places() -> tuple[Place, ...]:
    """Return where groups can be made, tried out once; what a dead process left there is swept."""
    found: list[Place] = []
    have: set[str] = set()
    for folder, version, controllers in _candidates():
        if version == 2 and any(place.version == 2 for place in found):
            continue
        place = _tried(folder, version, controllers - have)
        if place is not None:
            have |= place.controllers
            found.append(place)
            _sweep(place.folder)
    return tuple(found)


def _candidates() -> Iterator[tuple[Path, int, frozenset[str]]]:
    """Yield folders of groups that this process is in: version 2 first, best chances first."""
    wanted = frozenset(CONTROLLERS)
    own = _own_groups()
    mounted = list(_mounted())
    for point, root, version, _ in mounted:
        if version != 2 or "" not in own:
            continue
        here = _below(point, root, own[""])
        # A group with processes in it can't hand memory and pids on. systemd's DelegateSubgroup
        # leaves the delegated one, just above, free for that.
        if here != point and _delegated(here.parent):
            yield here.parent, 2, wanted
        yield here, 2, wanted
    for point, root, version, controllers in mounted:
        if version == 1 and (some := controllers & wanted):
            (first, *_) = sorted(some)
            if first in own:
                yield _below(point, root, own[first]), 1, some


def _tried(folder: Path, version: int, controllers: frozenset[str]) -> Place | None:
    """Return the place if a group can be made there that is of any use."""
    trial = folder / f"{PREFIX}trial-{os.getpid()}-{time.monotonic_ns()}"
    try:
        trial.mkdir()
    except OSError:
        return None
    try:
        if version == 1:
            return Place(folder, 1, controllers) if controllers else None
        for name in controllers:
            if name not in _words(trial / "cgroup.controllers"):
                _put(folder / "cgroup.subtree_control", f"+{name}")
        usable = controllers & _words(trial / "cgroup.controllers")
        return Place(folder, 2, usable) if (trial / "cgroup.procs").exists() else None
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()


def _sweep(folder: Path) -> None:
    """Remove groups in which nothing runs and that nobody is about to enter."""
    for stale in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                stale.rmdir()


def _mounted() -> Iterator[tuple[Path, str, int, frozenset[str]]]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind in ("cgroup", "cgroup2"):
                _, _, _, root, point, *_ = before.split()
                names = frozenset(options.replace(" ", ",").split(","))
                yield Path(point), root, 2 if kind == "cgroup2" else 1, names


def _own_groups() -> dict[str, str]:
    """Return the path of this process's group, by controller; "" is version 2."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            own |= dict.fromkeys(names.split(","), path)
    return own


def _below(point: Path, root: str, path: str) -> Path:
    """Return the folder of a group where its hierarchy is mounted from ``root`` on."""
    inner = os.path.relpath(path, root)
    return point if inner.startswith("..") else (point / inner)


def _delegated(folder: Path) -> bool:
    """Return whether systemd says that the group is ours to divide."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(path: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set(path.read_text().split())
    return set()


def _put(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True
