"""What the card page shows of a card's history, and what the board shows of running ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from boards import plans, sentences, workflows
from boards.expressions import Unusable
from boards.models import Attempt, Board, Card
from boards.workflows import Workflow
from checkpoints import differences, lines, patches, previews, reviews, salvaging, steps
from checkpoints.differences import Difference, Files
from checkpoints.models import Checkpoint, LogChunk, Salvage, Step
from checkpoints.reviews import Remark
from checkpoints.snapshots import FileChange
from events.models import Event
from kernel.errors import Invalid, NotFound
from kernel.limits import whole_number

STEPS_SHOWN = 200
FILES_SHOWN = 60
LEFT_SHOWN = 100
TAPE_STEPS = 24
#: Attempts whose last steps are read with one statement.
TAPES_AT_ONCE = 50
LABELS_OFFERED = 30


@dataclass(slots=True)
class Row:
    """One line of the step list: a step, or the checkpoint saved after it."""

    step: Step | None = None
    checkpoint: Checkpoint | None = None
    attempt_number: int = 0
    letter: str = "r"
    result: Any = None
    log_lines: int = 0
    within: list[Row] = field(default_factory=list)  # what was recorded below the step's key

    @property
    def notes(self) -> list[str]:
        """What is said of the step after its title."""
        step = self.step
        if step is None:
            return []
        said = [step.key] if step.title and step.title != step.key else []
        if step.superseded:
            said.append("interrupted, done again later")
        elif step.status == Step.Status.STARTED:
            said.append("running")
        elif step.status == Step.Status.FAILED:
            said.append("failed")
        elif step.status == Step.Status.SKIPPED:
            said.append("skipped")
        result = self.result or {}
        if result.get("exit_code"):
            said.append(f"exit {result['exit_code']}")
        if result.get("timed_out"):
            said.append("timed out")
        if held := _held(result.get("sandbox")):
            said.append(held)
        tests = result.get("tests")
        if tests:
            failed = f", {tests['failed']} failed" if tests.get("failed") else ""
            said.append(f"{tests.get('passed', 0)} passed{failed}")
        return said

    @property
    def steps_within(self) -> int:
        return sum(row.step is not None for row in self.within)

    @property
    def unfolded(self) -> bool:
        """True while what is within shows what goes on, or what went wrong."""
        step = self.step
        return step is not None and not step.superseded and step.status in ("started", "failed")

    @property
    def seconds(self) -> timedelta | None:
        step = self.step
        if step is None:
            return None
        return (step.finished_at or timezone.now()) - step.started_at


def _held(sandbox: Any) -> str:
    """Return what held a command of the step, in a few words."""
    if not isinstance(sandbox, dict):
        return ""
    if sandbox.get("mode") != "namespace":
        return "no sandbox"
    return "sandbox, network" if sandbox.get("network") != "off" else "sandbox, no network"


#: The colour of a step by its kind: reading, thinking, editing; anything else is a command.
LETTERS = {
    **dict.fromkeys(("read", "search", "look", "list"), "r"),
    **dict.fromkeys(("plan", "think", "decide", "llm", "agent", "note", "brief"), "m"),
    **dict.fromkeys(("edit", "write", "patch"), "e"),
}


def letter(step: Step) -> str:
    """The colour of a step on the tape: failed, running, or that of its kind."""
    if step.status == Step.Status.FAILED:
        return "f"
    if step.status == Step.Status.STARTED:
        return "f" if step.superseded else "."
    return LETTERS.get(step.kind, "x")


def rows(card: Card, attempts: dict[UUID, Attempt], upto: int | None = None) -> list[Row]:
    """Return the newest steps (up to that number) with the checkpoints saved after them, oldest
    first."""
    mine = with_log_lines(Step.objects.filter(card=card, inherited=False))
    if upto is not None:
        mine = mine.filter(number__lt=upto + STEPS_SHOWN // 2)
    newest = list(mine.order_by("-number")[:STEPS_SHOWN])
    newest.reverse()
    lowest = newest[0].number if newest else 0
    saved: dict[int, list[Checkpoint]] = {}
    for checkpoint in Checkpoint.objects.filter(card=card, after_step__gte=lowest).order_by(
        "number"
    )[:STEPS_SHOWN]:
        saved.setdefault(checkpoint.after_step, []).append(checkpoint)
    listed = [Row(checkpoint=c) for c in saved.pop(0, [])]
    for step in newest:
        attempt = attempts.get(step.attempt_id)
        listed.append(
            Row(
                step=step,
                attempt_number=attempt.number if attempt else 0,
                letter=letter(step),
                result=_told(step.result),
                log_lines=step.log_lines,
            )
        )
        listed += [Row(checkpoint=c) for c in saved.pop(step.number, [])]
    return listed


def folded(card: Card, listed: list[Row]) -> list[Row]:
    """Return the rows with what was recorded below a step of the card's workflow within it.

    What an agent recorded by itself while it carried out a step belongs there, too.
    """
    keys = {step.key for step in _workflow(card)}
    shown: list[Row] = []
    ends: list[Row] = []  # the checkpoint of the step above, which comes after what is within
    above: Row | None = None
    for row in listed:
        step = row.step
        if above is not None and above.step is not None:
            if step is None and _is_of(row, above):
                ends.append(row)
                continue
            if above.within if step is None else _is_below(step.key, above.step.key):
                above.within.append(row)
                continue
        shown += [*ends, row]
        ends = []
        if step is not None:
            above = row if step.key in keys else None
    return [*shown, *ends]


def _is_below(key: str, above: str) -> bool:
    return key.startswith((f"{above}/", workflows.AGENT_KEYS))


def _is_of(row: Row, above: Row) -> bool:
    """Return whether it is the checkpoint that was saved when the step above ended."""
    saved, step = row.checkpoint, above.step
    return saved is not None and step is not None and saved.after_step == step.number


def _workflow(card: Card) -> Sequence[workflows.Step]:
    """Return the steps of the card's workflow in the order in which they run, those that a matrix
    makes of what is over by now among them."""
    try:
        workflow = workflows.parse(card.workflow) if card.workflow else None
    except Invalid:
        return ()
    while workflow is not None and any(step.is_open for step in workflow.steps):
        more = _unfolded(card, workflow)
        if more == workflow:
            break
        workflow = more
    return workflow.steps if workflow is not None else ()


def _unfolded(card: Card, workflow: Workflow) -> Workflow:
    kept = steps.recorded(card.pk, card.line, [step.key for step in workflow.steps])
    with suppress(Unusable):  # the card is blocked then, and says why
        return plans.unfolded(workflow, plans.over_among(kept), {"inputs": card.inputs or {}})
    return workflow


def with_log_lines(steps: QuerySet[Step]) -> QuerySet[Any]:
    """Annotate ``log_lines``: how many lines each step's attempt has printed for its key."""
    newest = LogChunk.objects.filter(
        attempt_id=OuterRef("attempt_id"), step_key=OuterRef("key")
    ).order_by("-step_line", "-id")
    unended = Case(When(open_chars=0, then=0), default=1)
    lines = newest.values(n=F("step_line") + F("breaks") - 1 + unended)[:1]
    return steps.annotate(log_lines=Coalesce(Subquery(lines), 0))


