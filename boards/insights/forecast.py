"""When the remaining work will be done, by Monte Carlo from past throughput.

The model is the field's usual one (Vacanti, *When Will It Be Done?*): the future resembles the
sampled past, and how many cards finish on one day says nothing of the next. Each trial draws
past days at random, with replacement, until they have finished what remains.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

TRIALS = 10_000
PERCENTILES = (50, 85, 95)
#: Fewer past periods, or fewer finished cards in them, say too little.
LEAST_PERIODS = 10
LEAST_FINISHED = 10
#: A trial that gets so far without an end is counted as never.
HORIZON = 5_000
_MOST_DRAWS = 3_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """After how many periods the remaining cards are done, in that share of the trials.

    ``after`` maps each of PERCENTILES to a number of periods, or to None past the horizon; it
    is empty where ``short`` says, in a word, why nothing can be told.
    """

    remaining: int
    sampled: int
    finished: int
    block: int
    after: dict[int, int | None]
    short: str = ""


def forecast(remaining: int, history: Sequence[int], seed: str) -> Forecast:
    """Return when ``remaining`` cards are done if the future resembles ``history``.

    ``history`` counts the cards finished in each past period, the last one first or last: the
    order does not matter. The same arguments give the same answer.
    """
    sampled, finished = len(history), sum(history)
    if not remaining:
        return Forecast(0, sampled, finished, 1, {}, "done")
    if sampled < LEAST_PERIODS or finished < LEAST_FINISHED:
        return Forecast(remaining, sampled, finished, 1, {}, "history")
    chance = random.Random(seed)
    # Far goals are drawn in runs of neighbouring periods, so that a trial stays short.
    expected = remaining * sampled / finished
    block = max(1, min(sampled // 4, int(expected * TRIALS / _MOST_DRAWS) + 1))
    sums = [sum(history[n : n + block]) for n in range(sampled - block + 1)]
    if not any(sums):
        return Forecast(remaining, sampled, finished, block, {}, "history")
    first = int(1.3 * expected / block) + 4
    ends = sorted(_trial(remaining, sums, chance, first) for _ in range(TRIALS))
    after: dict[int, int | None] = {}
    for percent in PERCENTILES:
        end = ends[-(-TRIALS * percent // 100) - 1] * block
        after[percent] = end if end < HORIZON else None
    return Forecast(remaining, sampled, finished, block, after)


def _trial(remaining: int, sums: list[int], chance: random.Random, draws: int) -> int:
    """Return how many draws one trial takes to finish ``remaining`` cards."""
    taken = done = 0
    while taken < HORIZON:
        totals = list(accumulate(chance.choices(sums, k=draws), initial=done))
        if totals[-1] >= remaining:
            return taken + bisect_left(totals, remaining)
        taken, done = taken + draws, totals[-1]
    return HORIZON
