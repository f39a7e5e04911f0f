"""Snapshots on their way between hosts: git bundles of one snapshot and the base it has.

A bundle holds the files of both whole, but for objects that the other side has; what the
snapshots came from is not in it. Whoever takes one in has the same commits, by the same names,
so that any worker can go on from them and every page can compare them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoints.git import GitFailed
from checkpoints.snapshots import SnapshotStore

SIGNATURE = b"# v2 git bundle\n"
SNAPSHOT, BASE = "refs/holdfast/snapshot", "refs/holdfast/base"
MAX_HEADER_BYTES = 64 * 1024
#: Fewer objects than this are kept one by one: a pack for every checkpoint would slow git down.
FEW = 1000
_LINE = re.compile(rb"(?:-([0-9a-f]{40})(?: .*)?|([0-9a-f]{40}) (refs/[!-~]{1,200}))\n")


@dataclass(frozen=True, slots=True)
class Carried:
    """What a bundle says it holds, and where its pack begins."""

    commit: str
    base: str
    pack_at: int


def write(store: SnapshotStore, commit: str, have: Collection[str], path: Path) -> None:
    """Write the bundle of a snapshot and its base for somebody who has those snapshots.

    Raises GitFailed.
    """
    base = store.describe(commit).base or commit
    wanted = list(dict.fromkeys([commit, base]))
    known = [one for one in have if store.has(one)]
    objects = _objects(store, wanted)
    there = set(_objects(store, known)) if known else set()
    names = "\n".join(name for name in objects if name not in there)
    head = "".join(f"-{one}\n" for one in known)
    head += f"{commit} {SNAPSHOT}\n{base} {BASE}\n\n"
    pack = store.run("pack-objects", "--stdout", "-q", stdin=f"{names}\n".encode())
    path.write_bytes(SIGNATURE + head.encode() + pack)


def take(store: SnapshotStore, bundle: Path) -> Carried:
    """Take a bundle in and return what it holds. Raises GitFailed, and nothing is kept then.

    It may come from anybody: every object is checked, and stands apart until all of them are
    known to be whole. Give what came a ref before anything else is done to the store.
    """
    carried = read(bundle)
    store.make()
    with _apart(store) as folder:
        beginning = _beginning(store, carried, folder)
        git = store.git.having(
            GIT_OBJECT_DIRECTORY=str(folder),
            GIT_ALTERNATE_OBJECT_DIRECTORIES=str(store.path / "objects"),
            GIT_SHALLOW_FILE=str(beginning),
        )
        with bundle.open("rb") as file:
            file.seek(carried.pack_at)
            head = file.read(12)
            if head[:4] != b"PACK":
                raise GitFailed("the bundle holds no pack")
            many = int.from_bytes(head[8:12], "big") >= FEW
            file.seek(carried.pack_at)
            pack = file.read()
        if many:
            store.run("index-pack", "--stdin", "--fsck-objects", stdin=pack, git=git)
        else:
            store.run("unpack-objects", "-q", "--strict", stdin=pack, git=git)
        for commit in (carried.commit, carried.base):
            kind = store.run("cat-file", "-t", commit, git=git).strip()
            if kind != b"commit":
                raise GitFailed(f"{commit[:12]} is no snapshot")
        both = f"{carried.commit}\n{carried.base}\n".encode()
        # Fails where a file of them is missing.
        store.run("rev-list", "--quiet", "--objects", "--no-walk", "--stdin", stdin=both, git=git)
        beginning.unlink()
        _move_in(folder, store.path / "objects")
    store.cut_off([carried.commit, carried.base])
    return carried


def read(bundle: Path) -> Carried:
    """Return what the bundle says it holds. Raises GitFailed for what is no bundle of ours."""
    refs: dict[str, str] = {}
    with bundle.open("rb") as file:
        if file.readline(len(SIGNATURE) + 1) != SIGNATURE:
            raise GitFailed("this is no git bundle of version 2")
        while (line := file.readline(1024)) != b"\n":
            match = _LINE.fullmatch(line)
            if match is None or file.tell() > MAX_HEADER_BYTES:
                raise GitFailed("the head of the bundle can't be read")
            if match[3]:
                refs[match[3].decode()] = match[2].decode()
        at = file.tell()
    if SNAPSHOT not in refs or BASE not in refs:
        raise GitFailed(f"the bundle must have the refs {SNAPSHOT} and {BASE}")
    return Carried(refs[SNAPSHOT], refs[BASE], at)


def _objects(store: SnapshotStore, commits: Collection[str]) -> list[str]:
    listed = store.run(
        "rev-list", "--objects", "--no-walk", "--stdin", stdin="\n".join(commits).encode()
    )
    return [line.split(b" ", 1)[0].decode() for line in listed.splitlines()]


@contextlib.contextmanager
def _apart(store: SnapshotStore) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="incoming-", dir=store.path))
    try:
        (folder / "pack").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beginning(store: SnapshotStore, carried: Carried, folder: Path) -> Path:
    """Return a file that has git ask for nothing that came before what the bundle holds."""
    known = store.path / "shallow"
    begins = set(known.read_text().split()) if known.exists() else set()
    file = folder / "shallow"
    file.write_text("".join(f"{one}\n" for one in sorted({*begins, carried.commit, carried.base})))
    return file


def _move_in(folder: Path, objects: Path) -> None:
    """Move objects into the store, an index after its pack, so that none is seen half."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.suffix == ".idx", path.name)):
        target = objects / path.relative_to(folder)
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        os.rename(path, target)
    for parent in {(objects / path.relative_to(folder)).parent for path in files}:
        handle = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
