"""Bundles of snapshots: taken in whole and checked, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import transport
from checkpoints.git import GitFailed
from checkpoints.snapshots import SnapshotStore
from checkpoints.workspaces import Workspace


def files(store: SnapshotStore) -> int:
    return sum(1 for path in (store.path / "objects").rglob("*") if path.is_file())


def test_a_bundle_brings_the_same_snapshot_and_a_broken_one_brings_nothing(tmp_path: Path) -> None:
    here, there = SnapshotStore(tmp_path / "a.git"), SnapshotStore(tmp_path / "b.git")
    work = Workspace.prepare(tmp_path / "w", here, card_key="X-1", attempt_number=1)
    (work.tree / "a.txt").write_text("one\n")
    first = work.snapshot("one")
    (work.tree / "b.txt").write_text("two\n")
    second = work.snapshot("two")
    work.close()
    one, two = tmp_path / "one", tmp_path / "two"
    transport.write(here, first.commit, [], one)
    transport.write(here, second.commit, [first.commit], two)

    there.make()
    empty = files(there)
    good = one.read_bytes()
    broken = tmp_path / "broken"
    for bad in (b"", b"# v3\n", good[:60], good[:-30], good[:-40] + b"x" * 40):
        broken.write_bytes(bad)
        with pytest.raises(GitFailed):
            transport.take(there, broken)
    with pytest.raises(GitFailed):
        transport.take(there, two)  # it counts on files that are not here
    assert files(there) == empty
    assert not list(there.path.glob("incoming-*"))

    assert transport.take(there, one).commit == first.commit
    assert transport.take(there, two).commit == second.commit
    assert there.snapshot_of(second.commit) == here.snapshot_of(second.commit)


def test_a_later_snapshot_comes_alone_to_whom_has_nothing_of_its_card(tmp_path: Path) -> None:
    here, there = SnapshotStore(tmp_path / "a.git"), SnapshotStore(tmp_path / "b.git")
    work = Workspace.prepare(tmp_path / "w", here, card_key="X-1", attempt_number=1)
    for n in range(3):
        (work.tree / f"{n}.txt").write_text(f"{n}\n")
        last = work.snapshot(str(n))
    work.close()
    bundle = tmp_path / "bundle"
    transport.write(here, last.commit, [], bundle)
    assert transport.take(there, bundle).commit == last.commit
    there.keep("refs/holdfast/X-1/2", last.commit)
    assert there.snapshot_of(last.commit) == here.snapshot_of(last.commit)
    there.run("fsck", "--strict")
