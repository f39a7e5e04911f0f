"""What a step leaves behind besides its output: test results and files to keep."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workers import junit
from workers.inside import NotInside, find_inside, open_inside

MAX_FILES = 200
MAX_NAME_CHARS = 500
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """Artifacts as a checkpoint names them, and in words what could not be kept."""

    artifacts: list[dict[str, Any]]
    problems: list[str]


def keep(
    tree: Path,
    patterns: Sequence[str],
    store: Callable[[IO[bytes], str], tuple[str, int]],
    max_bytes: int,
    secrets: Mapping[str, str] | None = None,
) -> Kept:
    """Store the files in the workspace that the patterns name; links are never followed.

    ``store`` gets each open file and its type, and returns its SHA-256 and length. A file in
    which one of the ``secrets`` stands as it is stays where it is.
    """
    kept: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for pattern in patterns:
        found = False
        for path in find_inside(tree, pattern):
            found = True
            name = storable_name(path)
            if name in kept:
                continue
            if len(kept) >= MAX_FILES:
                problems.append(f"Only the first {MAX_FILES} files were kept.")
                return Kept(list(kept.values()), problems)
            try:
                with open_inside(tree, path) as file:
                    size = os.fstat(file.fileno()).st_size
                    if size > max_bytes:
                        problems.append(f"{name} is too large to keep ({size} bytes).")
                        continue
                    if secret := _holds(file, secrets or {}):
                        problems.append(f"{name} was not kept: the secret {secret} stands in it.")
                        continue
                    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                    sha256, length = store(file, kind)
            except (OSError, NotInside) as error:
                problems.append(f"{name} could not be kept: {error}.")
                continue
            kept[name] = {"name": name, "sha256": sha256, "size_bytes": length}
        if not found:
            problems.append(f"No file matches {pattern}.")
    return Kept(list(kept.values()), problems)


def _holds(file: IO[bytes], secrets: Mapping[str, str]) -> str:
    """Return the name of a secret that stands in the file, none if none does; rewind it."""
    wanted = {name: value.strip().encode() for name, value in secrets.items()}
    overlap = max(map(len, wanted.values()), default=1) - 1
    before, found = b"", ""
    while wanted and not found and (more := file.read(CHUNK_BYTES)):
        text = before + more
        found = next((name for name, value in wanted.items() if value in text), "")
        before = text[max(0, len(text) - overlap) :]
    file.seek(0)
    return found


def storable_name(path: str) -> str:
    """Return a file's path as text that every store takes; odd bytes are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")[-MAX_NAME_CHARS:]


class Report:
    """A step's JUnit report, which counts only if the step itself wrote it."""

    def __init__(self, tree: Path, relative: str | None) -> None:
        self._tree, self._relative = tree, relative
        self._before = self._identity()

    def read(self) -> junit.Report | None:
        """Return what the report says now; None when the step names none."""
        if self._relative is None:
            return None
        if self._before is not None and self._identity() == self._before:
            return junit.Report(
                None, f"The step did not write {self._relative}; it was there before."
            )
        return junit.read(self._tree, self._relative)

    def _identity(self) -> tuple[int, int, int] | None:
        if self._relative is None:
            return None
        try:
            found = os.lstat(self._tree / self._relative)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
