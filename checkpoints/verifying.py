"""Proving that a card's history is what was written: digests, files, artifacts, the log.

Each checkpoint's digest covers its content and its parent's digest, and the log, which is only
ever appended to, names the digest when the checkpoint is saved. So a change to a checkpoint
shows in itself, and a chain that was made anew shows against the log, or against a digest that
somebody noted down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from boards.models import Card
from checkpoints import artifacts, recovery
from checkpoints.git import GitFailed
from checkpoints.models import Artifact, Checkpoint, Line
from checkpoints.snapshots import SnapshotStore
from checkpoints.stores import store_of
from events.models import Event

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """What is not as it was written: in which checkpoint (None: the card), and what to think."""

    checkpoint: int | None
    problem: str


@dataclass(slots=True)
class Verdict:
    """What was looked at, and every fault found. ``head`` is the digest to note down."""

    card: Card
    head: str = ""
    checkpoints: int = 0
    workspaces: int = 0
    artifacts: int = 0
    elsewhere: int = 0  # workspaces that are kept by the worker, not here
    dropped: int = 0  # contents that are no longer kept by the board's rule
    faults: list[Fault] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.faults


def verify(card: Card, *, expected: str = "") -> Verdict:
    """Return whether the card's checkpoints, their files and artifacts are what was written.

    ``expected`` is a digest noted down earlier: some checkpoint of the card must still have it.
    Reads everything there is of the card; it locks nothing and changes nothing.
    """
    found = Verdict(card)
    head = recovery.head(card.pk, card.line)
    found.head = head.digest if head else ""
    said = _said_by_the_log(card)
    dropped = _dropped_by_the_log(card)
    digests: set[str] = set()
    numbers: list[int] = []
    contents = _Contents(store_of(card.board_id))
    rows = (
        Checkpoint.objects.filter(card=card).select_related("parent", "attempt").order_by("number")
    )
    for point in rows.iterator(chunk_size=_BATCH):
        numbers.append(point.number)
        digests.add(point.digest)
        found.dropped += point.dropped_at is not None
        if point.dropped_at is not None and point.number not in dropped:
            found.faults.append(Fault(point.number, "has no content, and the log never let it go."))
        for problem in _problems(point, said.get(point.number), contents, found):
            found.faults.append(Fault(point.number, problem))
    found.checkpoints = len(numbers)
    missing = sorted(set(said) - set(numbers))
    found.faults += [Fault(n, "was saved, says the log, and is not here.") for n in missing]
    found.faults += [
        Fault(None, f"Line {line.number} begins at a checkpoint that is not here.")
        for line in Line.objects.filter(card=card, origin=None).order_by("number")
    ]
    if expected and expected not in digests:
        found.faults.append(Fault(None, f"No checkpoint has the digest {expected}."))
    return found


def _said_by_the_log(card: Card) -> dict[int, str]:
    """Return the digest of each checkpoint as the log named it; empty where it didn't then."""
    saved = Event.objects.filter(subject_id=card.pk, data__has_key="checkpoint")
    kinds = ("checkpoint.saved", "salvage.adopted", "step.succeeded", "step.failed")
    data = saved.filter(kind__in=kinds).order_by("seq").values_list("data", flat=True)
    return {int(d["checkpoint"]): str(d.get("digest") or "") for d in data.iterator()}


def _dropped_by_the_log(card: Card) -> set[int]:
    """Return the numbers of the checkpoints whose content went by the board's rule."""
    kinds = ["checkpoints.dropped", "card.brought"]  # what came without contents never had any
    went = Event.objects.filter(subject_id=card.pk, kind__in=kinds)
    lists = [data.get("checkpoints") or [] for data in went.values_list("data", flat=True)]
    return {int(number) for numbers in lists for number in numbers}


def _problems(
    point: Checkpoint, logged: str | None, contents: _Contents, found: Verdict
) -> Iterator[str]:
    if recovery.intact(point) is False:
        yield "has other content than its digest was made of."
    if logged and logged != point.digest:
        yield f"has the digest {point.digest[:12]}, and the log says {logged[:12]}."
    if point.dropped_at is not None:
        return
    workspace = point.workspace or {}
    if commit := workspace.get("commit"):
        # Built-in workers, which have no token, keep their files here; others may keep theirs.
        ours = point.attempt.token_id is None
        problem = contents.of_workspace(str(commit), str(workspace.get("tree") or ""), ours)
        found.workspaces += problem is not None
        found.elsewhere += problem is None
        if problem:
            yield problem
    for artifact in point.artifacts:
        found.artifacts += 1
        if problem := contents.of_artifact(artifact["sha256"]):
            yield f"{artifact['name']}: {problem}"


class _Contents:
    """Files and artifacts, each looked at once."""

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store
        self._trees: dict[str, str | None] = {}
        self._artifacts: dict[str, str] = {}

    def of_workspace(self, commit: str, tree: str, ours: bool) -> str | None:
        """Return what is wrong with a snapshot, "" for nothing, None where it is not kept here."""
        if commit not in self._trees:
            self._trees[commit] = self._look_at(commit, tree, ours)
        return self._trees[commit]

    def _look_at(self, commit: str, tree: str, ours: bool) -> str | None:
        if not self.store.has(commit):
            return f"its files {commit[:12]} are not in the snapshots any more." if ours else None
        try:
            if tree and self.store.tree_of(commit) != tree:
                return "its files are others than it says."
            # Reads every file of it; git checks each object against its name.
            self.store.run("archive", "--format=tar", "--output=/dev/null", commit)
        except GitFailed as error:
            return f"its files are damaged: {error}."
        return ""

    def of_artifact(self, sha256: str) -> str:
        if sha256 not in self._artifacts:
            self._artifacts[sha256] = self._read(sha256)
        return self._artifacts[sha256]

    def _read(self, sha256: str) -> str:
        path: Path = artifacts.path_of(sha256)
        if not Artifact.objects.filter(pk=sha256).exists() or not path.is_file():
            return "is not kept any more."
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        return "" if same else "has other content than its name says."
