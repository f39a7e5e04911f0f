"""What a card is for, as its goal asks for it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from boards.models import Card
from goals import rewording
from goals.models import Criterion


@dataclass(frozen=True, slots=True)
class Covered:
    """The criteria that a card covers, by number."""

    now: list[int]
    #: What was reworded since: the number of then, and that of the text which stands.
    earlier: list[tuple[int, int]]
    #: What is not asked for any more.
    gone: list[int]
    #: True where the goal has criteria to choose from.
    offered: bool

    @property
    def meant(self) -> list[int]:
        """What it covers if it serves the newer texts, too."""
        return sorted({*self.now, *(stands for _was, stands in self.earlier)})


def of(card: Card, standing: Sequence[Criterion]) -> Covered:
    """Return what the card covers; ``standing`` are the criteria of its goal as they are asked
    for. One statement more where it covers what is not."""
    numbers, stands = sorted(set(card.covers)), {c.number: c.number for c in standing}
    if card.goal is not None and not stands.keys() >= set(numbers):
        stands = rewording.now(rewording.rows(card.goal.criteria.all()))
    now = [n for n in numbers if stands.get(n) == n]
    earlier = [(n, stands[n]) for n in numbers if stands.get(n, n) not in {n, *now}]
    gone = [n for n in numbers if n not in stands]
    return Covered(now, earlier, gone, offered=bool(standing))
