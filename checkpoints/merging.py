"""A card's files become a branch of the board's repository, and go into another branch.

    R ───────── T        the branch merged into: R is what the card's workspace was cloned from
     └── C ──── M        C holds the card's files; M joins them, where T is not R any more

All of it is made in a passing clone with private settings, where no hook and no command of the
repository runs; then both branches are pushed at once. A folder in which the branch is checked
out is brought along if it is clean, else nothing changes. The agent never pushes.

``C`` is made of nothing but the checkpoint, so merging again after a kill finds it in place.

The checkpoint holds more than goes out: the test reports of the card's steps, and the ignored
files that the board keeps, stay where they are unless the repository has them already.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from boards import cards, placing, races
from boards.models import Card
from checkpoints import lines, recovery, spilling
from checkpoints.git import CLONE_SECONDS, Git, GitFailed
from checkpoints.models import Checkpoint, Merge, Step
from checkpoints.snapshots import Description, Snapshot, SnapshotStore
from checkpoints.stores import store_of
from checkpoints.workspaces import EPOCH, WorkspaceError, source_of
from goals import memory
from goals.models import Discovery
from kernel.addresses import without_credentials
from kernel.errors import DomainError, Invalid, Stale, TransitionRefused
from kernel.globs import Globs
from kernel.tx import transition

STRATEGIES = ("auto", "fast_forward", "merge", "squash", "branch")
#: Somebody else may push in between; then the merge is made anew on what they pushed.
TRIES = 3
CONFLICTS_NAMED = 200
_OVERTAKEN = ("fetch first", "non-fast-forward", "stale info", "cannot lock ref")
#: What the key of a checkpoint begins with in which a card's parts were joined.
PARTS = "parts/"
_MERGEABLE = (Card.State.REVIEW, Card.State.COMPLETED)


class MergeConflict(DomainError):
    """Both sides changed the same lines; ``extra['files']`` names where. Nothing was changed."""

    code = "merge_conflict"
    title = "Merge conflict"


class MergeFailed(DomainError):
    """The repository could not be read or written. Nothing was changed."""

    code = "merge_failed"
    title = "Not merged"


@dataclass(frozen=True, slots=True)
class Work:
    """What a card has to merge: its files, and those that they came from.

    ``files`` is the tree that goes out: that of ``commit`` without what is ``left_out``.
    """

    card: Card
    checkpoint: Checkpoint
    store: SnapshotStore
    commit: str
    files: str
    left_out: tuple[str, ...]
    base: str
    repository_commit: str
    began: str  # like ``base``; of a card that builds on others, where the first of them began

    @property
    def branch(self) -> str:
        return f"holdfast/{self.card.key}"

    @property
    def subject(self) -> str:
        return f"{self.card.title} ({self.card.key})"

    def message(self, text: str = "") -> bytes:
        """Return a commit message that leads back to the card and its checkpoint."""
        body = text.strip() or f"{self.subject}\n\n{self.checkpoint.summary.strip()}"
        trailers = (
            f"Holdfast-Card: {self.card.key}\nHoldfast-Checkpoint: {self.checkpoint}\n"
            f"Holdfast-Attempt: {self.checkpoint.attempt.number}"
        )
        return f"{body.rstrip()}\n\n{trailers}\n".encode()


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where the card's files are: ``own`` is the card's branch, ``commit`` the one merged."""

    work: Work
    strategy: str
    into: str
    own: str
    commit: str


def work_of(card: Card, checkpoint: int | None = None) -> Work:
    """Return what the card's newest checkpoint holds.

    Raises Stale where ``checkpoint`` is no longer the newest, and TransitionRefused where the
    card has no files here.
    """
    head = recovery.head(card.pk, card.line)
    commit = ((head.workspace or {}).get("commit") or "") if head else ""
    if head is None or not commit:
        raise TransitionRefused(f"{card.key} has no files: no checkpoint of it has a workspace.")
    if checkpoint is not None and head.number != checkpoint:
        raise Stale(f"{card.key} is at checkpoint {head.number} by now; look at that one first.")
    store = store_of(card.board_id)
    if not store.has(commit):
        raise TransitionRefused(
            f"The files of {card.key} are not in this host's snapshots; they stay with its worker."
        )
    described = store.describe(commit)
    base = described.base or commit
    # What it was built on besides is in no commit of the repository's that we know: by now it
    # should be in the branch that it goes into.
    built_on = store.describe(base).built_on if store.has(base) else ()
    began = _began(card, built_on[0], base) if built_on else base
    upstream = "" if built_on else described.repository_commit
    files, left_out = _going_out(card, store, described, base, commit)
    return Work(card, head, store, commit, files, left_out, base, upstream, began)


