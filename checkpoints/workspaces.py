"""The folder an attempt works in: made from a repository, brought to a checkpoint, snapshotted.

    <root>/<card>/<number>/tree        the workspace itself: a clone, or a plain folder
                           home, tmp   the commands' HOME and TMPDIR
                           index       of the snapshots, private to this folder
                           lock        held while a worker, or a git of it, is at work here
                           holder      number of the attempt that was here last

``number`` is the attempt that made the folder. Later attempts on the same host take it over
instead of starting afresh, so that what snapshots leave out (ignored files: virtual
environments, caches) survives, and absolute paths into it stay true. They do so only when the
lock is free: while the earlier worker lives, however late and confused, its folder stays its
own, and the next attempt makes another.

Taking over and starting afresh end alike: with exactly the files of the snapshot.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoints.git import CLONE_SECONDS, Git, GitFailed
from checkpoints.snapshots import (
    Description,
    Skipped,
    Snapshot,
    SnapshotStore,
    left_ref,
    pathspecs,
)

MAX_FILE_BYTES = 32 * 1024 * 1024
LOCK_WAIT_SECONDS = 3.0
EPOCH = "1970-01-01T00:00:00Z"

NESTED = "is a repository of its own"
TOO_LARGE = f"is larger than {MAX_FILE_BYTES // 2**20} MiB"
UNREADABLE = "can't be read"

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCP = re.compile(r"[^/\\:@]+@[^/\\:]+:.+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class WorkspaceError(Exception):
    """There is no workspace to work in. One sentence, and in ``remedy`` what to do about it.

    ``retryable`` tells whether another attempt may succeed without anybody doing anything.
    """

    def __init__(self, problem: str, remedy: str, *, retryable: bool = False) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem, self.remedy, self.retryable = problem, remedy, retryable


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a workspace's files came from, kept beside them."""

    repository: str
    repository_commit: str
    base: str


