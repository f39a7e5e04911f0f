from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from checkpoints import workspaces
from checkpoints.git import Git, GitFailed
from checkpoints.snapshots import SnapshotStore
from checkpoints.workspaces import Workspace, WorkspaceError, prune
from tests.repositories import git

ROOT = Path(__file__).resolve().parents[2]
FLUSHING = {"add", "write-tree", "commit-tree", "update-ref"}


class Place:
    """A root for workspaces, a store, and a repository to clone."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "workspaces"
        self.store = SnapshotStore(tmp_path / "snapshots" / "board.git")
        self.repository = tmp_path / "repository"
        self.repository.mkdir()
        git(self.repository, "init", "-q")
        self.write("README.md", "hello\n")
        self.write("src/app.py", "print('a')\nprint('b')\n")
        self.write(".gitignore", "*.log\nbuild/\n.venv/\n")
        self.commit()

    def write(self, name: str, text: str | bytes) -> None:
        path = self.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self) -> str:
        git(self.repository, "add", "-A", "-f")
        git(self.repository, "commit", "-q", "-m", "work")
        return git(self.repository, "rev-parse", "HEAD")

    def prepare(self, number: int, resume: str | None = None, **terms: Any) -> Workspace:
        terms.setdefault("repository", str(self.repository))
        terms.setdefault("card_key", "PAY-1")
        return Workspace.prepare(
            self.root, self.store, attempt_number=number, resume_commit=resume, **terms
        )

    def elsewhere(self, number: int, resume: str, **terms: Any) -> Workspace:
        """Prepare as a host would that has never seen the card."""
        terms.setdefault("repository", str(self.repository))
        return Workspace.prepare(
            self.root.with_name(f"other-{number}"),
            self.store,
            card_key="PAY-1",
            attempt_number=number,
            resume_commit=resume,
            **terms,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def contents(tree: Path) -> dict[str, str]:
    """Return every file of a workspace with its kind, mode and bytes; git's own left out."""
    found: dict[str, str] = {}
    for here, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files + [f for f in folders if Path(here, f).is_symlink()]:
            path = Path(here, name)
            key = os.fsencode(path.relative_to(tree)).decode("utf-8", "backslashreplace")
            if path.is_symlink():
                found[key] = f"link to {os.readlink(path)}"
            else:
                executable = (
                    "x" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else "-"
                )
                found[key] = executable + hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# ── from a repository ──


def test_a_workspace_holds_what_the_repository_has_committed(place: Place) -> None:
    (place.repository / "README.md").write_text("not committed\n")
    (place.repository / "stray").write_text("x")
    workspace = place.prepare(1)
    assert (workspace.tree / "README.md").read_text() == "hello\n"
    assert not (workspace.tree / "stray").exists()
    assert git(workspace.tree, "status", "--porcelain") == ""
    assert git(workspace.tree, "remote", "get-url", "origin") == str(place.repository)
    assert workspace.home.is_dir()
    assert list(workspace.tmp.iterdir()) == []
    shared = [p for p in (workspace.tree / ".git/objects").rglob("*") if p.is_file()]
    assert all(path.stat().st_nlink == 1 for path in shared)


def test_an_empty_repository_setting_means_an_empty_folder(place: Place) -> None:
    workspace = place.prepare(1, repository="")
    assert list(workspace.tree.iterdir()) == []
    (workspace.tree / "made").write_text("by a step\n")
    snapshot = workspace.snapshot("after make")
    assert (snapshot.changed_files, snapshot.additions, snapshot.deletions) == (1, 1, 0)
    other = place.elsewhere(2, snapshot.commit, repository="")
    assert contents(other.tree) == contents(workspace.tree)


