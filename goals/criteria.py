"""Whether a goal's criteria are met, and what shows it.

    a worker's word  ─┐                         ┌─> all met ───> people are asked, or the
    a run's outcome  ─┼─> evidence ─> criterion ┤                goal is achieved by itself
    a person's word  ─┘                         └─> met no more ─> the goal is active again

Evidence counts for a criterion as it is: when what it asks for is changed, it is open again. A
criterion that only a person can say is met hears nobody else. Whether a goal is achieved is
settled after the transaction of the evidence: that one holds cards, which come after goals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from events import log
from goals import rewording
from goals.models import Criterion, Evidence, Goal
from kernel.errors import EvidenceMissing, Invalid, NotFound
from kernel.tx import transition

#: Criteria named in a refusal.
NAMED = 20


def standing(goal_id: UUID) -> QuerySet[Criterion]:
    """Return the goal's criteria as they are asked for now, in their order."""
    return Criterion.objects.filter(goal_id=goal_id, retired_at=None).order_by("number")


def record_evidence(
    goal_id: UUID | None,
    evidence: Sequence[Mapping[str, Any]],
    *,
    actor: str,
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
    checkpoint: int | None = None,
) -> None:
    """Keep what a worker shows of criteria, met or not. Each entry names its criterion by id,
    number or text. Raises Invalid naming the entry when there is no such criterion."""
    if goal_id is None:
        raise Invalid.field("evidence", "the card has no goal, so no criterion to show met.")
    criteria = list(standing(goal_id))
    by_name: dict[str, Criterion] = {}
    for name in ("text", "number", "pk"):
        by_name.update({str(getattr(c, name)): c for c in criteria})
    met: dict[UUID, bool] = {}
    for n, entry in enumerate(evidence):
        criterion = by_name.get(str(entry["criterion"]))
        if criterion is None:
            named = "; ".join(f"{c.number}. {c.text[:120]}" for c in criteria[:NAMED])
            raise Invalid.field(
                f"evidence[{n}].criterion",
                "names no criterion of the goal by id, number or text, as they are now: "
                f"{named or 'it has none'}.{_reworded(goal_id, str(entry['criterion']))}",
            )
        Evidence.objects.create(
            criterion=criterion,
            met=entry["met"],
            detail=entry.get("detail") or "",
            artifact=entry.get("artifact") or "",
            step=entry.get("step") or "",
            card_id=card_id,
            attempt_id=attempt_id,
            checkpoint=checkpoint,
            actor=actor,
        )
        if not criterion.by_person:
            met[criterion.pk] = entry["met"]
    # In one order for everybody: two cards may show the same criteria at once.
    for c in criteria:
        if c.pk in met:
            Criterion.objects.filter(pk=c.pk).update(met=met[c.pk])
    settle_later(goal_id)


def _reworded(goal_id: UUID, name: str) -> str:
    """Say what the criterion of that number or text has become, where it was reworded."""
    every = Criterion.objects.filter(goal_id=goal_id)
    by_number = Q(number=int(name)) if name.isdecimal() and len(name) < 6 else Q(text=name)
    then = every.filter(by_number).order_by("-number").first()
    now = rewording.now(rewording.rows(every)).get(then.number) if then else None
    if then is None or now is None:
        return ""
    return f" Criterion {then.number} was reworded and is {now} now: show what that one asks for."


def say(
    goal_id: UUID, name: str, actor: str, *, met: bool, detail: str = "", artifact: str = ""
) -> Criterion:
    """Keep a person's word on the criterion of that id, number or text, and return it.

    Raises NotFound when the goal has none of that name.
    """
    with transition():
        goal = locked(goal_id)
        named = [c for c in standing(goal_id) if name in (str(c.pk), str(c.number), c.text)]
        if not named:
            raise NotFound("The goal has no such criterion.")
        criterion: Criterion = named[0]
        Evidence.objects.create(
            criterion=criterion, met=met, detail=detail, artifact=artifact, actor=actor
        )
        Criterion.objects.filter(pk=criterion.pk).update(met=met)
        criterion.met = met
        note(goal, "criterion.met" if met else "criterion.unmet", actor, criterion)
        if not met:
            reopen(goal, actor, f"Criterion {criterion.number} is not met: {criterion.text}")
    settle(goal_id)
    return criterion


def check_completion(goal: Goal, card_id: UUID) -> None:
    """Pass if a card of the goal may be completed: it has shown a criterion to be met, or all
    are. Raises EvidenceMissing, which names those that nothing shows to be met.

    Only a goal that requires evidence asks for it.
    """
    if not goal.evidence_required:
        return
    open_ones = [c for c in standing(goal.pk) if not c.met]
    if open_ones and not _shown_by(goal, card_id):
        raise missing(
            open_ones,
            "evidence",
            "the goal asks for evidence, and this card has shown none of its criteria to be met: "
            "send evidence for what it was for",
        )


