"""Who works on a board, what they hold and how they have done: what the workers' pages show.

What workers have done is told by the log, see ``boards.insights.fold``; what they hold this
moment by their attempts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from boards.insights import fold
from boards.insights.fold import Ledger, Try
from boards.models import Attempt, Board, Membership
from checkpoints import selectors
from events import log
from events.models import Event
from workers.models import Worker

#: Workers that a page lists; whoever was seen longest ago is left out first.
MOST = 60
LAST_ATTEMPTS = 20
ATTEMPTS_SHOWN = 200
#: The signs of life that a page draws: so many minutes, one bar for each.
MINUTES = 30
#: Events that are looked through for signs of life.
REACH = 5_000


@dataclass(slots=True)
class Held:
    """A card that a worker has now, and what it does with it."""

    attempt: Attempt
    now: str
    tape: str

    @property
    def lease_left(self) -> timedelta:
        """How long until the lease lapses, nothing if it has."""
        return max(self.attempt.lease_expires_at - timezone.now(), timedelta(0))


@dataclass(slots=True)
class Past:
    """An attempt of a worker as the log tells it; ``seconds`` up to now if it still runs."""

    key: str
    title: str
    number: int
    started_at: datetime
    seconds: float
    status: str
    usd: float
    tokens: int


@dataclass(slots=True)
class Entry:
    """One worker of the board, under the name it goes by there."""

    name: str
    kinds: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    held: list[Held] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    attempts: int = 0
    cards: int = 0
    usd: float = 0.0
    tokens: int = 0
    firsts: int = 0
    firsts_done: int = 0
    workers: list[Worker] = field(default_factory=list)
    steered: bool = False  # the reader may drain it
    signs: list[int] = field(default_factory=lambda: [0] * MINUTES)

    @property
    def draining(self) -> bool:
        """True if it begins nothing until it is let again."""
        return any(worker.draining for worker in self.workers)

    @property
    def last(self) -> list[Past]:
        """The last attempts, the oldest first, as a tape is read."""
        return self.past[:LAST_ATTEMPTS][::-1]

    @property
    def first_rate(self) -> int | None:
        """How many in a hundred of the first attempts that it made at a card succeeded."""
        return round(100 * self.firsts_done / self.firsts) if self.firsts else None

    @property
    def heights(self) -> list[tuple[int, int, int]]:
        """The signs of life as bars of a drawing 30 × 10: place, top and height."""
        most = max(self.signs)
        bars = ((n, -(-10 * count // most)) for n, count in enumerate(self.signs) if count)
        return [(n, 10 - height, height) for n, height in bars]


def roster(board: Board, name: str | None = None) -> tuple[list[Entry], int]:
    """Return the board's workers, or those of that name, and how many more there are.

    Those who hold cards come first, then who was seen last. The number of statements is the
    same for every board.
    """
    entries: dict[str, Entry] = {}
    for worker in _known(board, name):
        entry = entries.setdefault(worker.name, Entry(worker.name))
        entry.workers.append(worker)
        entry.kinds = sorted({*entry.kinds, worker.kind})
        entry.capabilities = sorted({*entry.capabilities, *worker.capabilities})
        entry.first_seen_at = min(entry.first_seen_at or worker.first_seen_at, worker.first_seen_at)
        entry.last_seen_at = max(entry.last_seen_at or worker.last_seen_at, worker.last_seen_at)
    with fold.of_board(board.pk) as ledger:
        _tell_past(ledger, entries, name)
    _tell_held(board, entries, name)
    found = sorted(entries.values(), key=_order)
    kept = found[:MOST]
    _tell_signs(board, {entry.name: entry for entry in kept})
    return kept, len(found) - len(kept)


def _order(entry: Entry) -> tuple[bool, float, str]:
    seen = entry.last_seen_at.timestamp() if entry.last_seen_at else 0.0
    return not entry.held, -seen, entry.name


def _known(board: Board, name: str | None) -> list[Worker]:
    """Return whoever may claim the board's cards and has called: its own, and the built-in."""
    members = Membership.objects.filter(board=board, token__isnull=False).values("token_id")
    here = Q(token=None) | Q(token__everywhere__isnull=False) | Q(token_id__in=members)
    workers = Worker.objects.filter(here, *([Q(name=name)] if name is not None else []))
    return list(workers.order_by("-last_seen_at")[: 2 * MOST])