def _going_out(
    card: Card, store: SnapshotStore, described: Description, base: str, commit: str
) -> tuple[str, tuple[str, ...]]:
    """Return the tree of what a card hands on, and which of its new files that leaves out."""
    read = Step.objects.filter(card=card, result__junit__isnull=False)
    reports = {os.fsencode(str(path)) for path in read.values_list("result__junit", flat=True)}
    kept = Globs(described.kept)
    tree = described.tree
    if base == commit or not (reports or kept):
        return tree, ()
    try:
        added = store.added(base, commit)
        left = sorted(added & (reports | set(store.ignored(commit, kept))))
        tree = store.without(commit, left) if left else tree
    except GitFailed as error:
        raise TransitionRefused(f"The files of {card.key} can't be read: {error}.") from None
    return tree, tuple(path.decode("utf-8", "backslashreplace") for path in left)


def _began(card: Card, parent_key: str, base: str) -> str:
    """Return where the card that this one builds on began, as far as that is known here."""
    parent = card.depends_on.filter(key=parent_key).first()
    work = _result(parent) if parent is not None else None
    return work.began if work is not None else base


def see_what_it_holds(work: Work) -> None:
    """Pass if the card's files hold no secret of the board. Raises SecretInFiles."""
    spilling.check(work.card.board_id, work.began, work.files)


def patch(work: Work) -> bytes:
    """Return all that the card changed as one mail that ``git am`` and ``git apply`` take."""
    found = work.store.run(
        "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff",
        "--no-textconv", "--no-color", work.base, work.files,
    )  # fmt: skip
    head = (
        f"From {work.commit} Mon Sep 17 00:00:00 2001\n"
        f"From: {_name(work)} <holdfast@localhost>\n"
        f"Date: {work.checkpoint.at:%a, %d %b %Y %H:%M:%S} +0000\n"
        f"Subject: [PATCH] {' '.join(work.subject.split())}\n\n"
    )
    return head.encode() + work.message(work.checkpoint.summary) + b"---\n" + found + b"-- \n"


def push(
    card: Card,
    *,
    strategy: str = "auto",
    into: str = "",
    message: str = "",
    checkpoint: int | None = None,
    with_secrets: bool = False,
) -> Pushed:
    """Make the card's branch in the board's repository and merge it; return where it is.

    ``auto`` moves ``into`` forward where nobody else changed it and merges otherwise;
    ``branch`` leaves it alone. An empty ``into`` is the branch that the repository shows.
    Repeating it changes nothing more. Runs outside of any transaction. Raises MergeConflict,
    MergeFailed, TransitionRefused, Stale and Invalid, and unless ``with_secrets`` SecretInFiles
    where the files hold one of the board's; then the repository is as it was.
    """
    if card.state not in _MERGEABLE:
        raise TransitionRefused(f"{card.key} is {card.state}; what is in review can be merged.")
    if not card.board.repository.strip():
        raise TransitionRefused("The board has no repository to merge into; take the patch.")
    work = work_of(card, checkpoint)
    _check_resolved(work)
    if not with_secrets:
        see_what_it_holds(work)
    try:
        source = source_of(card.board.repository)
        with _alone(work.store), _clone(work.store, source) as clone:
            for left in range(TRIES - 1, -1, -1):
                made = _made(clone, work, strategy, into, message)
                if _handed_over(clone, source, made, last=not left):
                    return made
                clone.fetch(source)
    except WorkspaceError as error:
        raise MergeFailed(str(error)) from None
    except GitFailed as error:
        place = without_credentials(card.board.repository)
        said = without_credentials(str(error))
        raise MergeFailed(f"The board's repository {place} did not take it: {said}.") from None
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Start:
    """What a card begins with: a snapshot of what its parents ended with, and their keys."""

    commit: str
    parents: tuple[str, ...]