def _shown_by(goal: Goal, card_id: UUID) -> bool:
    shown = Evidence.objects.filter(
        criterion__goal=goal,
        criterion__retired_at=None,
        card_id=card_id,
        met=True,
        at__gte=F("criterion__changed_at"),
    )
    return shown.exists()


def check_achieved(goal: Goal) -> None:
    """Pass if the goal may be called achieved. Raises EvidenceMissing where it requires evidence
    and a criterion has none of being met."""
    if not goal.evidence_required:
        return
    shown = Evidence.objects.filter(
        criterion=OuterRef("pk"), met=True, at__gte=OuterRef("changed_at")
    )
    lacking = list(standing(goal.pk).filter(~Q(met=True) | ~Exists(shown)))
    if lacking:
        raise missing(lacking, "status", "the goal asks for evidence that every criterion is met")


def missing(criteria: Sequence[Criterion], field: str, why: str) -> EvidenceMissing:
    """Return the refusal for the lack of evidence, with the criteria by number and text."""
    named = "; ".join(f"{c.number}. {c.text[:120]}" for c in criteria[:NAMED])
    sentence = f"{why}. Not shown: {named}."
    return EvidenceMissing(
        sentence[0].upper() + sentence[1:],
        errors={field: [sentence]},
        extra={
            "criteria": [
                {"id": str(c.pk), "number": c.number, "text": c.text} for c in criteria[:NAMED]
            ]
        },
    )


# ── what follows for the goal ────────────────────────────────────────────────────────────


def settle_later(goal_id: UUID) -> None:
    """Have ``settle`` do its work when this transaction has committed."""
    transaction.on_commit(partial(settle, goal_id), robust=True)


def settle(goal_id: UUID) -> None:
    """See whether all criteria of an active goal are met, and say so once.

    A goal that achieves itself does where each was shown in the way that it asks for, and no
    goal below it is active; else people are asked whether it is achieved.
    """
    with transition():
        goal = locked(goal_id)
        if goal.status != Goal.Status.ACTIVE:
            return
        criteria = list(standing(goal_id))
        all_met = bool(criteria) and all(c.met for c in criteria)
        itself = all_met and goal.achieves_itself and proven(goal)
        if all_met == (goal.met_at is not None) and not itself:
            return
        goal.met_at = timezone.now() if all_met else None
        if itself:
            goal.status = Goal.Status.ACHIEVED
        saved(goal)
        if all_met:
            kind = "goal.achieved" if itself else "goal.met"
            n = len(criteria)
            said = f"All {n} criteria are met." if n > 1 else "Its one criterion is met."
            note(goal, kind, "system:goals", said=said)


def reopen(goal: Goal, actor: str, because: str) -> bool:
    """Make the locked goal active again if it was achieved; return whether it was."""
    if goal.status != Goal.Status.ACHIEVED:
        return False
    goal.status, goal.met_at = Goal.Status.ACTIVE, None
    saved(goal)
    note(goal, "goal.reopened", actor, said=because[:300])
    return True


def proven(goal: Goal) -> bool:
    """True if each criterion that checks itself was last shown by a run, and nothing below the
    goal is under way."""
    if goal.children.filter(status=Goal.Status.ACTIVE).exists():
        return False
    newest = Evidence.objects.filter(criterion=OuterRef("pk")).order_by("-id")
    rows = standing(goal.pk).annotate(run=Subquery(newest.values("check_run")[:1]))
    return all(c.run is not None for c in rows if c.checks_itself)


def tick() -> int:
    """Settle the goals that a process was killed before settling. Safe to run anywhere."""
    open_ones = Criterion.objects.filter(goal=OuterRef("pk"), retired_at=None)
    unmet = open_ones.exclude(met=True)
    overlooked = Goal.objects.filter(
        Exists(open_ones), ~Exists(unmet), status=Goal.Status.ACTIVE, met_at=None
    )
    found = list(overlooked.values_list("pk", flat=True)[:100])
    for pk in found:
        settle(pk)
    return len(found)


def locked(goal_id: UUID) -> Goal:
    """Return the goal, locked. Raises NotFound."""
    rows = Goal.objects.select_for_update(no_key=True, of=("self",))
    goal = rows.filter(pk=goal_id).first()
    if goal is None:
        raise NotFound("There is no such goal.")
    return goal


def saved(goal: Goal) -> None:
    """Write where the locked goal stands, as a version of its own."""
    goal.version += 1
    goal.updated_at = timezone.now()
    goal.save(update_fields=["status", "met_at", "version", "updated_at"])


def note(
    goal: Goal, kind: str, actor: str, criterion: Criterion | None = None, **data: Any
) -> None:
    """Record an event about the goal, or about a criterion of it."""
    if criterion is not None:
        data |= {"criterion": criterion.number, "text": criterion.text[:200]}
    log.record(
        kind,
        board_id=goal.board_id,
        subject_id=goal.pk,
        actor=actor,
        goal=str(goal.pk),
        title=goal.title[:200],
        status=goal.status,
        version=goal.version,
        **data,
    )
