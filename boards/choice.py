"""Which card a claim takes: the best of those that may run beside what runs, in its turn.

    boards in scope ─ caps ─> boards, goals, labels with room ─ turn ─> board ─ priority ─> card
                                                                          │
                                                                          └─ turn ─> goal

Without caps and shares a claim takes the first card by priority, then rank, of all its boards.

**Caps** bound what runs at once: on a board, towards a goal, with a label, by some workers, by
each worker. Whoever starts a card on a board with caps holds the Board's row until commit and
counts after that, so that two can't both take the last place. What is counted are live attempts.

**Shares** are weights. Boards, and within a board goals, take turns by start-time fair queueing
(Goyal, Vin and Cheng 1996): each has a virtual time that one turn moves on by 1 / share, and
whoever lags furthest behind is next. One that had nothing to do begins where the others are, so
it can't save up turns. A turn is a claim; built-in workers give a card back after a slice, so
turns are of like length. Boards take turns where their shares differ, and for built-in workers
always: those serve every board. Goals of a board take turns where their shares differ, among the
cards of the board's best priority: priority comes first within a board.

**Ageing**, where a board has it, counts a card one priority higher for each ``ageing_seconds``
that it has waited, without an end, so that a stream of urgent cards starves none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from boards import bounds
from boards.models import Attempt, Board, Card, CardQuerySet, Column
from goals.models import Goal
from kernel import sql

State = Card.State

#: How many cards, goals and boards a claim finds to be over budget before it gives up.
MOST_LOOKS = 20
_FIELD_OF = {"card": "pk", "goal": "goal_id", "board": "board_id"}


@dataclass(frozen=True, slots=True)
class Lack:
    """What somebody can't carry out, by the words of ``needs``, or leaves to others on boards."""

    words: frozenset[str]
    boards: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """Who claims, and what it would take.

    With ``ours`` only what built-in workers carry out: cards with a workflow, where commands
    are allowed.
    """

    worker: str
    token_id: UUID | None = None
    boards: frozenset[UUID] | None = None
    capabilities: frozenset[str] = frozenset()
    goal_id: UUID | None = None
    ours: bool = False
    lacks: tuple[Lack, ...] = ()

    def scope(self) -> CardQuerySet:
        cards = Card.objects.visible_to(self.boards)
        if self.goal_id is not None:
            cards = cards.filter(goal_id=self.goal_id)
        return ours(cards) if self.ours else cards


def ours(cards: CardQuerySet) -> CardQuerySet:
    """Narrow to what built-in workers carry out."""
    able = Board.objects.filter(allow_commands=True, archived_at=None).values("pk")
    return cards.filter(workflow__isnull=False, board_id__in=able)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The locked card to start, the column that it is pulled into, and whose turn that was."""

    card: Card
    column: Column | None = None
    turn: Turns | None = None


# ── what may run beside what runs ────────────────────────────────────────────────────────


@dataclass(slots=True)
class Room:
    """Where no further card may start: on full boards, towards full goals, and so on."""

    columns: list[UUID] = field(default_factory=list)
    boards: set[UUID] = field(default_factory=set)
    goals: set[UUID] = field(default_factory=set)
    labels: dict[UUID, list[str]] = field(default_factory=dict)

    def within(self, cards: CardQuerySet) -> CardQuerySet:
        """Narrow to the cards that there is room for, as far as columns don't decide it."""
        if self.boards:
            cards = cards.exclude(board_id__in=self.boards)
        if self.goals:
            cards = cards.exclude(goal_id__in=self.goals)
        for board_id, labels in self.labels.items():
            cards = cards.filter(~Q(board_id=board_id) | ~Q(cards.carrying(labels)))
        return cards

    def for_waiting(self, cards: CardQuerySet) -> CardQuerySet:
        """Narrow to the waiting cards that there is room for."""
        cards = self.within(cards)
        return cards.exclude(column_id__in=self.columns) if self.columns else cards


