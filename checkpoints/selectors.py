"""What the card page shows of a card's history, and what the board shows of running ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from boards import sentences
from boards.models import Attempt, Board, Card
from checkpoints import differences, lines, patches, reviews, salvaging
from checkpoints.differences import Difference, Files
from checkpoints.models import Checkpoint, LogChunk, Salvage, Step
from checkpoints.reviews import Remark
from checkpoints.snapshots import FileChange
from events.models import Event
from kernel.errors import NotFound
from kernel.limits import whole_number

STEPS_SHOWN = 200
FILES_SHOWN = 60
LEFT_SHOWN = 100
ATTEMPTS_DRAWN = 6
TAPE_STEPS = 24
#: Attempts whose last steps are read with one statement.
TAPES_AT_ONCE = 50
LABELS_OFFERED = 30

# The drawing of the attempts, in its own units; text is about CHAR wide at its size.
WIDTH, LANE, TOP, EDGE, CHAR = 846.0, 34, 26, 6.0, 6.1
LEAST_LANE, IDLE_GAP, NO_GAP, MARK_GAP = 44.0, 30.0, 6.0, 22.0


@dataclass(slots=True)
class Mark:
    """A checkpoint on the drawing."""

    x: float
    label: str


@dataclass(slots=True)
class Track:
    """One attempt on the drawing: a lane from where it took over to where it ended."""

    attempt: Attempt
    y: int
    x0: float
    x1: float
    look: str
    end: str
    note: str
    marks: list[Mark] = field(default_factory=list)
    curve: str = ""
    words_x: float = 0
    words_y: int = 0
    words_before: bool = False

    @property
    def words(self) -> str:
        return f"{self.attempt.number} {clipped(self.attempt.worker, 18)}"


@dataclass(slots=True)
class Tick:
    """A moment on the axis below the lanes."""

    x: float
    at: datetime
    anchor: str = "start"


@dataclass(slots=True)
class Drawing:
    """The newest attempts as lanes over the time somebody worked, idle time left out."""

    tracks: list[Track]
    ticks: list[Tick] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    now: bool = False

    @property
    def axis(self) -> int:
        return TOP + len(self.tracks) * LANE - 12

    @property
    def height(self) -> int:
        return self.axis + 18


@dataclass(slots=True)
class Row:
    """One line of the step list: a step, or the checkpoint saved after it."""

    step: Step | None = None
    checkpoint: Checkpoint | None = None
    attempt_number: int = 0
    letter: str = "r"
    result: Any = None
    log_lines: int = 0

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


LOOKS = {
    Attempt.Status.RUNNING: "run",
    Attempt.Status.SUCCEEDED: "ok",
    Attempt.Status.FAILED: "fail",
    Attempt.Status.EXPIRED: "need",
    Attempt.Status.RELEASED: "idle",
    Attempt.Status.CANCELLED: "idle",
}


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


def rows(card: Card, attempts: dict[UUID, Attempt]) -> list[Row]:
    """Return the newest steps with the checkpoints saved after them, oldest first."""
    mine = with_log_lines(Step.objects.filter(card=card, inherited=False))
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
    steps = card.workflow.get("steps") if isinstance(card.workflow, dict) else None
    if not isinstance(steps, list) or card.state in (Card.State.COMPLETED, Card.State.CANCELLED):
        return []
    begun = {row.step.key for row in listed if row.step and row.step.line == card.line}
    return [
        {
            "key": str(s.get("key", "")),
            "title": str(s.get("title") or s.get("name") or s.get("key", "")),
            "does": str(s.get("run") or s.get("kind") or ""),
        }
        for s in steps
        if isinstance(s, dict) and s.get("key") not in begun
    ]


def _told(result: Any) -> dict[str, Any]:
    """Return the parts of a result that have a place of their own on the page."""
    if not isinstance(result, dict):
        return {"plain": result} if result is not None else {}
    output = result.get("output")
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


def lineage(card: Card, attempts: list[Attempt]) -> Drawing:
    """Return the drawing of the newest attempts at the card."""
    drawn = sorted(attempts, key=lambda a: a.number)[-ATTEMPTS_DRAWN:]
    if not drawn:
        return Drawing([])
    now = timezone.now()
    ends = [a.finished_at or now for a in drawn]
    worked = [
        max(1.0, (end - a.started_at).total_seconds()) for a, end in zip(drawn, ends, strict=True)
    ]
    idle = [(b.started_at - end).total_seconds() for b, end in zip(drawn[1:], ends, strict=False)]
    long = max(60.0, sum(worked) / 20)
    gaps = [IDLE_GAP if seconds > long else NO_GAP for seconds in idle]
    tracks = [
        Track(
            attempt,
            TOP + n * LANE,
            0,
            0,
            LOOKS[Attempt.Status(attempt.status)],
            ENDS[Attempt.Status(attempt.status)],
            _end(attempt),
        )
        for n, attempt in enumerate(drawn)
    ]
    # A lane all alone leaves its words a place at the right.
    free = WIDTH - 2 * EDGE - sum(gaps) - LEAST_LANE * len(drawn)
    free -= _wide(tracks[-1]) + 10 if len(drawn) == 1 else 0
    x, drawing = EDGE, Drawing(tracks, now=drawn[-1].finished_at is None)
    for n, (track, seconds) in enumerate(zip(tracks, worked, strict=True)):
        track.x0 = x
        track.x1 = x + LEAST_LANE + free * seconds / sum(worked)
        if n < len(gaps):
            if gaps[n] == IDLE_GAP:
                drawing.gaps.append(track.x1 + IDLE_GAP / 2)
            x = track.x1 + gaps[n]
    for track, taken_at in zip(tracks, _mark(tracks), strict=True):
        before = min(track.x0, taken_at) - 12
        if WIDTH - track.x1 - 14 >= _wide(track):
            track.words_x, track.words_y = track.x1 + 14, track.y + 4
        elif before >= _wide(track):
            track.words_x, track.words_y, track.words_before = before, track.y + 4, True
        else:
            track.words_x, track.words_y = track.x0 + 2, track.y + 16
    drawing.ticks = _ticks(tracks, ends)
    return drawing


def _wide(track: Track) -> float:
    return CHAR * (len(track.words) + len(track.note) + 3)


def _mark(tracks: list[Track]) -> list[float]:
    """Put the checkpoints on their lanes, and a curve from the one each attempt took over at.

    Returns where each lane's drawing then begins.
    """
    begins: list[float] = []
    saved: dict[UUID, list[Checkpoint]] = {}
    attempts = [track.attempt.pk for track in tracks]
    newest = Checkpoint.objects.filter(attempt__in=attempts).order_by("-number")
    for c in newest.only("number", "attempt_id", "at")[:60]:
        saved.setdefault(c.attempt_id, []).append(c)
    places: dict[int, tuple[float, int]] = {}
    for track in tracks:
        attempt = track.attempt
        end = attempt.finished_at or timezone.now()
        seconds = max(1.0, (end - attempt.started_at).total_seconds())
        for c in reversed(saved.get(attempt.pk, [])):
            part = min(1.0, max(0.0, (c.at - attempt.started_at).total_seconds() / seconds))
            x = track.x0 + 7 + (track.x1 - track.x0 - 14) * part
            places[c.number] = (x, track.y)
            if track.marks and x - track.marks[-1].x < MARK_GAP:
                track.marks.pop()  # too close to tell apart: the newer one stands for both
            track.marks.append(Mark(x, f"C{c.number}"))
        x, y = places.get(attempt.resumed_from or 0, (track.x0, track.y))
        begins.append(x)
        if y != track.y:
            track.curve = (
                f"M{x:.1f} {y}C{x:.1f} {track.y} {x:.1f} {track.y} {track.x0:.1f} {track.y}"
            )
    return begins


def _ticks(tracks: list[Track], ends: list[datetime]) -> list[Tick]:
    """Return the times below the lanes, no two of them in each other's way."""
    last = Tick(tracks[-1].x1, ends[-1], "end")
    ticks: list[Tick] = []
    for track, end in zip(tracks, ends, strict=True):
        for tick in (Tick(track.x0, track.attempt.started_at), Tick(track.x1, end, "end")):
            at = tick.x if tick.anchor == "start" else tick.x - 30
            free = not ticks or at - ticks[-1].x > (40 if ticks[-1].anchor == "start" else 10)
            if tick.x < last.x and free and at + 30 < last.x - 76:
                ticks.append(tick)
    return [*ticks, last]


def clipped(text: str, most: int) -> str:
    """Return the text, shortened with an ellipsis where it is longer than ``most``."""
    return text if len(text) <= most else text[: most - 1] + "…"


#: How a lane ends: a dot that lives, a tick, a cross, or a bar.
ENDS = {
    Attempt.Status.RUNNING: "now",
    Attempt.Status.SUCCEEDED: "done",
    Attempt.Status.FAILED: "cross",
    Attempt.Status.EXPIRED: "bar",
    Attempt.Status.RELEASED: "bar",
    Attempt.Status.CANCELLED: "bar",
}


def _end(attempt: Attempt) -> str:
    words = {
        Attempt.Status.RUNNING: f"running · step {attempt.step_number}",
        Attempt.Status.SUCCEEDED: "done",
        Attempt.Status.FAILED: attempt.error or "failed",
        Attempt.Status.EXPIRED: "lease lost",
        Attempt.Status.RELEASED: attempt.reason or "handed over",
        Attempt.Status.CANCELLED: attempt.reason or "stopped",
    }
    said = clipped(words[Attempt.Status(attempt.status)].split("\n")[0], 34)
    return f"{said} · ${attempt.cost_usd:.2f}" if attempt.cost_usd else said


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
