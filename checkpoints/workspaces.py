"""The folder an attempt works in: made from a repository, brought to a checkpoint, snapshotted.

    <root>/<card>/<number>/tree        the workspace itself: a clone, or a plain folder
                           home, tmp   the commands' HOME and TMPDIR
                           index       of the snapshots, private to this folder
                           pytest.ini, ruff.toml   empty, where there is such a thing further up
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
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from checkpoints import fingerprints
from checkpoints.git import CLONE_SECONDS, Git, GitFailed
from checkpoints.snapshots import (
    Counts,
    Description,
    DiffStat,
    Skipped,
    Snapshot,
    SnapshotStore,
    left_ref,
)
from kernel.addresses import shown_to_all, without_credentials
from kernel.globs import Globs

MAX_FILE_BYTES = 32 * 1024 * 1024
LOCK_WAIT_SECONDS = 3.0
FOLDERS_AT_ONCE = 500
COUNTED_ANEW = 500  # changed paths: all are counted then
EPOCH = "1970-01-01T00:00:00Z"

NESTED = "is a repository of its own"
MAX_KEPT_BYTES = 256 * 1024 * 1024
PAST_THE_BOUND = f"is ignored, and past the {MAX_KEPT_BYTES // 2**20} MiB kept of such files"
SUBMODULE = "is a submodule: its commit is kept as the repository names it, its files are not"
TOO_LARGE = f"is larger than {MAX_FILE_BYTES // 2**20} MiB"
UNREADABLE = "can't be read"
SPECIAL = "is neither a file nor a link"
RESERVED = "has a name that git keeps for itself"

#: What pytest and ruff look for in one folder after the other, upwards, and what ends the search.
_CONFIGURATIONS = (
    "pyproject.toml",
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "setup.cfg",
    "ruff.toml",
    ".ruff.toml",
)
_NEAREST = ("pytest.ini", "ruff.toml")

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCP = re.compile(r"[^/\\:@]+@[^/\\:]+:.+")
_RESERVED_NAME = re.compile(
    rb"(?:^|[/\\])(?:\.git|git~1)[ .]*(?::[^/\\]*)?(?:$|[/\\])", re.IGNORECASE
)


class WorkspaceError(Exception):
    """There is no workspace to work in. One sentence, and in ``remedy`` what to do about it.

    ``retryable`` tells whether another attempt may succeed without anybody doing anything.
    """

    def __init__(self, problem: str, remedy: str, *, retryable: bool = False) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem, self.remedy, self.retryable = problem, remedy, retryable


class CantClone(WorkspaceError):
    """The repository can't be cloned from this host."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a workspace's files came from, kept beside them: without what opens the address."""

    repository: str
    repository_commit: str
    base: str


class Workspace:
    """One attempt's folder, locked by this process until ``close``."""

    def __init__(
        self,
        folder: Path,
        store: SnapshotStore,
        lock: int,
        origin: Origin,
        attempt_number: int,
        keep_ignored: Sequence[str] = (),
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
        self._tree: str | None = None  # of the private index, where that is known
        self._counts: Counts | None = None  # from the base to that tree, where they are known
        self._keep_ignored = Globs(keep_ignored)
        self._linked: frozenset[bytes] | None = None  # see _submodules
        self._linked_in: dict[str, frozenset[bytes]] = {}  # by tree, where that is known
        self._apart = f"{folder.parent.name}-{uuid.uuid4().hex}"
        self._recorded: dict[str, Description] = {}

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
        keep_ignored: Sequence[str] = (),
        settle: Callable[[Path], bool] = lambda folder: True,
    ) -> Workspace:
        """Return the attempt's workspace, holding exactly the files of ``resume_commit``.

        Without one it holds what ``repository`` (a path or URL that git can clone; empty for
        an empty folder) has committed. Snapshots hold the ignored files that the patterns
        ``keep_ignored`` name as they hold others, up to a bound. ``settle`` is called with each
        folder of an earlier attempt: it ends what still runs there and tells whether it could.
        Raises WorkspaceError.
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
                workspace = cls(folder, store, lock, origin, attempt_number, keep_ignored)
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
            return cls._afresh(
                card / str(attempt_number), store, repository, resume_commit, keep_ignored
            )
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
            _write_origin(self.folder, self.origin)  # by an earlier version with a password
            self._hold()
        except (GitFailed, WorkspaceError, OSError):
            return False
        return True

    @classmethod
    def _afresh(
        cls,
        folder: Path,
        store: SnapshotStore,
        repository: str,
        resume_commit: str | None,
        keep_ignored: Sequence[str],
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
            origin = Origin(shown_to_all(repository), repository_commit, "")
            workspace = cls(folder, store, lock, origin, int(folder.name), keep_ignored)
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
        with self._writing():
            skipped, _ = self._add()
            tree = self._write_tree()
            described = self._described(skipped)
            # A fixed date: every attempt that starts from the same files has the same base.
            message = described.message("What the attempts start from")
            base = self.store.commit(tree, message, date=EPOCH, git=self._git)
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
            return self._snapshot(summary)
        except GitFailed as error:
            raise _not_snapshotted(error) from None

    def _snapshot(self, summary: str) -> Snapshot:
        commit, counts = self.head, self._counts
        environment = fingerprints.taken(self.tree)
        then = self._at(commit)
        with ThreadPoolExecutor(1) as beside:
            with self._writing():
                skipped, touched = self._add()
                tree = self._tree if self._tree and not touched else self._write_tree()
                if counts is None or tree != then.tree:
                    # Meanwhile objects move, to where this git looks when they are gone.
                    counting = beside.submit(self._count, tree, touched, self._git)
                else:
                    counting = None
                described = self._described(skipped, environment, tree)
                if (tree, skipped, described.kept) != (then.tree, then.skipped, then.kept):
                    message = described.message(summary)
                    commit = self.store.commit(tree, message, parent=self.head, git=self._git)
            self._tree = tree
            self._linked_in[tree] = self._submodules()
            if counting is not None:
                self._counts = counts = counting.result()
        if commit != self.head:
            self.store.keep(self._ref, commit)
            self._recorded[commit] = described
            self.head = commit
        stat = DiffStat.of(counts or {})
        return Snapshot(
            commit=self.head,
            tree=tree,
            base=self.origin.base,
            changed_files=stat.changed_files,
            additions=stat.additions,
            deletions=stat.deletions,
            skipped=skipped,
            environment=environment,
        )

    def _count(self, tree: str, touched: list[bytes], git: Git) -> Counts:
        """Return the counts from the base to the tree, which differs in the paths touched from
        that which was counted last."""
        if self._counts is None or len(touched) > COUNTED_ANEW:
            return self.store.counts(self.origin.base, tree, git=git)
        anew = self.store.counts(self.origin.base, tree, touched, git=git) if touched else {}
        gone = set(touched)
        return {path: n for path, n in self._counts.items() if path not in gone} | anew

    def is_as_recorded(self) -> bool:
        """Return whether no file was changed, added or removed since the last snapshot or
        restore; what is ignored and what no snapshot can hold is not looked at. False where
        nobody knows."""
        try:
            self._check_tree()
            tracked, new, _ = self._differing()
        except (GitFailed, WorkspaceError):
            return False
        return not any(self._unfit(path) is None for path in (*tracked, *new))

    def put_back(self) -> None:
        """Undo everything since the last snapshot or restore. Raises WorkspaceError."""
        try:
            self.restore(self.head)
        except GitFailed as error:
            raise _not_snapshotted(error) from None

    def restore(self, commit: str, *, left_by: int | None = None) -> str | None:
        """Give the workspace exactly the files of the snapshot; ignored files stay as they are,
        those too that are kept now and were not when it was made.

        Returns a snapshot of what was there before if that was anything else, else None. It is
        kept for good where ``left_by`` names the attempt whose work it was, see ``left_behind``.
        Raises GitFailed.
        """
        self._check_tree()
        then_skipped = {item.path for item in self._at(commit).skipped}
        undone, strays = self._set_aside(commit, then_skipped, left_by)
        then = self._at(commit).tree
        if self._tree == then and not strays and not then_skipped:
            self.head = self._began = commit  # the files are those of the index, it those of then
            return undone
        wanted = self._paths_of(commit, [item.path for item in strays])
        for item in strays:
            if item.path.rstrip(b"/") not in wanted:
                _remove(self.tree, item.path)
        self._tree, self._counts, self._linked = None, None, self._linked_in.get(then)
        unknown = self._unknown_to(commit)
        self._forget(unknown)
        self._run("read-tree", "--reset", "-u", commit)
        for path in self._no_longer_ignored(unknown):
            _remove(self.tree, path)
        self.head = self._began = commit
        self._tree = then
        return undone

    def _unknown_to(self, commit: str) -> list[bytes]:
        """Return the ignored files that the private index has because they are kept now, and of
        which the snapshot knows nothing: it was made when they were not."""
        kept_then = Globs(self._at(commit).kept)
        if set(self._keep_ignored.patterns) <= set(kept_then.patterns):
            return []
        listed = self._run(
            "ls-files", "-z", "-c", "-i", "--exclude-standard", "--",
            *self._keep_ignored.rooted, *self._keep_ignored.floating,
        )  # fmt: skip
        paths = [p for p in listed.split(b"\x00") if p and kept_then.place_of(p) is None]
        known = self._paths_of(commit, paths) | self._paths_of(self.origin.base, paths)
        return [path for path in paths if path not in known]

    def _no_longer_ignored(self, paths: list[bytes]) -> list[bytes]:
        """Return those of the untracked paths that are not ignored by now."""
        if not paths:
            return []
        told = self._git.run(
            "-c", "core.bare=false", "check-ignore", "-z", "--stdin",
            cwd=self.tree, stdin=b"\x00".join(paths) + b"\x00", accept=(0, 1),
        )  # fmt: skip
        ignored = set(told.split(b"\x00"))
        return [path for path in paths if path not in ignored]

    def _described(
        self,
        skipped: tuple[Skipped, ...],
        environment: Mapping[str, str] | None = None,
        tree: str = "",
    ) -> Description:
        return Description(
            self.origin.base,
            self.origin.repository_commit,
            skipped,
            environment=environment or {},
            kept=self._keep_ignored.patterns,
            tree=tree,
        )

    def _set_aside(
        self, commit: str, then_skipped: set[bytes], left_by: int | None
    ) -> tuple[str | None, list[Skipped]]:
        """Snapshot what differs from ``commit``; return that, and what no snapshot can hold."""
        with self._writing():
            # Left out then: whatever stands there now is as good as what stood there then.
            left_out = sorted(then_skipped - self._submodules())
            if left_out:
                self._forget([*left_out, *self._below([p for p in left_out if p.endswith(b"/")])])
                self._tree = None
            now_skipped, touched = self._add(also_excluded=then_skipped)
            before = self._tree if self._tree and not touched else self._write_tree()
            self._tree, self._counts = before, None
            # What is ignored stays as it is, where no snapshot can hold it.
            strays = [
                item
                for item in now_skipped
                if not _lies_in(item.path, then_skipped)
                and self._keep_ignored.place_of(item.path) is None
            ]
            if before == self._at(commit).tree and not strays:
                return None, strays
            ref = f"{self._ref}-discarded"
            if left_by is not None:
                ref = left_ref(self.folder.parent.name, left_by, before)
                if (kept := self.store.at(ref)) is not None:
                    return kept, strays
            message = self._described(now_skipped).message("Left unfinished")
            undone = self.store.commit(before, message, parent=self.head, git=self._git)
        self.store.keep(ref, undone)
        return undone, strays

    def leave(self) -> str | None:
        """Keep for good what is here now and was not when the attempt began; return its commit.

        Nothing is changed in the folder. Raises GitFailed and WorkspaceError.
        """
        self._check_tree()
        then_skipped = {item.path for item in self._at(self._began).skipped}
        return self._set_aside(self._began, then_skipped, self.number)[0]

    def _keep_last_state(self) -> None:
        """Keep the files for good, with a new index if need be."""
        try:
            self.leave()
        except (GitFailed, WorkspaceError):
            self._check_tree()
            (self.folder / "index").unlink(missing_ok=True)
            self._tree, self._linked = None, None
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
            self.store.took_in(self._apart)
            os.close(self._lock)
            self._lock = -1

    def _at(self, commit: str) -> Description:
        """Return what a snapshot says about itself."""
        if commit not in self._recorded:
            self._recorded[commit] = self.store.describe(commit)
        return self._recorded[commit]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Let what git writes meanwhile be in the private index and, durably, in the store at the
        end; and in neither if it does not come to that."""
        index, draft = self.folder / "index", self.folder / "index.draft"
        plain = self._git
        for leftover in ("index.lock", "index.draft", "index.draft.lock"):
            (self.folder / leftover).unlink(missing_ok=True)  # a dead git's: we hold the folder
        with contextlib.suppress(FileNotFoundError):
            os.link(index, draft)  # git replaces what it writes
        try:
            with self.store.taking_in(self._apart) as variables:
                self._git = plain.having(**variables, GIT_INDEX_FILE=str(draft))
                yield
            draft.replace(index)
        except BaseException:
            self._tree = None
            raise
        finally:
            self._git = plain
            draft.unlink(missing_ok=True)

    def _write_tree(self) -> str:
        return self._line("write-tree")

    def _add(
        self, also_excluded: set[bytes] | frozenset[bytes] = frozenset()
    ) -> tuple[tuple[Skipped, ...], list[bytes]]:
        """Bring the private index up to the files; return what was left out of it, and the paths
        at which it may have changed."""
        with ThreadPoolExecutor(1) as beside:
            looking = beside.submit(self._ignored)
            tracked, new, warned = self._differing()
        ignored, warned_too = looking.result()
        kept, skipped, forgotten = self._kept(ignored)
        if warned or warned_too:
            closed, below = self._closed(also_excluded)
            skipped += [Skipped(path, UNREADABLE) for path in closed]
            forgotten += below
            also_excluded = also_excluded | set(closed)
        over = set(forgotten)
        changed: list[bytes] = []
        new += kept
        real: dict[bytes, bool] = {}
        filled = {path for path in self._submodules() if self._is_filled(path)}
        skipped += [Skipped(path, SUBMODULE) for path in filled - also_excluded]
        for path in (*tracked, *new):
            if path in filled or path in over or _lies_in(path, also_excluded):
                continue
            known = path in tracked
            if reason := self._unfit(path):
                skipped.append(Skipped(path, reason))
            elif not known or self._is_really_there(path, real):
                changed.append(path)
                continue
            if known:
                forgotten.append(path)
        self._forget(forgotten)
        for last in (False, True):
            if not changed:
                break
            try:
                self._run(
                    "update-index", "--add", "--remove", "--replace", "-z", "--stdin",
                    stdin=b"\x00".join(changed) + b"\x00",
                )  # fmt: skip
                break
            except GitFailed:
                # Something vanished meanwhile, or is there and can't be read after all.
                failing = [path for path in changed if not self._can_be_read(path)]
                if last and not failing:
                    raise
                skipped += [Skipped(path, UNREADABLE) for path in failing]
                changed = [path for path in changed if path not in set(failing)]
                self._forget(failing)
                forgotten += failing
        return tuple(sorted(skipped, key=lambda item: item.path)), changed + forgotten

    def _kept(
        self, ignored: Mapping[bytes, bytes]
    ) -> tuple[list[bytes], list[Skipped], list[bytes]]:
        """Return of what is ignored and kept by rule: the paths that the private index lacks, the
        places past the bound, and what the index has of these and the base has not."""
        places: dict[bytes, dict[bytes, bytes]] = {}
        for path, how in ignored.items():
            if place := self._keep_ignored.place_of(path):
                places.setdefault(place, {})[path] = how
        new: list[bytes] = []
        over: list[Skipped] = []
        gone: list[bytes] = []
        room = MAX_KEPT_BYTES
        for place, found in sorted(places.items()):
            size = sum(map(self._size, found))
            if size <= room:
                room -= size
                new += [path for path, how in found.items() if how == b"?"]
                continue
            over.append(Skipped(place, PAST_THE_BOUND))
            held = [path for path, how in found.items() if how != b"?"]
            based = self._paths_of(self.origin.base, held) if self.origin.base else set(held)
            gone += [path for path in held if path not in based]
        return new, over, gone

    def _ignored(self) -> tuple[dict[bytes, bytes], bool]:
        """Return the ignored files that may be kept, each with ``?`` where the private index
        lacks it, and whether there was something that git could not look at.

        What is ignored is not walked through: only a folder that a pattern names is looked into.
        """
        rule = self._keep_ignored
        found, warned = self._listed(rule.rooted)
        anywhere, warned_too = self._listed(rule.floating, "--directory")
        folders = [
            f":(literal){os.fsdecode(path)}"
            for path, how in anywhere.items()
            if how == b"?" and path.endswith(b"/") and rule.place_of(path)
        ]
        found |= {path: how for path, how in anywhere.items() if not path.endswith(b"/")}
        warned |= warned_too
        for n in range(0, len(folders), FOLDERS_AT_ONCE):
            inside, warned_too = self._listed(folders[n : n + FOLDERS_AT_ONCE])
            found |= inside
            warned |= warned_too
        return found, warned

    def _listed(self, pathspecs: list[str], *how: str) -> tuple[dict[bytes, bytes], bool]:
        if not pathspecs:
            return {}, False
        listed, warned = self._heard(
            "ls-files", "-z", "-t", "-c", "-o", "-i", "--exclude-standard", *how, "--", *pathspecs
        )
        return {line[2:]: line[:1] for line in listed.split(b"\x00") if line}, bool(warned)

    def _size(self, path: bytes) -> int:
        try:
            return os.lstat(os.path.join(os.fsencode(self.tree), path)).st_size
        except OSError:
            return 0

    def _differing(self) -> tuple[dict[bytes, None], list[bytes], bool]:
        """Return the tracked paths that differ from the private index, those it lacks, and
        whether there was something that git could not look at."""
        with ThreadPoolExecutor(2) as both:
            tracked = both.submit(
                self._heard, "diff-files", "-z", "--name-only", "--ignore-submodules=dirty"
            )
            new = both.submit(self._heard, "ls-files", "-z", "-o", "--exclude-standard")
        (differ, warned), (lacks, warned_too) = tracked.result(), new.result()
        return (
            dict.fromkeys(filter(None, differ.split(b"\x00"))),
            list(filter(None, lacks.split(b"\x00"))),
            bool(warned or warned_too),
        )

    def _closed(
        self, also_excluded: set[bytes] | frozenset[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the folders that can't be looked into, each ending in a slash, and what the
        private index has below them.

        Git says which it came upon only in words, so they are looked for. Those that are ignored
        with all in them were not to be held anyway.
        """
        root = os.fsencode(self.tree)
        folders = (os.path.join(here, name) for here, names, _ in _walk_own(root) for name in names)
        closed = [
            path
            for folder in folders
            if not os.path.islink(folder) and not os.access(folder, os.R_OK | os.X_OK)
            if not _lies_in(path := os.path.relpath(folder, root) + b"/", also_excluded)
        ]
        if not closed:
            return [], []
        below = self._below(closed)
        told = self._git.run(
            "-c", "core.bare=false", "check-ignore", "-z", "--stdin",
            cwd=self.tree, stdin=b"\x00".join(closed) + b"\x00", accept=(0, 1),
        )  # fmt: skip
        ignored = set(told.split(b"\x00"))
        return [
            path
            for path in closed
            if path not in ignored
            or self._keep_ignored.place_of(path)
            or any(held.startswith(path) for held in below)
        ], below

    def _below(self, folders: list[bytes]) -> list[bytes]:
        """Return what the private index has in the folders."""
        if not folders:
            return []
        listed = self._run(
            "--literal-pathspecs", "ls-files", "-z", "-c", "--", *map(os.fsdecode, folders)
        )
        return list(filter(None, listed.split(b"\x00")))

    def _can_be_read(self, path: bytes) -> bool:
        """Return whether the path's content can be had; that of one that is gone can."""
        place = os.path.join(os.fsencode(self.tree), path)
        try:
            if stat.S_ISREG(os.lstat(place).st_mode):
                with open(place, "rb") as file:
                    while file.read(1 << 20):
                        pass
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return True

    def _unfit(self, path: bytes) -> str | None:
        """Return why a snapshot can't or must not hold what is at the path, if so."""
        if path.endswith(b"/"):
            return NESTED
        place = os.path.join(os.fsencode(self.tree), path)
        try:
            found = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return None  # deleted, which a snapshot can hold
        except OSError:
            return UNREADABLE
        if stat.S_ISDIR(found.st_mode):
            return NESTED if os.path.lexists(os.path.join(place, b".git")) else None
        if _RESERVED_NAME.search(path):
            return RESERVED
        if stat.S_ISLNK(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            return SPECIAL
        if found.st_size > MAX_FILE_BYTES:
            return TOO_LARGE
        return None if os.access(place, os.R_OK) else UNREADABLE

    def _submodules(self) -> frozenset[bytes]:
        """Return the paths at which the private index names a commit of another repository.

        Snapshots make none of these, so they are looked for once.
        """
        if self._linked is None:
            staged = self._run("ls-files", "-z", "-s").split(b"\x00")
            links = [entry for entry in staged if entry.startswith(b"160000 ")]
            self._linked = frozenset(entry.split(b"\t", 1)[1] for entry in links)
        return self._linked

    def _is_filled(self, path: bytes) -> bool:
        place = os.path.join(os.fsencode(self.tree), path)
        if os.path.islink(place) or not os.path.isdir(place):
            return False
        try:
            with os.scandir(place) as found:
                return next(found, None) is not None
        except PermissionError:
            return True

    def _is_really_there(self, path: bytes, known: dict[bytes, bool]) -> bool:
        """Return whether no link leads to the folder of the path. What is known is not asked."""
        folder = os.path.dirname(path)
        if folder and folder not in known:
            place = os.path.join(os.fsencode(self.tree), folder)
            known[folder] = not os.path.islink(place) and self._is_really_there(folder, known)
        return known.get(folder, True)

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

    def _heard(self, *arguments: str) -> tuple[bytes, bytes]:
        return self._git.heard("-c", "core.bare=false", *arguments, cwd=self.tree)

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
        self._keep_apart()
        self.home.mkdir(exist_ok=True)
        if self.tmp.exists() or self.tmp.is_symlink():
            remove_folder(self.tmp)
        self.tmp.mkdir(mode=0o700)

    def _keep_apart(self) -> None:
        """Keep pytest and ruff from taking the configuration of a folder far above, such as a
        checkout that has its data within, for that of a repository which has none."""
        above = self.folder.parents
        if any((folder / name).is_file() for folder in above for name in _CONFIGURATIONS):
            for name in _NEAREST:
                (self.folder / name).touch()

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
        elif origin.repository == shown_to_all(repository):
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
        repository = shown_to_all(str(raw["repository"]))
        return Origin(repository, str(raw["repository_commit"]), str(raw["base"]))
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
        raise CantClone(
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


def _lies_in(path: bytes, places: set[bytes] | frozenset[bytes]) -> bool:
    """Return whether the path is one of the places or below one. They may end in a slash."""
    if not places:
        return False
    parts = path.rstrip(b"/").split(b"/")
    above = (b"/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return any(place in places or place + b"/" in places for place in above)


def _walk_own(root: bytes) -> Iterator[tuple[bytes, list[bytes], list[bytes]]]:
    """Walk a workspace but for its own repository."""
    for here, folders, files in os.walk(root):
        if here == root and b".git" in folders:
            folders.remove(b".git")
        yield here, folders, files


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
    """Remove a folder and all in it, closed folders included; a link is only unlinked."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    _open_up(folder)
    for here, folders, _ in os.walk(folder):
        for name in folders:
            _open_up(Path(here, name))
    shutil.rmtree(folder)


def _open_up(folder: Path) -> None:
    if not folder.is_symlink() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
