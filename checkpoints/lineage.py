"""The drawing of a card's attempts: a lane each, diamonds for checkpoints, curves for what went
on from where. Few lanes are drawn at a time; a strip above them stands for all there ever were.

However long the history is, it takes at most five statements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _

from boards.models import Attempt, Card
from checkpoints.models import Checkpoint, Salvage
from kernel.limits import whole_number

#: Lanes drawn at a time, attempts in the strip and rows in the list.
LANES = 8
MOST_ATTEMPTS = 2000
MARKS_READ = 400
FORKS_READ = 100
FORK_ROWS = 3
KEYS_IN_A_ROW = 4

# In the drawing's own units; text is about CHAR wide at its size.
WIDTH, LANE, TOP, EDGE, CHAR = 846.0, 34, 26, 6.0, 6.1
LEAST_LANE, IDLE_GAP, NO_GAP, MARK_GAP, GROUP_GAP = 44.0, 30.0, 6.0, 25.0, 52.0
STRIP, BUCKETS = 40, 60

LOOKS = {
    Attempt.Status.RUNNING: "run",
    Attempt.Status.SUCCEEDED: "ok",
    Attempt.Status.FAILED: "fail",
    Attempt.Status.EXPIRED: "need",
    Attempt.Status.RELEASED: "idle",
    Attempt.Status.CANCELLED: "idle",
}
#: How a lane ends: a dot that lives, a tick, a cross, or a bar.
ENDS = {
    Attempt.Status.RUNNING: "now",
    Attempt.Status.SUCCEEDED: "done",
    Attempt.Status.FAILED: "cross",
    Attempt.Status.EXPIRED: "bar",
    Attempt.Status.RELEASED: "bar",
    Attempt.Status.CANCELLED: "bar",
}
_FORK_LOOKS = {
    Card.State.RUNNING: "run",
    Card.State.COMPLETED: "ok",
    Card.State.BLOCKED: "fail",
    Card.State.REVIEW: "rev",
}


class Place(NamedTuple):
    """Where a checkpoint is drawn."""

    number: int
    x: float
    y: int


@dataclass(slots=True)
class Mark:
    """A checkpoint on the drawing; it may stand for some others close before it."""

    x: float
    checkpoint: Checkpoint
    also: int = 0

    @property
    def label(self) -> str:
        return f"C{self.checkpoint.number}" + (f" +{self.also}" if self.also else "")

    @property
    def says(self) -> str:
        """What it is called: what stands there, and more."""
        return _("Checkpoint {label}: {summary}").format(
            label=self.label, summary=clipped(self.checkpoint.summary, 120)
        )


@dataclass(slots=True)
class Track:
    """One attempt on the drawing: a lane from where it took over to where it ended."""

    attempt: Attempt
    y: int
    x0: float = 0
    x1: float = 0
    marks: list[Mark] = field(default_factory=list)
    left: list[Salvage] = field(default_factory=list)
    rewound: bool = False
    curve: str = ""
    words_x: float = 0
    words_y: int = 0
    words_before: bool = False

    @property
    def look(self) -> str:
        return LOOKS[Attempt.Status(self.attempt.status)]

    @property
    def end(self) -> str:
        return ENDS[Attempt.Status(self.attempt.status)]

    @property
    def words(self) -> str:
        return f"{self.attempt.number} {clipped(self.attempt.worker, 18)}"

    @property
    def note(self) -> str:
        return ended(self.attempt)

    @property
    def wide(self) -> float:
        return CHAR * (len(self.words) + len(self.note) + 3)

    @property
    def left_x(self) -> float:
        """Where what it left behind is drawn: past its end, or before it where there is no room."""
        return self.x1 + 20 if self.x1 + 34 < WIDTH else self.x1 - 22

    @property
    def says(self) -> str:
        attempt = self.attempt
        told = _("Attempt {words} {end}").format(words=self.words, end=self.note)
        if attempt.resumed_from and self.rewound:
            told += ", " + _("rewound to C{n}").format(n=attempt.resumed_from)
        elif attempt.resumed_from:
            told += ", " + _("went on from C{n}").format(n=attempt.resumed_from)
        return told

    @property
    def left_says(self) -> str:
        what = clipped(self.left[0].summary, 120)
        if len(self.left) == 1:
            return _("Left behind by attempt {n}: {what}").format(n=self.attempt.number, what=what)
        return _("{count} left behind by attempt {n}: {what}").format(
            count=len(self.left), n=self.attempt.number, what=what
        )


@dataclass(slots=True)
class Branch:
    """Cards that were forked from a checkpoint, on a row of their own below the lanes."""

    number: int
    cards: list[Card]
    y: int
    more: int = 0
    curve: str = ""
    x: float = 0

    @property
    def keys(self) -> list[dict[str, Any]]:
        """The cards with where their keys stand."""
        at, placed = self.x + 16, []
        for card in self.cards:
            look = _FORK_LOOKS.get(Card.State(card.state), "idle")
            says = _("Forked from checkpoint {n}: {key} {title}, {state}").format(
                n=self.number,
                key=card.key,
                title=clipped(card.title, 80),
                state=card.get_state_display(),
            )
            placed.append({"card": card, "x": at, "look": look, "says": says})
            at += CHAR * len(card.key) + 14
        return placed

    @property
    def more_x(self) -> float:
        last = self.keys[-1]
        return float(last["x"]) + CHAR * len(last["card"].key) + 14


@dataclass(slots=True)
class Tick:
    """A moment on the axis below the lanes."""

    x: float
    at: datetime
    anchor: str = "start"


@dataclass(slots=True)
class Bucket:
    """Some attempts in a row on the strip, by how they ended."""

    first: int
    last: int
    x: float
    wide: float
    shown: bool
    parts: list[dict[str, Any]]
    ends: Counter[str]

    @property
    def says(self) -> str:
        ends = ", ".join(f"{n} {Attempt.Status(end).label}" for end, n in self.ends.most_common())
        if self.first == self.last:
            return _("Attempt {n}: {ends}").format(n=self.first, ends=ends)
        return _("Attempts {first} to {last}: {ends}").format(
            first=self.first, last=self.last, ends=ends
        )


@dataclass(slots=True)
class Drawing:
    """Some attempts as lanes over the time somebody worked, idle time left out."""

    tracks: list[Track]
    total: int = 0
    buckets: list[Bucket] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    origin: Checkpoint | None = None
    ticks: list[Tick] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    now: bool = False

    @property
    def top(self) -> int:
        return STRIP if self.buckets else 0

    @property
    def axis(self) -> int:
        return self.top + TOP + (len(self.tracks) + len(self.branches)) * LANE - 12

    @property
    def height(self) -> int:
        return self.axis + 18

    @property
    def first(self) -> int:
        return self.tracks[0].attempt.number

    @property
    def last(self) -> int:
        return self.tracks[-1].attempt.number

    @property
    def earlier(self) -> int:
        """The attempt to show to see those before; 0 where there is none."""
        return max(1, self.first - LANES // 2) if self.first > 1 else 0

    @property
    def later(self) -> int:
        """The attempt to show to see those after; 0 where there is none."""
        return min(self.total, self.last + LANES // 2) if self.last < self.total else 0


def drawn(
    card: Card, attempts: Sequence[Attempt], origin: Checkpoint | None, around: str
) -> Drawing:
    """Return the drawing of the lanes around the attempt numbered ``around``, else the newest.

    ``attempts`` are the newest ones, which may have been read already.
    """
    if not attempts:
        return Drawing([])
    total = attempts[0].number
    wanted = whole_number(around) or total
    last = min(total, max(wanted + LANES // 2 - 1, LANES))
    first = max(1, last - LANES + 1)
    window = [a for a in attempts if first - 1 <= a.number <= last]
    if len(window) < last - max(1, first - 1) + 1:
        window = list(card.attempts.filter(number__range=(first - 1, last)).order_by("-number"))
    window.reverse()
    before = window.pop(0).line if window[0].number < first else 1
    top = STRIP if total > LANES else 0
    tracks = [Track(a, top + TOP + n * LANE) for n, a in enumerate(window)]
    for track in tracks:
        track.rewound = track.attempt.line != before and track.attempt.number > 1
        before = track.attempt.line
    drawing = Drawing(tracks, total, now=tracks[-1].attempt.finished_at is None)
    if first == 1:
        drawing.origin = origin
    if total > LANES:
        drawing.buckets = _strip(card, first, last, total)
    _place(drawing)
    _branch(drawing, *_mark(drawing, card))
    return drawing


def _strip(card: Card, first: int, last: int, total: int) -> list[Bucket]:
    """Return all attempts in at most BUCKETS pieces."""
    newest = card.attempts.order_by("-number").values_list("number", "status")[:MOST_ATTEMPTS]
    rows = list(newest)[::-1]
    size = -(-len(rows) // BUCKETS)
    wide = (WIDTH - 2 * EDGE) / -(-len(rows) // size)
    buckets = []
    for n in range(0, len(rows), size):
        some = rows[n : n + size]
        ends = Counter(str(status) for _, status in some)
        y, parts = STRIP - 18.0, []
        for status in Attempt.Status:
            if ends[status]:
                tall = 14.0 * ends[status] / len(some)
                parts.append({"y": y, "tall": tall, "look": LOOKS[status]})
                y += tall
        a, b = some[0][0], some[-1][0]
        shown = a <= last and b >= first
        x = EDGE + wide * (n // size)
        buckets.append(Bucket(a, b, x, max(2.0, wide - 1.5), shown, parts, ends))
    return buckets


def _place(drawing: Drawing) -> None:
    """Give the lanes their stretch of the axis, one after the other."""
    tracks = drawing.tracks
    now = timezone.now()
    ends = [t.attempt.finished_at or now for t in tracks]
    begun = [t.attempt.started_at for t in tracks]
    worked = [max(1.0, (b - a).total_seconds()) for a, b in zip(begun, ends, strict=True)]
    idle = [(a - b).total_seconds() for a, b in zip(begun[1:], ends, strict=False)]
    long = max(60.0, sum(worked) / 20)
    gaps = [IDLE_GAP if seconds > long else NO_GAP for seconds in idle]
    # A lane all alone leaves its words a place at the right.
    start = EDGE + (20.0 if drawing.origin else 0.0)
    free = WIDTH - start - EDGE - sum(gaps) - LEAST_LANE * len(tracks)
    free -= tracks[-1].wide + 34 if len(tracks) == 1 else 0
    x = start
    for n, (track, seconds) in enumerate(zip(tracks, worked, strict=True)):
        track.x0 = x
        track.x1 = x + LEAST_LANE + free * seconds / sum(worked)
        if n < len(gaps):
            if gaps[n] == IDLE_GAP:
                drawing.gaps.append(track.x1 + IDLE_GAP / 2)
            x = track.x1 + gaps[n]
    drawing.ticks = _ticks(tracks, ends)


def _mark(drawing: Drawing, card: Card) -> tuple[dict[UUID, Place], list[Card]]:
    """Put checkpoints and what was left on the lanes, and a curve from where each went on.

    Returns where each checkpoint of the drawn lanes is, and what was forked from them.
    """
    tracks = drawing.tracks
    attempts = [track.attempt.pk for track in tracks]
    saved: dict[UUID, list[Checkpoint]] = {}
    newest = Checkpoint.objects.filter(attempt__in=attempts).order_by("-number")
    for c in newest.only("number", "attempt_id", "at", "summary")[:MARKS_READ]:
        saved.setdefault(c.attempt_id, []).append(c)
    for salvage in Salvage.objects.filter(attempt__in=attempts).order_by("-at")[:MARKS_READ]:
        for track in tracks:
            if track.attempt.pk == salvage.attempt_id:
                track.left.append(salvage)
    there = [c.pk for some in saved.values() for c in some]
    at_drawn = Card.objects.filter(board_id=card.board_id, origin_checkpoint__in=there)
    forks = list(at_drawn.order_by("number")[:FORKS_READ]) if there else []
    left_at = {fork.origin_checkpoint for fork in forks}
    resumed = {track.attempt.resumed_from for track in tracks}
    places: dict[UUID, Place] = {}
    numbered: dict[int, Place] = {}
    for track in tracks:
        attempt = track.attempt
        seconds = max(
            1.0, ((attempt.finished_at or timezone.now()) - attempt.started_at).total_seconds()
        )
        for c in reversed(saved.get(attempt.pk, [])):
            part = min(1.0, max(0.0, (c.at - attempt.started_at).total_seconds() / seconds))
            mark = Mark(track.x0 + 7 + (track.x1 - track.x0 - 20) * part, c)
            places[c.pk] = numbered[c.number] = Place(c.number, mark.x, track.y)
            track.marks.append(mark)
        begun_at = [m for m in track.marks if m.checkpoint.pk in left_at]
        begun_at += [m for m in track.marks if m.checkpoint.number in resumed]
        track.marks = _apart(track.marks, begun_at)
        # What went on from a lane that is not drawn comes from above.
        x, y = track.x0, track.y
        if place := numbered.get(attempt.resumed_from or 0):
            x, y = place.x, place.y
        elif attempt.resumed_from and drawing.first > 1:
            x, y = max(EDGE, track.x0 - 4), track.y - 16
        if y != track.y:
            track.curve = (
                f"M{x:.1f} {y}C{x:.1f} {track.y} {x:.1f} {track.y} {track.x0:.1f} {track.y}"
            )
        _say(track, min(track.x0, x) - 12)
    return places, forks


def _apart(marks: list[Mark], begun_at: list[Mark]) -> list[Mark]:
    """Return as many of the marks as can be told apart: the newest, those that something began
    at, then the others; each stands for those before it that can't."""
    wanted = [*marks[-1:], *begun_at[::-1], *marks[::-1]]
    apart: list[Mark] = []
    for gap in (MARK_GAP, GROUP_GAP):  # what stands for others has a longer label
        apart = []
        for mark in wanted:
            if all(abs(mark.x - other.x) >= gap for other in apart):
                apart.append(mark)
        if len(apart) == len(marks):
            break
    apart.sort(key=lambda mark: mark.checkpoint.number)
    numbers = [0, *(mark.checkpoint.number for mark in apart)]
    for mark, before in zip(apart, numbers, strict=False):
        between = (m for m in marks if before < m.checkpoint.number < mark.checkpoint.number)
        mark.also = sum(1 for _ in between)
    return apart