def start_of(card: Card) -> Start | None:
    """Return where a card begins that builds on others, or None: where the repository is.

    Its parents' files are joined, in the order of their numbers, on top of what the repository
    shows now. Raises WorkspaceError where they conflict or the repository can't be read.
    """
    store = store_of(card.board_id)
    works = [work for parent in card.depends_on.order_by("number") if (work := _result(parent))]
    if not works or not card.board.repository.strip():
        return None
    source = source_of(card.board.repository)
    keys = tuple(work.card.key for work in works)
    try:
        with _clone(store, source) as clone:
            tip = clone.commit_of(f"refs/heads/{_shown_branch(clone)}")
            tree = clone.tree_of(tip) if tip else clone.tree_of(works[0].base)
            for work in works:
                tree = clone.three_way(tree, clone.tree_of(work.base), work.files)
            store.take_over(clone.path, tree)
    except GitFailed as error:
        said = without_credentials(str(error))
        raise WorkspaceError(
            f"What {' and '.join(keys)} ended with can't be put together: {said}.",
            "Mend that, then retry the card.",
        ) from None
    except MergeConflict as conflict:
        files = ", ".join(conflict.extra["files"][:3])
        raise WorkspaceError(
            f"{' and '.join(keys)}, on which this card builds, and the repository changed the "
            f"same lines of {files}.",
            "Merge them into the repository one after the other, then retry the card.",
        ) from None
    told = Description("", tip, built_on=keys).message("What the attempts start from")
    base = store.commit(tree, told, date=EPOCH)
    told = Description(base, tip).message(f"From what {' and '.join(keys)} ended with")
    commit = store.commit(tree, told, parent=base, date=EPOCH)
    store.keep(f"refs/holdfast/{card.key}/parents-{base}-base", commit)
    return Start(commit, keys)


def _check_resolved(work: Work) -> None:
    """Pass if no marker that joining set is left in the card's files. Raises MergeConflict."""
    joined = Checkpoint.objects.filter(card=work.card)
    sides = [work.card.key] if joined.filter(key__startswith="joined/").exists() else []
    if joined.filter(key__startswith=PARTS).exists():
        parts = Card.objects.filter(part_of__card=work.card)
        sides += parts.values_list("key", flat=True)
    if not sides:
        return
    marker = f"^>>>>>>> tags/({'|'.join(sides)})$"
    with contextlib.suppress(GitFailed):  # it ends with 1 where there is none
        found = work.store.run("grep", "-E", "-l", "-z", "-I", "-e", marker, work.commit)
        names = [name.decode("utf-8", "backslashreplace") for name in found.split(b"\0") if name]
        files = sorted(name.partition(":")[2] for name in names)
        raise MergeConflict(
            f"The conflicts of {work.card.key} are still marked in {', '.join(files[:3])}; send "
            "the card back to have them resolved.",
            extra={"files": files[:CONFLICTS_NAMED]},
        )


def _result(parent: Card) -> Work | None:
    """Return what a card ended with, or None where it has no files here."""
    try:
        return work_of(parent)
    except TransitionRefused:
        return None


@dataclass(frozen=True, slots=True)
class Joined:
    """A card's files with what others did meanwhile: a snapshot, conflicts marked in ``files``."""

    work: Work
    into: str
    tip: str
    snapshot: Snapshot
    files: tuple[str, ...]


