"""Plans through agents: what an attempt proposes is collected until a person has looked at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from boards import cards, leases
from boards.models import Board, Card
from boards.planning import applying, drafts
from boards.planning.models import Plan, unplanned
from goals.models import Goal
from kernel.errors import Invalid
from kernel.tx import transition

#: New requirements that are named to whoever plans again.
NEW = 20
#: What an agent is told to do on the card that asks for a plan.
TASK = """\
Plan how to reach the goal of this card. Change nothing else.

Read the goal, its criteria, what was decided, discovered and tried, and the repository where \
there is one. Cut the work into cards that one worker can finish and somebody else can check. \
Propose them with propose_plan in one call (or propose_card for each): a title, what is to be \
done, the criteria it covers by number, what it waits for, an estimate. Every criterion must be \
covered by a card. Where a tool takes a title and a description only, end the description with \
lines such as

Covers: 1, 3
Estimate: 3
After: the title of the card that it waits for

A person reviews the plan before any card is made.
"""


def wants_plan(card: Card, asked: bool | None) -> bool:
    """True if what the card's workers propose is to be reviewed before it becomes cards."""
    if asked is not None:
        return asked
    return bool(card.goal and card.goal.plans_first) or card.inputs.get("planning") is True


def propose(
    attempt_id: UUID,
    *,
    plan: bool | None = None,
    named: Callable[[str, int], Card] | None = None,
    **fields: Any,
) -> Card | Plan:
    """Return the new card, or the plan that the proposal went into. Fenced.

    In a plan an item with the ref of another takes its place, so a repeated proposal is one; it
    may wait for items. Of a card ``named`` finds those that it depends on.
    """
    if not wants_plan(_card_of(attempt_id), plan):
        for name in ("ref", "workflow"):
            if fields.pop(name, None):
                raise Invalid.field(name, "goes with a plan; send plan: true.")
        if named is not None and "depends_on" in fields:
            needs = enumerate(fields["depends_on"])
            fields["depends_on"] = [named(name, n) for n, name in needs]
        return cards.follow_up(attempt_id, **fields)
    with transition():
        held = leases.hold(attempt_id)
        open_plan = _plan_of(held.card_id)
        item = drafts.told(fields)
        if open_plan is None:
            return _begin(held.card_id, held.actor, [item])
        ref = item.get("ref") or drafts.slug(item["title"])
        there = [i["ref"] for i in open_plan.items]
        kept = list(open_plan.items)
        item["ref"] = ref
        if ref in there:
            kept[there.index(ref)] = item
        else:
            kept.append(item)
        return applying.edit(open_plan.pk, held.actor, items=kept)


def propose_plan(attempt_id: UUID, items: Sequence[Mapping[str, Any]], note: str = "") -> Plan:
    """Return the plan of the attempt's card, which is these items from now on. Fenced."""
    told = [drafts.told(item) for item in items]
    with transition():
        held = leases.hold(attempt_id)
        there = _plan_of(held.card_id)
        if there is None:
            return _begin(held.card_id, held.actor, told, note)
        return applying.edit(there.pk, held.actor, items=told, note=note)


def ask(
    board: Board,
    actor: str,
    goal: Goal,
    step: Mapping[str, Any] | None = None,
    *,
    note: str = "",
) -> Card:
    """Return a new card in progress that asks for a plan of the goal.

    ``step`` is ``{"agent": …}`` or ``{"llm": …}`` as in a workflow, without its prompt; without
    one any agent may claim the card. What is new since the last plan and the ``note`` end what it
    is told. Raises Invalid.
    """
    new = [f"- {d.title}" for d in unplanned().filter(goal=goal).order_by("at")[:NEW]]
    told = "\n".join(["New since the last plan:", *new, ""]) if new else ""
    task = "\n".join(filter(None, (TASK, told, note.strip())))
    workflow = None
    if step:
        ((kind, given),) = step.items()
        workflow = {"steps": [{"key": "plan", kind: {**given, "prompt": task}}]}
    return cards.create(
        board,
        actor,
        title=f"Plan: {goal.title}"[:300],
        description=task,
        goal=goal,
        column=board.columns.filter(kind="in_progress").order_by("position").first(),
        labels=["plan"],
        review_required=True,
        inputs={"planning": True},
        workflow=workflow,
    )


def _card_of(attempt_id: UUID) -> Card:
    return Card.objects.select_related("goal").get(attempts=attempt_id)


def _plan_of(card_id: UUID) -> Plan | None:
    return Plan.objects.filter(card_id=card_id, status=Plan.Status.OPEN).first()


def _begin(card_id: UUID, actor: str, items: Sequence[Mapping[str, Any]], note: str = "") -> Plan:
    card = Card.objects.select_related("goal").get(pk=card_id)
    if card.goal is None:
        raise Invalid.field("plan", "is of a goal, and the card has none.")
    return applying.create(card.goal, actor, items, source=Plan.Source.AGENT, note=note, card=card)
