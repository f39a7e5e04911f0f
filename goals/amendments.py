"""Amendments: dated changes to what an active goal asks for, each of which can be withdrawn.

    in force ── withdrawn ──> what it changed is as before, unless a later one changed it again

The words of before are kept whole in each amendment. A withdrawal is no amendment: workers hear
of both, and what was made under the one is made for another text than what holds now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Prefetch, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from events import log
from goals import memory
from goals.models import Amendment, Criterion, Evidence, Goal
from kernel.errors import NotFound, TransitionRefused
from kernel.tx import transition

#: Notices that one call carries.
TOLD = 20
PLAIN = ("title", "intent", "constraints")
#: Amendments on one page for people, and pieces of evidence with each criterion taken away.
PAGE = 20
EVIDENCE = 20


def changed(amendment: Amendment) -> list[str]:
    """Return the names of what the amendment changed."""
    before, after = amendment.before, amendment.after
    return sorted(name for name in after if after[name] != before.get(name))


def since(goal_id: UUID, moment: datetime) -> list[dict[str, Any]]:
    """Return a notice for each amendment and withdrawal after the moment, oldest first: of the
    ``TOLD`` amendments that changed last."""
    rows = Amendment.objects.filter(goal_id=goal_id)
    rows = rows.filter(Q(at__gt=moment) | Q(withdrawn_at__gt=moment))
    rows = rows.order_by(Coalesce("withdrawn_at", "at").desc(), "-number")
    told = []
    for a in rows[:TOLD]:
        about = {"number": a.number, "changed": changed(a)}
        if a.at > moment:
            told.append({"kind": "goal_amended", "at": a.at, **about, "reason": a.reason})
        if a.withdrawn_at is not None and a.withdrawn_at > moment:
            why = a.withdrawn_because
            told.append(
                {"kind": "amendment_withdrawn", "at": a.withdrawn_at, **about} | {"reason": why}
            )
    return sorted(told, key=lambda notice: notice["at"])


def of(goal_id: UUID | None) -> list[Amendment]:
    """Return the goal's amendments, without their texts: when each was made and withdrawn."""
    if goal_id is None:
        return []
    rows = Amendment.objects.filter(goal_id=goal_id).order_by("number")
    return list(rows.only("number", "at", "withdrawn_at"))


def made_before(amendments: Iterable[Amendment], at: datetime) -> list[str]:
    """Return what has changed in what the goal asks for since ``at``, in words, oldest first:
    "amendment 3", "the withdrawal of amendment 2"."""
    words = []
    for a in sorted(amendments, key=lambda a: a.number):
        if a.withdrawn_at is None:
            if a.at > at:
                words.append(f"amendment {a.number}")
        elif a.at <= at < a.withdrawn_at:
            words.append(f"the withdrawal of amendment {a.number}")
    return words


def withdraw(
    goal_id: UUID,
    number: int,
    actor: str,
    reason: str = "",
    *,
    expected_version: int | None = None,
) -> Goal:
    """Return the goal with what the amendment changed as it was before.

    Raises TransitionRefused, in words, when a later amendment or edit changed the same again.
    """
    with transition():
        goal = Goal.objects.select_for_update(no_key=True, of=("self",)).get(pk=goal_id)
        memory.check_version(goal, expected_version)
        amendment = goal.amendments.filter(number=number).first()
        if amendment is None:
            raise NotFound(f"The goal has no amendment {number}.")
        if amendment.withdrawn_at is not None:
            raise TransitionRefused(f"Amendment {number} is withdrawn already.")
        if goal.status != Goal.Status.ACTIVE:
            raise TransitionRefused(
                f"The goal is {goal.status}; make it active to withdraw an amendment."
            )
        _refuse_touched(goal, amendment)
        for name in PLAIN:
            if name in changed(amendment):
                setattr(goal, name, amendment.before[name])
        if "criteria" in changed(amendment):
            _restore_criteria(goal, amendment)
        now = timezone.now()
        amendment.withdrawn_at, amendment.withdrawn_by = now, actor
        amendment.withdrawn_because = reason
        amendment.save(update_fields=["withdrawn_at", "withdrawn_by", "withdrawn_because"])
        goal.version += 1
        goal.updated_at = now
        goal.save(update_fields=[*PLAIN, "version", "updated_at"])
        log.record(
            "amendment.withdrawn",
            board_id=goal.board_id,
            subject_id=goal.pk,
            actor=actor,
            goal=str(goal.pk),
            title=goal.title[:200],
            number=number,
            version=goal.version,
        )
    return goal


def _refuse_touched(goal: Goal, amendment: Amendment) -> None:
    """Pass if nobody has changed since what the amendment changed. Raises TransitionRefused."""
    asks = memory.asked_for(goal)
    mine = _touched(amendment)
    later = goal.amendments.filter(number__gt=amendment.number, withdrawn_at=None)
    for other in later.order_by("-number"):
        both = mine & _touched(other)
        if both:
            raise TransitionRefused(
                f"Amendment {other.number} changed {_named(sorted(both)[0])} again; withdraw that "
                "one first."
            )
    for name in sorted(mine):
        if not _is_as_left(name, amendment.after, asks):
            raise TransitionRefused(
                f"{_named(name)[0].upper()}{_named(name)[1:]} was changed since without an "
                "amendment; edit the goal instead."
            )


