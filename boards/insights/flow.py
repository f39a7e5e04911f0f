"""Flow metrics of a board at an instant, counted from its ledger.

The terms are those of Vacanti, *Actionable Agile Metrics for Predictability*:

* **lead time** runs from a card's creation, **cycle time** from the first time it left the
  backlog, both until it was completed;
* **throughput** is how many cards were completed in a stretch of time;
* **work in progress** is what left the backlog and is not completed: waiting for a worker,
  running, blocked, in review; its **age** is the time since it left the backlog;
* **Little's law** ties them together: over a stretch in which the board is stable, average
  work in progress is average throughput times average cycle time.

Percentiles are by nearest rank: the 85th is the smallest value that 85 % don't exceed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID

from boards.insights.fold import IN_PROGRESS, Ledger, Story
from boards.insights.forecast import Forecast, forecast

HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0
PLACES = ("backlog", *IN_PROGRESS, "completed")
ENDINGS = ("succeeded", "failed", "expired", "released", "cancelled")
PERCENTILES = (50, 85, 95)
#: The forecast looks back so many days, or so many hours on a young board.
LOOK_BACK = 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cards count, over which stretch of time, and on whose calendar."""

    until: datetime
    since: datetime | None = None
    goal: UUID | None = None
    label: str = ""
    worker: str = ""
    zone: tzinfo = UTC


@dataclass(slots=True)
class Bin:
    """A stretch of time and what happened in it, by name."""

    begin: float
    end: float
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def total(self) -> float:
        """The sum over all names."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Sample:
    """How many cards were in each place at an instant, and how many were allowed in progress."""

    at: float
    counts: dict[str, int]
    limit: int | None

    @property
    def in_progress(self) -> int:
        """The work in progress."""
        return sum(self.counts.get(state, 0) for state in IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Finished:
    """A completed card. Durations in seconds; ``waited`` is time blocked or in review."""

    key: str
    title: str
    at: float
    cycle: float
    lead: float
    attempts: int
    waited: float
    usd: float


@dataclass(frozen=True, slots=True)
class Aged:
    """A card in progress; ``band`` is 0 below the 50th percentile, 1 up to the 85th, 2 above."""

    key: str
    title: str
    state: str
    age: float
    here: float
    band: int


@dataclass(slots=True)
class Costs:
    """What was used under one name."""

    name: str
    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cards: int = 0


@dataclass(frozen=True, slots=True)
class Little:
    """Both sides of Little's law over the stretch: cards, cards a day, days."""

    in_progress: float
    throughput: float
    cycle: float

    @property
    def product(self) -> float:
        """What the work in progress would be were the board stable."""
        return self.throughput * self.cycle


@dataclass(slots=True)
class Report:
    """A board's figures over a stretch of time, as they were known at its end."""

    since: float
    until: float
    step: float
    samples: list[Sample]
    finished: list[Finished]
    throughput: list[Bin]
    waiting: list[Bin]
    attempts: list[Bin]
    ageing: list[Aged]
    bands: dict[str, tuple[float, float]]
    cycle: dict[int, float]
    lead: dict[int, float]
    costs: dict[str, list[Costs]]
    little: Little | None
    forecast: Forecast
    forecast_step: float
    before: Before

    @property
    def usd(self) -> float:
        """What was spent in the stretch."""
        return sum(c.usd for c in self.costs["worker"])

    @property
    def ended(self) -> dict[str, int]:
        """How many attempts ended in the stretch, by how."""
        return {e: int(sum(b.counts.get(e, 0) for b in self.attempts)) for e in ENDINGS}

    @property
    def failure_rate(self) -> float | None:
        """The share of attempts that failed or lost their lease, of those not cancelled."""
        ended = self.ended
        tried = sum(ended.values()) - ended["cancelled"]
        return (ended["failed"] + ended["expired"]) / tried if tried else None

    @property
    def retry_rate(self) -> float | None:
        """The share of finished cards that took more than one attempt, of those with any."""
        return _share(self.finished, lambda card: card.attempts > 1)

    @property
    def first_rate(self) -> float | None:
        """The share of finished cards that one attempt sufficed for, of those with any."""
        return _share(self.finished, lambda card: card.attempts == 1)


@dataclass(frozen=True, slots=True)
class Before:
    """The same figures for the stretch of the same length before, to compare with."""

    finished: int
    cycle: float | None
    waited: float | None