def _tell_past(ledger: Ledger, entries: dict[str, Entry], name: str | None) -> None:
    now = timezone.now().timestamp()
    found: dict[str, list[tuple[Try, fold.Story]]] = defaultdict(list)
    for card in ledger.cards:
        for attempt in card.tries:
            if name is None or attempt.worker == name:
                found[attempt.worker].append((attempt, card))
    used: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for spent in ledger.spent:
        usd, tokens = used[spent.card, spent.attempt]
        more = spent.input_tokens + spent.output_tokens
        used[spent.card, spent.attempt] = (usd + spent.micro_usd, tokens + more)
    for worker, made in found.items():
        entry = entries.setdefault(worker, Entry(worker))
        made.sort(key=lambda pair: -pair[0].started_at)
        entry.attempts = len(made)
        entry.cards = len({card.index for _, card in made})
        first = [a for a, _ in made if a.number == 1 and a.ending not in ("running", "cancelled")]
        entry.firsts = len(first)
        entry.firsts_done = sum(1 for attempt in first if attempt.ending == "succeeded")
        latest = _instant(made[0][0].ended_at or made[0][0].started_at)
        entry.last_seen_at = max(entry.last_seen_at or latest, latest)
        entry.first_seen_at = entry.first_seen_at or _instant(made[-1][0].started_at)
        sums = [used[card.index, attempt.number] for attempt, card in made]
        entry.usd = sum(usd for usd, _ in sums) / 1_000_000
        entry.tokens = sum(tokens for _, tokens in sums)
        most = LAST_ATTEMPTS if name is None else ATTEMPTS_SHOWN
        entry.past = [
            Past(
                card.key,
                card.title(now),
                attempt.number,
                _instant(attempt.started_at),
                (attempt.ended_at or now) - attempt.started_at,
                attempt.ending,
                usd / 1_000_000,
                tokens,
            )
            for (attempt, card), (usd, tokens) in zip(made[:most], sums, strict=False)
        ]


def _tell_held(board: Board, entries: dict[str, Entry], name: str | None) -> None:
    live = Attempt.objects.live().filter(board=board).select_related("card").order_by("started_at")
    if name is not None:
        live = live.filter(worker=name)
    doing = selectors.activity(board)
    for attempt in live.defer("card__workflow", "card__description", "card__inputs"):
        entry = entries.setdefault(attempt.worker, Entry(attempt.worker))
        told = doing.get(str(attempt.card_id), {"now": "", "tape": ""})
        entry.held.append(Held(attempt, attempt.note or told["now"], told["tape"]))
        entry.last_seen_at = max(entry.last_seen_at or attempt.last_seen_at, attempt.last_seen_at)


def _tell_signs(board: Board, entries: dict[str, Entry]) -> None:
    """Count what each worker recorded, by minute. Heartbeats leave no trace but the last one."""
    now = timezone.now()
    since = now - timedelta(minutes=MINUTES)
    recent = Event.objects.of_board(board.pk).filter(seq__gt=log.last_seq(board.pk) - REACH)
    actors = [f"worker:{name}" for name in entries]
    rows = recent.filter(actor__in=actors, at__gt=since).values_list("actor", "at")
    for actor, at in rows:
        minute = MINUTES - 1 - int((now - at).total_seconds() // 60)
        entries[actor.removeprefix("worker:")].signs[max(0, min(minute, MINUTES - 1))] += 1


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