def printed(attempt: Attempt) -> list[Any]:
    """Return the attempt's newest steps that printed something, oldest first."""
    mine = with_log_lines(Step.objects.filter(attempt=attempt, inherited=False))
    newest = mine.only("key").order_by("-number")[:STEPS_SHOWN]
    told = {step.key: step for step in newest if step.log_lines}
    return list(told.values())[::-1]


@dataclass(slots=True)
class ChangedFile:
    """A changed file with the lines that are shown of it, and what was remarked on them."""

    change: FileChange
    lines: list[patches.Line]
    more: int = 0
    remarks: dict[tuple[str, int], list[Remark]] = field(default_factory=dict)
    outdated: list[Remark] = field(default_factory=list)

    @property
    def picture(self) -> bool:
        """True where its two sides are shown as pictures."""
        return self.change.binary and previews.looks_like_a_picture(self.change.path)

    @property
    def notebook(self) -> bool:
        """True where it can be looked at as a notebook."""
        return previews.looks_like_a_notebook(self.change.path)

    @property
    def rows(self) -> Iterator[tuple[patches.Line, list[Remark]]]:
        """The lines one below the other, each with what was remarked on it."""
        for line in self.lines:
            yield line, self._on(line)

    @property
    def pairs(self) -> Iterator[tuple[patches.Pair, list[Remark]]]:
        """The lines side by side, each pair with what was remarked on either."""
        for pair in patches.beside(self.lines):
            same = pair.left is pair.right
            yield pair, [*self._on(pair.left), *([] if same else self._on(pair.right))]

    def _on(self, line: patches.Line | None) -> list[Remark]:
        if line is None or line.number is None:
            return []
        return self.remarks.get((line.side, line.number), [])


