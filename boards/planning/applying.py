"""Making, changing and closing plans, and making cards of them: all that was accepted, or nothing.

    open ─┬─ applied ───> cards made, changed and cancelled, one receipt each
          └─ discarded

A running card is touched only where whoever applies the plan names it. The board's row, the
cards, their attempts and columns are locked before the first event: see ``leases``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from boards import cards
from boards.models import Attempt, Board, Card, Column
from boards.planning import comparing, drafts
from boards.planning.comparing import Comparison, Entry
from boards.planning.models import Plan
from events import log
from goals.models import Goal
from kernel import sql
from kernel.errors import Invalid, Stale, TransitionRefused
from kernel.tx import transition

Status = Plan.Status


def create(
    goal: Goal,
    actor: str,
    items: Sequence[Mapping[str, Any]],
    *,
    source: str = Plan.Source.PERSON,
    note: str = "",
    card: Card | None = None,
) -> Plan:
    """Return a new open plan. Raises Invalid, see ``drafts.checked``."""
    with transition():
        sql.lock(Goal.objects.filter(pk=goal.pk))
        kept = drafts.checked(goal, items)
        last = goal.plans.aggregate(n=Max("number"))["n"] or 0
        plan = Plan.objects.create(
            board_id=goal.board_id,
            goal=goal,
            number=last + 1,
            items=kept,
            source=source,
            note=note,
            card=card,
            created_by=actor,
        )
        _note(plan, "plan.proposed", actor)
    return plan


def edit(
    plan_id: UUID,
    actor: str,
    *,
    items: Sequence[Mapping[str, Any]] | None = None,
    note: str | None = None,
    expected_version: int | None = None,
) -> Plan:
    """Return the open plan with other items. Raises Invalid, Stale, TransitionRefused."""
    with transition():
        plan = _open(plan_id, expected_version)
        if items is not None:
            plan.items = drafts.checked(plan.goal, items)
        if note is not None:
            plan.note = note
        plan.version += 1
        plan.save(update_fields=["items", "note", "version"])
        _note(plan, "plan.edited", actor)
    return plan


def discard(plan_id: UUID, actor: str, *, expected_version: int | None = None) -> Plan:
    """Return the plan, closed; nothing is made of it."""
    with transition():
        plan = _open(plan_id, expected_version)
        _close(plan, Status.DISCARDED, actor)
        _note(plan, "plan.discarded", actor)
    return plan


def apply(
    plan_id: UUID,
    actor: str,
    *,
    accept: Collection[str] | None = None,
    drop: Collection[str] | None = None,
    confirm: Collection[str] = (),
    expected_version: int | None = None,
) -> Plan:
    """Return the plan, applied: ``outcome`` says what became of each card.

    ``accept`` are the refs of the items to carry out, ``drop`` the keys of cards to cancel that
    the plan leaves out; all of them unless told. ``confirm`` are keys of running cards that may
    be touched. Raises Invalid, Stale and TransitionRefused; then nothing was done.
    """
    with transition():
        board_id = Plan.objects.filter(pk=plan_id).values_list("board_id", flat=True).get()
        sql.lock(Board.objects.filter(pk=board_id))
        plan = _open(plan_id, expected_version)
        _lock(plan)
        items = drafts.checked(plan.goal, plan.items)
        found = comparing.compared(plan, items)
        _check_names(found, items, accept, drop)
        wanted = {i["ref"] for i in items} if accept is None else set(accept)
        receipts = _carry_out(plan, actor, found, wanted, set(confirm))
        receipts += _cancel(found, actor, drop, set(confirm))
        plan.outcome = receipts
        _close(plan, Status.APPLIED, actor)
        _note(plan, "plan.applied", actor, **_counted(receipts))
    return plan


def _open(plan_id: UUID, expected_version: int | None) -> Plan:
    rows = Plan.objects.select_related("goal", "board")
    plan = rows.select_for_update(no_key=True, of=("self",)).get(pk=plan_id)
    if plan.status != Status.OPEN:
        who = plan.closed_by.partition(":")[2] or plan.closed_by
        raise TransitionRefused(f"Plan {plan.number} was {plan.status} by {who} already.")
    if expected_version is not None and plan.version != expected_version:
        raise Stale(f"The plan is at version {plan.version}; load it again and redo the change.")
    return plan


def _close(plan: Plan, status: Status, actor: str) -> None:
    plan.status, plan.closed_by, plan.closed_at = status, actor, timezone.now()
    plan.version += 1
    plan.save(update_fields=["status", "closed_by", "closed_at", "outcome", "version"])


def _lock(plan: Plan) -> None:
    """Lock what applying may write, before anything is written: cards, attempts, columns."""
    mine = Card.objects.filter(goal=plan.goal).order_by("pk")
    sql.lock(mine)
    sql.lock(Attempt.objects.live().filter(card__in=mine.order_by()).order_by("pk"))
    columns = Column.objects.filter(board=plan.board, kind__in=["backlog", "completed"])
    sql.lock(columns.order_by("pk"))


def _check_names(
    found: Comparison,
    items: Sequence[Mapping[str, Any]],
    accept: Collection[str] | None,
    drop: Collection[str] | None,
) -> None:
    refs, gone = {item["ref"] for item in items}, {card.key for card in found.gone}
    if accept is not None and (strange := sorted(set(accept) - refs)):
        raise Invalid.field("accept", f"“{strange[0][:80]}” is no item of the plan.")
    if drop is not None and (strange := sorted(set(drop) - gone)):
        raise Invalid.field("drop", f"“{strange[0][:80]}” is no card that the plan leaves out.")


def _carry_out(
    plan: Plan, actor: str, found: Comparison, wanted: set[str], confirm: set[str]
) -> list[dict[str, Any]]:
    made = {e.item["ref"]: e.card for e in found.entries if e.card is not None}
    by_key = {c.key: c for c in Card.objects.filter(goal=plan.goal).select_related("board")}
    receipts = []
    fresh = [e for e in found.entries if e.did == "new"]
    for entry in _in_order(fresh):
        if entry.item["ref"] in wanted:
            fresh_card = _create(plan, actor, entry, made, by_key)
            made[entry.item["ref"]] = by_key[fresh_card.key] = fresh_card
            receipts.append(_receipt(entry, fresh_card, "created"))
        else:
            receipts.append(_receipt(entry, None, "left", "It was not accepted."))
    for entry in found.entries:
        card = entry.card
        if entry.did == "new" or card is None or entry.did == "dropped":
            continue
        if entry.did == "kept":
            if not card.planned_as and entry.item["ref"] in wanted:
                Card.objects.filter(pk=card.pk).update(planned_as=entry.item["ref"])
            receipts.append(_receipt(entry, card, "kept"))
        elif entry.item["ref"] not in wanted:
            receipts.append(_receipt(entry, card, "left", "It was not accepted."))
        elif entry.is_running and card.key not in confirm:
            why = "It is running; name it in confirm to change it all the same."
            receipts.append(_receipt(entry, card, "left", why))
        elif entry.is_running and "workflow" in entry.changes:
            why = "It is running: its workflow changes once it is paused or moved."
            receipts.append(_receipt(entry, card, "left", why))
        else:
            changes: dict[str, Any] = {n: after for n, (_, after) in entry.changes.items()}
            if "depends_on" in changes:
                changes["depends_on"] = _needed(plan, changes["depends_on"], made, by_key)
            cards.edit(card.pk, actor, changes)
            Card.objects.filter(pk=card.pk).update(planned_as=entry.item["ref"])
            receipts.append({**_receipt(entry, card, "changed"), "changed": sorted(changes)})
    return receipts


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries so that each comes behind what it waits for; there is no circle."""
    left = {e.item["ref"]: e for e in entries}
    ordered: list[Entry] = []
    while left:
        ready = [e for e in left.values() if not set(e.item["depends_on"]) & left.keys()]
        ordered += ready
        for entry in ready:
            del left[entry.item["ref"]]
    return ordered


