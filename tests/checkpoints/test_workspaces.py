from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints import workspaces
from checkpoints.git import Git, GitFailed
from checkpoints.snapshots import SnapshotStore
from checkpoints.workspaces import Workspace, WorkspaceError, prune
from kernel.globs import Globs
from tests.repositories import git

ROOT = Path(__file__).resolve().parents[2]


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
    (tree / "Same").write_text("in one case\n")
    (tree / "same").write_text("in another\n")
    (tree / "blob.bin").write_bytes(bytes(range(256)) * 40_000)


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


def test_the_files_of_a_submodule_are_left_out_in_words(place: Place, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    (library / "lib.py").write_text("x\n")
    git(library, "add", "-A")
    git(library, "commit", "-q", "-m", "x")
    git(place.repository, "-c", "protocol.file.allow=always",
        "submodule", "add", "-q", str(library), "vendor/lib")  # fmt: skip
    place.commit()
    workspace = place.prepare(1)
    assert list((workspace.tree / "vendor/lib").iterdir()) == []
    assert workspace.snapshot("not filled").skipped == ()
    # A step fills it, works in it, and commits there.
    git(workspace.tree, "clone", "-q", str(library), "vendor/lib")
    filled = workspace.snapshot("filled")
    (workspace.tree / "vendor/lib/lib.py").write_text("y\n")
    git(workspace.tree / "vendor/lib", "commit", "-q", "-a", "-m", "y")
    (workspace.tree / "own").write_text("z\n")
    moved = workspace.snapshot("moved")
    for snapshot in (filled, moved):
        assert [(s.path, s.reason) for s in snapshot.skipped] == [
            (b"vendor/lib", workspaces.SUBMODULE)
        ]
    assert moved.changed_files == 1
    linked = place.store.run("ls-tree", moved.commit, "vendor/lib").split()
    assert linked[:2] == [b"160000", b"commit"]
    assert linked[2].decode() == git(library, "rev-parse", "HEAD")
    workspace.close()
    taken = place.prepare(2, moved.commit)
    assert taken.discarded is None
    assert (taken.tree / "vendor/lib/lib.py").read_text() == "y\n"
    other = place.elsewhere(3, moved.commit)
    assert list((other.tree / "vendor/lib").iterdir()) == []
    assert other.snapshot("x").tree == moved.tree


def test_files_folders_and_links_may_take_each_other_s_place(place: Place) -> None:
    place.write("linked/a", "a\n")
    place.write("linked/deep/b", "b\n")
    place.write("folder/c", "c\n")
    place.commit()
    workspace = place.prepare(1)
    tree = workspace.tree
    (tree / "README.md").unlink()
    (tree / "README.md").mkdir()
    (tree / "README.md/inside").write_text("a folder where a file was\n")
    shutil.rmtree(tree / "folder")
    (tree / "folder").write_text("a file where a folder was\n")
    # The files can still be reached by their paths, and are unchanged: yet they are not there.
    (tree / "linked").rename(tree / "elsewhere")
    (tree / "linked").symlink_to("elsewhere")
    before = contents(tree)
    snapshot = workspace.snapshot("x")
    assert snapshot.skipped == ()
    other = place.elsewhere(2, snapshot.commit)
    assert contents(other.tree) == before
    base = place.elsewhere(3, snapshot.base)
    assert (base.tree / "linked/deep/b").read_text() == "b\n"
    workspace.restore(snapshot.base)
    assert contents(tree) == contents(base.tree)


def test_what_an_ignored_link_leads_to_is_not_taken_for_tracked_files(place: Place) -> None:
    place.write("cache.log/a", "a\n")
    place.commit()
    workspace = place.prepare(1)
    (workspace.tree / "cache.log").rename(workspace.tree / "moved")
    (workspace.tree / "cache.log").symlink_to("moved")
    snapshot = workspace.snapshot("x")
    names = place.store.run("ls-tree", "-r", "--name-only", snapshot.commit).decode().split()
    assert "moved/a" in names
    assert "cache.log/a" not in names


@pytest.mark.parametrize("name", [".GIT/config", "git~1", "a/.git ", ".Git"])
def test_names_that_git_keeps_for_itself_are_left_out_in_words(place: Place, name: str) -> None:
    workspace = place.prepare(1)
    path = workspace.tree / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    (workspace.tree / "beside").write_text("x")
    snapshot = workspace.snapshot("x")
    assert [(s.path.decode(), s.reason) for s in snapshot.skipped] == [(name, workspaces.RESERVED)]
    assert snapshot.changed_files == 1


def unprivileged(does: Callable[[], None]) -> None:
    """Run it where permissions count: as somebody else, where the tests are root's."""
    if os.geteuid():
        does()
        return
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            does()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place that anybody may work in."""
    with tempfile.TemporaryDirectory() as folder:
        made = Place(Path(folder))
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, 65534, 65534) if os.geteuid() == 0 else None
        yield made


def test_folders_and_files_that_can_not_be_read_are_left_out_in_words(open_place: Place) -> None:
    place = open_place
    unprivileged(lambda: _leave_out_closed(place))


def _leave_out_closed(place: Place) -> None:
    workspace = place.prepare(1)
    tree = workspace.tree
    for name in ("locked/deep/a", "names only/b", "build/hidden/c", "src/d", "unread"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    workspace.snapshot("all can be read")
    closed = {"locked/deep": 0o000, "names only": 0o600, "build/hidden": 0o000, "src": 0o000}
    for name, mode in closed.items():
        (tree / name).chmod(mode)
    (tree / "unread").chmod(0o000)
    (tree / "beside").write_text("x")
    snapshot = workspace.snapshot("some can't")
    # What is ignored would not have been held anyway.
    assert [s.as_json() for s in snapshot.skipped] == [
        {"path": path, "reason": workspaces.UNREADABLE}
        for path in ("locked/deep/", "names only/", "src/", "unread")
    ]
    names = place.store.run("ls-tree", "-r", "--name-only", snapshot.commit).decode().split("\n")
    assert names[:-1] == [".gitignore", "README.md", "beside"]
    assert workspace.snapshot("again") == snapshot
    # Going back to it leaves them alone, closed or open again.
    (tree / "locked/deep").chmod(0o700)
    (tree / "late").write_text("x")
    workspace.restore(snapshot.commit)
    assert (tree / "locked/deep/a").read_text() == "locked/deep/a"
    assert stat.S_IMODE((tree / "src").stat().st_mode) == 0
    # Going back to where there was no such folder takes it away, closed as it is.
    workspace.restore(snapshot.base)
    assert {path.name for path in tree.iterdir()} == {
        ".git", ".gitignore", "README.md", "build", "src",
    }  # fmt: skip
    assert (tree / "src/app.py").read_text() == "print('a')\nprint('b')\n"


def test_a_file_whose_reading_fails_is_left_out_in_words(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions are not all: a disk or a file system may refuse what they allow."""
    workspace = place.prepare(1)
    (workspace.tree / "bad").write_text("x")
    (workspace.tree / "README.md").write_text("changed\n")
    run = Git.run

    def refuse(git: Git, *arguments: str, **more: Any) -> bytes:
        if "--add" in arguments and b"bad\x00" in more.get("stdin", b""):
            raise GitFailed("Unable to process path bad")
        return run(git, *arguments, **more)

    monkeypatch.setattr(Git, "run", refuse)
    with pytest.raises(WorkspaceError, match="Unable to process path bad"):
        workspace.snapshot("it can be read, and git fails all the same")
    monkeypatch.setattr(Workspace, "_can_be_read", lambda self, path: path != b"bad")
    snapshot = workspace.snapshot("x")
    assert [(s.path, s.reason) for s in snapshot.skipped] == [(b"bad", workspaces.UNREADABLE)]
    assert snapshot.changed_files == 1


def test_what_vanishes_meanwhile_is_as_though_it_had_never_been(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = place.prepare(1)
    for name in ("stays", "goes", "folder/goes"):
        (workspace.tree / name).parent.mkdir(exist_ok=True)
        (workspace.tree / name).write_text(name)
    look = Workspace._differing

    def then_lose(workspace: Workspace) -> Any:
        found = look(workspace)
        (workspace.tree / "goes").unlink(missing_ok=True)
        shutil.rmtree(workspace.tree / "folder", ignore_errors=True)
        return found

    monkeypatch.setattr(Workspace, "_differing", then_lose)
    snapshot = workspace.snapshot("x")
    assert (snapshot.changed_files, snapshot.skipped) == (1, ())


def test_ignored_files_are_kept_by_rule_and_come_back_exactly(place: Place) -> None:
    rule = {"keep_ignored": ["build/cache", "state.log"]}
    workspace = place.prepare(1, **rule)
    (workspace.tree / "build/cache/deep").mkdir(parents=True)
    (workspace.tree / "build/cache/deep/a").write_text("one\n")
    (workspace.tree / "build/other").write_text("not kept\n")
    (workspace.tree / "state.log").write_text("s\n")
    (workspace.tree / "noise.log").write_text("n\n")
    first = workspace.snapshot("x")
    assert (first.changed_files, first.skipped) == (2, ())
    (workspace.tree / "build/cache/deep/a").write_text("two\n")
    (workspace.tree / "state.log").unlink()
    second = workspace.snapshot("y")
    assert second.changed_files == 1
    workspace.close()
    taken = place.prepare(2, first.commit, **rule)
    assert (taken.tree / "build/cache/deep/a").read_text() == "one\n"
    assert (taken.tree / "state.log").read_text() == "s\n"
    assert (taken.tree / "build/other").read_text() == "not kept\n"
    assert taken.snapshot("z").tree == first.tree
    other = place.elsewhere(3, second.commit)  # a host whose worker knows of no rule
    assert (other.tree / "build/cache/deep/a").read_text() == "two\n"
    assert not (other.tree / "state.log").exists()


def test_ignored_files_are_kept_by_pattern_without_a_walk_through_what_is_ignored(
    place: Place,
) -> None:
    place.write(".gitignore", "*.log\nbuild/\n.venv/\nnode_modules/\n*.cache\n")
    place.commit()
    workspace = place.prepare(
        1, keep_ignored=["**/node_modules", "build/*.state", "src/?.log", "build/**/cells"]
    )
    kept = {
        "build/deep/er/cells/1",  # within what is ignored, which the pattern names
        "node_modules/a.js", "src/deep/node_modules/b/c.js", "build/x.state", "build/d.state/e",
        "src/a.log",
    }  # fmt: skip
    left = {
        ".venv/lib/node_modules/d.js",  # within what is ignored, and no pattern names that
        "build/deep/x.state", "src/ab.log", "src/deep/a.log", "top.cache",
    }  # fmt: skip
    for name in kept | left:
        (workspace.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.tree / name).write_text(name)
    git(workspace.tree / "node_modules", "init", "-q", "nested")
    first = workspace.snapshot("x")
    assert [(s.path, s.reason) for s in first.skipped] == [
        (b"node_modules/nested/", workspaces.NESTED)
    ]
    names = place.store.run("ls-tree", "-r", "--name-only", first.commit).decode().split()
    assert set(names) - {".gitignore", "README.md", "src/app.py"} == kept
    # A folder of which some is kept already is looked into for what is new and what is gone.
    (workspace.tree / "src/deep/node_modules/new/f.js").parent.mkdir()
    (workspace.tree / "src/deep/node_modules/new/f.js").write_text("f")
    (workspace.tree / "node_modules/a.js").unlink()
    second = workspace.snapshot("y")
    names = place.store.run("ls-tree", "-r", "--name-only", second.commit).decode().split()
    assert "src/deep/node_modules/new/f.js" in names
    assert "node_modules/a.js" not in names
    workspace.restore(first.commit)
    assert (workspace.tree / "node_modules/a.js").read_text() == "node_modules/a.js"
    assert not (workspace.tree / "src/deep/node_modules/new/f.js").exists()
    assert all((workspace.tree / name).exists() for name in kept | left)
    assert workspace.snapshot("again").tree == first.tree


def test_going_back_to_before_ignored_files_were_kept_leaves_them_alone(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "work").write_text("one\n")
    before = workspace.snapshot("nothing ignored is kept yet")
    workspace.close()
    rule = {"keep_ignored": ["build", "*.log"]}
    workspace = place.prepare(2, before.commit, **rule)
    none_yet = workspace.snapshot("they are kept, and there are none")
    assert none_yet.tree == before.tree
    for name in ("build/state", "a.log"):
        (workspace.tree / name).parent.mkdir(exist_ok=True)
        (workspace.tree / name).write_text(name)
    (workspace.tree / "work").write_text("two\n")
    kept = workspace.snapshot("kept")
    workspace.restore(before.commit)
    assert (workspace.tree / "work").read_text() == "one\n"
    assert (workspace.tree / "build/state").read_text() == "build/state"
    assert (workspace.tree / "a.log").read_text() == "a.log"
    workspace.restore(kept.commit)
    workspace.restore(none_yet.commit)
    assert not (workspace.tree / "build/state").exists()
    # Not ignored there: then they are files like all others, and came later.
    workspace.restore(kept.commit)
    (workspace.tree / ".gitignore").write_text("*.log\n")
    (workspace.tree / "build/state").unlink()
    workspace.close()
    workspace = place.prepare(3, before.commit)
    (workspace.tree / ".gitignore").write_text("*.log\n")
    fewer = workspace.snapshot("build is not ignored")
    workspace.close()
    workspace = place.prepare(4, kept.commit, **rule)
    workspace.restore(fewer.commit)
    assert (workspace.tree / "a.log").exists()
    assert not (workspace.tree / "build/state").exists()


def test_what_is_past_the_bound_of_ignored_files_is_said_and_stays_where_it_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MAX_KEPT_BYTES", 1000)
    place.write("build/tracked", "t\n")
    place.commit()
    workspace = place.prepare(1, keep_ignored=["build", "state.log"])
    (workspace.tree / "build/big").write_bytes(b"x" * 600)
    (workspace.tree / "state.log").write_bytes(b"y" * 300)
    fits = workspace.snapshot("x")
    assert (fits.changed_files, fits.skipped) == (2, ())
    (workspace.tree / "build/more").write_bytes(b"z" * 600)
    over = workspace.snapshot("y")
    assert [(s.path, s.reason) for s in over.skipped] == [(b"build", workspaces.PAST_THE_BOUND)]
    names = place.store.run("ls-tree", "-r", "--name-only", over.commit).decode().split()
    assert {"build/tracked", "state.log"} <= set(names)
    assert not {"build/big", "build/more"} & set(names)
    assert workspace.snapshot("again") == over
    workspace.restore(over.base)
    assert (workspace.tree / "build/more").exists()
    assert not (workspace.tree / "state.log").exists()


def test_a_pipe_in_place_of_a_file_is_left_out_in_words(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "README.md").unlink()
    os.mkfifo(workspace.tree / "README.md")
    (workspace.tree / "beside").write_text("x")
    snapshot = workspace.snapshot("x")
    assert [(s.path, s.reason) for s in snapshot.skipped] == [(b"README.md", workspaces.SPECIAL)]
    workspace.close()
    assert place.prepare(2, snapshot.commit).tree.joinpath("README.md").is_fifo()


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


def test_objects_are_durable_before_a_snapshot_returns(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git leaves objects to the page cache unless told otherwise."""
    workspace = place.prepare(1)
    there = set(loose(place.store))
    flushed: set[tuple[int, int]] = set()
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        plain(descriptor)
        found = os.fstat(descriptor)
        flushed.add((found.st_dev, found.st_ino))

    kept: list[set[Path]] = []
    keep = SnapshotStore.keep

    def then_keep(store: SnapshotStore, ref: str, commit: str) -> None:
        kept.append(set(loose(store)))
        keep(store, ref, commit)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(SnapshotStore, "keep", then_keep)
    trace = place.root / "trace"
    workspace.store.git = workspace.store.git.having(GIT_TRACE2_EVENT=str(trace))
    (workspace.tree / "a").write_text("a")
    snapshot = workspace.snapshot("x")
    new = set(loose(place.store)) - there
    # The file, its tree and the commit; and the folders that name them.
    assert {"".join(p.parts[-2:]) for p in new} >= {snapshot.commit, snapshot.tree}
    assert len(new) == 3
    for path in (*new, *(path.parent for path in new)):
        assert (path.stat().st_dev, path.stat().st_ino) in flushed
    # Only then is anything said to be there.
    assert kept == [there | new]
    told = [json.loads(line) for line in trace.read_text().splitlines()]
    assert any(e.get("category") == "fsync" and e["key"].endswith("hardware-flush") for e in told)


def test_a_snapshot_and_a_restore_cost_what_changed_and_one_walk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(200):
        place.write(f"d{n % 10}/f{n}", f"{n}\n")
    place.commit()
    workspace = place.prepare(1)
    trace = place.root / "trace"
    workspace._git = workspace._git.having(GIT_TRACE2_EVENT=str(trace))
    place.store.git = place.store.git.having(GIT_TRACE2_EVENT=str(trace))
    flushed: list[int] = []
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(fd), plain(fd)))

    def costs(what: str, restore: bool = False) -> tuple[int, int, int]:
        """Return git's processes, the folders they walked, and the files brought to the disk."""
        trace.unlink(missing_ok=True)
        flushed.clear()
        workspace.restore(workspace.head) if restore else workspace.snapshot(what)
        told = [json.loads(line) for line in trace.read_text().splitlines()]
        walked = [e["value"] for e in told if e.get("key") == "directories-visited"]
        return sum(e["event"] == "start" for e in told), sum(map(int, walked)), len(flushed)

    folders = 1 + 1 + 10  # the root, src and those made above
    costs("the first look")
    for n in range(20):
        (workspace.tree / f"d{n % 10}/f{n}").write_text("changed\n" * n)
    processes, walked, synced = costs("20 edits")
    assert (processes, walked) == (7, folders)
    # 20 files (two alike), 10 folders, the root, the commit; where they lie, and what names that.
    assert synced <= 2 * (20 + 10 + 1 + 1) + 1
    assert costs("nothing") == (2, folders, 0)
    # What is there already is not brought back; what is undone is kept first.
    assert costs("nothing", restore=True) == (2, folders, 0)
    before = contents(workspace.tree)
    (workspace.tree / "d1/f1").write_text("by mistake\n")
    (workspace.tree / "d2/f2").unlink()
    processes, walked, synced = costs("two edits", restore=True)
    assert (processes, walked) == (7, folders)
    assert 0 < synced <= 2 * (1 + 2 + 1 + 1) + 1  # a file, two folders, the root, the commit
    assert contents(workspace.tree) == before
    # Patterns that may match anywhere cost a second walk, ignored folders left out.
    for n in range(50):
        (workspace.tree / f".venv/lib{n}").mkdir(parents=True)
        (workspace.tree / f".venv/lib{n}/a").write_text("a")
    workspace._keep_ignored = Globs(["**/node_modules"])
    workspace.snapshot("the rule is new")
    assert costs("nothing") == (3, 2 * folders, 0)
    workspace._keep_ignored = Globs(["node_modules/.cache", "build/*.state"])
    workspace.snapshot("the rule is new")
    assert costs("nothing") == (3, folders + 1, 0)


def loose(store: SnapshotStore) -> list[Path]:
    """Return the files of the objects that are not packed."""
    return list((store.path / "objects").glob("[0-9a-f][0-9a-f]/*"))


def test_what_can_not_be_brought_to_the_disk_is_no_snapshot(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    before, head = loose(place.store), workspace.head

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fsync)
        with pytest.raises(WorkspaceError, match="Input/output error"):
            workspace.snapshot("x")
    assert loose(place.store) == before
    assert workspace.head == head
    # The disk is mended: nothing of the failure is in the way.
    snapshot = workspace.snapshot("x")
    assert snapshot.changed_files == 1
    place.store.run("fsck", "--full", "--strict", "--no-dangling")
    assert (place.elsewhere(2, snapshot.commit).tree / "a").read_text() == "a"


def test_a_closed_workspace_leaves_no_room_for_objects_behind(place: Place) -> None:
    workspace = place.prepare(1)
    (workspace.tree / "a").write_text("a")
    workspace.snapshot("x")
    workspace.close()
    assert list((place.store.path / "objects").glob("tmp_*")) == []


def test_the_counts_of_many_snapshots_are_those_of_the_whole(place: Place) -> None:
    workspace = place.prepare(1)
    rng = random.Random(3)
    for n in range(12):
        name = workspace.tree / rng.choice(["README.md", "src/app.py", "a", "b/c", "b"])
        if name.is_dir():
            shutil.rmtree(name)
        elif name.parent.is_file():
            name.parent.unlink()
        if name.exists() and rng.random() < 0.3:
            name.unlink()
        else:
            name.parent.mkdir(exist_ok=True)
            name.write_text(f"{n}\n" * rng.randrange(1, 9))
        snapshot = workspace.snapshot(f"{n}")
        whole = place.store.diffstat(snapshot.base, snapshot.commit)
        assert (whole.changed_files, whole.additions, whole.deletions) == (
            snapshot.changed_files,
            snapshot.additions,
            snapshot.deletions,
        )


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
    began = time.monotonic()
    worker = start_worker(place, 1, None)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "prepared\n"
    turn, resume = 0, worker.stdout.readline().split()[1]
    took = time.monotonic() - began  # on this machine, as busy as it is
    for number in range(2, 17):
        printed = [line.split() for line in kill_all(worker)]
        done = [(int(n), commit) for n, commit in (p for p in printed if len(p) == 2)]
        turn, resume = done[-1] if done else (turn, resume)
        other = place.elsewhere(100 + number, resume)
        assert (other.tree / "file59").read_text() == f"{turn} 59\n" * 50
        other.close()
        worker = start_worker(place, number, resume)
        time.sleep(rng.uniform(0.2, 1.5) * took)
    kill_all(worker)
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
    orphan = subprocess.Popen(["sleep", "600"], pass_fds=[workspace._lock])
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


def test_compiled_python_stays_out_unless_the_repository_has_it(place: Place) -> None:
    place.write("kept/__pycache__/old.pyc", "1")
    place.commit()
    workspace = place.prepare(1)
    for name in ("src/__pycache__/new.pyc", "kept/__pycache__/old.pyc"):
        (workspace.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.tree / name).write_text("2")
    taken = workspace.snapshot("worked")
    changed = [change.path for change in place.store.changes(taken.base, taken.commit)]
    assert changed == ["kept/__pycache__/old.pyc"]


@pytest.mark.parametrize("tool", ["pytest", "ruff"])
def test_tools_take_no_configuration_from_far_above_for_the_repositorys(
    place: Place, tmp_path: Path, tool: str
) -> None:
    place.write("test_it.py", "def test_it():\n    pass\n")
    place.commit()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--no-such-option"\n'
        '[tool.ruff.lint]\nselect = ["ALL"]\n'
    )
    workspace = place.prepare(1)
    asked = {
        "pytest": ("-q", "-p", "no:cacheprovider"),
        "ruff": ("check", "--no-cache", "test_it.py"),
    }
    ran = subprocess.run(
        [sys.executable, "-m", tool, *asked[tool]],
        cwd=workspace.tree,
        env={"PATH": os.environ["PATH"], "HOME": str(workspace.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not workspace.snapshot("looked at").changed_files