@dataclass(slots=True)
class Comparison:
    """What the checkpoints tab shows of one checkpoint beside another."""

    found: Difference
    files: list[ChangedFile]
    redone: list[str]
    remarks: list[Remark]
    whole: bool

    @property
    def kept(self) -> list[previews.Kept]:
        """The newer checkpoint's artifacts, with how each is shown."""
        return previews.kept(self.found.new.artifacts)

    @property
    def unpatched(self) -> int:
        return self.found.changed_files - len(self.files)

    @property
    def open_remarks(self) -> int:
        return sum(made.message.closed_at is None for made in self.remarks)

    @property
    def elsewhere(self) -> list[Remark]:
        """Remarks on files that the difference doesn't show."""
        shown = {file.change.path for file in self.files}
        return [made for made in self.remarks if made.path not in shown]


def compared(card: Card, wanted: str, against: str) -> Comparison | None:
    """Return the named checkpoint (else the newest) beside another, or beside what the card
    started from: that is what a review is of."""
    newest = Checkpoint.objects.filter(card=card).select_related("parent").order_by("-number")
    new = _numbered(card, wanted) or newest.first()
    if new is None:
        return None
    old = _numbered(card, against)
    reviewed = card.state in (Card.State.REVIEW, Card.State.COMPLETED)
    whole = against == "base" or (not against and not wanted and reviewed)
    if not whole and (old is None or old == new):
        old = new.parent
    found = differences.between(card, None if whole else old, new)
    remarks = reviews.beside(card, found.old, new)
    files = []
    for change in (found.files or [])[:FILES_SHOWN]:
        mine = [made for made in remarks if made.path == change.path]
        beside = {(side, n): on for (_, side, n), on in reviews.by_line(mine).items()}
        outdated = [made for made in mine if made.outdated]
        read = patches.read(change.patch or "", change.path)
        files.append(ChangedFile(change, *read, beside, outdated))
    return Comparison(found, files, lines.redone(card, new), remarks, whole)


@dataclass(slots=True)
class LeftBehind:
    """What the page shows of what attempts left: all of it by name, one with its files."""

    all: list[Salvage]
    chosen: Salvage | None
    found: Files | None
    files: list[ChangedFile]

    @property
    def unpatched(self) -> int:
        return self.found.changed_files - len(self.files) if self.found else 0


def left_behind(card: Card, wanted: str) -> LeftBehind:
    """Return what attempts at the card left, with the files of the named one (else the newest)."""
    rows = Salvage.objects.filter(attempt__card=card).select_related("attempt", "adopted_as")
    every = list(rows.order_by("-pk")[:LEFT_SHOWN])
    number = whole_number(wanted)
    chosen = next((s for s in every if s.pk == number), every[0] if every else None)
    found = salvaging.compared(card, chosen) if chosen else None
    files = [
        ChangedFile(change, *patches.read(change.patch or "", change.path))
        for change in ((found.files if found else None) or [])[:FILES_SHOWN]
    ]
    return LeftBehind(every, chosen, found, files)


def origin_of(card: Card) -> Checkpoint | None:
    """Return the checkpoint that the card was forked from, if it was."""
    if card.origin_checkpoint is None:
        return None
    return Checkpoint.objects.select_related("card").filter(pk=card.origin_checkpoint).first()


def forks_of(card: Card) -> QuerySet[Card]:
    """The cards that were forked from a checkpoint of this one."""
    points = Checkpoint.objects.filter(card=card).values("pk")
    return Card.objects.filter(origin_checkpoint__in=points).order_by("number")


def _numbered(card: Card, text: str) -> Checkpoint | None:
    number = whole_number(text)
    try:
        return differences.named(card, number) if number is not None else None
    except NotFound:
        return None


