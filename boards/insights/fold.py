"""A board's history, folded out of its event log in one ordered pass.

    events ──> Ledger.take ──> stories of cards, attempts, spending, goals, columns

Nothing here looks at the tables: what a card was on some past day is what the events up to
then say, however often it was moved, archived or deleted since. The one exception are logs
that were written before events told goal and labels: for those it is what the
tables say today.

Times are seconds since 1970. The log's order is that of its numbers; clocks of several hosts
may disagree by a little, so no event counts as earlier than the one before it.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Q

from boards.models import Card
from events import log
from events.models import Event

#: How each event that ends an attempt says that it ended.
ENDINGS = {
    "card.completed": "succeeded",
    "card.submitted": "succeeded",
    "card.blocked": "released",
    "attempt.failed": "failed",
    "attempt.expired": "expired",
    "attempt.released": "released",
}
#: States in which a card counts as work in progress.
IN_PROGRESS = ("waiting", "running", "blocked", "review")
#: How many boards' histories one process keeps folded.
KEPT = 8
_KINDS = [
    *(kind for kind in ENDINGS if not kind.startswith("card.")),
    "attempt.reinstated",
    "step.succeeded",
    "step.failed",
    "board.created",
    "board.edited",
]


class Stay(NamedTuple):
    """A card is in ``state`` and in ``column`` from ``at`` on."""

    at: float
    state: str
    column: str


@dataclass(slots=True)
class Try:
    """An attempt as the log tells it; ``status`` is "running" until it ends."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None = None
    ending: str = "running"
    #: From when to when it counted as expired before a late call brought it back.
    lapses: list[tuple[float, float]] = field(default_factory=list)

    def status(self, until: float) -> str:
        """How the attempt stood at an instant."""
        if any(begin <= until < end for begin, end in self.lapses):
            return "expired"
        over = self.ended_at is not None and self.ended_at <= until
        return self.ending if over else "running"


class Spent(NamedTuple):
    """Tokens and money that one step used; money in millionths of a dollar."""

    at: float
    card: int
    attempt: int
    worker: str
    model: str
    input_tokens: int
    output_tokens: int
    micro_usd: int


class Move(NamedTuple):
    """From ``at`` on the card counts in ``place``: a state, or "" for no place on the board."""

    at: float
    card: int
    place: str


@dataclass(slots=True)
class Standing:
    """What was true of a card at an instant."""

    state: str
    column: str
    goal: str | None
    labels: tuple[str, ...]
    archived: bool


@dataclass(slots=True, eq=False)
class Story:
    """One card's history. Every list is in order of time and only grows."""

    index: int
    id: str
    key: str
    created_at: float
    stays: list[Stay] = field(default_factory=list)
    titles: list[tuple[float, str]] = field(default_factory=list)
    goals: list[tuple[float, str | None]] = field(default_factory=list)
    labels: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    archived: list[tuple[float, bool]] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    deleted_at: float | None = None

    def standing(self, until: float) -> Standing | None:
        """What was true of the card at an instant; None before it was made and once deleted."""
        if self.created_at > until or self.is_deleted(until):
            return None
        stay = self.stays[bisect_right(self.stays, until, key=_at) - 1]
        return Standing(
            stay.state,
            stay.column,
            self.goal(until),
            self.labelled(until),
            _last(self.archived, until, False),
        )

    def is_deleted(self, until: float) -> bool:
        """True from the card's deletion on."""
        return self.deleted_at is not None and self.deleted_at <= until

    def goal(self, until: float) -> str | None:
        """The goal that the card belonged to at an instant."""
        found: str | None = _last(self.goals, until, None)
        return found

    def title(self, until: float) -> str:
        """What the card was called at an instant."""
        found: str = _last(self.titles, until, "")
        return found

    def labelled(self, until: float) -> tuple[str, ...]:
        """The labels that the card carried at an instant."""
        found: tuple[str, ...] = _last(self.labels, until, ())
        return found

    def entered_at(self, until: float) -> float:
        """When the card came into the state that it was in at an instant."""
        n = bisect_right(self.stays, until, key=_at) - 1
        while n and self.stays[n - 1].state == self.stays[n].state:
            n -= 1
        return self.stays[n].at

    def started_at(self, until: float) -> float | None:
        """When the card first left the backlog; None if it hasn't by ``until``.

        The clock starts once: a card that goes back and comes again has been in progress
        since the first time.
        """
        for stay in self.stays:
            if stay.at > until:
                return None
            if stay.state in IN_PROGRESS or stay.state == "completed":
                return stay.at
        return None

    def finished_at(self, until: float) -> float | None:
        """When the card was completed for good, as far as was known at ``until``.

        A card that was taken up again is not finished; one that was deleted after it was
        completed has been.
        """
        finished = None
        for stay in self.stays:
            if stay.at > until:
                break
            if stay.state != "completed":
                finished = None
            elif finished is None:
                finished = stay.at
        return finished

    def spans(self, until: float) -> Iterator[tuple[str, float, float]]:
        """Yield each stay as state, begin and end, while the card was on the board.

        A card that came back from the archive counts as having been there all along.
        """
        last = until if self.deleted_at is None else min(until, self.deleted_at)
        n = bisect_right(self.archived, until, key=_at)
        if n and self.archived[n - 1][1]:
            last = min(last, self.archived[n - 1][0])
        for n, stay in enumerate(self.stays):
            if stay.at >= last:
                return
            after = self.stays[n + 1].at if n + 1 < len(self.stays) else last
            yield stay.state, stay.at, min(after, last)


