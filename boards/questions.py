"""A question to people as it stands on its card, and who may answer it; see ``asking``.

The question is a row, its time a column: neither hangs on a process. ``timeouts`` carries out
what is due.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from boards import asking
from boards.asking import APPROVE, NO, SECRET, YES, NoAnswer, Terms
from boards.models import Attempt, Card, Message
from boards.secrets import keeping
from kernel.access import Principal, Role
from kernel.errors import Forbidden, Invalid


def put(card: Card, attempt: Attempt, question: str, terms: Terms) -> Message:
    """Return the question as it stands on the card from now on."""
    now, seconds = timezone.now(), terms.timeout_seconds
    return Message.objects.create(
        card=card,
        kind=Message.Kind.QUESTION,
        actor=attempt.actor,
        text=question,
        options=[YES, NO] if terms.kind == APPROVE else list(terms.options),
        attempt=attempt,
        asks=terms.kind,
        detail=terms.detail,
        default=terms.default,
        on_timeout=terms.on_timeout,
        due_at=now + timedelta(seconds=seconds) if seconds is not None else None,
        at=now,
    )


def accepted(question: Message, actor: str, text: str) -> str:
    """Return the answer as it is kept; a secret is one of the board's afterwards.

    Raises NoAnswer, and TransitionRefused where the board can hold no more secrets.
    """
    said = asking.accepted(question.asks, [str(o) for o in question.options], text)
    if question.asks == SECRET:
        try:
            keeping.put(question.card.board_id, actor, said, text)
        except Invalid as refusal:
            ((sentence, *_),) = refusal.errors.values()
            raise NoAnswer(f"The secret {sentence}", errors={"text": [sentence]}) from None
    return said


def sealed_on(question_id: int) -> UUID | None:
    """Return the board that keeps the answer sealed; None for what is no secret."""
    asked = Message.objects.filter(pk=question_id, asks=SECRET)
    return asked.values_list("card__board_id", flat=True).first()


def check_may_answer(principal: Principal, question: Message | None) -> None:
    """Pass whoever may answer, being a member. Raises Forbidden.

    What is to be approved waits for a person, or for an operator's token that did not ask: no
    worker lets itself through. A secret is given by whoever may set one.
    """
    if question is None or question.asks not in (APPROVE, SECRET):
        return
    asker = question.attempt.token_id if question.attempt else None
    operates = principal.role_on(question.card.board_id) == Role.OPERATOR
    if question.asks == SECRET:
        if not operates:
            raise Forbidden("A secret is given by an operator of the board; ask one to answer.")
        return
    if principal.is_person:
        return
    if not operates or str(asker) == principal.id:
        raise Forbidden(
            "An approval is given by a person, or with an operator's token other than the "
            "worker's that asks; sign in to the board in a browser."
        )


def why_closed(question: Message) -> str:
    """Return in one sentence what became of a closed question."""
    answer = question.answered_by.order_by("-pk").first()
    if answer is None:
        return "The question is closed: its time was up before anybody answered."
    who = answer.actor.partition(":")[2] or answer.actor
    return f"The question is answered already: {who} said “{answer.text[:200]}”."
