"""Finds secrets that stand in changed files as they are.

Only what changed between two snapshots is looked at, and what was there before is nobody's doing:
a file counts where it holds a secret that the same file did not hold in the first. One that is
packed or encoded is not found, nor one in a file past the bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from checkpoints.snapshots import SnapshotStore

#: A larger file is not looked into, and no more than so much of all files together.
MAX_FILE_BYTES = 1024 * 1024
MAX_BYTES = 64 * 1024 * 1024
NAMED = 3
_SUBMODULE = b"160000"


@dataclass(frozen=True, slots=True)
class Spill:
    """A file, and the name of a secret that stands in it."""

    path: str
    secret: str

    def __str__(self) -> str:
        return f"{self.path} holds the secret {self.secret}"


def told(spills: Iterable[Spill]) -> str:
    """Return in a line which files hold which secrets, the first few of them."""
    each = [str(spill) for spill in spills]
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    return f"{', '.join(each[:NAMED])}{more}"


def found(store: SnapshotStore, a: str, b: str, secrets: Mapping[str, str]) -> tuple[Spill, ...]:
    """Return which files hold which of the secrets in snapshot ``b`` and did not in ``a``.

    Raises GitFailed.
    """
    wanted = {name: value.strip().encode() for name, value in secrets.items() if value.strip()}
    if not wanted or a == b:
        return ()
    changed = list(_changed(store, a, b))
    contents = _contents(store, {new for _, _, new in changed})
    held = {
        new: {name for name, value in wanted.items() if value in content}
        for new, content in contents.items()
    }
    before = _contents(store, {old for _, old, new in changed if held.get(new) and old})
    spills = []
    for path, old, new in changed:
        for name in sorted(held.get(new, ())):
            if wanted[name] not in before.get(old, b""):
                spills.append(Spill(path.decode("utf-8", "backslashreplace"), name))
    return tuple(sorted(spills, key=lambda spill: (spill.path, spill.secret)))


def _changed(store: SnapshotStore, a: str, b: str) -> Iterator[tuple[bytes, str, str]]:
    """Yield the files of ``b`` that differ: path, and their contents by name before and now."""
    raw = iter(store.run("diff-tree", "-r", "-z", "--raw", "--no-renames", a, b).split(b"\x00"))
    for entry in filter(None, raw):
        _, mode, old, new, status = entry.split(b" ")
        path = next(raw)
        if status != b"D" and mode != _SUBMODULE:
            yield path, "" if status == b"A" else old.decode(), new.decode()


def _contents(store: SnapshotStore, names: set[str]) -> dict[str, bytes]:
    """Return the contents of those names, as far as they are within the bounds."""
    if not names:
        return {}
    asked = "".join(f"{name}\n" for name in sorted(names)).encode()
    sizes = store.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
    wanted, all_bytes = [], 0
    for line in sizes.decode().splitlines():
        name, _, size = line.partition(" ")
        if size.isdigit() and int(size) <= MAX_FILE_BYTES and all_bytes + int(size) <= MAX_BYTES:
            all_bytes += int(size)
            wanted.append(name)
    if not wanted:
        return {}
    raw = store.run("cat-file", "--batch", stdin="".join(f"{n}\n" for n in wanted).encode())
    found, at = {}, 0
    for name in wanted:
        end = raw.index(b"\n", at)
        length = int(raw[at:end].rsplit(b" ", 1)[1])
        found[name] = raw[end + 1 : end + 1 + length]
        at = end + 2 + length
    return found
