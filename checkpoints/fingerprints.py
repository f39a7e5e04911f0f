"""What a workspace's commands stand on: the interpreter, the platform, the files that pin versions.

A flat mapping of names to what they are, as facts about the environment have it, so that two
can be laid side by side. It is part of a checkpoint's ``workspace``, and of its digest with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES = 40
MAX_NAME = 200

#: Files at the root of a workspace that say which versions it is built with.
PINNING = re.compile(
    r"requirements[A-Za-z0-9._-]*\.(?:txt|in)|constraints[A-Za-z0-9._-]*\.txt"
    r"|poetry\.lock|uv\.lock|pdm\.lock|Pipfile\.lock|pylock\.toml|pyproject\.toml|\.python-version"
    r"|package\.json|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lock"
    r"|\.nvmrc|\.node-version|\.tool-versions"
    r"|Cargo\.lock|rust-toolchain(?:\.toml)?|go\.mod|go\.sum|Gemfile\.lock|composer\.lock|mix\.lock"
    r"|flake\.lock|gradle\.lockfile|Dockerfile"
)
_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+(?:\.\d+)*)", re.MULTILINE)


def taken(tree: Path) -> dict[str, str]:
    """Return the fingerprint of a workspace; files that can't be read are left out.

    ``python`` is that of the virtual environment at the root, else the one this runs on.
    """
    found = {
        "python": _virtual(tree) or platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(tree) if PINNING.fullmatch(entry.name)]
        for name in sorted(n for n in names if len(n) <= MAX_NAME)[:MAX_FILES]:
            if digest := _digest(tree / name):
                found[name] = f"sha256:{digest}"
    return found


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield what differs, by name: ``from`` and ``to``, the one that is not there left out."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            sides = {"from": old.get(name), "to": new.get(name)}
            yield {"name": name, **{side: value for side, value in sides.items() if value}}


def _virtual(tree: Path) -> str:
    """Return the Python version of the virtual environment in the workspace, if there is one."""
    for folder in (".venv", "venv"):
        with contextlib.suppress(OSError):
            if said := _VERSION.search(_read(tree / folder / "pyvenv.cfg", 4096).decode("latin-1")):
                return said[1]
    return ""


def _digest(path: Path) -> str:
    with contextlib.suppress(OSError):
        content = _read(path, MAX_FILE_BYTES + 1)
        return hashlib.sha256(content).hexdigest() if len(content) <= MAX_FILE_BYTES else ""
    return ""


def _read(path: Path, most: int) -> bytes:
    """Return the beginning of a plain file. Raises OSError for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no plain file")
        return file.read(most)
