"""Cards that an attempt adds to its goal, each recorded as a step: proposed once, however often."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from boards.models import Attempt, Card
from boards.planning import proposing
from boards.planning.models import Plan
from checkpoints import steps
from checkpoints.models import Step
from kernel.errors import BudgetExceeded, Invalid
from kernel.tx import enclosing
from workers.executors.contract import Refused


def propose(attempt_id: UUID, key: str, *, title: str, **wanted: Any) -> str:
    """Return the key of the card that the step of that key added, or where it waits to be
    reviewed; it is added now unless it was before.

    Raises LeaseLost, and Refused where the attempt may add no more.
    """
    try:
        return name_of(add(attempt_id, key, title=title, **wanted))
    except (BudgetExceeded, Invalid) as error:
        raise Refused(str(error.detail)) from None


def add(attempt_id: UUID, key: str, *, title: str, **wanted: Any) -> Card | Plan:
    """Return the card, or the plan it went into, with the store's own refusals: BudgetExceeded,
    Invalid."""
    attempt = Attempt.objects.only("card_id", "line").get(pk=attempt_id)
    known = steps.recorded(attempt.card_id, attempt.line, [key]).get(key)
    if known is not None and known.status == Step.Status.SUCCEEDED:
        kept = known.result or {}
        if "plan" in kept:
            return Plan.objects.get(pk=kept["plan"])
        return Card.objects.get(key=kept["card"])
    with enclosing():
        made = proposing.propose(attempt_id, title=title, **wanted)
        steps.record(
            attempt_id,
            key,
            "succeeded",
            title=f"Proposed {name_of(made)}: {title}"[:300],
            kind="card",
            result={"plan": str(made.pk)} if isinstance(made, Plan) else {"card": made.key},
        )
        return made


def name_of(made: Card | Plan) -> str:
    return f"an item of plan {made.number}" if isinstance(made, Plan) else made.key