def report(ledger: Ledger, wanted: Wanted) -> Report:
    """Return the figures of the board as they were known at ``wanted.until``."""
    until = wanted.until.timestamp()
    begun = ledger.first_at if ledger.first_at is not None else until
    asked = wanted.since.timestamp() if wanted.since else begun
    since = min(max(asked, begun), until)
    step = step_of(until - since)
    edges = boundaries(since, until, step, wanted.zone)
    cards = _scope(ledger, wanted, until)
    finished = sorted(_finished(ledger, cards, until), key=lambda f: f.at)
    recent = [f for f in finished if since <= f.at <= until]
    samples = _samples(ledger, cards, [*edges, until])
    cycles = [f.cycle for f in recent]
    bands = _bands(cards, since, until)
    back = max(0.0, since - (until - since))
    previous = [f for f in finished if back <= f.at < since] if asked > begun else []
    remaining = sum(samples[-1].counts.get(p, 0) for p in PLACES[:-1])
    unit = DAY if until - begun >= LEAST_DAYS * DAY else HOUR
    return Report(
        since,
        until,
        step,
        samples,
        recent,
        _throughput(recent, edges, until),
        _waiting(cards, edges, until),
        _attempts(cards, edges, until, wanted.worker),
        _ageing(cards, bands, until),
        bands,
        {p: percentile(cycles, p) for p in PERCENTILES} if cycles else {},
        {p: percentile([f.lead for f in recent], p) for p in PERCENTILES} if recent else {},
        _costs(ledger, cards, since, until, wanted.worker),
        _little(ledger, cards, recent, since, until),
        forecast(
            remaining,
            _history(finished, max(begun, until - LOOK_BACK * unit), until, unit),
            f"{ledger.board_id}:{remaining}:{len(finished)}:{wanted.goal}:{wanted.label}",
        ),
        unit,
        Before(
            len(previous),
            percentile([f.cycle for f in previous], 50) if previous else None,
            percentile([f.waited for f in previous], 50) if previous else None,
        ),
    )


#: A board younger than this is forecast by the hour.
LEAST_DAYS = 10


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of values, of which there is at least one."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


def step_of(length: float) -> float:
    """Return the width of a chart's bins: a quarter of an hour up to a week."""
    if length <= 6 * HOUR:
        return HOUR / 4
    if length <= 2 * DAY:
        return HOUR
    return DAY if length <= 70 * DAY else WEEK


def boundaries(since: float, until: float, step: float, zone: tzinfo) -> list[float]:
    """Return where the bins begin: ``since``, then each full hour, midnight or Monday.

    Days and weeks are those of the zone, so one may have 23 or 25 hours.
    """
    edges = [since]
    if step < DAY:
        first = math.floor(since / step) + 1
        last = math.ceil(until / step)
        return [since, *(n * step for n in range(first, last) if since < n * step < until)]
    day = datetime.fromtimestamp(since, zone).date()
    while True:
        day += timedelta(days=1)
        if step == WEEK and day.weekday():
            continue
        edge = datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
        if edge >= until:
            return edges
        if edge > since:
            edges.append(edge)


def _scope(ledger: Ledger, wanted: Wanted, until: float) -> list[Story]:
    """Return the cards that count: goal and labels are those that they had last."""
    found = []
    goal = str(wanted.goal) if wanted.goal else None
    for card in ledger.cards:
        if card.created_at > until:
            break
        if goal and card.goal(until) != goal:
            continue
        if wanted.label and wanted.label not in card.labelled(until):
            continue
        if wanted.worker and not any(
            t.worker == wanted.worker and t.started_at <= until for t in card.tries
        ):
            continue
        found.append(card)
    return found


def _finished(ledger: Ledger, cards: Iterable[Story], until: float) -> Iterable[Finished]:
    micro: dict[int, int] = defaultdict(int)
    for spent in ledger.spent:
        if spent.at <= until:
            micro[spent.card] += spent.micro_usd
    for card in cards:
        at = card.finished_at(until)
        if at is None:
            continue
        started = card.started_at(until)
        waited = sum(
            end - begin for state, begin, end in card.spans(at) if state in ("blocked", "review")
        )
        yield Finished(
            card.key,
            card.title(until),
            at,
            at - (started if started is not None else at),
            at - card.created_at,
            sum(1 for t in card.tries if t.started_at <= at),
            waited,
            micro[card.index] / 1_000_000,
        )


def _samples(ledger: Ledger, cards: list[Story], instants: list[float]) -> list[Sample]:
    """Count the cards in each place at each instant, in one sweep over the moves."""
    whole = len(cards) == len(ledger.cards)
    counted = set() if whole else {card.index for card in cards}
    counts: dict[str, int] = defaultdict(int)
    places: dict[int, str] = {}
    samples, moves, n = [], ledger.moves, 0
    for at in instants:
        while n < len(moves) and moves[n].at <= at:
            move, n = moves[n], n + 1
            if whole or move.card in counted:
                counts[places.get(move.card, "")] -= 1
                counts[move.place] += 1
                places[move.card] = move.place
        limit = bisect_right(ledger.limits, at, key=lambda entry: entry[0])
        samples.append(
            Sample(
                at,
                {place: counts.get(place, 0) for place in PLACES},
                ledger.limits[limit - 1][1] if limit else None,
            )
        )
    return samples


def _bins(edges: list[float], until: float) -> list[Bin]:
    return [Bin(begin, end) for begin, end in zip(edges, [*edges[1:], until], strict=True)]