def _say(track: Track, before: float) -> None:
    """Find a place for the words: after the lane, before it, or below."""
    after = (track.left_x + 14) if track.left and track.left_x > track.x1 else track.x1 + 14
    if WIDTH - after >= track.wide:
        track.words_x, track.words_y = after, track.y + 4
    elif before >= track.wide:
        track.words_x, track.words_y, track.words_before = before, track.y + 4, True
    else:
        track.words_x, track.words_y = track.x0 + 2, track.y + 16


def _branch(drawing: Drawing, places: dict[UUID, Place], forks: list[Card]) -> None:
    """Put the cards that were forked from drawn checkpoints below the lanes."""
    found: dict[Place, list[Card]] = {}
    for fork in forks:
        assert fork.origin_checkpoint is not None
        found.setdefault(places[fork.origin_checkpoint], []).append(fork)
    base = drawing.top + TOP + len(drawing.tracks) * LANE
    for n, place in enumerate(sorted(found, reverse=True)[:FORK_ROWS]):
        number, x, y = place
        here = base + n * LANE
        cards = found[place]
        room = min(x + 14, WIDTH - sum(CHAR * len(c.key) + 14 for c in cards[:KEYS_IN_A_ROW]) - 60)
        branch = Branch(number, cards[:KEYS_IN_A_ROW], here, max(0, len(cards) - KEYS_IN_A_ROW))
        branch.x = max(EDGE, room)
        branch.curve = f"M{x:.1f} {y}V{here - 10}Q{x:.1f} {here} {branch.x + 10:.1f} {here}"
        drawing.branches.append(branch)


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
    """Return the first line of the text, shortened with an ellipsis where it is longer."""
    text = text.partition("\n")[0]
    return text if len(text) <= most else text[: most - 1] + "…"