def _at(entry: Any) -> float:
    return float(entry[0])


def _last(entries: list[tuple[float, Any]], until: float, default: Any) -> Any:
    n = bisect_right(entries, until, key=_at)
    return entries[n - 1][1] if n else default


class Ledger:
    """Everything that a board's events up to number ``seq`` say, see ``take``."""

    def __init__(self, board_id: UUID) -> None:
        self.board_id = board_id
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything, to fold the log from its start."""
        self.seq = 0
        self.first_at: float | None = None
        self.cards: list[Story] = []
        self.moves: list[Move] = []
        self.spent: list[Spent] = []
        #: The cards in progress that each WIP limit allows in all, None without a limit.
        self.limits: list[tuple[float, int | None]] = []
        self._by_id: dict[str, Story] = {}
        self._live: dict[int, Try] = {}
        self._places: dict[int, str] = {}
        self._last_at = 0.0
        self._filed = 0  # how many cards have been looked at by ``_file_the_unfiled``
        self._mark: Any = None  # the instant of event ``seq``, to know the log again by

    # ── reading ──────────────────────────────────────────────────────────────────────────

    def catch_up(self, through: int | None = None) -> None:
        """Fold what has been recorded since, or what came up to event ``through``."""
        newest = log.last_seq(self.board_id) if through is None else through
        if newest <= self.seq:
            return
        try:
            self.take(self._rows(newest))
            self._file_the_unfiled()
        except BaseException:
            self.clear()  # half of a batch must not be folded twice
            raise
        self.seq = newest
        self._mark = self._instant(newest)

    def holds(self) -> bool:
        """True while the log still begins with what has been folded."""
        return self.seq == 0 or self._instant(self.seq) == self._mark

    def _instant(self, seq: int) -> Any:
        events = Event.objects.of_board(self.board_id).filter(seq=seq)
        return events.values_list("at", flat=True).first()

    def _rows(self, newest: int) -> Iterator[tuple[Any, ...]]:
        """Yield the events that matter, as the driver gives them: converting costs the most."""
        events = Event.objects.of_board(self.board_id).after(self.seq).filter(seq__lte=newest)
        wanted = events.filter(Q(kind__startswith="card.") | Q(kind__in=_KINDS))
        rows = wanted.values_list("at", "kind", "actor", "subject_id", "data")
        sql, params = rows.query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            while batch := cursor.fetchmany(2000):
                yield from batch

    # ── folding ──────────────────────────────────────────────────────────────────────────

    def take(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Fold events that follow those taken before: instant, kind, actor, subject, data."""
        for at, kind, actor, subject, data in rows:
            when = self._last_at = max(self._last_at, _seconds(at))
            if self.first_at is None:
                self.first_at = when
            if kind.startswith("step."):
                if '"usage"' in data:
                    self._spend(when, actor, _hex(subject), json.loads(data))
            elif kind.startswith("board."):
                self._limit(when, json.loads(data))
            else:
                self._card(when, kind, _hex(subject), json.loads(data))

    def _card(self, at: float, kind: str, subject: str, data: dict[str, Any]) -> None:
        story = self._by_id.get(subject) or self._begin(at, subject, data)
        state, column = data.get("state"), data.get("column", "")
        if state and (not story.stays or (state, column) != story.stays[-1][1:]):
            story.stays.append(Stay(at, state, column))
        if "goal" in data and (not story.goals or data["goal"] != story.goals[-1][1]):
            story.goals.append((at, data["goal"]))
        if "labels" in data:
            story.labels.append((at, tuple(data["labels"])))
        if data.get("title"):
            story.titles.append((at, data["title"]))
        if kind == "card.claimed":
            attempt = Try(data["attempt"], data.get("worker", ""), at)
            story.tries.append(attempt)
            self._live[story.index] = attempt
        elif kind == "attempt.reinstated" and story.tries:
            self._live[story.index] = attempt = story.tries[-1]
            attempt.lapses.append((attempt.ended_at or at, at))
            attempt.ended_at, attempt.ending = None, "running"
        ending = ENDINGS.get(kind) or ("cancelled" if data.get("revoked") else None)
        if ending is not None:
            over = self._live.pop(story.index, None)
            if over is not None:
                over.ended_at, over.ending = at, ending
        if kind in ("card.archived", "card.restored"):
            story.archived.append((at, kind == "card.archived"))
        elif kind == "card.deleted":
            story.deleted_at = at
        self._place(at, story)

    def _begin(self, at: float, subject: str, data: dict[str, Any]) -> Story:
        key = data.get("card", "")
        story = Story(len(self.cards), subject, key, at)
        if "state" not in data:
            story.stays.append(Stay(at, "backlog", ""))
        self.cards.append(story)
        self._by_id[subject] = story
        return story

    def _place(self, at: float, story: Story) -> None:
        place = story.stays[-1].state
        hidden = story.archived and story.archived[-1][1] and place != "completed"
        if hidden or place == "cancelled" or story.is_deleted(at):
            place = ""
        if self._places.get(story.index, "") != place:
            self._places[story.index] = place
            self.moves.append(Move(at, story.index, place))

    def _spend(self, at: float, actor: str, subject: str, data: dict[str, Any]) -> None:
        story, used = self._by_id.get(subject), data.get("usage")
        if story is None or not isinstance(used, dict):
            return
        self.spent.append(
            Spent(
                at,
                story.index,
                data.get("attempt") or 0,
                actor.partition(":")[2] or actor,
                used.get("model") or "",
                used.get("input_tokens") or 0,
                used.get("output_tokens") or 0,
                round(float(used.get("cost_usd") or 0) * 1_000_000),
            )
        )

    def _limit(self, at: float, data: dict[str, Any]) -> None:
        if "columns" in data:
            limits = [c["wip_limit"] for c in data["columns"] if c["kind"] == "in_progress"]
            whole = None if None in limits or not limits else sum(limits)
            self.limits.append((at, whole))

    def _file_the_unfiled(self) -> None:
        """Give cards whose events tell neither goal nor labels those that they have today."""
        new, self._filed = self.cards[self._filed :], len(self.cards)
        unfiled = {s.id: s for s in new if not s.goals or not s.labels}
        if not unfiled:
            return
        today = Card.objects.filter(board_id=self.board_id).values_list("pk", "goal", "labels")
        for pk, goal, labels in today:
            story = unfiled.pop(pk.hex, None)
            if story is not None:
                story.goals[:0] = [(story.created_at, str(goal) if goal else None)]
                story.labels[:0] = [(story.created_at, tuple(labels))]
        for story in unfiled.values():  # deleted since
            story.goals[:0] = [(story.created_at, None)]
            story.labels[:0] = [(story.created_at, ())]


def _seconds(at: Any) -> float:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return float((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _hex(subject: Any) -> str:
    return subject if isinstance(subject, str) else str(subject.hex)


# ── keeping ──────────────────────────────────────────────────────────────────────────────

_kept: OrderedDict[UUID, Ledger] = OrderedDict()
_keeping = threading.Lock()


@contextmanager
def of_board(board_id: UUID) -> Iterator[Ledger]:
    """Give the board's ledger, caught up with the log, to this thread alone.

    What was folded once is kept in the process, so another look costs what has been recorded
    since. A log that is no longer the one that was folded, as after restoring a backup, is
    folded afresh.
    """
    with _keeping:
        ledger = _kept.pop(board_id, None) or Ledger(board_id)
        _kept[board_id] = ledger
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    with ledger.lock:
        if not ledger.holds():
            ledger.clear()
        ledger.catch_up()
        yield ledger
