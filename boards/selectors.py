"""What the board page shows, read in a number of statements that no board size changes."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    DateTimeField,
    F,
    IntegerField,
    JSONField,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.functions import Cast, Length, Lower, Replace, RowNumber, Substr
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from boards import cards as transitions
from boards.lookup import as_uuid
from boards.models import Attempt, Board, Card, CardQuerySet, Column, Dependency, Message
from boards.wanted import NO_LANE, Pulse, Wanted, below, holder, ordered, place_of
from events.models import Event
from goals.models import Goal

PER_COLUMN = 30
#: What is done stands back, once it would fill the column, for what is not: see ``overview``.
LONG_COMPLETED = 10
PER_CELL = 10
PER_TABLE = 100
GOALS_SHOWN = 12
LANES_SHOWN = 50
#: Lanes that would show more cards than this in all are folded up at first: see ``_fold``.
LANES_BUDGET = 120
LABELS_OFFERED = 50
#: A card shows this much of a question; all of it stands on the card's page.
QUESTION_CHARS = 400
#: What is to be approved is shown on a card only where it is whole.
QUESTION_DETAIL_CHARS = 1500
#: What the cards of a lane have in common.
LANE_FIELDS = {"goal": "goal", "worker": "holder", "priority": "priority"}
PRIORITY_NAMES = tuple(map(gettext_lazy, ("Urgent", "High", "Medium", "Low", "None")))
#: An attempt that has run for more than this is shown as one that takes long.
LONG = timedelta(hours=1)
#: A live attempt that has been silent for this part of its lease is called stalled.
STALLED_AFTER = 0.75
STALLED_AT_LEAST_SECONDS = 10.0
#: What a card's face does not show is not read: a workflow alone may have a megabyte.
UNSHOWN = ("description", "workflow", "inputs", "budgets")
_SHOWN_OF_ATTEMPT = (
    "card_id",
    "number",
    "worker",
    "status",
    "started_at",
    "last_seen_at",
    "lease_seconds",
    "lease_expires_at",
    "note",
    "checkpoint_number",
    "cost_usd",
    *Attempt.FACTS,
)

EMPTY = {
    Column.Kind.BACKLOG: gettext_lazy(
        "Nothing planned. Add a card here, or let an agent propose one."
    ),
    Column.Kind.IN_PROGRESS: gettext_lazy(
        "Nothing to do. Drag a card here and the next free worker takes it."
    ),
    Column.Kind.BLOCKED: gettext_lazy(
        "Nobody waits for you. Cards land here when a worker asks or gives up."
    ),
    Column.Kind.REVIEW: gettext_lazy(
        "Nothing to review. Cards that ask for a review land here when done."
    ),
    Column.Kind.COMPLETED: gettext_lazy("Nothing finished yet."),
}


ALL = Wanted()


@dataclass(frozen=True, slots=True)
class Question:
    """What a blocked card asks; ``detail`` is empty where it is too long for a card."""

    pk: int
    text: str
    options: list[str]
    asks: str = ""
    detail: str = ""
    default: str = ""
    on_timeout: str = ""
    due_at: datetime | None = None
    lapsed_at: datetime | None = None
    is_long: bool = False


@dataclass(slots=True)
class Face:
    """One card as the board shows it."""

    card: Card
    attempt: Attempt | None
    question: Question | None
    look: str
    #: Where it stands among the shown ones, see ``wanted.place_of``; its lane, if there are any.
    place: list[int]
    lane: str | None = None
    reason: str = ""
    why: str = ""
    warning: str = ""
    due: str = ""
    overdue: bool = False

    @property
    def group(self) -> int:
        """Running cards stand before the others of their column."""
        return 0 if self.card.state == Card.State.RUNNING else 1

    @property
    def sort(self) -> str:
        """The place as scripts read it."""
        return json.dumps(self.place, separators=(",", ":"))

    @property
    def after(self) -> str:
        """The key of a card that it waits for."""
        return getattr(self.card, "after", None) or ""

    @property
    def ticked(self) -> int:
        return int(getattr(self.card, "ticked", 0) or 0)

    @property
    def boxes(self) -> int:
        """How many boxes there are to tick in its description."""
        return self.ticked + int(getattr(self.card, "unticked", 0) or 0)

    @property
    def checks(self) -> int:
        """How many tests the newest checkpoint tells of."""
        if self.attempt is None:
            return 0
        return (self.attempt.tests_passed or 0) + (self.attempt.tests_failed or 0)


@dataclass(slots=True)
class Stack:
    """One column as the board shows it, or what a lane has of it."""

    column: Column
    count: int
    lane: str | None = None
    faces: list[Face] = field(default_factory=list)
    rail: bool = False

    @property
    def name(self) -> str:
        """What its ids in the page end in."""
        return f"{self.column.pk}--{self.lane}" if self.lane else str(self.column.pk)

    @property
    def more(self) -> int:
        return max(0, self.count - len(self.faces))

    @property
    def at_limit(self) -> bool:
        return self.column.wip_limit is not None and self.count >= self.column.wip_limit

    @property
    def over_limit(self) -> bool:
        return self.column.wip_limit is not None and self.count > self.column.wip_limit

    @property
    def one_left(self) -> bool:
        limit = self.column.wip_limit
        return limit is not None and limit > 1 and self.count == limit - 1

    @property
    def percent(self) -> int:
        limit = self.column.wip_limit
        return min(100, round(100 * self.count / limit)) if limit else 0

    @property
    def empty(self) -> str:
        return str(EMPTY[Column.Kind(self.column.kind)])

    @property
    def waiting_from(self) -> UUID | None:
        """The first waiting card where running ones stand above it: a line parts them."""
        if not self.faces or self.faces[0].group:
            return None
        return next((face.card.pk for face in self.faces if face.group), None)


@dataclass(slots=True)
class Lane:
    """The cards of one goal, worker or priority, column by column."""

    value: str
    name: str
    stacks: list[Stack]
    #: The filter in an address that shows nothing else; "" where there is none.
    alone: str = ""
    level: int | None = None
    percent: int | None = None
    folded: bool = False

    @property
    def count(self) -> int:
        return sum(stack.count for stack in self.stacks)


@dataclass(slots=True)
class Progress:
    """A goal of the board and how far its cards are."""

    goal: Goal
    done: int = 0
    total: int = 0

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


@dataclass(slots=True)
class Tally:
    """How many cards there are: by column under the filter, by state and goal on the board."""

    columns: dict[str, int] = field(default_factory=dict)
    attention: dict[str, int] = field(default_factory=dict)
    goals: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    #: By lane, then column, under the filter.
    lanes: dict[str, dict[str, int]] = field(default_factory=dict)
    #: Of each lane by worker, who it is.
    holders: dict[str, str] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    #: Under the filter.
    shown: int = 0

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


@dataclass(slots=True)
class Overview:
    """The board at one moment."""

    stacks: list[Stack]
    tally: Tally
    goals: list[Progress]
    workers: list[str]
    lanes: list[Lane] = field(default_factory=list)
    #: Lanes that there are besides those.
    lanes_left: int = 0


def overview(
    board: Board,
    wanted: Wanted = ALL,
    *,
    rails: Collection[str] | None = None,
    folded: Collection[str] = (),
) -> Overview:
    """Return the board with the first cards of every column, or lane of it, that stands open.

    ``rails`` are the columns that the reader has folded up; with None a long Completed column
    is. ``folded`` are the lanes folded up; those past LANES_BUDGET cards are as well. Of what is
    shown as a table there are only the counts.
    """
    live = _live(board)
    pulse = _pulse(live)
    tally = counted(board, wanted, pulse)
    stacks = []
    for column in board.columns.all():
        count = tally.columns.get(str(column.pk), 0)
        long = column.kind == Column.Kind.COMPLETED and count > LONG_COMPLETED and not wanted
        rail = str(column.pk) in rails if rails is not None else long
        stacks.append(Stack(column, count, rail=rail and not wanted.lanes))
    goals = Goal.objects.filter(board_id=board.pk).order_by("id")
    active = Q(status=Goal.Status.ACTIVE)
    if wanted.lanes == "goal":
        held = [pk for value in tally.lanes if (pk := as_uuid(value))]
        known = list(goals.filter(active | Q(pk__in=held)))
    else:
        known = list(goals.filter(active)[:GOALS_SHOWN])
    progress = [Progress(goal, *tally.goals.get(goal.pk, (0, 0))) for goal in known]
    shown = [p for p in progress if p.goal.status == Goal.Status.ACTIVE][:GOALS_SHOWN]
    found = Overview(stacks, tally, shown, sorted({a.worker for a in live}))
    if wanted.listed or wanted.archived:
        return found
    if wanted.lanes:
        lanes = _lanes(wanted, tally, progress, stacks)
        found.lanes, found.lanes_left = lanes[:LANES_SHOWN], max(0, len(lanes) - LANES_SHOWN)
        _fold(found.lanes, folded)
        cards = _first_of_lanes(board, wanted, pulse, tally, found.lanes)
        places = {(s.lane, s.column.pk): s for lane in found.lanes for s in lane.stacks}
    else:
        cards = _first(board, [stack.column for stack in stacks if not stack.rail], wanted, pulse)
        places = {(None, stack.column.pk): stack for stack in stacks}
    for face in _faces(cards, wanted):
        stack = places.get((face.lane, face.card.column_id))
        if stack is not None and len(stack.faces) < (PER_CELL if wanted.lanes else PER_COLUMN):
            stack.faces.append(face)
    return found


def rest_of(
    board: Board, column: Column, wanted: Wanted, place: list[int] | None, lane: str | None = None
) -> tuple[list[Face], int]:
    """Return the next cards of a column, or of a lane of it, and how many follow them.

    They come after ``place``, or first of all. Raises ValueError for what is no place.
    """
    cards = _ordered(_shown(board, wanted, pulse_of(board)).filter(column=column), wanted)
    if lane is not None:
        cards = cards.filter(_in_lane(board, wanted, lane))
    following = below(cards, wanted, place) if place is not None else cards
    size = PER_COLUMN if lane is None else PER_CELL
    found = _faces(following[:size], wanted)
    return found, max(0, following.count() - len(found)) if len(found) == size else 0


def rows_of(board: Board, wanted: Wanted, place: list[int] | None = None) -> tuple[list[Face], int]:
    """Return the next cards of all columns, for a table, and how many follow them.

    With ``wanted.archived`` they are the archived ones. Raises ValueError for no place.
    """
    cards = _ordered(_shown(board, wanted, pulse_of(board)), wanted)
    cards = below(cards.select_related("column", "goal"), wanted, place or []) if place else cards
    found = _faces(cards.select_related("column", "goal")[:PER_TABLE], wanted)
    return found, max(0, cards.count() - len(found)) if len(found) == PER_TABLE else 0


def some(board: Board, ids: Collection[UUID], wanted: Wanted, pulse: Pulse) -> list[Face]:
    """Return those of the named cards that somebody wants to see, as the board shows them."""
    return _faces(_ordered(_shown(board, wanted, pulse).filter(pk__in=ids), wanted), wanted)


def pulse_of(board: Board) -> Pulse:
    """Return which cards of the board have been silent, or at work, for long."""
    return _pulse(_live(board))


def counted(board: Board, wanted: Wanted, pulse: Pulse) -> Tally:
    """Return the counts of the board, in one pass over its cards."""
    rows: Any = board.cards.filter(archived_at=None)
    if wanted.lanes == "worker":
        rows = rows.annotate(holder=holder())
    by = {"goal": "goal", "worker": "holder", "priority": "priority"}.get(wanted.lanes, "goal")
    rows = rows.values_list("column", "state", "goal", *([by] if by != "goal" else []))
    counts = rows.annotate(n=Count("pk"), shown=Count("pk", filter=wanted.condition(pulse)))
    tally, states = Tally(), dict[str, int]()
    for row in counts.order_by():
        column, state, goal = str(row[0]), row[1], row[2]
        n, shown = row[-2], row[-1] if wanted else row[-2]
        tally.columns[column] = tally.columns.get(column, 0) + shown
        tally.shown += shown
        states[state] = states.get(state, 0) + n
        if goal and state != Card.State.CANCELLED:
            done, total = tally.goals.get(goal, (0, 0))
            tally.goals[goal] = (done + n * (state == Card.State.COMPLETED), total + n)
        if wanted.lanes:
            lane = lane_name(wanted.lanes, row[2] if by == "goal" else row[3])
            if by == "holder" and row[3]:
                tally.holders[lane] = row[3]
            of = tally.lanes.setdefault(lane, {})
            of[column] = of.get(column, 0) + shown
    tally.attention = {
        "needs": states.get(Card.State.BLOCKED, 0),
        "stalled": len(pulse.silent),
        "running": states.get(Card.State.RUNNING, 0),
        "review": states.get(Card.State.REVIEW, 0),
    }
    tally.done = states.get(Card.State.COMPLETED, 0)
    tally.total = sum(states.values()) - states.get(Card.State.CANCELLED, 0)
    return tally


def tallied(board: Board, wants: Sequence[Wanted]) -> list[int]:
    """Return how many cards each filter finds, in one statement for all of them."""
    if not wants:
        return []
    pulse = pulse_of(board)
    each = {
        f"n{n}": Count("pk", filter=wanted.condition(pulse)) if wanted else Count("pk")
        for n, wanted in enumerate(wants)
    }
    found = board.cards.filter(archived_at=None).aggregate(**each)
    return [found[name] for name in each]


def labels_of(board: Board) -> list[str]:
    """Return the labels that newer cards of the board have, for a filter to offer."""
    newest = board.cards.filter(archived_at=None).exclude(labels=[]).order_by("-number")
    found = {x for labels in newest.values_list("labels", flat=True)[:300] for x in labels}
    return sorted(found, key=str.casefold)[:LABELS_OFFERED]


def lane_name(lanes: str, value: Any) -> str:
    """Return what a lane is called in addresses and ids."""
    if value is None or value == "":
        return NO_LANE
    if lanes != "worker":
        return str(value)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", str(value))
    # Two workers whose names differ only in what an id can't hold have lanes of their own.
    plain = name == value and name != NO_LANE
    return name if plain else f"{name}-{zlib.crc32(str(value).encode()):08x}"


def last_change(card_id: UUID) -> Event | None:
    """Return the newest event about the card itself."""
    of_card = Event.objects.filter(subject_id=card_id, kind__startswith="card.")
    return of_card.order_by("-seq").first()


@dataclass(slots=True)
class Gist:
    """A board in the list of boards."""

    board: Board
    states: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.states.values()) - self.states.get(Card.State.CANCELLED, 0)

    @property
    def percent(self) -> int:
        return 100 * self.states.get(Card.State.COMPLETED, 0) // self.total if self.total else 0


def gists(boards: Collection[Board]) -> list[Gist]:
    """Return the boards with the number of their cards in each state, in one statement."""
    cards = Card.objects.filter(board__in=boards, archived_at=None)
    states: dict[UUID, dict[str, int]] = {}
    for board, state, n in cards.values_list("board", "state").annotate(n=Count("pk")).order_by():
        states.setdefault(board, {})[state] = n
    return [Gist(board, states.get(board.pk, {})) for board in boards]


def _live(board: Board) -> list[Attempt]:
    attempts = Attempt.objects.live().filter(board=board)
    return list(attempts.only("card_id", "worker", "started_at", "last_seen_at", "lease_seconds"))


def _pulse(live: Iterable[Attempt]) -> Pulse:
    now = timezone.now()
    return Pulse(
        silent=frozenset(attempt.card_id for attempt in live if _stalled(attempt, now)),
        long=frozenset(a.card_id for a in live if now - a.started_at > LONG),
    )


def _shown(board: Board, wanted: Wanted, pulse: Pulse) -> CardQuerySet:
    return Card.objects.filter(
        wanted.condition(pulse), board=board, archived_at__isnull=not wanted.archived
    )


def _ordered(cards: CardQuerySet, wanted: Wanted) -> CardQuerySet:
    """Return the cards in their order, each with what ``_faces`` shows of other rows."""
    waits = Dependency.objects.filter(card=OuterRef("pk")).order_by("depends_on__number")
    waits = waits.exclude(depends_on__state=Card.State.COMPLETED)
    first = Case(
        When(unmet_dependencies__gt=0, then=Subquery(waits.values("depends_on__key")[:1])),
        default=Value(None),
        output_field=CharField(),
    )
    asked = Message.objects.filter(card=OuterRef("pk"), closed_at=None).order_by("id")
    asked = asked.filter(kind=Message.Kind.QUESTION)
    extra: dict[str, Any] = {
        **{
            f"question_{name}": Case(
                When(
                    state=Card.State.BLOCKED,
                    then=Subquery(
                        asked.annotate(shown=F(of) if isinstance(of, str) else of).values("shown")[
                            :1
                        ]
                    ),
                ),
                default=Value(None),
                output_field=field,
            )
            for name, of, field in (
                ("pk", "pk", BigIntegerField()),
                ("text", Substr("text", 1, QUESTION_CHARS), CharField()),
                ("options", "options", JSONField()),
                ("asks", "asks", CharField()),
                ("detail", Substr("detail", 1, QUESTION_DETAIL_CHARS + 1), CharField()),
                ("default", Substr("default", 1, QUESTION_CHARS), CharField()),
                ("on_timeout", "on_timeout", CharField()),
                ("due_at", "due_at", DateTimeField()),
                ("lapsed_at", "lapsed_at", DateTimeField()),
            )
        },
        "after": first,
        "ticked": _found(Lower("description"), "- [x] "),
        "unticked": _found("description", "- [ ] "),
    }
    if wanted.lanes == "worker":
        extra["holder"] = holder()
    shown: CardQuerySet = ordered(cards, wanted).annotate(**extra)
    return shown


def _found(text: Any, mark: str) -> Any:
    """Return, in SQL, how often a text has ``mark``."""
    without = Length(Replace(text, Value(mark), Value("")))
    return Cast((Length(text) - without) / Value(len(mark)), IntegerField())


def _first(board: Board, columns: Iterable[Column], wanted: Wanted, pulse: Pulse) -> CardQuerySet:
    """Return the first cards of every column: each found through the index on its ranks.

    Numbering all cards by a window function instead took six times as long on 10,000 cards.
    """
    places = []
    for column in columns:
        cards = _shown(board, wanted, pulse).filter(column=column)
        if wanted.sort:
            parts = [ordered(cards, wanted)]
        elif column.kind == Column.Kind.IN_PROGRESS:
            running = Q(state=Card.State.RUNNING)
            cards = cards.order_by("rank")
            parts = [cards.filter(running), cards.exclude(running)]
        else:
            parts = [cards.order_by("rank")]
        places += [Q(pk__in=part.values("pk")[:PER_COLUMN]) for part in parts]
    if not places:
        return Card.objects.none()
    return _ordered(Card.objects.filter(reduce(or_, places)), wanted)


def _first_of_lanes(
    board: Board, wanted: Wanted, pulse: Pulse, tally: Tally, lanes: Iterable[Lane]
) -> CardQuerySet:
    """Return the first cards of every cell of the lanes that stand open.

    Here cells are many and small, and one pass that numbers them costs less than asking each.
    """
    cards: Any = _shown(board, wanted, pulse)
    if wanted.lanes == "worker":
        cards = cards.annotate(holder=holder())
    by = LANE_FIELDS[wanted.lanes]
    values = [lane.value for lane in lanes if not lane.folded]
    within = Q(**{f"{by}__in": [_lane_value(wanted, tally, v) for v in values if v != NO_LANE]})
    if NO_LANE in values:
        within |= Q(**{f"{by}__isnull": True})
    cards = cards.filter(within)
    keys = wanted.order()
    cards = cards.annotate(**{k.name: k.expression for k in keys if k.expression is not None})
    order = [F(k.name).desc() if k.down else F(k.name).asc() for k in keys]
    number = Window(RowNumber(), partition_by=[F("column"), F(by)], order_by=order)
    first = cards.annotate(nth=number).filter(nth__lte=PER_CELL).values("pk")
    return _ordered(Card.objects.filter(pk__in=first), wanted)


def _lane_value(wanted: Wanted, tally: Tally, lane: str) -> Any:
    """Return what the cards of a counted lane have in common."""
    if wanted.lanes == "worker":
        return tally.holders[lane]
    return int(lane) if wanted.lanes == "priority" else as_uuid(lane)


def _in_lane(board: Board, wanted: Wanted, lane: str) -> Q:
    """Return the condition on ``_ordered`` cards to be in a lane; no card is in an unknown one."""
    by = LANE_FIELDS.get(wanted.lanes)
    if by is None:
        return Q(pk=None)
    if lane == NO_LANE:
        return Q(**{f"{by}__isnull": True})
    if wanted.lanes == "priority":
        return Q(priority=int(lane)) if lane in ("0", "1", "2", "3", "4") else Q(pk=None)
    if wanted.lanes == "goal":
        pk = as_uuid(lane)
        return Q(goal_id=pk) if pk else Q(pk=None)
    workers = Attempt.objects.filter(board=board).values_list("worker", flat=True).distinct()
    return Q(holder__in=[w for w in workers.order_by() if lane_name("worker", w) == lane])


def _lanes(
    wanted: Wanted, tally: Tally, goals: Sequence[Progress], stacks: Sequence[Stack]
) -> list[Lane]:
    """Return the lanes in the order they are shown in, each with what it has of the columns."""

    def lane(value: str, name: str, alone: str, **of: Any) -> Lane:
        counts = tally.lanes.get(value, {})
        cells = [Stack(s.column, counts.get(str(s.column.pk), 0), lane=value) for s in stacks]
        return Lane(value, name, cells, alone, **of)

    held = [value for value, counts in tally.lanes.items() if any(counts.values())]
    if wanted.lanes == "priority":
        return [
            lane(str(level), str(words), wanted.but(prio=(level,)), level=level)
            for level, words in enumerate(PRIORITY_NAMES)
        ]
    if wanted.lanes == "worker":
        named = sorted((tally.holders[v], v) for v in held if v in tally.holders)
        found = [lane(v, name, wanted.but(worker=name)) for name, v in named]
        none = _("No worker yet")
    else:
        shown = [
            p
            for p in goals
            if str(p.goal.pk) in held or (p.goal.status == Goal.Status.ACTIVE and not wanted)
        ]
        found = [
            lane(str(p.goal.pk), p.goal.title, wanted.but(goal=p.goal.pk), percent=p.percent)
            for p in shown
        ]
        none = _("No goal")
    if NO_LANE in held or not found:
        found.append(lane(NO_LANE, none, ""))
    return found


def _fold(lanes: Iterable[Lane], folded: Collection[str]) -> None:
    """Fold up the lanes of which the reader wants it, and those that would make the page heavy."""
    budget = LANES_BUDGET
    for lane in lanes:
        budget -= sum(min(PER_CELL, stack.count) for stack in lane.stacks)
        lane.folded = lane.value in folded or budget < 0


def _faces(found: CardQuerySet, wanted: Wanted) -> list[Face]:
    """Return the cards with what the board says of each, in one further statement."""
    rows = list(found.defer(*UNSHOWN))
    fences = {c.pk: c.fence for c in rows if c.fence}
    attempts: dict[UUID, Attempt] = {}
    if fences:
        newest = Attempt.objects.filter(card_id__in=fences, number__in=set(fences.values()))
        newest = newest.only(*_SHOWN_OF_ATTEMPT)
        attempts = {a.card_id: a for a in newest if a.number == fences[a.card_id]}
    now, by = timezone.now(), LANE_FIELDS.get(wanted.lanes)
    faces = []
    for card in rows:
        face = _face(card, attempts.get(card.pk), now)
        face.place = place_of(card, wanted)
        if by:
            value = card.goal_id if by == "goal" else getattr(card, by)
            face.lane = lane_name(wanted.lanes, value)
        faces.append(face)
    return faces


def _question(card: Any) -> Question | None:
    if getattr(card, "question_pk", None) is None:
        return None
    is_long = len(card.question_detail) > QUESTION_DETAIL_CHARS
    return Question(
        card.question_pk,
        card.question_text,
        card.question_options or [],
        card.question_asks,
        "" if is_long else card.question_detail,
        card.question_default,
        card.question_on_timeout,
        card.question_due_at,
        card.question_lapsed_at,
        is_long,
    )


def _face(card: Card, attempt: Attempt | None, now: datetime) -> Face:
    question = _question(card)
    face = Face(card, attempt, question, look=card.state, place=[])
    over = card.state in (Card.State.COMPLETED, Card.State.CANCELLED)
    if card.state == Card.State.WAITING:
        face.reason, face.why = transitions.why_waiting(card, now)
    elif card.state == Card.State.RUNNING and attempt is not None:
        if _stalled(attempt, now):
            face.look = "stalled"
            left = attempt.lease_expires_at - now
            words = _("No heartbeat {span} · lease {left}")
            if left <= timedelta(0):
                words = _("No heartbeat {span} · lease lapsed")
            silent = spelled(now - attempt.last_seen_at)
            face.warning = words.format(span=silent, left=spelled(left))
    elif card.state == Card.State.BLOCKED and question is None:
        face.warning = card.blocked_reason
    if not face.warning and attempt is not None and attempt.tests_failed and not over:
        checks = attempt.tests_failed + (attempt.tests_passed or 0)
        face.warning = _("{failed} of {checks} checks failing").format(
            failed=attempt.tests_failed, checks=checks
        )
    if card.paused:
        face.warning = face.warning or _("Paused")
    if card.due_at is not None and not over:
        left = card.due_at - now
        face.overdue = left < timedelta(0)
        words = _("Overdue {span}") if face.overdue else _("Due in {span}")
        face.due = words.format(span=spelled(abs(left)))
    return face


def spelled(span: float | timedelta) -> str:
    """Return a duration in one or two units: "0.4 s", "3 min", "2 h 5 min"."""
    s = max(0.0, span.total_seconds() if isinstance(span, timedelta) else float(span))
    if s < 9.95:
        return f"{s:.1f} s"
    if s < 60:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{int(s // 60)} min"
    if s < 86_400:
        minutes = int(s % 3600 // 60)
        return f"{int(s // 3600)} h {minutes} min" if minutes else f"{int(s // 3600)} h"
    return f"{int(s // 86_400)} d"


def is_silent(attempt: Attempt) -> bool:
    """True if the worker of a live attempt has not been heard of for long."""
    return _stalled(attempt, timezone.now())


def _stalled(attempt: Attempt, now: datetime) -> bool:
    silent = (now - attempt.last_seen_at).total_seconds()
    return silent > max(STALLED_AT_LEAST_SECONDS, attempt.lease_seconds * STALLED_AFTER)
