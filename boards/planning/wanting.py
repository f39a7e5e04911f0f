"""New requirements that no plan knows of yet, and what is being done about that."""

from __future__ import annotations

from dataclasses import dataclass

from boards.models import Card
from boards.planning.models import Plan, unplanned
from goals.models import Discovery, Goal

#: Requirements that are named.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Replanning:
    """Why a goal is to be planned again, and the plan or the card that sees to it already."""

    requirements: list[Discovery]
    plan: Plan | None
    card: Card | None


def of(goal: Goal) -> Replanning | None:
    """Return why an active goal is to be planned again; None, in one statement, if it is not."""
    if goal.status != Goal.Status.ACTIVE:
        return None
    found = list(unplanned().filter(goal=goal).order_by("at")[:NAMED])
    if not found:
        return None
    since = found[0].at
    plans = Plan.objects.filter(goal=goal, status=Plan.Status.OPEN, created_at__gte=since)
    cards = Card.objects.filter(goal=goal, inputs__planning=True, created_at__gte=since)
    cards = cards.exclude(state__in=[Card.State.COMPLETED, Card.State.CANCELLED])
    return Replanning(
        found, plans.order_by("-number").first(), cards.order_by("-number").only("key").first()
    )