def test_a_repository_without_commits_is_an_empty_clone(place: Place, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    workspace = place.prepare(1, repository=str(bare))
    assert workspace.snapshot("x").changed_files == 0
    assert (workspace.tree / ".git").is_dir()


if os.geteuid() == 0:  # only root can give files away

    def test_a_repository_of_another_user_can_be_cloned(place: Place) -> None:
        for path in [place.repository, *place.repository.rglob("*")]:
            os.lchown(path, 65534, 65534)
        assert (place.prepare(1).tree / "README.md").exists()


def test_a_step_may_commit_in_its_clone(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "new").write_text("x")
    env = {"PATH": os.environ["PATH"], "HOME": str(workspace.home)}
    for line in (["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", *line], cwd=workspace.tree, env=env, check=True)


@pytest.mark.parametrize(
    ("repository", "part"),
    [
        ("/nowhere/at/all", "can't be cloned"),
        ("relative/path", "neither an absolute path nor a URL"),
        ("--upload-pack=touch /tmp/x", "neither an absolute path nor a URL"),
        ("ext::sh -c touch% /tmp/holdfast-ext", "neither an absolute path nor a URL"),
        ("ext://sh -c id", "can't be cloned"),
        ("https://user:hunter2@127.0.0.1:1/x.git", "can't be cloned"),
    ],
)
def test_a_repository_that_can_not_be_had_is_one_clear_sentence(
    place: Place, repository: str, part: str
) -> None:
    with pytest.raises(WorkspaceError) as refused:
        place.prepare(1, repository=repository)
    assert part in refused.value.problem
    assert "retry the card" in refused.value.remedy
    assert not refused.value.retryable
    assert "hunter2" not in str(refused.value)
    # Nothing half-made is in the way once it is mended.
    assert (place.prepare(2).tree / "README.md").exists()


def test_settings_and_hooks_of_the_user_take_no_part(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "post-index-change", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (hooks / name).chmod(0o755)
    settings = tmp_path / "settings"
    settings.write_text(
        f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {trap}\n[diff]\n\texternal = false\n"
        f"[init]\n\ttemplateDir = {hooks}\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other-index"))
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    workspace.snapshot("x")
    assert not trap.exists()


def test_what_a_step_writes_into_its_own_git_settings_is_not_run(
    place: Place, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    workspace = place.prepare(1)
    git(workspace.tree, "config", "core.fsmonitor", f"touch {trap}; false")
    git(workspace.tree, "config", "filter.evil.clean", f"touch {trap}; cat")
    git(workspace.tree, "config", "filter.evil.smudge", f"touch {trap}; cat")
    git(workspace.tree, "config", "diff.external", f"touch {trap}")
    git(workspace.tree, "config", "diff.evil.textconv", f"touch {trap}; cat")
    git(workspace.tree, "config", "merge.evil.driver", f"touch {trap}")
    git(workspace.tree, "config", "core.sshCommand", f"touch {trap}")
    git(workspace.tree, "config", "uploadpack.packObjectsHook", f"touch {trap}")
    (tmp_path / "included").write_text(f"[core]\n\tpager = touch {trap}\n")
    git(workspace.tree, "config", "include.path", str(tmp_path / "included"))
    git(workspace.tree, "config", "core.hooksPath", ".git/hooks")
    (workspace.tree / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (workspace.tree / ".git/hooks").mkdir()
    (workspace.tree / ".git/hooks/post-index-change").write_text(f"#!/bin/sh\ntouch {trap}\n")
    (workspace.tree / ".git/hooks/post-index-change").chmod(0o755)
    snapshot = workspace.snapshot("x")
    workspace.close()
    again = place.prepare(2, snapshot.commit)
    files = again.store.changes(snapshot.base, snapshot.commit)
    again.store.fill_in(snapshot.base, snapshot.commit, files, 1000, 1000)
    assert any(file.patch for file in files)
    # Nor does a repository of a command's own in the place of the clone's.
    shutil.rmtree(again.tree / ".git")
    (again.tree / ".git").write_text(f"gitdir: {tmp_path / 'elsewhere'}\n")
    again.snapshot("y")
    again.close()
    prune(place.root, place.store, "PAY-1")
    assert not trap.exists()


# ── snapshots ──


def awkward(tree: Path) -> None:
    """Fill a folder with everything that snapshots tend to get wrong."""
    (tree / ".gitattributes").write_text(
        "* text=auto\n*.lf text eol=lf\n*.crlf text eol=crlf\n*.id ident\n"
        "*.u16 working-tree-encoding=UTF-16\n*.lfs filter=lfs diff=lfs merge=lfs -text\n"
    )
    (tree / "dos.lf").write_bytes(b"one\r\ntwo\r\n")
    (tree / "unix.crlf").write_bytes(b"one\ntwo\n")
    (tree / "mixed.txt").write_bytes(b"one\r\ntwo\nthree\r")
    (tree / "x.id").write_bytes(b"$Id$ $Id: 0000 $\n")
    (tree / "x.u16").write_bytes("wide ✓".encode("utf-16"))
    (tree / "x.lfs").write_bytes(b"not a pointer")
    (tree / "binary").write_bytes(bytes(range(256)) * 50)
    (tree / "empty").write_bytes(b"")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("run.sh")
    (tree / "dangling").symlink_to("/nowhere/else")
    (tree / "a folder").mkdir()
    (tree / "a folder" / "naïve – file\twith\nodd name").write_text("x")
    (tree / "a folder" / "link to folder").symlink_to("..")
    Path(os.fsdecode(os.path.join(os.fsencode(tree), b"not-utf8-\xff\xfe"))).write_text("x")
    (tree / "-rf").write_text("x")
    (tree / ":(glob)*").write_text("x")


def test_a_restored_workspace_is_byte_for_byte_the_same(place: Place) -> None:
    workspace = place.prepare(1)
    awkward(workspace.tree)
    (workspace.tree / "README.md").unlink()
    (workspace.tree / "src/app.py").chmod(0o755)
    before = contents(workspace.tree)
    snapshot = workspace.snapshot("after the first step")
    other = place.elsewhere(2, snapshot.commit)
    assert contents(other.tree) == before
    assert other.snapshot("again").tree == snapshot.tree


def test_files_that_git_rewrites_at_checkout_are_kept_as_they_lie_there(place: Place) -> None:
    place.write(".gitattributes", "*.bat text eol=crlf\n*.id ident\n")
    place.write("run.bat", "one\ntwo\n")
    place.write("x.id", "$Id$\n")
    place.commit()
    workspace = place.prepare(1)
    assert (workspace.tree / "run.bat").read_bytes() == b"one\r\ntwo\r\n"
    before = contents(workspace.tree)
    (workspace.tree / "new").write_text("x")
    snapshot = workspace.snapshot("x")
    assert (snapshot.changed_files, snapshot.additions) == (1, 1)
    other = place.elsewhere(2, snapshot.commit)
    assert contents(other.tree) == {**before, "new": contents(workspace.tree)["new"]}


def test_no_change_makes_no_new_commit(place: Place) -> None:
    workspace = place.prepare(1)
    first = workspace.snapshot("x")
    assert first.commit == first.base
    assert (first.changed_files, first.skipped) == (0, ())
    (workspace.tree / "a").write_text("a\n")
    second = workspace.snapshot("x")
    assert workspace.snapshot("y") == second != first


def test_differences_are_counted_from_the_base(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "src/app.py").write_text("print('a')\nprint('c')\nprint('d')\n")
    (workspace.tree / "README.md").unlink()
    (workspace.tree / "data.bin").write_bytes(b"\x00\x01" * 100)
    snapshot = workspace.snapshot("x")
    assert (snapshot.changed_files, snapshot.additions, snapshot.deletions) == (3, 2, 2)
    stat = place.store.diffstat(snapshot.commit, snapshot.base)
    assert (stat.additions, stat.deletions) == (2, 2)


def test_every_attempt_from_the_same_files_has_the_same_base(place: Place) -> None:
    one, two = place.prepare(1), place.prepare(1, card_key="PAY-2")
    assert one.origin.base == two.origin.base
    (one.tree / "x").write_text("x")
    snapshot = one.snapshot("x")
    place.write("later", "x")
    place.commit()
    resumed = place.elsewhere(2, snapshot.commit)
    assert resumed.origin.base == one.origin.base
    assert git(resumed.tree, "rev-parse", "HEAD") == one.origin.repository_commit
    assert not (resumed.tree / "later").exists()
    assert place.prepare(1, card_key="PAY-3").origin.base != one.origin.base


def test_a_tracked_file_is_snapshotted_even_if_it_is_ignored(place: Place) -> None:
    place.write("build/keep.txt", "tracked\n")
    place.commit()
    workspace = place.prepare(1)
    (workspace.tree / "build/keep.txt").write_text("changed\n")
    (workspace.tree / "build/other.txt").write_text("ignored\n")
    snapshot = workspace.snapshot("x")
    other = place.elsewhere(2, snapshot.commit)
    assert (other.tree / "build/keep.txt").read_text() == "changed\n"
    assert not (other.tree / "build/other.txt").exists()


def test_nested_repositories_and_huge_files_are_left_out_and_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MAX_FILE_BYTES", 1000)
    workspace = place.prepare(1)
    for name in ("with commits", "without"):
        nested = workspace.tree / "vendor" / name
        nested.mkdir(parents=True)
        git(nested, "init", "-q")
        (nested / "file").write_text("x")
    git(workspace.tree / "vendor/with commits", "add", "-A")
    git(workspace.tree / "vendor/with commits", "commit", "-q", "-m", "x")
    (workspace.tree / "huge one").write_bytes(b"x" * 1001)
    (workspace.tree / "small").write_bytes(b"x" * 1000)
    snapshot = workspace.snapshot("x")
    assert {item["path"] for item in snapshot.as_json()["skipped"]} == {
        "vendor/with commits/",
        "vendor/without/",
        "huge one",
    }
    assert snapshot.changed_files == 1
    before = contents(workspace.tree)
    workspace.close()
    # Taken over by the next attempt, what was left out is still there.
    assert contents(place.prepare(2, snapshot.commit).tree) == before


def test_a_tracked_file_that_grows_too_large_is_never_put_back_to_an_older_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MAX_FILE_BYTES", 1000)
    workspace = place.prepare(1)
    (workspace.tree / "README.md").write_bytes(b"y" * 2000)
    snapshot = workspace.snapshot("after a step that made it large")
    assert [item.path for item in snapshot.skipped] == [b"README.md"]
    (workspace.tree / "unfinished").write_text("x")
    workspace.close()
    taken = place.prepare(2, snapshot.commit)
    assert (taken.tree / "README.md").stat().st_size == 2000
    assert not (taken.tree / "unfinished").exists()
    (taken.tree / "README.md").write_bytes(b"small again\n")
    assert taken.snapshot("x").skipped == ()


def test_what_came_after_the_snapshot_is_gone_but_recoverable(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MAX_FILE_BYTES", 1000)
    workspace = place.prepare(1)
    (workspace.tree / "kept").write_text("kept\n")
    snapshot = workspace.snapshot("x")
    expected = contents(workspace.tree)
    (workspace.tree / "kept").write_text("half")
    (workspace.tree / "half-made").mkdir()
    (workspace.tree / "half-made/file").write_text("x\n")
    (workspace.tree / "half-made/huge").write_bytes(b"x" * 5000)
    git(workspace.tree, "clone", "-q", str(place.repository), "half-cloned")
    (workspace.tree / "README.md").unlink()
    (workspace.tree / "src/app.py").unlink()
    (workspace.tree / "src/app.py").mkdir()
    (workspace.tree / "src/app.py/file").write_text("a folder where a file was\n")
    workspace.close()
    taken = place.prepare(2, snapshot.commit)
    assert contents(taken.tree) == expected
    assert taken.discarded is not None
    found = place.store.run("ls-tree", "-r", "--name-only", taken.discarded).decode().split()
    assert "half-made/file" in found
    assert taken.snapshot("nothing happened yet").commit == snapshot.commit


# ── taking over ──


def test_the_next_attempt_takes_the_folder_over_with_its_ignored_files(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / ".venv/bin").mkdir(parents=True)
    (workspace.tree / ".venv/bin/tool").write_text(f"#!{workspace.tree}/.venv/bin/python\n")
    (workspace.home / ".cache").write_text("warm")
    (workspace.tmp / "junk").write_text("x")
    (workspace.tree / "done").write_text("x")
    snapshot = workspace.snapshot("x")
    (workspace.tree / ".git/index.lock").touch()
    (workspace.tree / ".git/refs/heads/main.lock").touch()
    (workspace.tree / "unfinished").write_text("x")
    workspace.close()
    settled: list[Path] = []
    taken = place.prepare(2, snapshot.commit, settle=lambda f: not settled.append(f))
    assert settled == [workspace.folder]
    assert taken.tree == workspace.tree
    assert (taken.tree / ".venv/bin/tool").exists()
    assert (taken.home / ".cache").read_text() == "warm"
    assert list(taken.tmp.iterdir()) == []
    assert (taken.tree / "done").exists()
    assert not (taken.tree / "unfinished").exists()
    git(taken.tree, "commit", "-q", "--allow-empty", "-m", "no lock is in the way")


def test_without_a_checkpoint_the_next_attempt_starts_from_the_base(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "unfinished").write_text("x")
    (workspace.tree / "README.md").write_text("half")
    workspace.close()
    taken = place.prepare(2)
    assert taken.tree == workspace.tree
    assert (taken.tree / "README.md").read_text() == "hello\n"
    assert not (taken.tree / "unfinished").exists()


def test_a_folder_whose_worker_lives_is_left_to_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "LOCK_WAIT_SECONDS", 0.1)
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    snapshot = workspace.snapshot("x")
    (workspace.tree / "still writing").write_text("x")
    settled: list[Path] = []
    other = place.prepare(2, snapshot.commit, settle=lambda f: not settled.append(f))
    assert settled == [workspace.folder]  # its commands are ended, its files are its own
    assert other.tree != workspace.tree
    assert (other.tree / "a").exists()
    assert (workspace.tree / "still writing").exists()


def test_a_folder_whose_processes_can_not_be_ended_is_not_taken_over(place: Place) -> None:
    workspace = place.prepare(1)
    snapshot = workspace.snapshot("x")
    workspace.close()
    other = place.prepare(2, snapshot.commit, settle=lambda folder: False)
    assert other.folder.name == "2"


def test_another_repository_means_another_clone(place: Place, tmp_path: Path) -> None:
    place.prepare(1).close()
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "only here").write_text("x")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "x")
    assert (place.prepare(2, repository=str(other)).tree / "only here").exists()


@pytest.mark.parametrize("damage", ["tree", "index", "tree is a link", "origin", "git", "all"])
def test_a_damaged_folder_is_made_anew_from_the_snapshot(place: Place, damage: str) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    snapshot = workspace.snapshot("x")
    before = contents(workspace.tree)
    workspace.close()
    if damage == "tree":
        workspaces.remove_folder(workspace.tree)
    elif damage == "index":
        (workspace.folder / "index").write_bytes(b"DIRC is not an index")
    elif damage == "tree is a link":
        workspace.tree.rename(workspace.folder / "moved")
        workspace.tree.symlink_to(place.repository)
    elif damage == "origin":
        (workspace.folder / "origin.json").write_text("{")
    elif damage == "git":
        workspaces.remove_folder(workspace.tree / ".git")
    else:
        workspaces.remove_folder(workspace.folder.parent)
    taken = place.prepare(2, snapshot.commit)
    assert contents(taken.tree) == before
    assert taken.snapshot("x").commit == snapshot.commit
    assert (place.repository / "README.md").read_text() == "hello\n"


def test_a_workspace_that_vanishes_while_in_use_is_a_clear_error(place: Place) -> None:
    workspace = place.prepare(1)
    workspaces.remove_folder(workspace.tree)
    with pytest.raises(WorkspaceError) as gone:
        workspace.snapshot("x")
    assert gone.value.retryable
    workspace.tree.symlink_to("/")
    with pytest.raises(WorkspaceError):
        workspace.snapshot("x")


def test_a_repository_that_moved_does_not_hinder_taking_over(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    snapshot = workspace.snapshot("x")
    workspace.close()
    place.repository.rename(place.repository.with_name("moved"))
    assert (place.prepare(2, snapshot.commit).tree / "a").exists()
    with pytest.raises(WorkspaceError, match="can't be cloned"):
        place.elsewhere(3, snapshot.commit)


def test_a_snapshot_that_is_not_in_the_store_is_a_clear_error(place: Place) -> None:
    for commit in ("0" * 40, "HEAD", "--all", "refs/heads/x"):
        with pytest.raises(WorkspaceError, match="is not in this host's snapshots"):
            place.prepare(1, commit)


# ── the store ──


def test_the_store_owns_all_it_refers_to(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    snapshot = workspace.snapshot("x")
    before = contents(workspace.tree)
    workspace.close()
    workspaces.remove_folder(place.root)
    assert not (place.store.path / "objects/info/alternates").exists()
    place.store.run("fsck", "--full", "--strict", "--no-dangling")
    assert contents(place.elsewhere(2, snapshot.commit).tree) == before


def test_packing_the_store_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkpoints.snapshots._PACK_AFTER", 10)
    workspace = place.prepare(1)
    commits = []
    for n in range(12):
        (workspace.tree / "counter").write_text(f"{n}\n")
        commits.append(workspace.snapshot(f"step {n}").commit)
    (place.store.path / "packed-refs.lock").touch()
    assert place.store.tidy()
    assert not place.store.tidy()
    assert all(place.store.has(commit) for commit in commits)
    place.store.run("fsck", "--full", "--no-dangling")
    assert (place.elsewhere(2, commits[4]).tree / "counter").read_text() == "4\n"


def test_two_attempts_of_a_board_may_snapshot_at_once(place: Place) -> None:
    made = [place.prepare(1, card_key=f"PAY-{n}") for n in range(2, 6)]
    results: dict[int, list[tuple[str, dict[str, str]]]] = {n: [] for n in range(len(made))}
    errors: list[Exception] = []

    def work(n: int) -> None:
        try:
            for turn in range(5):
                for name in range(20):
                    (made[n].tree / f"file{name}").write_text(f"{n if name % 2 else 0} {turn}\n")
                commit = made[n].snapshot("x").commit
                results[n].append((commit, contents(made[n].tree)))
        except (WorkspaceError, GitFailed, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    place.store.run("fsck", "--full", "--no-dangling")
    for n, found in results.items():
        commit, files = found[-1]
        assert contents(place.elsewhere(10 + n, commit).tree) == files


def test_two_stores_made_at_once_are_one(place: Place) -> None:
    stores = [SnapshotStore(place.store.path) for _ in range(6)]
    threads = [threading.Thread(target=store.make) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [path.name for path in place.store.path.parent.iterdir()]
    assert sorted(left) == ["board.git", "gitconfig"]


def test_objects_are_durable_before_a_snapshot_returns(place: Place) -> None:
    """Git leaves objects to the page cache unless told otherwise."""
    workspace = place.prepare(1)
    trace = place.root / "trace"
    workspace.store.git = workspace.store.git.having(GIT_TRACE2_EVENT=str(trace))
    workspace._git = workspace._git.having(GIT_TRACE2_EVENT=str(trace))
    (workspace.tree / "a").write_text("a")
    workspace.snapshot("x")
    flushed: dict[str, int] = {}
    command = ""
    for line in trace.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "start":
            command = next((word for word in event["argv"] if word in FLUSHING), "other")
        elif event.get("category") == "fsync" and event["key"].endswith("hardware-flush"):
            flushed[command] = flushed.get(command, 0) + int(event["value"])
    # The file, its tree, the commit and the reference to it.
    assert all(flushed.get(name, 0) >= 1 for name in FLUSHING), flushed


# ── removal ──


def test_a_finished_card_s_folders_are_removed_after_a_last_snapshot(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "never snapshotted").write_text("precious\n")
    frozen = workspace.tree / ".venv/frozen"
    frozen.mkdir(parents=True)
    (frozen / "x").write_text("x")
    frozen.chmod(0o500)
    assert prune(place.root, place.store, "PAY-1") == 0  # somebody works there
    workspace.close()
    assert prune(place.root, place.store, "PAY-1") == 1
    assert not (place.root / "PAY-1").exists()
    (left,) = place.store.left_behind("PAY-1")
    assert (place.elsewhere(2, left.commit).tree / "never snapshotted").read_text() == "precious\n"
    assert prune(place.root, place.store, "PAY-1") == 0


def test_a_folder_with_a_broken_index_is_snapshotted_all_the_same(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "precious").write_text("x")
    workspace.close()
    (workspace.folder / "index").write_bytes(b"broken")
    assert prune(place.root, place.store, "PAY-1") == 1
    (left,) = place.store.left_behind("PAY-1")
    assert left.attempt_number == 1
    place.store.run("cat-file", "-e", f"{left.commit}:precious")


# ── killed half-way ──

WORKER = """
    import sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from checkpoints.snapshots import SnapshotStore
    from checkpoints.workspaces import Workspace
    store = SnapshotStore(Path({store!r}))
    workspace = Workspace.prepare(Path({workspaces!r}), store, card_key="PAY-1",
                                  attempt_number={number}, repository={repository!r},
                                  resume_commit={resume!r})
    print("prepared", flush=True)
    for n in range(1000):
        for name in range(60):
            (workspace.tree / f"file{{name}}").write_text(f"{{n}} {{name}}\\n" * 50)
        print(n, workspace.snapshot(f"step {{n}}").commit, flush=True)
"""


def start_worker(place: Place, number: int, resume: str | None) -> subprocess.Popen[str]:
    source = WORKER.format(
        root=str(ROOT),
        store=str(place.store.path),
        workspaces=str(place.root),
        number=number,
        repository=str(place.repository),
        resume=resume,
    )
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_all(worker: subprocess.Popen[str]) -> list[str]:
    """Kill the worker and every git it started, at once, and return what it had printed."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    worker.kill()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    worker.wait()
    assert worker.stdout is not None
    with worker.stdout:
        return worker.stdout.read().splitlines()


@pytest.mark.chaos
def test_a_worker_killed_in_the_middle_of_git_costs_only_what_it_had_not_recorded(
    place: Place,
) -> None:
    rng = random.Random(20)
    resume: str | None = None
    turn = -1
    for number in range(1, 16):
        worker = start_worker(place, number, resume)
        time.sleep(rng.uniform(0.15, 0.9))
        printed = [line.split() for line in kill_all(worker)]
        done = [(int(n), commit) for n, commit in (p for p in printed if len(p) == 2)]
        if done:
            turn, resume = done[-1]
        if resume is not None:
            other = place.elsewhere(100 + number, resume)
            assert (other.tree / "file59").read_text() == f"{turn} 59\n" * 50
            other.close()
    assert resume is not None
    taken = place.prepare(50, resume)
    assert (taken.tree / "file0").read_text() == f"{turn} 0\n" * 50
    taken.snapshot("x")
    place.store.run("fsck", "--full", "--no-dangling")
    assert len(list((place.root / "PAY-1").iterdir())) <= 2


@pytest.mark.chaos
def test_a_git_that_outlives_its_killed_worker_keeps_the_folder_from_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "LOCK_WAIT_SECONDS", 0.1)
    workspace = place.prepare(1)
    orphan = subprocess.Popen(["sleep", "30"], pass_fds=[workspace._lock])
    workspace.close()
    try:
        assert place.prepare(2).folder.name == "2"
    finally:
        orphan.kill()
        orphan.wait()
    assert prune(place.root, place.store, "PAY-1") == 1


def test_git_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    runner = Git.with_settings_in(tmp_path)
    with pytest.raises(GitFailed, match="longer than"):
        runner.run("-c", "alias.nap=!sleep 20", "nap", cwd=tmp_path, timeout_seconds=0.2)
    with pytest.raises(GitFailed, match="is gone"):
        runner.run("status", cwd=tmp_path / "gone")
