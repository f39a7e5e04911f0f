"""What the board page shows, read in a number of statements that no board size changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.utils import timezone

from boards import cards as transitions
from boards.models import Attempt, Board, Card, CardQuerySet, Column, Message
from events.models import Event
from goals.models import Goal

PER_COLUMN = 30
GOALS_SHOWN = 12
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
)

EMPTY = {
    Column.Kind.BACKLOG: "Nothing planned. Add a card here, or let an agent propose one.",
    Column.Kind.IN_PROGRESS: "Nothing to do. Drag a card here and the next free worker takes it.",
    Column.Kind.BLOCKED: "Nobody waits for you. Cards land here when a worker asks or gives up.",
    Column.Kind.REVIEW: "Nothing to review. Cards that ask for a review land here when done.",
    Column.Kind.COMPLETED: "Nothing finished yet.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cards of the board somebody wants to see; the default is all of them."""

    q: str = ""
    show: str = ""
    goal: UUID | None = None

    SHOWS = ("needs", "stalled", "running", "review")

    def __bool__(self) -> bool:
        return bool(self.q or self.show or self.goal)

    @property
    def query(self) -> str:
        """The filter as it stands in an address."""
        return urlencode(self._fields())

    def query_showing(self, show: str) -> str:
        """The filter with ``show`` in place of its own, for a link."""
        return "?" + urlencode({**self._fields(), "show": show})

    def _fields(self) -> dict[str, str]:
        fields = {"q": self.q, "show": self.show, "goal": str(self.goal or "")}
        return {name: value for name, value in fields.items() if value}

    def condition(self, stalled: Collection[UUID]) -> Q:
        """Return the filter as a condition on cards."""
        found = Q()
        if self.q:
            found &= (
                Q(title__icontains=self.q)
                | Q(description__icontains=self.q)
                | Q(key__iexact=self.q)
            )
        if self.goal:
            found &= Q(goal_id=self.goal)
        if self.show == "needs":
            found &= Q(state=Card.State.BLOCKED)
        elif self.show == "stalled":
            found &= Q(pk__in=stalled)
        elif self.show == "running":
            found &= Q(state=Card.State.RUNNING)
        elif self.show == "review":
            found &= Q(state=Card.State.REVIEW)
        return found


ALL = Wanted()


@dataclass(slots=True)
class Face:
    """One card as the board shows it."""

    card: Card
    attempt: Attempt | None
    question: Message | None
    look: str
    reason: str = ""
    why: str = ""
    warning: str = ""

    @property
    def group(self) -> int:
        """Running cards stand before the others of their column."""
        return 0 if self.card.state == Card.State.RUNNING else 1


@dataclass(slots=True)
class Lane:
    """One column as the board shows it."""

    column: Column
    count: int
    faces: list[Face] = field(default_factory=list)
    rail: bool = False

    @property
    def more(self) -> int:
        return max(0, self.count - len(self.faces))

    @property
    def at_limit(self) -> bool:
        return self.column.wip_limit is not None and self.count >= self.column.wip_limit

    @property
    def percent(self) -> int:
        limit = self.column.wip_limit
        return min(100, round(100 * self.count / limit)) if limit else 0

    @property
    def empty(self) -> str:
        return EMPTY[Column.Kind(self.column.kind)]

    @property
    def waiting_from(self) -> UUID | None:
        """The first waiting card where running ones stand above it: a line parts them."""
        if not self.faces or self.faces[0].group:
            return None
        return next((face.card.pk for face in self.faces if face.group), None)


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

    columns: dict[str, int]
    attention: dict[str, int]
    goals: dict[UUID, tuple[int, int]]
    done: int
    total: int

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


@dataclass(slots=True)
class Overview:
    """The board at one moment."""

    lanes: list[Lane]
    tally: Tally
    goals: list[Progress]
    workers: list[str]


def overview(
    board: Board, wanted: Wanted = ALL, *, rails: Collection[str] | None = None
) -> Overview:
    """Return the board with the first PER_COLUMN cards of every column that stands open.

    ``rails`` are the columns that the reader has folded up; with None a long Completed column
    is.
    """
    live = _live(board)
    silent = _silent(live)
    tally = counted(board, wanted, silent)
    lanes = []
    for column in board.columns.all():
        count = tally.columns.get(str(column.pk), 0)
        long = column.kind == Column.Kind.COMPLETED and count > PER_COLUMN and not wanted
        rail = str(column.pk) in rails if rails is not None else long
        lanes.append(Lane(column, count, rail=rail))
    by_column: dict[UUID, list[Face]] = {lane.column.pk: [] for lane in lanes}
    for face in _faces(_first(board, [x.column for x in lanes if not x.rail], wanted, silent)):
        by_column[face.card.column_id].append(face)
    for lane in lanes:
        lane.faces = by_column[lane.column.pk][:PER_COLUMN]
    goals = Goal.objects.filter(board_id=board.pk, status=Goal.Status.ACTIVE).order_by("id")
    return Overview(
        lanes,
        tally,
        [Progress(goal, *tally.goals.get(goal.pk, (0, 0))) for goal in goals[:GOALS_SHOWN]],
        sorted({attempt.worker for attempt in live}),
    )


