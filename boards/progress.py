"""How far goals are, and what they have cost: for pages, the API and whoever asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, Q
from django.utils import timezone

from boards.models import Attempt, Card, Spending
from goals.models import Criterion, Goal

#: Goals of a board that are put in order as a tree.
GOALS_READ = 500


@dataclass(slots=True)
class Progress:
    """A goal with its cards by state, its criteria, and the goals below it."""

    goal: Goal
    states: dict[str, int] = field(default_factory=dict)
    criteria: int = 0
    met: int = 0
    below: list[Progress] = field(default_factory=list)
    depth: int = 0

    @property
    def total(self) -> int:
        """Cards of its own that count: all but the cancelled."""
        return sum(self.states.values()) - self.states.get(Card.State.CANCELLED, 0)

    @property
    def done(self) -> int:
        return self.states.get(Card.State.COMPLETED, 0)

    @property
    def percent(self) -> int:
        """How much of the cards of the goal and of those below it is done."""
        every = [self, *self.everything_below()]
        total = sum(p.total for p in every)
        return 100 * sum(p.done for p in every) // total if total else 0

    def everything_below(self) -> Iterable[Progress]:
        """Yield the goals below, each before those below it."""
        for child in self.below:
            yield child
            yield from child.everything_below()

    def as_json(self) -> dict[str, Any]:
        """Return it as the API has it, the goal's own cards alone."""
        return {
            "cards": self.total,
            "completed": self.done,
            "states": self.states,
            "criteria": self.criteria,
            "met": self.met,
        }


@dataclass(slots=True)
class Cost:
    """What the attempts at a goal's cards have used, live ones too."""

    cost_usd: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 0

    @property
    def minutes(self) -> int:
        return round(self.seconds / 60)

    def as_json(self) -> dict[str, Any]:
        return {
            "cost_usd": f"{self.cost_usd:f}",
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "seconds": round(self.seconds),
            "attempts": self.attempts,
        }


def of(goals: Collection[Goal]) -> dict[UUID, Progress]:
    """Return how far each goal is, in two statements for all of them."""
    found = {goal.pk: Progress(goal) for goal in goals}
    cards = Card.objects.filter(goal__in=list(found), archived_at=None)
    for goal, state, n in cards.values_list("goal", "state").annotate(n=Count("pk")).order_by():
        found[goal].states[state] = n
    criteria = Criterion.objects.filter(goal__in=list(found), retired_at=None)
    counts = criteria.values_list("goal").annotate(n=Count("pk"), met=Count("pk", Q(met=True)))
    for goal, n, met in counts.order_by():
        found[goal].criteria, found[goal].met = n, met
    return found


def tree(board_id: UUID) -> list[Progress]:
    """Return the board's goals, those below none first, each with those below it.

    Active ones come first, then the newest; a goal whose parent is not read stands by itself.
    """
    rank = {status: n for n, status in enumerate(Goal.Status.values)}
    goals = list(Goal.objects.filter(board_id=board_id).order_by("-pk")[:GOALS_READ])
    goals.sort(key=lambda goal: rank[goal.status])
    found = of(goals)
    tops: list[Progress] = []
    for progress in found.values():
        above = found.get(progress.goal.parent_id) if progress.goal.parent_id else None
        (above.below if above is not None else tops).append(progress)
    for top in tops:
        _deepen(top)
    return tops


def _deepen(top: Progress) -> None:
    for child in top.below:
        child.depth = top.depth + 1
        _deepen(child)


def flat(tops: Iterable[Progress]) -> list[Progress]:
    """Return the tree row by row."""
    return [row for top in tops for row in (top, *top.everything_below())]


def costs(goals: Collection[Goal]) -> dict[UUID, Cost]:
    """Return what each goal has cost so far, in two statements for all of them."""
    found = {goal.pk: Cost() for goal in goals}
    for row in Spending.objects.filter(owner_id__in=list(found)):
        found[row.owner_id] = Cost(
            row.cost_usd, row.input_tokens, row.output_tokens, row.seconds, row.attempts
        )
    now = timezone.now()
    names = ("card__goal", "cost_usd", "input_tokens", "output_tokens", "started_at")
    live = Attempt.objects.live().filter(card__goal__in=list(found))
    for goal, usd, read, written, began in live.values_list(*names):
        cost = found[goal]
        cost.cost_usd += usd
        cost.input_tokens += read
        cost.output_tokens += written
        cost.seconds += (now - began).total_seconds()
        cost.attempts += 1
    return found
