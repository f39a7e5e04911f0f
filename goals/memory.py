"""What a goal remembers: decisions, discoveries, amendments, failed approaches.

Everything here joins the caller's transaction when there is one, so that a checkpoint and
the decisions it carries are kept together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from events import log
from goals import criteria as proof
from goals import discoveries, rewording
from goals.decisions import decide as decide
from goals.discoveries import discover as discover
from goals.discoveries import heed_tests as heed_tests
from goals.discoveries import resolve as resolve
from goals.models import Amendment, Criterion, Decision, Discovery, Goal
from kernel.errors import Invalid, Stale
from kernel.tx import transition

#: What is changed as it is given.
PLAIN = (
    "title",
    "intent",
    "constraints",
    "budgets",
    "share",
    "max_running",
    "plans_first",
    "evidence_required",
    "achieves_itself",
    "check_every_seconds",
)


def create(
    board_id: UUID,
    actor: str,
    *,
    title: str,
    intent: str = "",
    constraints: Any = None,
    criteria: Sequence[Mapping[str, Any]] = (),
    parent: Goal | None = None,
    budgets: Mapping[str, Any] | None = None,
    share: int = 1,
    max_running: int | None = None,
    plans_first: bool = False,
    evidence_required: bool = False,
    achieves_itself: bool = False,
    check_every_seconds: int | None = None,
) -> Goal:
    """Return a new active goal with its criteria numbered from 1."""
    if parent is not None and parent.board_id != board_id:
        raise Invalid.field("parent", "is a goal of another board.")
    with transition():
        goal = Goal.objects.create(
            board_id=board_id,
            title=title,
            intent=intent,
            constraints=constraints if constraints is not None else [],
            parent=parent,
            budgets=dict(budgets or {}),
            share=share,
            max_running=max_running,
            plans_first=plans_first,
            evidence_required=evidence_required,
            achieves_itself=achieves_itself,
            check_every_seconds=check_every_seconds,
            check_due_at=timezone.now() if check_every_seconds else None,
            created_by=actor,
        )
        _add_criteria(goal, criteria, 0)
        proof.note(goal, "goal.created", actor)
    return goal


def edit(
    goal_id: UUID,
    actor: str,
    changes: Mapping[str, Any],
    *,
    reason: str = "",
    expected_version: int | None = None,
) -> Goal:
    """Return the goal with ``changes`` made.

    A change to what an active goal asks for is kept as an amendment, with its ``reason``. Raises
    Stale when ``expected_version`` is no longer current.
    """
    with transition():
        goal = Goal.objects.select_for_update(no_key=True, of=("self",)).get(pk=goal_id)
        check_version(goal, expected_version)
        before = asked_for(goal)
        for name in PLAIN:
            if name in changes:
                setattr(goal, name, changes[name])
        if "check_every_seconds" in changes or "status" in changes:
            goal.check_due_at = timezone.now() if goal.check_every_seconds else None
        if "parent" in changes:
            goal.parent = _parent(goal, changes["parent"])
        if "criteria" in changes:
            replace_criteria(goal, changes["criteria"])
        after = asked_for(goal)
        amended = goal.status == Goal.Status.ACTIVE and before != after
        if "status" in changes:
            if changes["status"] == Goal.Status.ACHIEVED != goal.status:
                proof.check_achieved(goal)
            goal.status = changes["status"]
        if amended:
            number = goal.amendments.aggregate(n=Max("number"))["n"] or 0
            Amendment.objects.create(
                goal=goal,
                number=number + 1,
                before=before,
                after=after,
                actor=actor,
                reason=reason,
            )
            discoveries.revive_for_requirements(goal, after, actor)
        goal.version += 1
        goal.updated_at = timezone.now()
        goal.save()
        proof.note(goal, "goal.amended" if amended else "goal.edited", actor)
        proof.settle_later(goal.pk)
    return goal


def check_version(goal: Goal, expected: int | None) -> None:
    """Pass only if the caller saw the current version. Raises Stale."""
    if expected is not None and goal.version != expected:
        raise Stale(f"The goal is at version {goal.version}; load it again and redo the edit.")


def asked_for(goal: Goal) -> dict[str, Any]:
    """Return what the goal asks for, as an amendment keeps it."""
    return {
        "title": goal.title,
        "intent": goal.intent,
        "constraints": goal.constraints,
        "criteria": [
            {
                "text": c.text,
                "check": c.check_command,
                **({"probe": c.probe} if c.probe else {}),
                **({"tests": c.tests} if c.tests else {}),
                **({"by_person": True} if c.by_person else {}),
            }
            for c in proof.standing(goal.pk)
        ],
    }


def _parent(goal: Goal, parent: Goal | None) -> Goal | None:
    seen: set[UUID] = set()
    above = parent
    while above is not None and above.pk not in seen:
        if above.pk == goal.pk:
            raise Invalid.field("parent", "would make the goal its own ancestor.")
        seen.add(above.pk)
        above = above.parent
    if parent is not None and parent.board_id != goal.board_id:
        raise Invalid.field("parent", "is a goal of another board.")
    return parent


def _add_criteria(
    goal: Goal,
    criteria: Sequence[Mapping[str, Any]],
    last: int,
    replaces: Sequence[int | None] = (),
) -> None:
    Criterion.objects.bulk_create(
        Criterion(goal=goal, number=last + n, text=c["text"], replaces=number, **_way(c))
        for n, (c, number) in enumerate(zip_longest(criteria, replaces), start=1)
    )


def _way(criterion: Mapping[str, Any]) -> dict[str, Any]:
    """Return how it is found out whether the criterion is met, as it is stored."""
    return {
        "check_command": criterion.get("check") or "",
        "probe": criterion.get("probe") or None,
        "tests": criterion.get("tests") or "",
        "by_person": bool(criterion.get("by_person")),
    }


def replace_criteria(goal: Goal, criteria: Sequence[Mapping[str, Any]]) -> None:
    """Keep the criteria whose text is unchanged, with their evidence; retire the others. What
    comes in the place of one of these knows which; see ``rewording``.

    One that is to be checked in another way is open again: what showed it before does not count.
    """
    standing: dict[str, list[Criterion]] = {}
    before = list(proof.standing(goal.pk))
    for c in reversed(before):
        standing.setdefault(c.text, []).append(c)
    places = rewording.places(before, [wanted["text"] for wanted in criteria])
    fresh, replaces = [], []
    for n, wanted in enumerate(criteria):
        same = standing.get(wanted["text"])
        kept = same.pop() if same else None
        if kept is None:
            fresh.append(wanted)
            replaces.append(places.get(n))
        elif any(getattr(kept, name) != value for name, value in _way(wanted).items()):
            changed = {**_way(wanted), "met": None, "changed_at": timezone.now()}
            Criterion.objects.filter(pk=kept.pk).update(**changed)
    gone = [c.pk for same in standing.values() for c in same]
    Criterion.objects.filter(pk__in=gone).update(retired_at=timezone.now())
    last = goal.criteria.aggregate(n=Max("number"))["n"] or 0
    _add_criteria(goal, fresh, last, replaces)


def pin(kept: Decision | Discovery, actor: str, pinned: bool) -> Decision | Discovery:
    """Return the decision or discovery, told before others of its kind or no longer so."""
    with transition():
        changed = type(kept).objects.filter(pk=kept.pk, pinned=not pinned).update(pinned=pinned)
        kept.pinned = pinned
        if changed:
            noun = "decision" if isinstance(kept, Decision) else "discovery"
            log.record(
                f"{noun}.pinned" if pinned else f"{noun}.unpinned",
                board_id=kept.board_id,
                subject_id=kept.card_id or kept.goal_id or kept.pk,
                actor=actor,
                **{noun: str(kept.pk)},
                **({"goal": str(kept.goal_id)} if kept.goal_id else {}),
            )
    return kept
