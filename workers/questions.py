"""A step's questions to people, and the answers: what was asked stands on the card as messages.

An attempt that asks ends there, so its question is known by it: no attempt asks twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boards.asking import APPROVE, NO, YES
from boards.models import Attempt, Message
from checkpoints import steps
from workers.executors.contract import Ask
from workers.ledger import Said


def answer(
    attempt: Attempt,
    key: str,
    question: str,
    options: Sequence[str],
    *,
    same_words: bool = False,
    **terms: Any,
) -> Said:
    """Return what was answered to the step of that key. Raises Ask while there is nothing.

    With ``same_words`` only an answer to this very question counts, for a step that asks
    several; an approval counts for the very same ``detail`` alone. With ``options``, another
    answer makes the question be asked once more. ``terms`` go along with what is asked.
    """
    asked = Message.objects.filter(
        card_id=attempt.card_id,
        kind=Message.Kind.QUESTION,
        attempt_id__in=steps.attempts_at(attempt.card_id, attempt.line, key),
    )
    if same_words:
        asked = asked.filter(text=question)
    approval = terms.get("question_kind") == APPROVE
    if approval:
        asked = asked.filter(asks=APPROVE, detail=terms.get("detail", ""))
    newest = asked.order_by("-pk").first()
    said = newest.answered_by.order_by("-pk").first() if newest else None
    if said is None:
        raise Ask(question, options, **terms)
    offered = (YES, NO) if approval else options
    if not offered:
        return Said(said.text, said.detail)
    for option in offered:
        if option.strip().casefold() == said.text.strip().casefold():
            return Said(option, said.detail)
    raise Ask(f"{question}\n\n“{said.text[:200]}” is none of the options.", options, **terms)


def stands_open(attempt: Attempt, question: str) -> bool:
    """Return whether that question stands on the card, unanswered."""
    return Message.objects.filter(
        card_id=attempt.card_id, kind=Message.Kind.QUESTION, text=question, closed_at=None
    ).exists()
