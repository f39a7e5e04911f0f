"""What an active goal lacks that nothing under way will bring: cards, cover, proof.

People of the board are told of it once, see ``boards.notices.raising``; the page of the goal and
the API say so as long as it is true.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from boards.models import Card
from boards.planning.models import Plan
from boards.progress import Progress
from goals import rewording
from goals.models import Criterion, Goal

State = Card.State
#: Criteria that a sentence names, and of each so many letters.
NAMED, LETTERS = 3, 80
#: Cards that it names.
KEYS = 5


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
    #: Cards for an earlier text of one of the criteria, by its number: they may still serve.
    earlier: tuple[tuple[str, int], ...] = ()

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
        return words.format(which=self._which()) + self._earlier()

    def _earlier(self) -> str:
        """Say which cards were for another text, and what to do about it."""
        if not self.earlier:
            return ""
        keys = list(dict.fromkeys(key for key, _number in self.earlier))
        numbers = sorted({number for _key, number in self.earlier})
        rest = len(keys) - KEYS
        told = ", ".join(keys[:KEYS]) + (_(" and {n} more").format(n=rest) if rest > 0 else "")
        words = ngettext(
            " {keys} was for an earlier text of {numbers}: if it still serves, say so at the card.",
            " {keys} were for an earlier text of {numbers}: where one still serves, say so at the"
            " card.",
            len(keys),
        )
        return words.format(keys=told, numbers=", ".join(map(str, numbers)))

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
            "earlier": [{"card": key, "criterion": number} for key, number in self.earlier],
        }


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]}…"


def of(goals: Collection[Progress]) -> dict[UUID, Missing]:
    """Return what each of the goals lacks, of those that do, in at most five statements for all.

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
    covers = _covers(planned.keys() - idle)
    unmet = _unmet({pk for pk in idle if asked[pk].total} | covers.keys())
    found = {}
    for pk in planned:
        lacking = _of(asked[pk], unmet.get(pk, ()), covers.get(pk), waiting.get(planned[pk]))
        if lacking is not None:
            found[pk] = lacking
    return found | _with_earlier(found, covers)


def _covers(goals: Collection[UUID]) -> dict[UUID, list[tuple[str, list[int]]]]:
    """Return by goal the keys of its cards with the numbers that each says it covers, of goals
    whose cards say so."""
    found: dict[UUID, list[tuple[str, list[int]]]] = {}
    cards = Card.objects.filter(goal__in=goals, archived_at=None).exclude(covers=[])
    cards = cards.exclude(state=State.CANCELLED).order_by("number")
    for goal, key, covers in cards.values_list("goal", "key", "covers") if goals else ():
        if goal is not None:
            found.setdefault(goal, []).append((key, covers))
    return found


def _unmet(goals: Collection[UUID]) -> dict[UUID, tuple[Criterion, ...]]:
    """Return the criteria that are not met, or not known to be, in their order by goal."""
    found: dict[UUID, tuple[Criterion, ...]] = {}
    rows = Criterion.objects.filter(goal__in=goals, retired_at=None).exclude(met=True)
    fields = ("goal", "number", "text", "replaces")
    for criterion in rows.order_by("number").only(*fields) if goals else ():
        found[criterion.goal_id] = (*found.get(criterion.goal_id, ()), criterion)
    return found


def _of(
    progress: Progress,
    unmet: tuple[Criterion, ...],
    covers: list[tuple[str, list[int]]] | None,
    plan: Plan | None,
) -> Missing | None:
    if progress.total > progress.done:
        if covers is None:
            return None  # its cards do not say what they are for
        covered = {number for _key, numbers in covers for number in numbers}
        bare = tuple(c for c in unmet if c.number not in covered)
        return Missing(Kind.COVER, bare) if bare else None
    if plan is not None:
        return Missing(Kind.PLAN, plan=plan)
    if not progress.total:
        return Missing(Kind.CARDS)
    if unmet:
        return Missing(Kind.PROOF, unmet)
    return None if progress.criteria else Missing(Kind.CRITERIA)


def _with_earlier(
    found: Mapping[UUID, Missing], covers: Mapping[UUID, list[tuple[str, list[int]]]]
) -> dict[UUID, Missing]:
    """Return what of this lacks cover for a reworded criterion, with the cards that were for
    another text of it, in one statement for all of them."""
    bare = {pk: lacking for pk, lacking in found.items() if lacking.kind == Kind.COVER}
    texts: dict[UUID, list[rewording.Row]] = {}
    rows = Criterion.objects.filter(goal__in=bare.keys()).order_by()
    fields = ("goal", "number", "replaces", "retired_at")
    for pk, number, replaces, retired_at in rows.values_list(*fields) if bare else ():
        texts.setdefault(pk, []).append((number, replaces, retired_at))
    told = {}
    for pk, lacking in bare.items():
        lacks, now = {c.number for c in lacking.criteria}, rewording.now(texts[pk])
        earlier = [
            (key, number)
            for key, numbers in covers[pk]
            for number in sorted({now[n] for n in numbers if n in now} & lacks)
        ]
        told[pk] = replace(lacking, earlier=tuple(earlier))
    return told
