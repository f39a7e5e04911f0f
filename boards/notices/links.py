"""Links that answer one question: for one person, for a while, as long as the question is open.

Nothing is stored. A link is a signature over question and person; what makes it good once only
is the question, which closes with its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.urls import reverse

from boards.authentication import principal_of_user
from boards.models import Card, Message
from boards.notices.models import Notice
from kernel.access import Principal, Role

MAX_AGE = timedelta(days=14)
_SALT = "boards.notices.answer"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a good link leads to: the question, and the person it was made for."""

    question: Message
    person: Principal

    @property
    def is_open(self) -> bool:
        """True while the question can be answered."""
        blocked = self.question.card.state == Card.State.BLOCKED
        return blocked and self.question.closed_at is None


def to_answer(notice: Notice) -> str:
    """Return the address at which the notice's reader may answer its question; "" if none is."""
    if notice.kind != Notice.Kind.QUESTION or notice.message_id is None:
        return ""
    token = signing.dumps([notice.message_id, notice.user_id], salt=_SALT)
    return settings.BASE_URL + reverse("boards:answer", args=[token])


def named(token: str) -> Opened | None:
    """Return what the link leads to, whatever became of the question, or None: forged, too old,
    or no longer theirs."""
    try:
        question_id, user_id = signing.loads(token, salt=_SALT, max_age=MAX_AGE)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    question = (
        Message.objects.filter(pk=question_id, kind=Message.Kind.QUESTION)
        .select_related("card__board", "attempt")
        .first()
    )
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if question is None or user is None:
        return None
    person = principal_of_user(user)
    role = person.role_on(question.card.board_id)
    return Opened(question, person) if role is not None and role >= Role.MEMBER else None
