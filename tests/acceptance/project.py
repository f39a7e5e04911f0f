"""A real project to work on: toolz from its source distribution, with a bug put into it."""

from __future__ import annotations

import difflib
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.repositories import git

NAME, VERSION = "toolz", "1.0.0"
SHA256 = "2c86e3d9a04798ac556793bced838816296a2f085017664e4995cb40a1047a02"
#: How many tests its own suite has.
TESTS = 180

_FILE = "toolz/itertoolz.py"
_GOOD = "collections.deque(itertools.islice(it, i), 0) or it"
_BAD = "collections.deque(itertools.islice(it, i + 1), 0) or it"


class Unavailable(Exception):
    """The distribution can't be had here."""


@dataclass(frozen=True)
class Project:
    """A git repository with the bug committed, and the patch that mends it."""

    repository: Path
    mend: str


def make(folder: Path) -> Project:
    """Return the project, unpacked into a new repository. Raises Unavailable without a network."""
    archive = download(folder, NAME, VERSION, SHA256)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    repository = folder / f"{NAME}-{VERSION}"
    source = repository / _FILE
    good = source.read_text()
    assert good.count(_GOOD) == 1
    bad = good.replace(_GOOD, _BAD)
    source.write_text(bad)
    git(repository, "init", "--quiet")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", f"{NAME} {VERSION} with a bug")
    mend = difflib.unified_diff(
        bad.splitlines(keepends=True),
        good.splitlines(keepends=True),
        f"a/{_FILE}",
        f"b/{_FILE}",
    )
    return Project(repository, "".join(mend))


def download(folder: Path, name: str, version: str, sha256: str) -> Path:
    """Return a source distribution, just these bytes. Raises Unavailable without a network."""
    wanted = folder / f"{name}-{version}.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-deps", "--no-binary", name, "--dest", str(folder)]
    done = subprocess.run(
        [*command, "-r", str(wanted)], capture_output=True, text=True, timeout=300, check=False
    )
    archive = folder / f"{name}-{version}.tar.gz"
    if not archive.exists():
        raise Unavailable(done.stderr.strip()[-500:])
    return archive
