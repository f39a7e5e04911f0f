"""The store of workspace snapshots: one bare git repository per board, apart from everything.

It owns every object it refers to, so clones may come and go. It is written by plumbing alone:
each workspace brings its private index, so any number of them may snapshot at once, and what
a killed git leaves behind is a temporary file or a lock in a place only its owner uses.

Contents are byte-exact: attributes that rewrite files on the way in or out are switched off
here, whatever the workspace's own ``.gitattributes`` say. What a snapshot does not hold:
ignored files, empty folders, permissions but the executable bit, and what it lists as skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes

from checkpoints.git import LOCAL_SECONDS, Git, GitFailed, last_words
from kernel.globs import Globs

#: Made anew by whoever reads it, and in no branch, whether or not a repository says so.
_EXCLUDED = "__pycache__/\n.aider.tags.cache.v*/\n"
_ATTRIBUTES = "* -text -eol -crlf -filter -ident -working-tree-encoding\n"
_PACK_AFTER = 2000  # loose objects
_SHOWN_SKIPPED = 100
EMPTY = "refs/holdfast-empty"  # names the tree without files
_PLAIN = ("-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
_PATCHED_AT_ONCE = 50
_LONGEST_PATCH = 20_000  # lines
_FLUSHED_AT_ONCE = 16


#: Lines added and removed, by path.
Counts = dict[bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class DiffStat:
    """How much differs between two snapshots. Binary files count as changed, without lines."""

    changed_files: int
    additions: int
    deletions: int

    @classmethod
    def of(cls, counts: Counts) -> DiffStat:
        return cls(
            len(counts), sum(n for n, _ in counts.values()), sum(n for _, n in counts.values())
        )


@dataclass(slots=True)
class FileChange:
    """How one file differs between two snapshots; ``patch`` is a unified diff where filled in."""

    path: str
    status: str  # added, deleted, modified, type_changed
    additions: int
    deletions: int
    binary: bool
    patch: str | None = None
    truncated: bool = False


_STATUS = {"A": "added", "D": "deleted", "M": "modified", "T": "type_changed"}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that a snapshot leaves out, and why."""

    path: bytes
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"path": self.path.decode("utf-8", "backslashreplace"), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A workspace as it was: ``commit`` brings it back, the counts are measured from ``base``."""

    commit: str
    tree: str
    base: str
    changed_files: int
    additions: int
    deletions: int
    skipped: tuple[Skipped, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # see fingerprints

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot as a checkpoint's ``workspace``."""
        return {
            "commit": self.commit,
            "tree": self.tree,
            "base": self.base,
            "changed_files": self.changed_files,
            "additions": self.additions,
            "deletions": self.deletions,
            "skipped": [item.as_json() for item in self.skipped[:_SHOWN_SKIPPED]],
            **({"environment": dict(self.environment)} if self.environment else {}),
        }


@dataclass(frozen=True, slots=True)
class Left:
    """What an attempt left in its folder and no snapshot held when the folder was looked at."""

    ref: str
    commit: str
    tree: str
    attempt_number: int

    @classmethod
    def read(cls, ref: str, commit: str, tree: str) -> Left:
        return cls(ref, commit, tree, int(ref.split("/")[-2]))


def left_ref(card_key: str, attempt_number: int | None = None, tree: str = "") -> str:
    """Return the ref that keeps a tree that an attempt left; one tree, one ref. Without an
    attempt it is what the refs of all of them begin with."""
    rest = f"/{attempt_number}/{tree}" if attempt_number is not None else ""
    return f"refs/holdfast-left/{card_key}{rest}"