def ended(attempt: Attempt, letters: int = 34) -> str:
    """Return in a few words how the attempt ended, or where it is."""
    words = {
        Attempt.Status.RUNNING: _("running · step {n}").format(n=attempt.step_number),
        Attempt.Status.SUCCEEDED: _("done"),
        Attempt.Status.FAILED: attempt.error or _("failed"),
        Attempt.Status.EXPIRED: _("lease lost"),
        Attempt.Status.RELEASED: attempt.reason or _("handed over"),
        Attempt.Status.CANCELLED: attempt.reason or _("stopped"),
    }
    said = clipped(words[Attempt.Status(attempt.status)], letters)
    return f"{said} · ${attempt.cost_usd:,.2f}" if attempt.cost_usd else said


@dataclass(slots=True)
class Entry:
    """An attempt in the list: the same as its lane, in words."""

    attempt: Attempt
    checkpoints: list[int]
    left: list[int]
    forks: list[Card]

    @property
    def look(self) -> str:
        return LOOKS[Attempt.Status(self.attempt.status)]

    @property
    def note(self) -> str:
        return ended(self.attempt)


def listed(card: Card) -> list[Entry]:
    """Return the newest attempts with their checkpoints and what was forked, newest first."""
    attempts = list(card.attempts.order_by("-number").defer("result", "outcome")[:MOST_ATTEMPTS])
    entries = {a.pk: Entry(a, [], [], []) for a in attempts}
    owners: dict[UUID, UUID] = {}
    rows = Checkpoint.objects.filter(card=card).order_by("-number")
    for pk, number, attempt in rows.values_list("pk", "number", "attempt_id")[:MOST_ATTEMPTS]:
        owners[pk] = attempt
        if attempt in entries:
            entries[attempt].checkpoints.insert(0, number)
    left = Salvage.objects.filter(attempt__card=card).order_by("pk")
    for salvage, attempt in left.values_list("pk", "attempt_id")[:MOST_ATTEMPTS]:
        if attempt in entries:
            entries[attempt].left.append(salvage)
    points = Checkpoint.objects.filter(card=card).values("pk")
    forks = Card.objects.filter(board_id=card.board_id, origin_checkpoint__in=points)
    for fork in forks.order_by("number")[:FORKS_READ]:
        owner = owners.get(fork.origin_checkpoint) if fork.origin_checkpoint else None
        if owner in entries:
            entries[owner].forks.append(fork)
    return list(entries.values())
