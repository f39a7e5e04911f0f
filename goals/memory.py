"""What a goal remembers: decisions, discoveries, evidence, amendments, failed approaches.

Everything here joins the caller's transaction when there is one, so that a checkpoint and
the decisions it carries are kept together or not at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max, Q
from django.utils import timezone

from events import log
from goals.models import Amendment, Criterion, Decision, Discovery, Evidence, Goal
from kernel.errors import DeadEnd, Invalid, NotFound, Stale, TransitionRefused
from kernel.tx import transition

#: Two approaches look alike from this similarity of their words on (0 … 1).
ALIKE = 0.6


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
            created_by=actor,
        )
        _add_criteria(goal, criteria, 0)
        _note(goal, "goal.created", actor)
    return goal


def edit(
    goal_id: UUID, actor: str, changes: Mapping[str, Any], *, expected_version: int | None = None
) -> Goal:
    """Return the goal with ``changes`` made.

    A change to what an active goal asks for is kept as an amendment. Raises Stale when
    ``expected_version`` is no longer current.
    """
    with transition():
        goal = Goal.objects.select_for_update(no_key=True, of=("self",)).get(pk=goal_id)
        if expected_version is not None and goal.version != expected_version:
            raise Stale(f"The goal is at version {goal.version}; load it again and redo the edit.")
        before = asked_for(goal)
        plain = ("title", "intent", "constraints", "budgets", "share", "max_running")
        for name in plain:
            if name in changes:
                setattr(goal, name, changes[name])
        if "parent" in changes:
            goal.parent = _parent(goal, changes["parent"])
        if "criteria" in changes:
            _replace_criteria(goal, changes["criteria"])
        after = asked_for(goal)
        amended = goal.status == Goal.Status.ACTIVE and before != after
        if "status" in changes:
            goal.status = changes["status"]
        if amended:
            number = goal.amendments.aggregate(n=Max("number"))["n"] or 0
            Amendment.objects.create(
                goal=goal, number=number + 1, before=before, after=after, actor=actor
            )
        goal.version += 1
        goal.updated_at = timezone.now()
        goal.save()
        _note(goal, "goal.amended" if amended else "goal.edited", actor)
    return goal


def asked_for(goal: Goal) -> dict[str, Any]:
    """Return what the goal asks for, as an amendment keeps it."""
    return {
        "title": goal.title,
        "intent": goal.intent,
        "constraints": goal.constraints,
        "criteria": [
            {"text": c.text, "check": c.check_command}
            for c in goal.criteria.filter(retired_at=None).order_by("number")
        ],
    }


def amendments_since(goal_id: UUID, since: datetime) -> list[dict[str, Any]]:
    """Return a notice per amendment of the goal after ``since``, oldest first."""
    return [
        {"kind": "goal_amended", "number": a.number, "at": a.at, "changed": _changed(a)}
        for a in Amendment.objects.filter(goal_id=goal_id, at__gt=since).order_by("number")[:20]
    ]


def _changed(amendment: Amendment) -> list[str]:
    return sorted(k for k in amendment.after if amendment.after[k] != amendment.before.get(k))


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


def _add_criteria(goal: Goal, criteria: Sequence[Mapping[str, Any]], last: int) -> None:
    Criterion.objects.bulk_create(
        Criterion(goal=goal, number=last + n, text=c["text"], check_command=c.get("check") or "")
        for n, c in enumerate(criteria, start=1)
    )


def _replace_criteria(goal: Goal, criteria: Sequence[Mapping[str, Any]]) -> None:
    """Keep the criteria whose text is unchanged, with their evidence; retire the others."""
    standing: dict[str, list[Criterion]] = {}
    for c in goal.criteria.filter(retired_at=None).order_by("-number"):
        standing.setdefault(c.text, []).append(c)
    fresh = []
    for wanted in criteria:
        same = standing.get(wanted["text"])
        kept = same.pop() if same else None
        if kept is None:
            fresh.append(wanted)
        elif kept.check_command != (wanted.get("check") or ""):
            kept.check_command = wanted.get("check") or ""
            kept.save(update_fields=["check_command"])
    gone = [c.pk for same in standing.values() for c in same]
    Criterion.objects.filter(pk__in=gone).update(retired_at=timezone.now())
    last = goal.criteria.aggregate(n=Max("number"))["n"] or 0
    _add_criteria(goal, fresh, last)


def record_evidence(
    goal_id: UUID | None,
    evidence: Sequence[Mapping[str, Any]],
    *,
    actor: str,
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
) -> None:
    """Keep what shows that criteria are met or not. Each names its criterion by id, number or
    text. Raises Invalid naming the entry when there is no such criterion."""
    if goal_id is None:
        raise Invalid.field("evidence", "the card has no goal, so no criterion to show met.")
    criteria = Criterion.objects.filter(goal_id=goal_id, retired_at=None).order_by("number")
    by_name: dict[str, Criterion] = {}
    for name in ("text", "number", "pk"):
        by_name.update({str(getattr(c, name)): c for c in criteria})
    met: dict[UUID, bool] = {}
    for n, entry in enumerate(evidence):
        criterion = by_name.get(str(entry["criterion"]))
        if criterion is None:
            raise Invalid.field(
                f"evidence[{n}].criterion", "names no criterion of the goal by id, number or text."
            )
        Evidence.objects.create(
            criterion=criterion,
            met=entry["met"],
            detail=entry.get("detail") or "",
            artifact=entry.get("artifact") or "",
            card_id=card_id,
            attempt_id=attempt_id,
            actor=actor,
        )
        met[criterion.pk] = entry["met"]
    # In one order for everybody: two cards may show the same criteria at once.
    for c in criteria:
        if c.pk in met:
            Criterion.objects.filter(pk=c.pk).update(met=met[c.pk])


def decide(
    board_id: UUID,
    goal_id: UUID | None,
    actor: str,
    *,
    title: str,
    rationale: str = "",
    alternatives: Sequence[Any] = (),
    supersedes: UUID | None = None,
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
    pinned: bool = False,
) -> Decision:
    """Return the decision, now in force; the one it supersedes no longer is."""
    with transition():
        decision = Decision.objects.create(
            board_id=board_id,
            goal_id=goal_id,
            card_id=card_id,
            attempt_id=attempt_id,
            actor=actor,
            title=title,
            rationale=rationale,
            alternatives=list(alternatives),
            pinned=pinned,
        )
        if supersedes is not None:
            same = Q(goal_id=goal_id) if goal_id else Q(card_id=card_id)
            if not (
                Decision.objects.filter(same, pk=supersedes, superseded_by=None)
                .exclude(pk=decision.pk)
                .update(superseded_by=decision)
            ):
                raise Invalid.field("supersedes", "names no decision in force on this goal.")
        log.record(
            "decision.recorded",
            board_id=board_id,
            subject_id=card_id or goal_id or decision.pk,
            actor=actor,
            decision=str(decision.pk),
            title=title[:200],
        )
    return decision


def discover(
    board_id: UUID,
    goal_id: UUID | None,
    actor: str,
    *,
    kind: str,
    title: str,
    detail: str = "",
    severity: str = Discovery.Severity.MEDIUM,
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
    pinned: bool = False,
) -> Discovery:
    """Return the discovery, open until somebody resolves it."""
    with transition():
        discovery = Discovery.objects.create(
            board_id=board_id,
            goal_id=goal_id,
            card_id=card_id,
            attempt_id=attempt_id,
            actor=actor,
            kind=kind,
            title=title,
            detail=detail,
            severity=severity or Discovery.Severity.MEDIUM,
            pinned=pinned,
        )
        log.record(
            "discovery.recorded",
            board_id=board_id,
            subject_id=card_id or goal_id or discovery.pk,
            actor=actor,
            discovery=str(discovery.pk),
            discovery_kind=kind,
            title=title[:200],
        )
    return discovery


def resolve(discovery_id: UUID, actor: str, resolution: str = "") -> Discovery:
    """Return the discovery, resolved. Raises TransitionRefused if it already was."""
    with transition():
        open_one = Discovery.objects.filter(pk=discovery_id, status=Discovery.Status.OPEN)
        changed = open_one.update(
            status=Discovery.Status.RESOLVED, resolution=resolution, resolved_at=timezone.now()
        )
        discovery = Discovery.objects.filter(pk=discovery_id).first()
        if discovery is None:
            raise NotFound("There is no such discovery.")
        if not changed:
            raise TransitionRefused("The discovery is resolved already.")
        log.record(
            "discovery.resolved",
            board_id=discovery.board_id,
            subject_id=discovery.card_id or discovery.goal_id or discovery.pk,
            actor=actor,
            discovery=str(discovery.pk),
        )
    return discovery


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
            )
    return kept


def look_alikes(approach: str, earlier: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the earlier approaches whose words resemble ``approach``, most alike first.

    Similarity is that of the sorted distinct words (Ratcliff and Obershelp, as in difflib).
    """
    words = _words(approach)
    found = []
    for attempt in earlier:
        ratio = difflib.SequenceMatcher(None, words, _words(attempt["approach"])).ratio()
        if ratio >= ALIKE:
            found.append(
                {
                    "attempt": attempt["number"],
                    "approach": attempt["approach"],
                    "error": attempt["error"],
                    "lesson": attempt["lesson"],
                    "similarity": round(ratio, 2),
                }
            )
    return sorted(found, key=lambda f: -f["similarity"])[:10]


def dead_end(alike: list[dict[str, Any]]) -> DeadEnd:
    """Return the refusal of an approach that looks like failed ones."""
    return DeadEnd(
        "An approach like this failed before; say in 'differs' what is different this time.",
        extra={"similar_failed": alike},
    )


def _words(text: str) -> list[str]:
    return sorted(set(re.findall(r"\w+", text.lower())))


def _note(goal: Goal, kind: str, actor: str) -> None:
    log.record(
        kind,
        board_id=goal.board_id,
        subject_id=goal.pk,
        actor=actor,
        goal=str(goal.pk),
        title=goal.title[:200],
        status=goal.status,
        version=goal.version,
    )