def ruled(boards: QuerySet[Board]) -> QuerySet[Board]:
    """Add, as ``with_goals``, whether goals of the board have caps or shares of their own."""
    goals = Goal.objects.filter(board_id=OuterRef("pk"), status=Goal.Status.ACTIVE)
    return boards.annotate(with_goals=Exists(goals.filter(RULED_GOAL)))


RULED_GOAL = Q(max_running__isnull=False) | Q(share__gt=1)


def room(boards: Iterable[Board], worker: str | None = None, token_id: UUID | None = None) -> Room:
    """Return where nothing more may start on these boards, for this worker if one is named.

    Two statements where one of them has caps, none otherwise. Binding only while the boards are
    locked.
    """
    found = Room()
    bounded = {b.pk: b for b in boards if capped(b)}
    if not bounded:
        return found
    running: dict[UUID, list[tuple[str, UUID | None, Any, UUID | None]]] = {}
    live = Attempt.objects.live().filter(board_id__in=bounded)
    for board_id, *row in live.values_list(
        "board_id", "worker", "token_id", "card__labels", "card__goal_id"
    ):
        running.setdefault(board_id, []).append(tuple(row))
    for board in bounded.values():
        here = running.get(board.pk, [])
        enough = worker is not None and _has_enough(board, here, worker, token_id)
        if enough or _is_full(board, here):
            found.boards.add(board.pk)
        caps = board.caps.get("labels") or {}
        carried = Counter(label for row in here for label in set(row[2]))
        if full := [label for label, most in caps.items() if carried[label] >= most]:
            found.labels[board.pk] = full
    if with_goals := [pk for pk, board in bounded.items() if _with_goals(board)]:
        towards = Counter(row[3] for rows in running.values() for row in rows)
        goals = Goal.objects.filter(board_id__in=with_goals, max_running__isnull=False)
        for pk, most in goals.values_list("pk", "max_running"):
            if towards[pk] >= (most or 0):
                found.goals.add(pk)
    return found


def capped(board: Board) -> bool:
    """True if what may start on the board may depend on what runs there. Ask it of ``ruled``."""
    return bool(board.max_running or board.caps or _with_goals(board))


def _with_goals(board: Any) -> bool:
    return bool(getattr(board, "with_goals", False))


def _is_full(board: Board, running: Sequence[Any]) -> bool:
    return board.max_running is not None and len(running) >= board.max_running


def _has_enough(board: Board, running: Sequence[Any], worker: str, token_id: UUID | None) -> bool:
    """True if the worker, or those that it is counted with, hold as many cards as they may."""
    each = board.caps.get("each_worker")
    if each and sum(row[0] == worker and row[1] == token_id for row in running) >= each:
        return True
    caps = board.caps.get("workers") or {}
    return any(
        matches(pattern, worker, token_id)
        and sum(matches(pattern, row[0], row[1]) for row in running) >= most
        for pattern, most in caps.items()
    )


def matches(pattern: str, worker: str, token_id: UUID | None) -> bool:
    """True if the worker is one of these: ``ada-*`` by name, ``built_in`` or ``agent`` by kind."""
    if pattern in ("built_in", "agent"):
        return (token_id is None) == (pattern == "built_in")
    return fnmatchcase(worker, pattern)


def limited_columns(boards: frozenset[UUID] | None) -> QuerySet[Column]:
    """The in-progress columns in which only so many workers may be at once."""
    limited = Column.objects.filter(kind=Column.Kind.IN_PROGRESS, wip_limit__isnull=False)
    if boards is not None:
        limited = limited.filter(board_id__in=boards)
    return limited.order_by("pk")


def full(limited: QuerySet[Column]) -> list[UUID]:
    """Return those of the limited columns in which no further worker may start."""
    columns = list(limited)
    if not columns:
        return []
    running = dict(
        Card.objects.filter(column__in=columns, state=State.RUNNING)
        .values_list("column_id")
        .annotate(n=Count("pk"))
        .order_by()
    )
    return [c.pk for c in columns if running.get(c.pk, 0) >= (c.wip_limit or 0)]