class Workspace:
    """One attempt's folder, locked by this process until ``close``."""

    def __init__(
        self, folder: Path, store: SnapshotStore, lock: int, origin: Origin, attempt_number: int
    ) -> None:
        self.folder, self.store, self.origin = folder, store, origin
        self._lock = lock
        self.tree, self.home, self.tmp = folder / "tree", folder / "home", folder / "tmp"
        self.number = attempt_number
        self.head = self._began = origin.base
        self.discarded: str | None = None  # what taking over undid, if it undid anything
        self._git = store.git.having(
            lock,
            GIT_WORK_TREE=str(self.tree),
            GIT_INDEX_FILE=str(folder / "index"),
        )
        self._ref = f"refs/holdfast/{folder.parent.name}/{attempt_number}"

    @classmethod
    def prepare(
        cls,
        root: Path,
        store: SnapshotStore,
        *,
        card_key: str,
        attempt_number: int,
        repository: str = "",
        resume_commit: str | None = None,
        settle: Callable[[Path], bool] = lambda folder: True,
    ) -> Workspace:
        """Return the attempt's workspace, holding exactly the files of ``resume_commit``.

        Without one it holds what ``repository`` (a path or URL that git can clone; empty for
        an empty folder) has committed. ``settle`` is called with each folder of an earlier
        attempt: it ends what still runs there and tells whether it could. Raises
        WorkspaceError.
        """
        if resume_commit is not None and not _COMMIT.fullmatch(resume_commit):
            raise _no_snapshot(resume_commit)
        try:
            store.make()
            if resume_commit is not None and not store.has(resume_commit):
                raise _no_snapshot(resume_commit)
            card = root.absolute() / _safe_name(card_key)
            card.mkdir(parents=True, exist_ok=True)
            for folder, origin, lock, quiet in _to_be_had(card, repository, settle):
                workspace = cls(folder, store, lock, origin, attempt_number)
                try:
                    if quiet and workspace._continue(resume_commit):
                        return workspace
                    # Damaged beyond its files, such as a broken index, or made from an older
                    # state of the repository: keep it, start afresh.
                    folder.rename(folder.with_name(f"{folder.name}.aside-{attempt_number}"))
                except BaseException:
                    workspace.close()
                    raise
                workspace.close()
            return cls._afresh(card / str(attempt_number), store, repository, resume_commit)
        except GitFailed as error:
            raise WorkspaceError(
                f"The workspace can't be prepared: {error}.", "Mend that, then retry the card."
            ) from None
        except OSError as error:
            raise WorkspaceError(
                f"The workspace can't be prepared: {error.strerror or error}.",
                f"Check the space and permissions of {root}, then retry the card.",
                retryable=True,
            ) from None

    def _continue(self, resume_commit: str | None) -> bool:
        """Bring a folder that was taken over to the snapshot; return whether that worked."""
        try:
            if self.origin.repository and not (self.tree / ".git" / "HEAD").is_file():
                return False
            if resume_commit is not None:
                resumed = self.store.describe(resume_commit)
                if resumed.repository_commit != self.origin.repository_commit:
                    return False  # the card was brought up to date with the repository since
            self._clear_locks()
            self.discarded = self.restore(
                resume_commit or self.origin.base, left_by=_holder_of(self.folder)
            )
            self._make_rooms()
            self._hold()
        except (GitFailed, WorkspaceError, OSError):
            return False
        return True

    @classmethod
    def _afresh(
        cls, folder: Path, store: SnapshotStore, repository: str, resume_commit: str | None
    ) -> Workspace:
        folder.mkdir(exist_ok=True)
        lock = _try_lock(folder)
        if lock is None:
            raise WorkspaceError(
                f"Another process is at work in {folder}.", "Wait for it, then retry the card."
            )
        try:
            wanted = store.describe(resume_commit) if resume_commit else Description()
            git = Git(store.git.settings_file, {}).having(lock)
            repository_commit = _clone(git, folder, repository, wanted.repository_commit)
            origin = Origin(repository, repository_commit, "")
            workspace = cls(folder, store, lock, origin, int(folder.name))
            workspace._make_rooms()
            workspace._found_base(wanted.base)
            if resume_commit and resume_commit != workspace.head:
                workspace.restore(resume_commit)
            workspace._hold()
        except BaseException:
            os.close(lock)
            raise
        return workspace

    def _found_base(self, wanted_base: str) -> None:
        """Record the pristine files as the snapshot that differences are measured from."""
        if self.origin.repository_commit:
            clone = Git(self.store.git.settings_file, {})
            tree = clone.line("rev-parse", "HEAD^{tree}", cwd=self.tree)
            self.store.take_over(self.tree, tree)
            self._run("read-tree", tree)  # tells which ignored files are tracked all the same
        else:
            self._run("read-tree", "--empty")
        skipped = self._add()
        described = Description("", self.origin.repository_commit, skipped)
        # A fixed date: every attempt that starts from the same files has the same base.
        base = self.store.commit(
            self._line("write-tree"), described.message("What the attempts start from"), date=EPOCH
        )
        self.store.keep(f"{self._ref}-base", base)
        self.head = self._began = base
        if wanted_base and self.store.has(wanted_base):
            base = wanted_base
        self.origin = Origin(self.origin.repository, self.origin.repository_commit, base)
        _write_origin(self.folder, self.origin)

    def snapshot(self, summary: str) -> Snapshot:
        """Return the workspace as it is now, durable in the store.

        Files that did not change cost nothing, and no change at all makes no new commit.
        Nothing may be writing in the workspace meanwhile. Raises WorkspaceError.
        """
        self._check_tree()
        try:
            skipped = self._add()
            tree = self._line("write-tree")
            if tree != self.store.tree_of(self.head) or skipped != self._skipped_at(self.head):
                self._commit(tree, summary, skipped)
            stat = self.store.diffstat(self.origin.base, self.head)
        except GitFailed as error:
            raise _not_snapshotted(error) from None
        return Snapshot(
            commit=self.head,
            tree=tree,
            base=self.origin.base,
            changed_files=stat.changed_files,
            additions=stat.additions,
            deletions=stat.deletions,
            skipped=skipped,
        )

    def put_back(self) -> None:
        """Undo everything since the last snapshot or restore. Raises WorkspaceError."""
        try:
            self.restore(self.head)
        except GitFailed as error:
            raise _not_snapshotted(error) from None

    def restore(self, commit: str, *, left_by: int | None = None) -> str | None:
        """Give the workspace exactly the files of the snapshot; ignored files stay as they are.

        Returns a snapshot of what was there before if that was anything else, else None. It is
        kept for good where ``left_by`` names the attempt whose work it was, see ``left_behind``.
        Raises GitFailed.
        """
        self._check_tree()
        then_skipped = {item.path for item in self._skipped_at(commit)}
        undone, strays = self._set_aside(commit, then_skipped, left_by)
        wanted = self._paths_of(commit, [item.path for item in strays])
        for item in strays:
            if item.path.rstrip(b"/") not in wanted:
                _remove(self.tree, item.path)
        self._run("read-tree", "--reset", "-u", commit)
        self.head = self._began = commit
        return undone

    def _set_aside(
        self, commit: str, then_skipped: set[bytes], left_by: int | None
    ) -> tuple[str | None, list[Skipped]]:
        """Snapshot what differs from ``commit``; return that, and what no snapshot can hold."""
        # Left out then: whatever stands there now is as good as what stood there then.
        self._forget(sorted(then_skipped))
        now_skipped = self._add(also_excluded=then_skipped)
        before = self._line("write-tree")
        strays = [item for item in now_skipped if item.path not in then_skipped]
        if before == self.store.tree_of(commit) and not strays:
            return None, strays
        ref = f"{self._ref}-discarded"
        if left_by is not None:
            ref = left_ref(self.folder.parent.name, left_by, before)
            if (kept := self.store.at(ref)) is not None:
                return kept, strays
        described = Description(self.origin.base, self.origin.repository_commit, tuple(now_skipped))
        undone = self.store.commit(before, described.message("Left unfinished"), parent=self.head)
        self.store.keep(ref, undone)
        return undone, strays

    def leave(self) -> str | None:
        """Keep for good what is here now and was not when the attempt began; return its commit.

        Nothing is changed in the folder. Raises GitFailed and WorkspaceError.
        """
        self._check_tree()
        then_skipped = {item.path for item in self._skipped_at(self._began)}
        return self._set_aside(self._began, then_skipped, self.number)[0]

    def _keep_last_state(self) -> None:
        """Keep the files for good, with a new index if need be."""
        try:
            self.leave()
        except (GitFailed, WorkspaceError):
            self._check_tree()
            (self.folder / "index").unlink(missing_ok=True)
            self._run("read-tree", self.origin.base)
            self.leave()

    def _hold(self) -> None:
        """Write down whose work is in the folder from now on."""
        draft = self.folder / "holder.draft"
        draft.write_text(f"{self.number}\n")
        draft.replace(self.folder / "holder")

    def close(self) -> None:
        """Let the next attempt have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _commit(self, tree: str, summary: str, skipped: tuple[Skipped, ...]) -> None:
        described = Description(self.origin.base, self.origin.repository_commit, skipped)
        commit = self.store.commit(tree, described.message(summary), parent=self.head)
        self.store.keep(self._ref, commit)
        self.head = commit

    def _skipped_at(self, commit: str) -> tuple[Skipped, ...]:
        return self.store.describe(commit).skipped

    def _add(
        self, also_excluded: set[bytes] | frozenset[bytes] = frozenset()
    ) -> tuple[Skipped, ...]:
        """Bring the private index up to the files; return what was left out of it."""
        (self.folder / "index.lock").unlink(missing_ok=True)  # a dead git's: we hold the folder
        skipped = tuple(self._unfit())
        left_out = {item.path for item in skipped} | also_excluded
        excluded = sorted(path.rstrip(b"/") for path in left_out)
        self._forget(excluded)
        for last in (False, True):
            try:
                self._run(
                    "add", "-A", "--ignore-errors", "--pathspec-from-file=-",
                    "--pathspec-file-nul", stdin=pathspecs(excluded),
                )  # fmt: skip
                break
            except GitFailed:
                if last:
                    raise
        return skipped

    def _unfit(self) -> Iterator[Skipped]:
        """Yield the changed or new paths that a snapshot can't or must not hold."""
        listed = self._run("ls-files", "-z", "-o", "-m", "--exclude-standard", "--deduplicate")
        root = os.fsencode(self.tree)
        for path in filter(None, listed.split(b"\x00")):
            if path.endswith(b"/"):
                yield Skipped(path, NESTED)
                continue
            try:
                found = os.lstat(os.path.join(root, path))
            except OSError:
                continue  # deleted, which a snapshot can hold
            if stat.S_ISDIR(found.st_mode):
                yield Skipped(path, NESTED)  # a submodule somebody filled
            elif not stat.S_ISREG(found.st_mode):
                continue
            elif found.st_size > MAX_FILE_BYTES:
                yield Skipped(path, TOO_LARGE)
            elif not os.access(os.path.join(root, path), os.R_OK):
                yield Skipped(path, UNREADABLE)

    def _forget(self, paths: list[bytes]) -> None:
        """Take paths out of the private index; the files stay."""
        if paths:
            names = b"\x00".join(path.rstrip(b"/") for path in paths) + b"\x00"
            self._run("update-index", "--force-remove", "-z", "--stdin", stdin=names)

    def _paths_of(self, commit: str, paths: list[bytes]) -> set[bytes]:
        """Return those of ``paths`` that the snapshot holds."""
        if not paths:
            return set()
        listed = self._run("ls-tree", "-r", "-z", "--name-only", commit)
        return set(listed.split(b"\x00")) & {path.rstrip(b"/") for path in paths}

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return self._git.run("-c", "core.bare=false", *arguments, cwd=self.tree, stdin=stdin)

    def _line(self, *arguments: str) -> str:
        return self._run(*arguments).decode().strip()

    def _check_tree(self) -> None:
        """Raise WorkspaceError unless the workspace is there and a folder, no link elsewhere."""
        try:
            mode = os.lstat(self.tree).st_mode
        except OSError:
            mode = 0
        if not stat.S_ISDIR(mode):
            raise WorkspaceError(
                f"The workspace {self.tree} is gone.",
                "The next attempt makes a new one from the last checkpoint.",
                retryable=True,
            )

    def _make_rooms(self) -> None:
        """Make HOME and an empty TMPDIR."""
        self.home.mkdir(exist_ok=True)
        if self.tmp.exists() or self.tmp.is_symlink():
            remove_folder(self.tmp)
        self.tmp.mkdir(mode=0o700)

    def _clear_locks(self) -> None:
        """Remove the locks that a killed git left in the workspace's own repository."""
        own = self.tree / ".git"
        if own.is_symlink() or not own.is_dir():
            return
        for here, folders, files in os.walk(own):
            folders[:] = [name for name in folders if (here, name) != (str(own), "objects")]
            for name in files:
                if name.endswith(".lock"):
                    Path(here, name).unlink(missing_ok=True)