def _touched(amendment: Amendment) -> set[str]:
    """Return what the amendment changed: names of fields, and the texts of criteria."""
    touched = {name for name in changed(amendment) if name != "criteria"}
    before, after = _by_text(amendment.before), _by_text(amendment.after)
    return touched | {
        f"criterion:{text}"
        for text in {*before, *after}
        if before.get(text, []) != after.get(text, [])
    }


def _named(name: str) -> str:
    kind, colon, text = name.partition(":")
    return f"the criterion “{text[:80]}”" if colon else f"the {kind}"


def _is_as_left(name: str, left: Mapping[str, Any], asks: Mapping[str, Any]) -> bool:
    _, colon, text = name.partition(":")
    if not colon:
        return bool(left[name] == asks[name])
    return _by_text(left).get(text, []) == _by_text(asks).get(text, [])


def _by_text(asks: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in asks.get("criteria", []):
        found.setdefault(entry["text"], []).append(entry)
    return found


def _restore_criteria(goal: Goal, amendment: Amendment) -> None:
    """Ask for the criteria as before the amendment; what later ones added or changed stays.

    A criterion that comes back has its number and its evidence again.
    """
    asks = memory.asked_for(goal)["criteria"]
    texts = {name.partition(":")[2] for name in _touched(amendment) if ":" in name}
    wanted = [entry for entry in asks if entry["text"] not in texts]
    wanted += [entry for entry in amendment.before["criteria"] if entry["text"] in texts]
    there = _by_text({"criteria": asks})
    for text, entries in _by_text(amendment.before).items():
        lacking = len(entries) - len(there.get(text, [])) if text in texts else 0
        gone = goal.criteria.filter(text=text, retired_at__isnull=False).order_by("-retired_at")
        back = list(gone.values_list("pk", flat=True)[: max(0, lacking)])
        Criterion.objects.filter(pk__in=back).update(retired_at=None)
    memory.replace_criteria(goal, wanted)


def history(
    goal: Goal, *, before: int | None = None, limit: int = PAGE
) -> tuple[list[dict[str, Any]], int | None]:
    """Return a page of the goal's amendments for people, newest first, and the number that the
    older ones are ``before``; None where there are none.

    Each says what it changed, line by line, and which criteria it took away, with the evidence
    that was given for the older text.
    """
    rows = goal.amendments.order_by("-number")
    if before is not None:
        rows = rows.filter(number__lt=before)
    found = list(rows[: limit + 1])
    older = found[limit - 1].number if len(found) > limit else None
    retired = _retired(goal, found[:limit])
    return [_shown(a, retired) for a in found[:limit]], older


def _shown(amendment: Amendment, retired: Mapping[str, list[Any]]) -> dict[str, Any]:
    before, after = _by_text(amendment.before), _by_text(amendment.after)
    fields = []
    for name in changed(amendment):
        if name != "criteria":
            gone, added = parted(amendment.before.get(name), amendment.after[name])
            fields.append({"name": name, "gone": gone, "added": added})
    return {
        "amendment": amendment,
        "fields": fields,
        "added": [text for text in after if text not in before],
        "checked": [t for t in after if t in before and before[t] != after[t]],
        "removed": [
            {"text": text, "criteria": retired.get(text, [])}
            for text in before
            if text not in after
        ],
    }


def _retired(goal: Goal, rows: Iterable[Amendment]) -> dict[str, list[Any]]:
    """Return the criteria that these amendments took away, by their text, with how many
    ``pieces`` of evidence each has and the ``newest`` of them."""
    texts = {t for a in rows for t in _by_text(a.before).keys() - _by_text(a.after).keys()}
    found: dict[str, list[Any]] = {}
    if texts:
        newest = Prefetch("evidence", Evidence.objects.order_by("-id")[:EVIDENCE], "newest")
        gone = goal.criteria.filter(retired_at__isnull=False, text__in=texts)
        gone = gone.annotate(pieces=Count("evidence")).prefetch_related(newest)
        for criterion in gone.order_by("number"):
            found.setdefault(criterion.text, []).append(criterion)
    return found


def parted(before: Any, after: Any) -> tuple[list[str], list[str]]:
    """Return what of a text, or of the entries of a list, is taken away, and what is added.

    Where a list has only another order, both are whole.
    """
    was, becomes = (
        [str(e) for e in (side if isinstance(side, list) else [side]) if e not in (None, "")]
        for side in (before, after)
    )
    gone = [entry for entry in was if entry not in becomes]
    added = [entry for entry in becomes if entry not in was]
    return (gone, added) if gone or added else (was, becomes)