def full_columns(boards: frozenset[UUID] | None) -> list[UUID]:
    """Return the limited in-progress columns in which no further worker may start.

    They are locked until commit, so two workers can't both take the last place.
    """
    return full(limited_columns(boards).select_for_update(no_key=True))


def lock_if_capped(board_id: UUID) -> Board | None:
    """Lock the board if what may start there depends on what runs; None if it does not.

    Before the card, as every lock of a board.
    """
    board = ruled(Board.objects.filter(pk=board_id)).first()
    if board is None or not capped(board):
        return None
    return _locked_boards([board_id])[0]


def why_no_room(card: Card, board: Board, worker: str, token_id: UUID | None) -> str | None:
    """Return in words which cap of the locked board keeps the card from being started."""
    found = room([board], worker, token_id)
    if board.pk in found.boards:
        return "its board, or this worker on it, is at its cap of running cards"
    if card.goal_id in found.goals:
        return "its goal is at its cap of running cards"
    for label in found.labels.get(board.pk, ()):
        if label in card.labels:
            return f"as many cards labelled {label} are running as may at once"
    return None


# ── turns ────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Turns:
    """The virtual times of locked boards, and of the goals of one of them.

    With ``share`` it is the boards that take turns, without it the goals alone.
    """

    boards: list[Board]
    share: bool = False
    goals: list[Goal] = field(default_factory=list)

    def of_boards(self) -> list[Board]:
        """Return the boards, the one whose turn it is first."""
        return sorted(self.boards, key=lambda b: (self._start(b), b.key))

    def _start(self, board: Board) -> float:
        return max(board.turn_ended, max(b.turn_started for b in self.boards))

    def of_goals(self, board: Board) -> list[UUID | None]:
        """Return the board's active goals, the one whose turn it is first; None: no goal."""
        starts = {pk: self._goal_start(board, pk) for pk in (None, *(g.pk for g in self.goals))}
        return sorted(starts, key=lambda pk: (starts[pk], str(pk)))

    def _goal_start(self, board: Board, pk: UUID | None) -> float:
        turns: dict[str, tuple[float, float]] = board.goal_turns
        now = max((started for started, _ in turns.values()), default=0.0)
        return max(turns.get(str(pk), (0.0, 0.0))[1], now)

    def take(self, card: Card) -> None:
        """Move on the virtual times of the card's board and, where goals take turns, its goal."""
        board = next((b for b in self.boards if b.pk == card.board_id), None)
        if board is None:
            return
        changes: dict[str, Any] = {}
        if self.share:
            start = self._start(board)
            changes = {"turn_started": start, "turn_ended": start + 1 / board.share}
        if self.goals:
            shares = {str(goal.pk): goal.share for goal in self.goals}
            begun = self._goal_start(board, card.goal_id)
            kept = {pk: t for pk, t in board.goal_turns.items() if pk == "None" or pk in shares}
            ended = begun + 1 / shares.get(str(card.goal_id), 1)
            changes["goal_turns"] = {**kept, str(card.goal_id): (begun, ended)}
        if changes:
            Board.objects.filter(pk=board.pk).update(**changes)


def _locked_boards(ids: Iterable[UUID]) -> list[Board]:
    """Lock the boards in one order and return them as they are now."""
    boards = Board.objects.filter(pk__in=list(ids)).order_by("pk")
    sql.lock(boards)
    return list(ruled(boards))


# ── choosing ─────────────────────────────────────────────────────────────────────────────