def _throughput(finished: Iterable[Finished], edges: list[float], until: float) -> list[Bin]:
    bins = _bins(edges, until)
    for card in finished:
        name = "by hand" if not card.attempts else "first" if card.attempts == 1 else "more"
        bins[bisect_right(edges, card.at) - 1].counts[name] += 1
    return bins


def _waiting(cards: Iterable[Story], edges: list[float], until: float) -> list[Bin]:
    """Sum the time that cards were blocked or in review, in each bin."""
    bins = _bins(edges, until)
    for card in cards:
        for state, begin, end in card.spans(until):
            if state not in ("blocked", "review") or end <= edges[0]:
                continue
            for n in range(max(0, bisect_right(edges, begin) - 1), len(bins)):
                if bins[n].begin >= end:
                    break
                shared = min(end, bins[n].end) - max(begin, bins[n].begin)
                bins[n].counts[state] += max(0.0, shared)
    return bins


def _attempts(cards: Iterable[Story], edges: list[float], until: float, worker: str) -> list[Bin]:
    bins = _bins(edges, until)
    for card in cards:
        for attempt in card.tries:
            at = attempt.ended_at
            if at is None or not edges[0] <= at <= until:
                continue
            if not worker or attempt.worker == worker:
                bins[bisect_right(edges, at) - 1].counts[attempt.ending] += 1
    return bins


def _bands(cards: Iterable[Story], since: float, until: float) -> dict[str, tuple[float, float]]:
    """Return, by state, at which age half and 85 % of the finished cards had left it."""
    ages: dict[str, list[float]] = defaultdict(list)
    for card in cards:
        at = card.finished_at(until)
        started = card.started_at(until)
        if at is None or started is None or at < since:
            continue
        left = {state: end for state, _, end in card.spans(at) if state in IN_PROGRESS}
        for state, end in left.items():
            ages[state].append(end - started)
    return {s: (percentile(v, 50), percentile(v, 85)) for s, v in ages.items()}


def _ageing(
    cards: Iterable[Story], bands: dict[str, tuple[float, float]], until: float
) -> list[Aged]:
    found = []
    for card in cards:
        standing = card.standing(until)
        if standing is None or standing.archived or standing.state not in IN_PROGRESS:
            continue
        started = card.started_at(until)
        assert started is not None  # it left the backlog
        age = until - started
        half, most = bands.get(standing.state, (math.inf, math.inf))
        found.append(
            Aged(
                card.key,
                card.title(until),
                standing.state,
                age,
                until - card.entered_at(until),
                0 if age <= half else 1 if age <= most else 2,
            )
        )
    return sorted(found, key=lambda a: (IN_PROGRESS.index(a.state), -a.age))


def _costs(
    ledger: Ledger, cards: list[Story], since: float, until: float, worker: str
) -> dict[str, list[Costs]]:
    """Sum what was used in the stretch by goal, worker and model, the dearest first."""
    stories = {card.index: card for card in cards}
    sums: dict[str, dict[str, Costs]] = {"goal": {}, "worker": {}, "model": {}}
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    for spent in ledger.spent:
        if not since <= spent.at <= until or (worker and spent.worker != worker):
            continue
        card = stories.get(spent.card)
        if card is None:
            continue
        for kind, name in (
            ("goal", card.goal(until) or ""),
            ("worker", spent.worker),
            ("model", spent.model),
        ):
            costs = sums[kind].setdefault(name, Costs(name))
            costs.usd += spent.micro_usd / 1_000_000
            costs.input_tokens += spent.input_tokens
            costs.output_tokens += spent.output_tokens
            seen[kind, name].add(spent.card)
    for kind, by_name in sums.items():
        for name, costs in by_name.items():
            costs.usd = round(costs.usd, 6)
            costs.cards = len(seen[kind, name])
    return {
        kind: sorted(by_name.values(), key=lambda c: (-c.usd, -c.input_tokens, c.name))
        for kind, by_name in sums.items()
    }


def _little(
    ledger: Ledger, cards: list[Story], finished: list[Finished], since: float, until: float
) -> Little | None:
    """Return both sides of Little's law; None where nothing was finished."""
    length = until - since
    if not finished or length <= 0:
        return None
    busy = 0.0  # card-seconds in progress
    for card in cards:
        for state, begin, end in card.spans(until):
            if state in IN_PROGRESS:
                busy += max(0.0, end - max(begin, since))
    return Little(
        busy / length,
        len(finished) / (length / DAY),
        sum(f.cycle for f in finished) / len(finished) / DAY,
    )


def _history(finished: Iterable[Finished], since: float, until: float, unit: float) -> list[int]:
    """Count the cards finished in each full unit of time before ``until``."""
    counts = [0] * int((until - since) / unit)
    for card in finished:
        back = int((until - card.at) / unit)
        if back < len(counts):
            counts[back] += 1
    return counts


def _share(finished: Iterable[Finished], wanted: Callable[[Finished], bool]) -> float | None:
    tried = [card for card in finished if card.attempts]
    return sum(1 for card in tried if wanted(card)) / len(tried) if tried else None