@dataclass(frozen=True, slots=True)
class Description:
    """What a snapshot commit says about itself. ``base`` is empty in a base's own commit.

    ``built_on`` names the cards whose files a base has besides the repository's, and ``kept``
    the ignored files that it holds where there are any, see ``kernel.globs``.
    """

    base: str = ""
    repository_commit: str = ""
    skipped: tuple[Skipped, ...] = ()
    built_on: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    tree: str = ""  # where it was read

    def message(self, summary: str) -> bytes:
        lines = [" ".join(summary.split())[:200] or "Snapshot", ""]
        lines += [f"Base: {self.base}"] if self.base else []
        lines += [f"Repository-Commit: {self.repository_commit}"] if self.repository_commit else []
        lines += [f"Built-On: {' '.join(self.built_on)}"] if self.built_on else []
        lines += [f"Environment: {quote(n)} {quote(v)}" for n, v in self.environment.items()]
        lines += [f"Kept: {quote(pattern)}" for pattern in self.kept]
        lines += [f"Skipped: {quote_from_bytes(s.path)} {s.reason}" for s in self.skipped]
        return "\n".join(lines).encode() + b"\n"

    @classmethod
    def read(cls, commit: bytes) -> Description:
        """Return what the raw commit object says."""
        base = repository_commit = ""
        skipped: list[Skipped] = []
        environment: dict[str, str] = {}
        built_on: tuple[str, ...] = ()
        kept: list[str] = []
        head, _, message = commit.partition(b"\n\n")
        tree = head.partition(b"\n")[0].removeprefix(b"tree ").decode()
        for line in message.decode("utf-8", "replace").splitlines():
            name, _, value = line.partition(": ")
            if name == "Base":
                base = value
            elif name == "Repository-Commit":
                repository_commit = value
            elif name == "Built-On":
                built_on = tuple(value.split())
            elif name == "Kept":
                kept.append(unquote(value))
            elif name == "Environment":
                what, _, is_what = value.partition(" ")
                environment[unquote(what)] = unquote(is_what)
            elif name == "Skipped":
                path, _, reason = value.partition(" ")
                skipped.append(Skipped(unquote_to_bytes(path), reason))
        return cls(
            base, repository_commit, tuple(skipped), built_on, environment, tuple(kept), tree
        )


class Busy(GitFailed):
    """Another process throws things away in the store at this moment."""