def rest_of(
    board: Board, column: Column, wanted: Wanted, group: int, rank: int
) -> tuple[list[Face], int]:
    """Return the next PER_COLUMN cards of a column below a place, and how many follow them."""
    cards = _shown(board, wanted, silent(board)).filter(column=column).annotate(grp=_group())
    below = cards.filter(Q(grp__gt=group) | Q(grp=group, rank__gt=rank))
    found = _faces(below.order_by("grp", "rank")[:PER_COLUMN])
    return found, max(0, below.count() - len(found)) if len(found) == PER_COLUMN else 0


def some(
    board: Board, ids: Collection[UUID], wanted: Wanted, silent: Collection[UUID]
) -> list[Face]:
    """Return those of the named cards that somebody wants to see, as the board shows them."""
    return _faces(_shown(board, wanted, silent).filter(pk__in=ids))


def silent(board: Board) -> frozenset[UUID]:
    """Return the cards of the board whose worker has not been heard of for long."""
    return _silent(_live(board))


def counted(board: Board, wanted: Wanted, silent: Collection[UUID]) -> Tally:
    """Return the counts of the board, in one pass over its cards."""
    rows = board.cards.filter(archived_at=None).values_list("column", "state", "goal")
    counts = rows.annotate(n=Count("pk"), shown=Count("pk", filter=wanted.condition(silent)))
    columns: dict[str, int] = {}
    states: dict[str, int] = {}
    goals: dict[UUID, tuple[int, int]] = {}
    for column, state, goal, n, shown in counts.order_by():
        columns[str(column)] = columns.get(str(column), 0) + (shown if wanted else n)
        states[state] = states.get(state, 0) + n
        if goal and state != Card.State.CANCELLED:
            done, total = goals.get(goal, (0, 0))
            goals[goal] = (done + n * (state == Card.State.COMPLETED), total + n)
    return Tally(
        columns,
        {
            "needs": states.get(Card.State.BLOCKED, 0),
            "stalled": len(silent),
            "running": states.get(Card.State.RUNNING, 0),
            "review": states.get(Card.State.REVIEW, 0),
        },
        goals,
        states.get(Card.State.COMPLETED, 0),
        sum(states.values()) - states.get(Card.State.CANCELLED, 0),
    )


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
    return list(attempts.only("card_id", "worker", "last_seen_at", "lease_seconds"))


def _silent(live: Iterable[Attempt]) -> frozenset[UUID]:
    now = timezone.now()
    return frozenset(attempt.card_id for attempt in live if _stalled(attempt, now))


def _shown(board: Board, wanted: Wanted, silent: Collection[UUID]) -> CardQuerySet:
    return Card.objects.filter(wanted.condition(silent), board=board, archived_at=None)


def _first(
    board: Board, columns: Iterable[Column], wanted: Wanted, silent: Collection[UUID]
) -> CardQuerySet:
    """Return the first cards of every column: each found through the index on its ranks.

    Numbering all cards by a window function instead took six times as long on 10,000 cards.
    """
    places = []
    for column in columns:
        cards = _shown(board, wanted, silent).filter(column=column).order_by("rank")
        running = Q(state=Card.State.RUNNING)
        parts = [cards]
        if column.kind == Column.Kind.IN_PROGRESS:
            parts = [cards.filter(running), cards.exclude(running)]
        places += [Q(pk__in=part.values("pk")[:PER_COLUMN]) for part in parts]
    if not places:
        return Card.objects.none()
    return Card.objects.filter(reduce(or_, places)).order_by(_group(), "rank")


def _faces(found: CardQuerySet) -> list[Face]:
    """Return the cards with what the board says of each, in two further statements."""
    rows = list(found.defer(*UNSHOWN))
    fences = {c.pk: c.fence for c in rows if c.fence}
    attempts: dict[UUID, Attempt] = {}
    if fences:
        newest = Attempt.objects.filter(card_id__in=fences, number__in=set(fences.values()))
        newest = newest.only(*_SHOWN_OF_ATTEMPT)
        attempts = {a.card_id: a for a in newest if a.number == fences[a.card_id]}
    blocked = [c.pk for c in rows if c.state == Card.State.BLOCKED]
    questions: dict[UUID, Message] = {}
    if blocked:
        asked = Message.objects.filter(
            card_id__in=blocked, kind=Message.Kind.QUESTION, closed_at=None
        )
        questions = {m.card_id: m for m in asked.order_by("-id")}
    now = timezone.now()
    return [_face(c, attempts.get(c.pk), questions.get(c.pk), now) for c in rows]


def _face(card: Card, attempt: Attempt | None, question: Message | None, now: datetime) -> Face:
    face = Face(card, attempt, question, look=card.state)
    if card.state == Card.State.WAITING:
        face.reason, face.why = transitions.why_waiting(card, now)
    elif card.state == Card.State.RUNNING and attempt is not None:
        if _stalled(attempt, now):
            face.look = "stalled"
            left = attempt.lease_expires_at - now
            lease = f"lease {spelled(left)}" if left > timedelta(0) else "lease lapsed"
            face.warning = f"No heartbeat {spelled(now - attempt.last_seen_at)} · {lease}"
    elif card.state == Card.State.BLOCKED and question is None:
        face.warning = card.blocked_reason
    if card.paused:
        face.warning = face.warning or "Paused"
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


def _group() -> Case:
    """Running cards first, in SQL."""
    return Case(
        When(state=Card.State.RUNNING, then=Value(0)),
        default=Value(1),
        output_field=IntegerField(),
    )