def _create(
    plan: Plan, actor: str, entry: Entry, made: Mapping[str, Card], by_key: Mapping[str, Card]
) -> Card:
    item = entry.item
    more = {"priority": item["priority"]} if item["priority"] is not None else {}
    return cards.create(
        plan.board,
        actor,
        title=item["title"],
        description=item["description"],
        goal=plan.goal,
        covers=item["covers"],
        estimate=item["estimate"],
        labels=item["labels"],
        workflow=item["workflow"],
        requires=item["requires"],
        inputs=item["inputs"],
        depends_on=_needed(plan, item["depends_on"], made, by_key),
        planned_as=item["ref"],
        **more,
    )


def _needed(
    plan: Plan, names: Sequence[str], made: Mapping[str, Card], by_key: Mapping[str, Card]
) -> list[Card]:
    """Return the cards of the names; items that were not accepted are not waited for."""
    missing = [n for n in names if n not in made and n not in by_key]
    outside = {c.key: c for c in Card.objects.filter(board=plan.board, key__in=missing)}
    found = [made.get(n) or by_key.get(n) or outside.get(n) for n in names]
    return [card for card in dict.fromkeys(found) if card is not None]


def _cancel(
    found: Comparison, actor: str, drop: Collection[str] | None, confirm: set[str]
) -> list[dict[str, Any]]:
    receipts = []
    for card in found.gone:
        about = {"card": card.key, "ref": card.planned_as, "title": card.title}
        if drop is not None and card.key not in drop:
            receipts.append({**about, "did": "left", "why": "It was not to be dropped."})
        elif card.state == Card.State.RUNNING and card.key not in confirm:
            why = "It is running; name it in confirm to cancel it all the same."
            receipts.append({**about, "did": "left", "why": why})
        else:
            cards.cancel(card.pk, actor)
            receipts.append({**about, "did": "cancelled", "why": ""})
    return receipts


def _receipt(entry: Entry, card: Card | None, did: str, why: str = "") -> dict[str, Any]:
    return {
        "card": card.key if card else None,
        "ref": entry.item["ref"],
        "title": entry.item["title"],
        "did": did,
        "why": why,
    }


def _counted(receipts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    names = ("created", "changed", "cancelled", "left")
    return {name: sum(r["did"] == name for r in receipts) for name in names}


def _note(plan: Plan, kind: str, actor: str, **data: Any) -> None:
    log.record(
        kind,
        board_id=plan.board_id,
        subject_id=plan.card_id or plan.goal_id,
        actor=actor,
        plan=str(plan.pk),
        number=plan.number,
        items=len(plan.items),
        goal=str(plan.goal_id),
        **data,
    )