class SnapshotStore:
    """One board's snapshots, in the bare repository at ``path``; made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.git = Git.with_settings_in(self.path.parent).having(GIT_DIR=str(self.path))

    @property
    def exists(self) -> bool:
        return (self.path / "HEAD").exists()

    def make(self) -> None:
        """Make the repository unless it is there: whole, or not at all."""
        if (self.path / "HEAD").exists():
            return
        draft = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        plain = Git.with_settings_in(self.path.parent)
        plain.run("init", "-q", "--bare", "--template=", str(draft), cwd=self.path.parent)
        (draft / "info").mkdir(exist_ok=True)
        (draft / "info" / "attributes").write_text(_ATTRIBUTES)
        (draft / "info" / "exclude").write_text(_EXCLUDED)
        SnapshotStore(draft)._have_empty_tree()
        try:
            draft.rename(self.path)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not (self.path / "HEAD").exists():
                raise

    def run(self, *arguments: str, stdin: bytes = b"", git: Git | None = None) -> bytes:
        """Return what git printed, run in the store."""
        return (git or self.git).run(*arguments, cwd=self.path, stdin=stdin)

    def line(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return the one line that git printed, run in the store."""
        return self.git.line(*arguments, cwd=self.path, stdin=stdin)

    def has(self, commit: str) -> bool:
        """Return whether the snapshot can be restored from this store."""
        if not (self.path / "HEAD").exists():
            return False
        with contextlib.suppress(GitFailed):
            self.run("cat-file", "-e", f"{commit}^{{tree}}")
            return True
        return False

    def tree_of(self, commit: str) -> str:
        """Return the tree of a snapshot."""
        return self.line("rev-parse", "--verify", "-q", f"{commit}^{{tree}}")

    def without(self, commit: str, paths: Iterable[bytes]) -> str:
        """Return the tree of a snapshot but for the files at these paths. Raises GitFailed."""
        with self._passing_index(commit) as git:
            names = b"\x00".join(paths) + b"\x00"
            self.run("update-index", "--force-remove", "-z", "--stdin", stdin=names, git=git)
            return self.run("write-tree", git=git).decode().strip()

    def ignored(self, commit: str, rule: Globs) -> list[bytes]:
        """Return the files of a snapshot that the rule names and that its own ``.gitignore``
        files, or this store, say are to be ignored. Raises GitFailed."""
        if not rule:
            return []
        with self._passing_index(commit) as git:
            rules = self.run("ls-files", "-z", "--", ":(glob)**/.gitignore", git=git)
            # So that git reads them where nothing is checked out.
            self.run("update-index", "--skip-worktree", "-z", "--stdin", stdin=rules, git=git)
            listed = self.run(
                "ls-files", "-z", "-c", "-i", "--exclude-standard", "--",
                *rule.rooted, *rule.floating,
                git=git,
            )  # fmt: skip
        return list(filter(None, listed.split(b"\x00")))

    @contextlib.contextmanager
    def _passing_index(self, commit: str) -> Iterator[Git]:
        """Lend a git with an index of the snapshot's files, and no folder that has any of them."""
        folder = self.path / f"passing.{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            git = self.git.having(
                GIT_INDEX_FILE=str(folder / "index"),
                GIT_WORK_TREE=str(folder),
                GIT_CONFIG_COUNT="1",
                GIT_CONFIG_KEY_0="core.bare",
                GIT_CONFIG_VALUE_0="false",
            )
            self.run("read-tree", commit, git=git)
            yield git
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def describe(self, commit: str) -> Description:
        """Return what the snapshot says about itself."""
        return Description.read(self.run("cat-file", "commit", commit))

    def take_over(self, clone: Path, tree: str) -> None:
        """Copy every object of ``tree`` from a fresh clone, bare or not, into the store, durably.

        One pack, much faster than adding file by file; and nothing is borrowed, so the clone
        may be deleted. Call it before anything untrusted has run in the clone.
        """
        with contextlib.suppress(GitFailed):
            self.run("cat-file", "-e", f"{tree}^{{tree}}")
            return
        own = clone / ".git" if (clone / ".git").is_dir() else clone
        source = Git(self.git.settings_file, {}).having(
            GIT_DIR=str(own), GIT_ALTERNATE_OBJECT_DIRECTORIES=str(self.path / "objects")
        )
        packing = subprocess.Popen(
            ["git", "pack-objects", "--revs", "--stdout", "-q", "--window=0", "--threads=1"],
            cwd=clone,
            env=source.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert packing.stdin is not None
        assert packing.stdout is not None
        assert packing.stderr is not None
        try:
            packing.stdin.write(f"{tree}\n".encode())
            packing.stdin.close()
            unpacking = subprocess.run(
                ["git", "index-pack", "--stdin"],
                cwd=self.path,
                env=self.git.environment(),
                stdin=packing.stdout,
                capture_output=True,
                timeout=LOCAL_SECONDS,
                check=False,
            )
            errors = packing.stderr.read()
        except subprocess.TimeoutExpired:
            raise GitFailed("copying the repository's files into the store took too long") from None
        finally:
            packing.kill()
            packing.stdout.close()
            packing.stderr.close()
            packing.wait()
        if unpacking.returncode:
            raise GitFailed(last_words(errors) or last_words(unpacking.stderr))

    @contextlib.contextmanager
    def taking_in(self, name: str) -> Iterator[dict[str, str]]:
        """Lend the variables of a git whose new objects stand apart from all others, by ``name``.

        They are the store's, durably, once this is left; left by an exception, they wait for
        the next of the name. Git by itself brings one object after another to the disk, and
        waits for each; these are waited for together. Raises GitFailed.
        """
        apart = self._apart(name)
        try:
            (apart / "info").mkdir(parents=True, exist_ok=True)
            os.utime(apart)  # it is in use: not to be pruned
            (apart / "info" / "alternates").write_text("..\n")
            yield {
                "GIT_OBJECT_DIRECTORY": str(apart),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "core.fsync",
                "GIT_CONFIG_VALUE_0": "none",
            }
            _move_durably(apart, self.path / "objects")
        except OSError as error:
            raise GitFailed(f"the store can't be written: {error.strerror or error}") from None

    def took_in(self, name: str) -> None:
        """Remove the room of those that stood apart by this name."""
        shutil.rmtree(self._apart(name), ignore_errors=True)

    def _apart(self, name: str) -> Path:
        # Git prunes what is called so and old, which is what killed processes leave.
        return self.path / "objects" / f"tmp_objdir-{name}"

    def commit(
        self,
        tree: str,
        message: bytes,
        *,
        parent: str | None = None,
        date: str | None = None,
        git: Git | None = None,
    ) -> str:
        """Return a new commit of ``tree``; with a ``date`` the same call gives the same commit."""
        git = git or self.git
        if date:
            git = git.having(GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
        parents = ["-p", parent] if parent else []
        made = self.run("commit-tree", tree, *parents, "-F", "-", stdin=message, git=git)
        return made.decode().strip()

    def keep(self, ref: str, commit: str) -> None:
        """Make ``ref`` point to the commit, so that it and all before it stay.

        Only the attempt that a ref is named for writes it, so a lock found on it is a dead
        process's.
        """
        (self.path / f"{ref}.lock").unlink(missing_ok=True)
        self.run("update-ref", ref, commit)

    def at(self, ref: str) -> str | None:
        """Return the commit that the ref points to, or None where there is no such ref."""
        with contextlib.suppress(GitFailed):
            return self.line("rev-parse", "--verify", "-q", f"{ref}^{{commit}}")
        return None

    def tips(self, card_key: str) -> list[str]:
        """Return the newest snapshots of the card that are kept here, the latest first."""
        listed = self.line(
            "for-each-ref", "--sort=-committerdate", "--format=%(objectname)",
            f"refs/holdfast/{card_key}",
        )  # fmt: skip
        return list(dict.fromkeys(listed.splitlines()))

    def left_behind(self, card_key: str) -> list[Left]:
        """Return what attempts at the card left in their folders, the oldest attempt first."""
        if not (self.path / "HEAD").exists():
            return []
        listed = self.run(
            "for-each-ref", "--format=%(refname) %(objectname) %(tree)", left_ref(card_key)
        )
        found = [Left.read(*line.split()) for line in listed.decode().splitlines()]
        return sorted(found, key=lambda left: left.attempt_number)

    def forget(self, left: Left) -> None:
        """Let go of what an attempt left. Raises GitFailed; Busy while others throw away."""
        with self._alone():
            self._update({}, {left.ref: left.commit})

    def diffstat(self, a: str, b: str) -> DiffStat:
        """Return how snapshot ``b`` differs from ``a``."""
        return DiffStat.of(self.counts(a, b))

    def counts(
        self, a: str, b: str, paths: Sequence[bytes] = (), *, git: Git | None = None
    ) -> Counts:
        """Return what each file that differs from ``a`` to ``b`` gains and loses.

        With ``paths``, of those alone and of what is below them.
        """
        if a == b:
            return {}
        raw = self.run(
            "--literal-pathspecs", "diff-tree", "-z", "--numstat", *_PLAIN, a, b,
            "--", *map(os.fsdecode, paths),
            git=git,
        )  # fmt: skip
        found: Counts = {}
        for entry in filter(None, raw.split(b"\x00")):
            added, removed, path = entry.split(b"\t", 2)
            found[path] = (0, 0) if added == b"-" else (int(added), int(removed))
        return found

    def added(self, a: str, b: str) -> set[bytes]:
        """Return the paths of the files that snapshot ``b`` has and ``a`` has not."""
        raw = self.run("diff-tree", "-z", "--name-only", "--diff-filter=A", *_PLAIN, a, b)
        return set(filter(None, raw.split(b"\x00")))

    def snapshot_of(self, commit: str) -> Snapshot:
        """Return what a snapshot's commit says, its counts measured anew."""
        described = self.describe(commit)
        base = described.base or commit
        stat = self.diffstat(base, commit)
        return Snapshot(
            commit,
            self.tree_of(commit),
            base,
            stat.changed_files,
            stat.additions,
            stat.deletions,
            described.skipped,
            described.environment,
        )

    def changes(self, a: str, b: str) -> list[FileChange]:
        """Return the files that differ from snapshot ``a`` to ``b``, by path."""
        if a == b:
            return []
        raw = self.run("diff-tree", "-z", "--raw", "--numstat", *_PLAIN, a, b).split(b"\x00")
        status: dict[bytes, str] = {}
        counts: dict[bytes, tuple[bytes, bytes]] = {}
        entries = iter(filter(None, raw))
        for entry in entries:
            if entry.startswith(b":"):
                status[next(entries)] = entry.rsplit(b" ", 1)[1].decode()
            else:
                added, removed, path = entry.split(b"\t", 2)
                counts[path] = added, removed
        changed = []
        for path, letter in status.items():
            added, removed = counts.get(path, (b"0", b"0"))
            binary = added == b"-"
            changed.append(
                FileChange(
                    path.decode("utf-8", "backslashreplace"),
                    _STATUS.get(letter[:1], "modified"),
                    0 if binary else int(added),
                    0 if binary else int(removed),
                    binary,
                )
            )
        return changed

    def fill_in(self, a: str, b: str, files: list[FileChange], most: int, in_all: int) -> None:
        """Give the first ``files`` of ``changes`` their patches, each cut after ``most``
        characters; all together stay within ``in_all``."""
        left = in_all
        for n in range(0, len(files), _PATCHED_AT_ONCE):
            some = [file for file in files[n : n + _PATCHED_AT_ONCE] if _can_be_named(file)]
            if left <= 0 or not some:
                continue
            # A rewritten giant would be read whole, to show its beginning.
            short = [file for file in some if file.additions + file.deletions <= _LONGEST_PATCH]
            for file in some:
                file.truncated = file not in short and not file.binary
            if not short:
                continue
            paths = [file.path for file in short]
            raw = self.run("--literal-pathspecs", "diff-tree", "-p", *_PLAIN, a, b, "--", *paths)
            patches = re.split(rb"^(?=diff --git )", raw, flags=re.MULTILINE)[1:]
            if len(patches) != len(short):
                continue
            for file, patch in zip(short, patches, strict=True):
                text = patch.decode("utf-8", "backslashreplace")
                room = max(0, min(most, left))
                file.patch, file.truncated = text[:room], len(text) > room
                left -= len(file.patch)

    def release(self, card_key: str, keep: Collection[str], before: float) -> int:
        """Let go of the card's snapshots but for ``keep`` and those made after ``before``.

        Returns how many refs went. What nothing refers to any more stays until ``collect``.
        Whatever moment this is killed at, all of ``keep`` can still be restored: each gets a
        ref of its own before a ref is let go. Raises GitFailed.
        """
        if not (self.path / "HEAD").exists():
            return 0
        with self._alone():
            place = f"refs/holdfast/{card_key}"
            form = "--format=%(refname) %(objectname) %(committerdate:unix)"
            refs = [line.split() for line in self.line("for-each-ref", form, place).splitlines()]
            parents = self._parents([commit for _, commit, _ in refs])
            wanted = [commit for commit in keep if commit in parents]
            own = {ref for ref, _, _ in refs}
            named = {f"{place}/keep-{commit}": commit for commit in wanted}
            self._update({ref: commit for ref, commit in named.items() if ref not in own}, {})
            self._cut({c for c in wanted if parents[c] and not parents[c] <= set(keep)})
            # A base is what whoever is at work there measures from.
            gone = {
                ref: commit
                for ref, commit, at in refs
                if commit not in keep and int(at) < before and not ref.endswith("-base")
            }
            self._update({}, gone)
        return len(gone)

    def collect(self, keep: Iterable[str], older_than_seconds: int) -> None:
        """Remove what no ref has led to for so long; ``keep`` is given refs first if need be.

        Safe beside running snapshots: what they write or use again is younger than that.
        Raises GitFailed.
        """
        if not (self.path / "HEAD").exists():
            return
        with self._alone() as git:
            self._have_empty_tree(git)
            reached = set(self.run("rev-list", "--all", git=git).decode().split())
            loose = {c for c in set(keep) - reached if self.has(c)}
            self._update({f"refs/holdfast-kept/{commit}": commit for commit in loose}, {})
            age = f"{older_than_seconds}.seconds.ago"
            quiet = ("-c", "repack.writeBitmaps=false")
            self.run("pack-refs", "--all", "--prune", git=git)
            self.run(*quiet, "repack", "-A", "-d", "-q", f"--unpack-unreachable={age}", git=git)
            self.run("prune", f"--expire={age}", git=git)

    def pack(self, commits: Iterable[str], path: Path) -> list[str]:
        """Write those of the snapshots that are here into one file, without what they came
        from; return which. Raises GitFailed."""
        there = [commit for commit in dict.fromkeys(commits) if self.has(commit)]
        listed = "\n".join(there).encode()
        objects = self.run("rev-list", "--objects", "--no-walk", "--stdin", stdin=listed)
        names = b"\n".join(line.split(b" ", 1)[0] for line in objects.splitlines())
        path.write_bytes(self.run("pack-objects", "--stdout", "-q", stdin=names) if there else b"")
        return there

    def receive(self, pack: bytes, commits: Mapping[str, str], name: str) -> None:
        """Take in a pack that holds these commits, each with its tree, under refs of ``name``.

        Raises GitFailed where it doesn't, or where an object is damaged or missing.
        """
        self.make()
        if not commits:
            return
        self.run("index-pack", "--stdin", "--fsck-objects", stdin=pack)
        for commit, tree in commits.items():
            if tree and self.tree_of(commit) != tree:
                raise GitFailed(f"the files of {commit[:12]} are others than it says")
        listed = "\n".join(commits).encode()
        self.run("rev-list", "--quiet", "--objects", "--no-walk", "--stdin", stdin=listed)
        with self._alone(wait=True):
            self._cut(self._lacking(commits))
            self._update({f"refs/holdfast-brought/{name}/{c}": c for c in commits}, {})

    def cut_off(self, commits: Collection[str]) -> None:
        """Let history begin at those of the commits whose parents are not here."""
        if lacking := self._lacking(commits):
            with self._alone(wait=True):
                self._cut(lacking)

    def _lacking(self, commits: Iterable[str]) -> set[str]:
        """Return those of the commits whose parents are not here."""
        lacking = set()
        for commit in commits:
            head = self.run("cat-file", "commit", commit).partition(b"\n\n")[0]
            parents = [p.split()[1].decode() for p in head.splitlines() if p[:7] == b"parent "]
            lacking |= {commit} if not all(map(self.has, parents)) else set()
        return lacking

    def assign(self, name: str, commits: Mapping[str, Iterable[str]]) -> None:
        """Give what was received under ``name`` to cards, by their keys. Raises GitFailed."""
        mine = {
            f"refs/holdfast/{key}/keep-{commit}": commit
            for key, some in commits.items()
            for commit in some
        }
        place = f"refs/holdfast-brought/{name}"
        with self._alone(wait=True):
            listed = self.line("for-each-ref", "--format=%(refname) %(objectname)", place)
            went = dict(line.split() for line in listed.splitlines())
            self._update(mine, went)

    def size_bytes(self) -> int:
        """Return what the store takes up."""
        if not (self.path / "HEAD").exists():
            return 0
        counted = dict(
            line.split(": ", 1) for line in self.line("count-objects", "-v").splitlines()
        )
        return 1024 * sum(int(counted.get(n, 0)) for n in ("size", "size-pack", "size-garbage"))

    def _have_empty_tree(self, git: Git | None = None) -> None:
        """Keep the empty tree, which git takes for granted and so may never write itself."""
        tree = self.run("hash-object", "-t", "tree", "-w", "--stdin", git=git).decode().strip()
        (self.path / f"{EMPTY}.lock").unlink(missing_ok=True)
        self.run("update-ref", EMPTY, tree, git=git)

    def _update(self, new: Mapping[str, str], gone: Mapping[str, str]) -> None:
        """Make and remove refs, all or none; one that has moved on meanwhile is not removed.

        Only for whoever is ``_alone``: locks found on them are dead processes'.
        """
        told = [f"update {ref} {commit}\n" for ref, commit in new.items()]
        told += [f"delete {ref} {commit}\n" for ref, commit in gone.items()]
        for ref in (*new, *gone):
            (self.path / f"{ref}.lock").unlink(missing_ok=True)
        if told:
            self.run("update-ref", "--stdin", stdin="".join(told).encode())

    def _parents(self, tips: Sequence[str]) -> dict[str, set[str]]:
        """Return the parents of each commit that the tips lead to."""
        if not tips:
            return {}
        said = self.run("rev-list", "--parents", "--stdin", stdin="\n".join(tips).encode())
        lines = (line.split() for line in said.decode().splitlines())
        return {commit: set(parents) for commit, *parents in lines}

    def _cut(self, commits: set[str]) -> None:
        """Let history begin at these commits: what they came from is not kept by them."""
        path = self.path / "shallow"
        known = set(path.read_text().split()) if path.exists() else set()
        if commits <= known:
            return
        draft = self.path / "shallow.lock"  # git's own name for it
        with draft.open("w") as out:
            out.writelines(f"{commit}\n" for commit in sorted(known | commits))
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)

    @contextlib.contextmanager
    def _alone(self, *, wait: bool = False) -> Iterator[Git]:
        """Hold what lets one process at a time throw things away here. Raises Busy."""
        with open(self.path / "tidy.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Busy("another process is tidying these snapshots") from None
            # What is written by holders of this lock alone; a killed one may have left them.
            for name in ("packed-refs.lock", "packed-refs.new", "shallow.lock"):
                (self.path / name).unlink(missing_ok=True)
            yield self.git.having(lock.fileno())

    def tidy(self) -> bool:
        """Pack what has piled up; return whether there was a need and nobody else at it.

        Safe beside running snapshots: nothing unreferenced is removed.
        """
        if not (self.path / "HEAD").exists():
            return False
        with contextlib.suppress(Busy), self._alone() as git:
            counted = self.run("count-objects").split()
            if int(counted[0]) < _PACK_AFTER:
                return False
            self.run("pack-refs", "--all", "--prune", git=git)
            self.run("repack", "-d", "-q", git=git)
            return True
        return False


def _can_be_named(file: FileChange) -> bool:
    """Whether git takes the path as it is shown: one that is not UTF-8 was spelled out."""
    return "\\x" not in file.path


def _move_durably(apart: Path, objects: Path) -> None:
    """Bring every object of one folder to the disk, then move all into another, durably."""
    found = [
        (entry.stat().st_mtime_ns, Path(entry.path))
        for folder in os.scandir(apart)
        if len(folder.name) == 2
        for entry in os.scandir(folder)
        if not entry.name.startswith("tmp_")  # a killed git's
    ]
    paths = [path for _, path in sorted(found)]  # what an object refers to is older than it
    if not paths:
        return
    with ThreadPoolExecutor(min(_FLUSHED_AT_ONCE, len(paths))) as threads:
        list(threads.map(_flush, paths))
        folders = {objects / path.parent.name for path in paths}
        for folder in folders:
            folder.mkdir(exist_ok=True)
        for path in paths:
            path.rename(objects / path.parent.name / path.name)
        list(threads.map(_flush, [*folders, objects]))


def _flush(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