def best(asking: Asking, now: datetime) -> Chosen | None:
    """Return the card that the claim takes, locked, or None when there is none for it."""
    boards = _boards_of(asking, now)
    sharing = _share(boards, asking)
    held = _locked_boards(b.pk for b in boards if sharing or capped(b))
    found = room(held, asking.worker, asking.token_id)
    found.columns = full_columns(asking.boards)
    choosing = _Choosing(asking, now, found)
    if not sharing:
        return choosing.anywhere({b.pk: b for b in (*boards, *held)})
    turns = Turns(held, share=True)
    for board in turns.of_boards():
        if chosen := choosing.on(board, turns):
            return chosen
    return None


def _boards_of(asking: Asking, now: datetime) -> list[Board]:
    """Return the boards of the claim; of several those where there may be something to do."""
    boards = Board.objects.visible_to(asking.boards)
    if asking.ours:
        boards = boards.filter(allow_commands=True, archived_at=None)
    if asking.boards is None or len(asking.boards) > 1:
        cards = Card.objects.ready(now).filter(board_id=OuterRef("pk"))
        if asking.ours:
            cards = cards.filter(workflow__isnull=False)
        boards = boards.filter(Q(Exists(cards)) | Q(pull=Board.Pull.AUTO))
    return list(ruled(boards).order_by("key"))


def _share(boards: Sequence[Board], asking: Asking) -> bool:
    """True if the boards take turns."""
    return len(boards) > 1 and (asking.ours or len({b.share for b in boards}) > 1)


