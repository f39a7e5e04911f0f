"""What an active goal lacks that nothing under way will bring: cards, cover, proof.

People of the board are told of it once, see ``boards.notices.raising``; the page of the goal and
the API say so as long as it is true.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from boards.models import Card
from boards.planning.models import Plan
from boards.progress import Progress
from goals.models import Criterion, Goal

State = Card.State
#: Criteria that a sentence names, and of each so many letters.
NAMED, LETTERS = 3, 80


class Kind(StrEnum):
    """What is missing."""

    CARDS = "cards"
    PLAN = "plan"  # there is one, and nothing is made of it
    PROOF = "proof"  # all cards are done
    CRITERIA = "criteria"  # all cards are done, and there are none
    COVER = "cover"  # cards say what they cover, and none covers these criteria


@dataclass(frozen=True, slots=True)
class Missing:
    """What a goal lacks; ``criteria`` are those that nothing shows or covers."""

    kind: Kind
    criteria: tuple[Criterion, ...] = ()
    plan: Plan | None = None

    def __str__(self) -> str:
        """Say it in a sentence or two, with the next step."""
        if self.kind == Kind.CARDS:
            return _("No card works towards it. Plan it, or add a card.")
        if self.kind == Kind.PLAN:
            assert self.plan is not None
            n = self.plan.number
            return _("No card works towards it: plan {n} waits to be reviewed.").format(n=n)
        if self.kind == Kind.CRITERIA:
            return _(
                "All of its cards are done, and no criterion says how to tell that it is. Call it"
                " achieved, or say what is missing."
            )
        n = len(self.criteria)
        if self.kind == Kind.PROOF:
            words = ngettext(
                "All of its cards are done, but nothing shows that criterion {which} is met."
                " Check it, say so, or plan what is missing.",
                "All of its cards are done, but nothing shows that criteria {which} are met."
                " Check them, say so, or plan what is missing.",
                n,
            )
        else:
            words = ngettext(
                "No card covers criterion {which}.", "No card covers criteria {which}.", n
            )
        return words.format(which=self._which())

    def _which(self) -> str:
        named = [f"{c.number} ({_short(c.text)})" for c in self.criteria[:NAMED]]
        rest = len(self.criteria) - len(named)
        return ", ".join(named) + (_(" and {n} more").format(n=rest) if rest else "")

    def as_json(self) -> dict[str, Any]:
        """Return it as the API has it."""
        return {
            "kind": self.kind,
            "text": str(self),
            "criteria": [c.number for c in self.criteria],
            "plan": str(self.plan.pk) if self.plan else None,
        }


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]}…"


def of(goals: Collection[Progress]) -> dict[UUID, Missing]:
    """Return what each of the goals lacks, of those that do, in at most four statements for all.

    A goal with an active one below it is left to that; one that is met, to people.
    """
    asked = {
        p.goal.pk: p for p in goals if p.goal.status == Goal.Status.ACTIVE and p.goal.met_at is None
    }
    if not asked:
        return {}
    below = Goal.objects.filter(parent=OuterRef("pk"), status=Goal.Status.ACTIVE)
    plans = Plan.objects.filter(goal=OuterRef("pk"), status=Plan.Status.OPEN).order_by("-number")
    alone = Goal.objects.filter(~Exists(below), pk__in=asked)
    planned = dict(alone.values_list("pk", Subquery(plans.values("pk")[:1])))
    idle = {pk for pk in planned if asked[pk].total == asked[pk].done}
    waiting = Plan.objects.in_bulk([planned[pk] for pk in idle if planned[pk]])
    covered = _covered(planned.keys() - idle)
    unmet = _unmet({pk for pk in idle if asked[pk].total} | covered.keys())
    found = {}
    for pk in planned:
        lacking = _of(asked[pk], unmet.get(pk, ()), covered.get(pk), waiting.get(planned[pk]))
        if lacking is not None:
            found[pk] = lacking
    return found


def _covered(goals: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return by goal the numbers that its cards say they cover, of goals whose cards say so."""
    found: dict[UUID, set[int]] = {}
    cards = Card.objects.filter(goal__in=goals, archived_at=None).exclude(covers=[])
    rows = cards.exclude(state=State.CANCELLED).values_list("goal", "covers")
    for goal, covers in rows if goals else ():
        if goal is not None:
            found.setdefault(goal, set()).update(covers)
    return found


def _unmet(goals: Collection[UUID]) -> dict[UUID, tuple[Criterion, ...]]:
    """Return the criteria that are not met, or not known to be, in their order by goal."""
    found: dict[UUID, tuple[Criterion, ...]] = {}
    rows = Criterion.objects.filter(goal__in=goals, retired_at=None).exclude(met=True)
    for criterion in rows.order_by("number").only("goal", "number", "text") if goals else ():
        found[criterion.goal_id] = (*found.get(criterion.goal_id, ()), criterion)
    return found


def _of(
    progress: Progress, unmet: tuple[Criterion, ...], covered: set[int] | None, plan: Plan | None
) -> Missing | None:
    if progress.total > progress.done:
        if covered is None:
            return None  # its cards do not say what they are for
        bare = tuple(c for c in unmet if c.number not in covered)
        return Missing(Kind.COVER, bare) if bare else None
    if plan is not None:
        return Missing(Kind.PLAN, plan=plan)
    if not progress.total:
        return Missing(Kind.CARDS)
    if unmet:
        return Missing(Kind.PROOF, unmet)
    return None if progress.criteria else Missing(Kind.CRITERIA)