def join(card: Card, *, into: str = "", checkpoint: int | None = None) -> Joined:
    """Return the card's files on top of what ``into`` has now; the repository stays as it is.

    Runs outside of any transaction. Raises MergeFailed, TransitionRefused, Stale and Invalid.
    """
    if card.state != Card.State.REVIEW:
        raise TransitionRefused(f"{card.key} is {card.state}, not in review.")
    work = work_of(card, checkpoint)
    store = work.store
    try:
        source = source_of(card.board.repository)
        with _alone(store), _clone(store, source) as clone:
            into = _checked(clone, into) or _shown_branch(clone)
            tip = clone.commit_of(f"refs/heads/{into}")
            if not tip:
                raise Invalid.field("into", f"the repository has no branch {into}.")
            upstream = clone.tree_of(tip)
            tree, files = clone.marked(upstream, clone.tree_of(work.base), work, into)
            store.take_over(clone.path, upstream)
            store.take_over(clone.path, tree)
        base = store.commit(
            upstream, Description("", tip).message("What the attempts start from"), date=EPOCH
        )
        was = store.describe(work.commit)
        told = Description(base, tip, was.skipped, kept=was.kept)
        commit = store.commit(tree, told.message(f"Brought together with {into}"), parent=base)
        store.keep(f"refs/holdfast/{card.key}/joined-{commit}", commit)
        snapshot = store.snapshot_of(commit)
    except WorkspaceError as error:
        raise MergeFailed(str(error)) from None
    except GitFailed as error:
        said = without_credentials(str(error))
        raise MergeFailed(f"{card.key} could not be brought up to date: {said}.") from None
    return Joined(work, into, tip, snapshot, tuple(files))


def send_back(joined: Joined, actor: str, reason: str = "") -> Checkpoint:
    """Have the card worked on from the joined files; return the checkpoint that holds them.

    What others did is a discovery that the next worker is told of. Raises Stale where the
    card went on meanwhile, and TransitionRefused where it left review.
    """
    work = joined.work
    named = ", ".join(joined.files[:20]) or "no file"
    with transition():
        card = cards.lock(work.card.pk)
        head = recovery.head(card.pk, card.line)
        if head is None or head.pk != work.checkpoint.pk:
            raise Stale(f"{card.key} went on meanwhile; look at its newest checkpoint first.")
        point = recovery.put(
            card,
            head,
            head.attempt,
            f"joined/{joined.snapshot.commit}",
            {
                "summary": f"Brought together with {joined.into} at {joined.tip[:12]}; what both "
                f"sides changed is marked in {named}.",
                "next_step": f"Resolve the conflict markers in {named}, run the checks again, "
                "then complete the card.",
                "state": head.state,
                "workspace": joined.snapshot.as_json(),
            },
        )
        if card.workflow:
            # Its steps have their results from before; now each is to look at both sides.
            lines.begin_again(card, point, actor)
        memory.discover(
            card.board_id,
            card.goal_id,
            actor,
            kind=Discovery.Kind.NEW_REQUIREMENT,
            title=f"{card.key} and {joined.into} both changed {named}"[:300],
            detail=f"Found when {card.key} was to be merged: {joined.into} is at "
            f"{joined.tip[:12]} by now. The card goes on from there, its own changes joined in.",
            card_id=card.pk,
        )
        cards.reject(
            card.pk,
            actor,
            reason.strip()
            or f"Bring it up to date with {joined.into}: others changed the same lines of {named}. "
            "The files are joined already; the conflicts are marked in them.",
        )
    return point


def record(pushed: Pushed, actor: str, *, approve: bool = True) -> Merge:
    """Keep what was pushed, and with ``approve`` complete the card if it is still in review."""
    work = pushed.work
    with transition():
        if approve:
            races.lock(work.card.pk)
        card = cards.lock(work.card.pk)
        merge, made = Merge.objects.get_or_create(
            card=card,
            checkpoint=work.checkpoint,
            into=pushed.into,
            commit=pushed.commit,
            defaults={"strategy": pushed.strategy, "branch": work.branch, "actor": actor},
        )
        if approve and card.state == Card.State.REVIEW:
            card = cards.approve(card.pk, actor)
        if made:
            placing.note(
                card,
                "card.merged",
                actor,
                into=merge.into,
                branch=merge.branch,
                commit=merge.commit,
                strategy=merge.strategy,
                checkpoint=work.checkpoint.number,
            )
        merge.card = card
    return merge


