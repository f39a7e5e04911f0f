"""Reading and writing what commands left in a workspace, without being led out of it.

Commands own the workspace, so any name in it may be a symbolic link to somewhere else by the
time it is opened. Every component is opened relative to its parent with ``O_NOFOLLOW``; a
link, a device or a pipe is refused, never followed or waited for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

MAX_VISITED = 200_000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotInside(Exception):
    """The path leaves the folder, is a link, or names no regular file. One sentence."""


def open_inside(root: Path, relative: str) -> IO[bytes]:
    """Open the regular file ``relative`` under ``root`` for reading.

    Raises FileNotFoundError when there is none and NotInside when it is something else.
    """
    folder, name = _folder_of(root, relative)
    try:
        handle = _open(name, _FILE, folder, relative)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotInside(f"{relative} is not a regular file.")
    return os.fdopen(handle, "rb")


def write_inside(root: Path, relative: str, data: bytes) -> None:
    """Make ``relative`` under ``root`` a regular file with that content, whole or not at all.

    Folders on the way are made; an existing file keeps its mode. Raises NotInside where a link
    or anything else stands in the way, and OSError when the disk does.
    """
    folder, name = _folder_of(root, relative, make=True)
    fresh = f".{secrets.token_hex(8)}.new"
    try:
        mode = 0o666
        try:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(there.st_mode):
                raise NotInside(f"{relative} is not a regular file.")
            mode = stat.S_IMODE(there.st_mode)
        except FileNotFoundError:
            pass
        try:
            handle = os.open(fresh, _FRESH, mode, dir_fd=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if mode != 0o666:
                    os.fchmod(file.fileno(), mode)
            os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _folder_of(root: Path, relative: str, *, make: bool = False) -> tuple[int, str]:
    """Return the open folder that holds ``relative``, reached without a link, and its last name."""
    path = PurePosixPath(relative)
    parts = path.parts
    if not parts or ".." in parts or path.is_absolute() or "\x00" in relative:
        raise NotInside(f"{relative} is not a path inside the workspace.")
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = _open(part, _FOLDER, folder, relative)
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder, parts[-1]


def _open(name: str, flags: int, folder: int, relative: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        # ELOOP for a link, ENOTDIR for a file in the middle, ENXIO for a socket, EACCES.
        raise NotInside(f"{relative} can't be opened: {error.strerror}.") from None


def find_inside(root: Path, pattern: str) -> Iterator[str]:
    """Yield the paths of regular files under ``root`` that match ``pattern``, sorted by folder.

    ``*``, ``?`` and ``[...]`` match within one name, ``**`` any number of folders; a pattern
    that names a folder means all files below it. Hidden names match only when spelled out.
    Links are neither followed nor yielded. Looks at no more than MAX_VISITED names.
    """
    parts: list[str] = []
    for part in PurePosixPath(pattern).parts:
        if part == "**" and parts and parts[-1] == "**":
            continue
        parts.append(part)
    if ".." in parts or PurePosixPath(pattern).is_absolute():
        return
    left = MAX_VISITED
    seen: set[tuple[str, int]] = set()  # a pattern such as **/a/**/b reaches a folder twice
    yielded: set[str] = set()
    waiting: list[tuple[str, int]] = [("", 0)]
    while waiting:
        here, at = waiting.pop()
        if (here, at) in seen:
            continue
        seen.add((here, at))
        below: list[tuple[str, int]] = []
        try:
            entries = sorted(os.scandir(root / here), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            left -= 1
            if left < 0:
                return
            path = f"{here}/{entry.name}" if here else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            is_file = entry.is_file(follow_symlinks=False)
            for step in _steps(parts, at, entry.name):
                if is_folder:
                    below.append((path, step))
                elif is_file and step >= len(parts) and path not in yielded:
                    yielded.add(path)
                    yield path
        waiting.extend(reversed(below))


def _steps(parts: list[str], at: int, name: str) -> Iterator[int]:
    """Yield the positions in the pattern that ``name`` leads to from position ``at``."""
    if at >= len(parts):  # below a folder that the pattern named: everything counts
        yield at
        return
    part = parts[at]
    if part == "**":
        if not name.startswith("."):
            yield at
        if at + 1 < len(parts):
            yield from _steps(parts, at + 1, name)
        elif not name.startswith("."):
            yield at + 1
        return
    if fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
        yield at + 1