def planned(card: Card, listed: list[Row]) -> list[dict[str, str]]:
    """Return the steps of the card's workflow that nobody has begun yet, in order."""
    if card.state in (Card.State.COMPLETED, Card.State.CANCELLED):
        return []
    begun = {row.step.key for row in listed if row.step and row.step.line == card.line}
    return [
        {
            "key": step.key,
            "title": step.key if step.is_open else step.title or step.key,
            "does": _does(step),
            "each": ", ".join(expression.text for expression in step.lists.values()),
            "needs": ", ".join(step.needs),
            "condition": step.condition,
        }
        for step in _workflow(card)
        if step.key not in begun
    ]


def _does(step: workflows.Step) -> str:
    """Return in a few words what a step will do: its command, else its kind and what it is told."""
    if step.kind in workflows.CHECKS:
        return str(step.given)
    given = step.given if isinstance(step.given, dict) else {}
    words = next((str(given[n]) for n in _TOLD_BY if given.get(n)), "")
    return f"{step.kind}: {words}" if words else step.kind


#: What of a step's terms says best what it is about.
_TOLD_BY = ("question", "prompt", "workflow", "seconds", "until")


def _told(result: Any) -> dict[str, Any]:
    """Return the parts of a result that have a place of their own on the page."""
    if not isinstance(result, dict):
        return {"plain": result} if result is not None else {}
    output = result.get("output")
    if set(result) == {"skipped"}:
        return {"output": result["skipped"]}
    told: dict[str, Any] = {
        "exit_code": result.get("exit_code"),
        "tests": result.get("tests"),
        "artifacts": result.get("artifacts") or [],
        "output": output.get("tail") if isinstance(output, dict) else None,
        "timed_out": result.get("timed_out"),
        "sandbox": result.get("sandbox"),
    }
    if "exit_code" not in result:
        told["plain"] = result
    return told


@dataclass(slots=True)
class Said:
    """A line of the story: an event in words, and the like ones right before it."""

    event: Event
    did: str
    also: list[int] = field(default_factory=list)


def story(events: Iterable[Event], columns: Mapping[str, str]) -> list[Said]:
    """Return the events in words; output of one step that came in pieces is one line."""
    told: list[Said] = []
    for event in events:
        newer = told[-1].event if told else None
        if (
            newer is not None
            and newer.kind == event.kind == "log.appended"
            and newer.data.get("step") == event.data.get("step")
        ):
            told[-1].also.append(event.seq)
        else:
            told.append(Said(event, sentences.told(event, columns)))
    return told


def activity(board: Board) -> dict[str, dict[str, str]]:
    """Return, per running card, what it is doing and its last steps as a tape."""
    live = Attempt.objects.live().filter(board=board).only("card_id", "step_number", "note")
    told, newest = dict[str, dict[str, str]](), list[Q]()
    for attempt in live:
        told[str(attempt.card_id)] = {"now": attempt.note, "tape": ""}
        # A range of the index each: numbering all steps of the attempts would read all of them.
        newest.append(Q(attempt=attempt, number__gt=attempt.step_number - TAPE_STEPS))
    for first in range(0, len(newest), TAPES_AT_ONCE):
        steps = Step.objects.filter(reduce(or_, newest[first : first + TAPES_AT_ONCE]))
        for step in steps.order_by("number").defer("result", "input"):
            entry = told[str(step.card_id)]
            entry["tape"] += letter(step)
            entry["now"] = step.title or step.key
    return told


def under_way(card: Card, live: Attempt) -> dict[str, Any]:
    """Return the step that a live attempt is at (None between steps) and its last ones as tape."""
    newest = Step.objects.filter(attempt=live).order_by("-number").defer("result", "input")
    steps = list(newest[:TAPE_STEPS])[::-1]
    now = next((s for s in reversed(steps) if s.status == Step.Status.STARTED), None)
    return {"now": now, "tape": "".join(letter(step) for step in steps)}


def labels_of(board_id: UUID) -> list[str]:
    """Return the labels that the board's cards carried of late, the most used first."""
    recent = Card.objects.filter(board_id=board_id).exclude(labels=[]).order_by("-updated_at")
    used = Counter(
        label for labels in recent.values_list("labels", flat=True)[:500] for label in labels
    )
    return [label for label, _ in used.most_common(LABELS_OFFERED)]


def spent(card: Card) -> dict[str, Any]:
    """Return what all attempts at the card used together."""
    names = ("cost_usd", "input_tokens", "output_tokens")
    sums = card.attempts.aggregate(**{name: Sum(name) for name in names})
    return {name: value or 0 for name, value in sums.items()}