class _Clone:
    """A bare clone for a moment, which reads the snapshots' objects too."""

    def __init__(self, path: Path, store: SnapshotStore) -> None:
        self.path = path
        self.git = Git(store.git.settings_file, {}).having(
            GIT_DIR=str(path), GIT_ALTERNATE_OBJECT_DIRECTORIES=str(store.path / "objects")
        )

    def line(self, *arguments: str) -> str:
        return self.git.line(*arguments, cwd=self.path)

    def commit_of(self, name: str) -> str:
        """Return the commit that a name stands for, empty if there is none."""
        with contextlib.suppress(GitFailed):
            return self.line("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return ""

    def tree_of(self, commit: str) -> str:
        return self.line("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")

    def contains(self, tip: str, commit: str) -> bool:
        """Return whether ``commit`` is in the history of ``tip``."""
        said = self.git.run("merge-base", tip, commit, cwd=self.path, accept=(0, 1))
        return said.decode().strip() == commit

    def commit(self, tree: str, message: bytes, *parents: str, **who: str) -> str:
        named = [part for parent in parents for part in ("-p", parent)]
        git = self.git.having(**who)
        made = git.run("commit-tree", tree, *named, "-F", "-", cwd=self.path, stdin=message)
        return made.decode().strip()

    def joined(self, ours: str, theirs: str) -> str:
        """Return the tree of a merge. Raises MergeConflict."""
        said = self.git.run(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z",
            "--allow-unrelated-histories", ours, theirs,
            cwd=self.path, accept=(0, 1),
        )  # fmt: skip
        tree, *files = [part.decode("utf-8", "backslashreplace") for part in said.split(b"\0")]
        files = sorted({name for name in files if name})
        if files:
            shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
            raise MergeConflict(
                f"Others changed the same lines of {shown}; send the card back to be brought up "
                "to date.",
                extra={"files": files[:CONFLICTS_NAMED]},
            )
        return tree.strip()

    def marked(self, tree: str, base: str, work: Work, into: str) -> tuple[str, list[str]]:
        """Return ``tree`` with the card's changes since ``base``, and the files in conflict.

        Those hold both sides between markers that name ``into`` and the card.
        """
        root = self.commit(base, b"base\n")
        # Markers show the names that the two sides are called by; this clone is soon gone.
        for name, files in ((into, tree), (work.card.key, work.files)):
            self.line("update-ref", f"refs/tags/{name}", self.commit(files, b"side\n", root))
        said = self.git.run(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z",
            f"tags/{into}", f"tags/{work.card.key}",
            cwd=self.path, accept=(0, 1),
        )  # fmt: skip
        joined, *named = [part.decode("utf-8", "backslashreplace") for part in said.split(b"\0")]
        return joined.strip(), sorted({name for name in named if name})[:CONFLICTS_NAMED]

    def three_way(self, tree: str, base: str, changed: str) -> str:
        """Return ``tree`` with what changed from ``base`` to ``changed``. Raises MergeConflict."""
        if tree == base:
            return changed
        # This git's merge-tree takes its base from history alone, so it gets one.
        root = self.commit(base, b"base\n")
        return self.joined(self.commit(tree, b"ours\n", root), self.commit(changed, b"x\n", root))

    def fetch(self, source: str) -> None:
        self.git.run(
            "fetch", "--quiet", "--no-tags", "--", source, "+refs/heads/*:refs/heads/*",
            cwd=self.path,
            timeout_seconds=CLONE_SECONDS,
        )  # fmt: skip


@contextmanager
def _alone(store: SnapshotStore) -> Iterator[None]:
    """One merge of a board at a time on this host: bringing a folder along takes a moment."""
    with open(store.path / "merging.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch(store: SnapshotStore) -> Iterator[_Clone]:
    """Give a bare repository for a moment that has nothing but the snapshots' objects."""
    path = Path(settings.SNAPSHOTS_DIR).absolute() / f"merging.{uuid.uuid4().hex}"
    plain = Git.with_settings_in(path.parent)
    try:
        plain.run("init", "-q", "--bare", "--template=", str(path), cwd=path.parent)
        yield _Clone(path, store)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _clone(store: SnapshotStore, source: str) -> Iterator[_Clone]:
    path = Path(settings.SNAPSHOTS_DIR).absolute() / f"merging.{uuid.uuid4().hex}"
    plain = Git.with_settings_in(path.parent)
    # What is on this machine is read in place, not copied.
    shared = ["--shared"] if Path(source).is_dir() else []
    try:
        plain.run(
            "clone", "--quiet", "--bare", *shared, "--no-tags", "--template=", "--",
            source, str(path),
            cwd=path.parent,
            timeout_seconds=CLONE_SECONDS,
        )  # fmt: skip
        yield _Clone(path, store)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _made(clone: _Clone, work: Work, strategy: str, into: str, message: str) -> Pushed:
    """Make the commits; nobody sees them yet."""
    into = _checked(clone, into) or _shown_branch(clone)
    tip = clone.commit_of(f"refs/heads/{into}")
    if not tip and _any_branch(clone):
        raise Invalid.field("into", f"the repository has no branch {into}.")
    # Upstream may have rewritten its history since: then what it has now is built upon.
    start = clone.commit_of(work.repository_commit) if work.repository_commit else ""
    start = start or tip
    files = work.files
    if start:
        files = clone.three_way(clone.tree_of(start), clone.tree_of(work.base), files)
    at = f"{work.checkpoint.at:%Y-%m-%dT%H:%M:%SZ}"
    who = {"GIT_AUTHOR_NAME": _name(work), "GIT_AUTHOR_DATE": at}
    parents = [start] if start else []
    own = clone.commit(files, work.message(), *parents, **who, GIT_COMMITTER_DATE=at)
    if strategy == "branch":
        return Pushed(work, strategy, "", own, own)
    if not tip:
        return Pushed(work, "fast_forward", into, own, own)
    if clone.contains(tip, own):  # by an earlier call that was cut off
        return Pushed(work, "fast_forward" if strategy == "auto" else strategy, into, own, tip)
    if strategy == "fast_forward" and tip != start:
        raise TransitionRefused(
            f"{into} has moved on since {work.card.key} began; merge or squash instead."
        )
    if strategy in ("auto", "fast_forward") and tip == start:
        return Pushed(work, "fast_forward", into, own, own)
    tree = clone.joined(tip, own)
    if tree == clone.tree_of(tip):
        return Pushed(work, strategy, into, own, tip)  # all of it is there already
    if strategy == "squash":
        result = clone.commit(tree, work.message(message), tip, **who)
    else:
        text = message or f"Merge {work.branch}: {work.subject}"
        result = clone.commit(tree, work.message(text), tip, own)
    return Pushed(work, "merge" if strategy == "auto" else strategy, into, own, result)


def _handed_over(clone: _Clone, source: str, made: Pushed, *, last: bool) -> bool:
    """Push both branches, or neither; False if somebody was there first."""
    specs = [f"+{made.own}:refs/heads/{made.work.branch}"]
    if made.into:
        specs.append(f"{made.commit}:refs/heads/{made.into}")
    said = clone.git.run(
        "push", "--porcelain", "--atomic", "--", source, *specs,
        cwd=clone.path, timeout_seconds=CLONE_SECONDS, accept=(0, 1),
    )  # fmt: skip
    refused = [line.split("\t")[-1] for line in said.decode().splitlines() if line[:1] == "!"]
    if not refused:
        return True
    if not last and any(word in line for word in _OVERTAKEN for line in refused):
        return False
    why = next((line for line in refused if "atomic" not in line), refused[0])
    reason = why.partition("(")[2].rstrip(")") or why
    if "Working directory" in reason or "uncommitted" in reason:
        reason = f"{made.into} is checked out there with uncommitted changes; commit or stash them"
    raise GitFailed(reason)


def _checked(clone: _Clone, name: str) -> str:
    """Return the branch name as git takes it. Raises Invalid."""
    if not name:
        return ""
    try:
        # Refuses "-", "..", control characters and what else no branch can be called.
        clone.git.run("check-ref-format", f"refs/heads/{name}", cwd=clone.path)
    except GitFailed:
        raise Invalid.field("into", "is no name of a branch.") from None
    return name


def _shown_branch(clone: _Clone) -> str:
    """Return the branch that the repository itself shows first."""
    return clone.line("symbolic-ref", "--short", "HEAD")


def _any_branch(clone: _Clone) -> bool:
    return bool(clone.line("for-each-ref", "--count=1", "refs/heads"))


def _name(work: Work) -> str:
    """Return who did it, as an author's name can be written."""
    worker = "".join(c for c in work.checkpoint.attempt.worker if c.isprintable() and c not in "<>")
    return f"{worker.strip() or 'worker'} (Holdfast)"
