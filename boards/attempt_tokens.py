"""Tokens of attempts: a bearer that opens one live attempt, nothing else.

A program that a worker starts for a card's workflow, such as a coding agent, reaches the server
with it; only workers that carry workflows out are told theirs. It
is derived, never stored, and worth nothing once the attempt is over. Its principal sees the
attempt's card and no other, and may record what it does; who may end the attempt is the worker
alone.
"""

from __future__ import annotations

import re
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from boards import tokens
from boards.models import Attempt
from kernel.access import Principal, Role, Scope

KIND = "attempt"
_TOKEN = re.compile(r"hfa_([0-9a-f]{32})([0-9a-f]{48})")


def token_of(attempt_id: UUID) -> str:
    """Return the attempt's token. ``LEASE_EPOCH`` is in it as in the lease token."""
    text = f"{settings.LEASE_EPOCH}:{attempt_id.hex}"
    mac = salted_hmac("boards.attempts.token", text, algorithm="sha256")
    return f"hfa_{attempt_id.hex}{mac.hexdigest()[:48]}"


def principal_of(plaintext: str) -> Principal | None:
    """Return who the token stands for, or None if it opens nothing or not any more.

    One that was claimed with a token of its own ends with that one.
    """
    match = _TOKEN.fullmatch(plaintext)
    if match is None:
        return None
    attempt_id = UUID(match.group(1))
    if not constant_time_compare(plaintext, token_of(attempt_id)):
        return None
    live = tokens.live(timezone.now()).values("pk")
    held = Attempt.objects.held(attempt_id).filter(Q(token=None) | Q(token__in=live))
    row = held.values_list("board_id", "card_id", "card__goal_id", "worker").first()
    if row is None:
        return None
    board_id, card_id, goal_id, worker = row
    return Principal(
        kind=KIND,
        id=str(attempt_id),
        name=worker,
        boards={board_id: Role.MEMBER},
        scope=Scope(attempt_id, card_id, goal_id),
    )