class _Choosing:
    """One claim's look for a card."""

    def __init__(self, asking: Asking, now: datetime, found: Room) -> None:
        self._asking, self._now, self._room = asking, now, found
        self._scope = asking.scope()

    def anywhere(self, boards: Mapping[UUID, Board]) -> Chosen | None:
        """Return the first card by priority, then rank, of all boards; else one to be pulled.

        Which card of its board it is, the board's goals and ageing still decide.
        """
        if card := self._affordable(self._waiting(self._scope)):
            board = boards.get(card.board_id)
            if board is not None and (_with_goals(board) or board.ageing_seconds):
                return self.on(board, Turns([board])) or Chosen(card)
            return Chosen(card)
        for board in boards.values():
            if chosen := self._pulled(board):
                return chosen
        return None

    def on(self, board: Board, turns: Turns) -> Chosen | None:
        """Return the board's card whose turn it is, else one to be pulled from its backlog."""
        if board.pk in self._room.boards:
            return None
        waiting = self._waiting(self._scope.filter(board_id=board.pk))
        card = self._aged(board, waiting) if board.ageing_seconds else None
        if card is None and _with_goals(board):
            card = self._of_goals(board, turns, waiting)
        card = card or self._affordable(waiting)
        if card is not None:
            return Chosen(card, turn=turns)
        pulled = self._pulled(board)
        return Chosen(pulled.card, pulled.column, turns) if pulled else None

    def _waiting(self, cards: CardQuerySet) -> CardQuerySet:
        ready = workable(cards.ready(self._now), self._asking.capabilities, self._asking.lacks)
        return self._room.for_waiting(ready)

    def _aged(self, board: Board, waiting: CardQuerySet) -> Card | None:
        """Return the card that has waited itself past the board's best priority, if one has."""
        first = waiting.in_claim_order().values_list("priority", flat=True).first()
        if first is None:
            return None
        aged: tuple[int, int] | None = None
        for priority in range(first + 1, 5):
            of = waiting.filter(priority=priority).order_by("state_since")
            since = of.values_list("state_since", flat=True).first()
            if since is not None:
                waited = (self._now - since).total_seconds()
                rises = priority - int(waited // (board.ageing_seconds or 1))
                aged = min(aged or (first, first), (rises, priority))
        if aged is None or aged[1] == first:
            return None
        return self._affordable(waiting.filter(priority=aged[1]), "state_since", "id")

    def _of_goals(self, board: Board, turns: Turns, waiting: CardQuerySet) -> Card | None:
        """Return the best card of the goal whose turn it is, among those of the best priority."""
        goals = Goal.objects.filter(board_id=board.pk, status=Goal.Status.ACTIVE)
        turns.goals = list(goals.only("pk", "share"))
        if len({goal.share for goal in turns.goals} | {1}) == 1:
            turns.goals = []
            return None
        first = waiting.in_claim_order().values_list("priority", flat=True).first()
        if first is None:
            return None
        for pk in turns.of_goals(board):
            of_goal = Q(goal=None) if pk is None else Q(goal_id=pk)
            if card := self._affordable(waiting.filter(of_goal, priority=first)):
                return card
        return None

    def _pulled(self, board: Board) -> Chosen | None:
        """Return the best backlog card of a board whose pull is automatic and whose WIP allows."""
        if board.pull != Board.Pull.AUTO or board.archived_at is not None:
            return None
        if board.pk in self._room.boards:
            return None
        column = room_to_pull(board)
        if column is None or column.pk in self._room.columns:
            return None
        backlog = pullable(self._scope.filter(board_id=board.pk), self._now)
        able = workable(backlog, self._asking.capabilities, self._asking.lacks)
        backlog = self._room.within(able)
        card = self._affordable(backlog)
        return Chosen(card, column) if card else None

    def _affordable(self, cards: CardQuerySet, *order: str) -> Card | None:
        """Return the best of the cards, locked, whose budgets allow another attempt.

        Whoever is found to be over one is signed as such afterwards; the next claim passes it
        over without a look.
        """
        cards = cards.order_by(*order) if order else cards.in_claim_order()
        for _ in range(MOST_LOOKS):
            card = locked(cards, skip=True).first()
            over = bounds.used_up(card.pk) if card else None
            if card is None or over is None:
                return card
            bounds.look_later(card=card.pk)
            cards = cards.exclude(**{_FIELD_OF[over.kind]: over.owner_id})
        return None


def locked(cards: CardQuerySet, *, skip: bool) -> CardQuerySet:
    """Lock the cards as they are read, passing over those of others if told to."""
    return cards.select_for_update(of=("self",), no_key=True, skip_locked=skip)


def workable(
    cards: CardQuerySet, capabilities: Collection[str], lacks: Iterable[Lack] = ()
) -> CardQuerySet:
    """Narrow to cards that the capabilities suffice for, of active goals, within every budget.

    Archived boards hand out nothing. Goal and board are subqueries, not joins: the claim reads
    one table in index order.
    """
    resting = Goal.objects.exclude(status=Goal.Status.ACTIVE, over="").values("pk")
    closed = Board.objects.exclude(over="", archived_at=None).values("pk")
    within = cards.filter(Q(goal=None) | ~Q(goal_id__in=resting), over="")
    able = within.exclude(board_id__in=closed).within(capabilities)
    for lack in lacks:
        able = able.without_steps(lack.words, lack.boards)
    return able


def pullable(cards: CardQuerySet, now: datetime) -> CardQuerySet:
    """Narrow to backlog cards that may be started, as far as their own rows tell."""
    backlog = cards.filter(
        state=State.BACKLOG, paused=False, unmet_dependencies=0, archived_at=None
    )
    return backlog.filter(Q(not_before=None) | Q(not_before__lte=now))


def room_to_pull(board: Board) -> Column | None:
    """Return the board's first in-progress column with room, locked, or None."""
    columns = board.columns.filter(kind=Column.Kind.IN_PROGRESS).order_by("position")
    for column in columns.select_for_update(no_key=True):
        if column.wip_limit is None or column.cards.count() < column.wip_limit:
            return column
    return None


def room_without_lock(boards: frozenset[UUID] | None) -> Room:
    """Return where nothing may start now, read without a lock: to look, not to claim."""
    bounded = Q(max_running__isnull=False) | ~Q(caps={}) | Q(with_goals=True)
    found = room(ruled(Board.objects.visible_to(boards)).filter(bounded))
    found.columns = full(limited_columns(boards))
    return found