def _to_be_had(
    card: Path, repository: str, settle: Callable[[Path], bool]
) -> Iterator[tuple[Path, Origin, int, bool]]:
    """Yield the card's finished folders made from the repository, newest first, each locked
    and with whether nothing runs in it any more.

    Commands are ended in folders that can't be had, too: whoever started them was replaced.
    Folders that a killed worker had not finished are removed on the way.
    """
    folders = [
        Path(entry.path)
        for entry in os.scandir(card)
        if entry.name.isdigit() and entry.is_dir(follow_symlinks=False)
    ]
    for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
        origin = _read_origin(folder)
        quiet = settle(folder)
        lock = _try_lock(folder, LOCK_WAIT_SECONDS if origin else 0.0)
        if lock is None:
            continue
        if origin is None:
            remove_folder(folder)
            os.close(lock)
        elif origin.repository == repository:
            yield folder, origin, lock, quiet
        else:
            os.close(lock)


def prune(root: Path, store: SnapshotStore, card_key: str) -> int:
    """Remove the card's folders in which nobody works; return how many.

    Each is snapshotted first. One that can't be is kept: its files exist nowhere else.
    """
    card = root.absolute() / _safe_name(card_key)
    removed = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(card)):
            if entry.is_dir(follow_symlinks=False) and _prune_one(Path(entry.path), store):
                removed += 1
        with contextlib.suppress(OSError):
            card.rmdir()
    return removed


