"""Carries out what follows a question that nobody answered in time, once.

Level-triggered: a look at what is due, whoever asked and however long nobody looked. Whoever
comes second, another sweep or a person who answers this moment, waits for the card's row and
finds it done.
"""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone

from boards import cards, placing
from boards.models import Card, Message
from kernel.errors import NotFound
from kernel.tx import retrying, transition

OnTimeout = Message.OnTimeout
ACTOR = "system:timeout"
#: Questions looked after in one pass; the rest is left to the next.
AT_ONCE = 100


def tick() -> int:
    """Settle the questions whose time is up, the longest due first. Returns how many."""
    due = Message.objects.filter(
        closed_at=None, lapsed_at=None, due_at__isnull=False, due_at__lte=timezone.now()
    )
    rows = list(due.order_by("due_at").values_list("card_id", "pk")[:AT_ONCE])
    return sum(retrying(lambda c=card_id, q=pk: lapse(c, q)) for card_id, pk in rows)  # type: ignore[misc]


def lapse(card_id: UUID, question_id: int) -> bool:
    """Do what the question says of silence; False where it was settled meanwhile.

    A card that was moved on needs no answer any more: its question only stops being due.
    """
    with transition():
        try:
            card = cards.lock(card_id)
        except NotFound:
            return False
        question = card.messages.filter(pk=question_id, closed_at=None, lapsed_at=None).first()
        now = timezone.now()
        if question is None or question.due_at is None or question.due_at > now:
            return False
        blocked = card.state == Card.State.BLOCKED
        then = OnTimeout(question.on_timeout) if blocked else OnTimeout.STAY
        question.lapsed_at = now
        if then == OnTimeout.FAIL:
            question.closed_at = now
        question.save(update_fields=["lapsed_at", "closed_at"])
        if then == OnTimeout.DEFAULT:
            cards.say(card_id, ACTOR, question.default, answers=question_id, via="timeout")
            return True
        if then == OnTimeout.FAIL:
            card.blocked_reason = f"Nobody answered in time: {question.text}"[:2000]
        card.version += 1
        card.updated_at = now
        card.save(update_fields=["blocked_reason", "version", "updated_at"])
        placing.note(
            card,
            "question.lapsed",
            ACTOR,
            message=question_id,
            then=then if blocked else "moved_on",
            question=question.text[:300],
        )
    return True