def _prune_one(folder: Path, store: SnapshotStore) -> bool:
    lock = _try_lock(folder)
    if lock is None:
        return False
    try:
        origin = _read_origin(folder)
        if origin is not None and (folder / "tree").is_dir():
            workspace = Workspace(folder, store, lock, origin, _holder_of(folder))
            workspace._keep_last_state()
        remove_folder(folder)
    except (GitFailed, WorkspaceError, OSError):
        return False
    finally:
        os.close(lock)
    return True


def _try_lock(folder: Path, wait_seconds: float = 0.0) -> int | None:
    """Return a descriptor that holds the folder's lock, or None while somebody else does."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / "lock", flags, 0o600)
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(0.05)


def _holder_of(folder: Path) -> int:
    """Return the number of the attempt that worked in the folder last."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "holder").read_text())
    return int(re.match(r"\d*", folder.name)[0] or 0)  # type: ignore[index]


def _read_origin(folder: Path) -> Origin | None:
    try:
        raw = json.loads((folder / "origin.json").read_text())
        return Origin(str(raw["repository"]), str(raw["repository_commit"]), str(raw["base"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_origin(folder: Path, origin: Origin) -> None:
    draft = folder / "origin.json.draft"
    draft.write_text(
        json.dumps(
            {
                "repository": origin.repository,
                "repository_commit": origin.repository_commit,
                "base": origin.base,
            }
        )
    )
    draft.replace(folder / "origin.json")


def _clone(git: Git, folder: Path, repository: str, wanted_commit: str) -> str:
    """Make ``folder/tree`` from the repository; return its commit, empty for a plain folder."""
    tree, draft = folder / "tree", folder / "tree.draft"
    for leftover in (tree, draft):
        if leftover.is_symlink() or leftover.exists():
            remove_folder(leftover)
    if not repository.strip():
        tree.mkdir()
        return ""
    source = source_of(repository)
    try:
        git.run(
            "clone", "--quiet", "--no-hardlinks", "--no-recurse-submodules", "--template=",
            "--", source, str(draft),
            cwd=folder,
            timeout_seconds=CLONE_SECONDS,
        )  # fmt: skip
    except GitFailed as error:
        shown = without_credentials(f"{error}")
        raise WorkspaceError(
            f"The board's repository {without_credentials(repository)} can't be cloned: {shown}.",
            "Put it back or give the board its new place, then retry the card.",
        ) from None
    git.run("remote", "set-url", "origin", without_credentials(source), cwd=draft)
    # So that a command may commit: its HOME is new and has no name in it.
    git.run("config", "user.name", "Holdfast", cwd=draft)
    git.run("config", "user.email", "holdfast@localhost", cwd=draft)
    if wanted_commit:
        # What the snapshot was made on; upstream may have moved on since, or rewritten it.
        with contextlib.suppress(GitFailed):
            git.run("reset", "--quiet", "--hard", wanted_commit, cwd=draft)
    draft.rename(tree)
    with contextlib.suppress(GitFailed):
        return git.line("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=tree)
    return ""  # a repository without commits


def source_of(repository: str) -> str:
    """Return what git is to be handed as the place of a repository.

    Raises WorkspaceError for what is neither path nor URL.
    """
    text = repository.strip()
    if _SCHEME.match(text) or _SCP.fullmatch(text):
        return text
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise WorkspaceError(
            f"The board's repository {text} is neither an absolute path nor a URL.",
            "Give the board a path that starts with / or a URL, then retry the card.",
        )
    return str(path)


def without_credentials(text: str) -> str:
    """Return the text with the user and password of every URL in it left out."""
    return _CREDENTIALS.sub("", text)


def _safe_name(card_key: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", card_key):
        raise WorkspaceError(f"{card_key!r} is no card key.", "Rename the card's board.")
    return card_key


def _not_snapshotted(error: GitFailed) -> WorkspaceError:
    return WorkspaceError(
        f"The workspace could not be snapshotted: {error}.",
        "Check the disk of the data folder, then retry the card.",
        retryable=True,
    )


def _no_snapshot(commit: str) -> WorkspaceError:
    return WorkspaceError(
        f"The checkpoint's workspace {commit[:12]} is not in this host's snapshots.",
        "Let all worker hosts share DATA_DIR/snapshots, or rewind the card, then retry it.",
    )


def _remove(root: Path, path: bytes) -> None:
    """Remove a file or folder below ``root`` without following a link on the way to it."""
    target = Path(os.fsdecode(os.path.join(os.fsencode(root), path.rstrip(b"/"))))
    if target.parent.resolve() != root.resolve().joinpath(target.parent.relative_to(root)):
        return
    if target.is_dir() and not target.is_symlink():
        remove_folder(target)
    else:
        target.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, read-only folders included; a link is only unlinked."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for here, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(here, name)
            if not path.is_symlink() and not os.access(path, os.W_OK | os.X_OK):
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder)
