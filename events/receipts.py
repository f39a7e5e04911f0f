"""Repeated requests get the first answer again.

A receipt is written in the transaction of the effect it answers for. Only successes leave
one: a refusal changed nothing, so asking again may be answered anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, connection
from django.utils import timezone

from events.models import Receipt
from kernel.digests import sha256
from kernel.errors import DomainError, Invalid, KeyBusy, KeyReused
from kernel.tx import enclosing

KEPT_HOURS = 48
MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says: an HTTP status and a JSON body (None for no content).

    ``keep`` is False for a success that changed nothing, such as "nothing to do": asking
    again may find something.
    """

    status: int
    body: Any
    replayed: bool = False
    keep: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


def check_key(key: str) -> str:
    """Return ``key`` if it can serve. Raises Invalid."""
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise Invalid.field(
            "Idempotency-Key", f"must be 1 to {MAX_KEY_CHARS} printable ASCII characters."
        )
    return key


def known(principal: str, key: str) -> bool:
    """Return whether a request with this key has succeeded already."""
    return Receipt.objects.filter(principal=principal, key=check_key(key)).exists()


def once(
    principal: str,
    key: str,
    fingerprint: str,
    effect: Callable[[], Answer],
    *,
    redact: Callable[[Any], Any] = lambda body: body,
) -> Answer:
    """Return ``effect()``'s answer, or the remembered one if this key succeeded before.

    ``redact`` takes secrets out of the body before it is kept. Raises KeyReused when the
    remembered request was another one, and KeyBusy while the first is still running.
    """
    try:
        return _once(principal, key, fingerprint, effect, redact)
    except (IntegrityError, DomainError):
        # The first request may have committed after our look. Then its receipt is there now,
        # and what we met was its effect.
        if not Receipt.objects.filter(principal=principal, key=key).exists():
            raise
        return _once(principal, key, fingerprint, effect, redact)


def _once(
    principal: str,
    key: str,
    fingerprint: str,
    effect: Callable[[], Answer],
    redact: Callable[[Any], Any],
) -> Answer:
    with enclosing():
        kept = _find(principal, key)
        if kept is not None:
            kept_fingerprint, status, body = kept
            if kept_fingerprint != fingerprint:
                raise KeyReused(
                    "This Idempotency-Key was used for another request; send a fresh key."
                )
            return Answer(status, body, replayed=True)
        answer = effect()
        if answer.succeeded and answer.keep:
            Receipt.objects.create(
                principal=principal,
                key=key,
                fingerprint=fingerprint,
                status=answer.status,
                body=redact(answer.body),
            )
        return answer


def _find(principal: str, key: str) -> tuple[str, int, Any] | None:
    """Return the receipt's fingerprint, status and body, holding off a concurrent twin.

    On PostgreSQL the same statement takes a lock per key until commit; SQLite's writers queue
    for the file anyway. Raises KeyBusy while the first request runs.
    """
    if connection.vendor != "postgresql":
        rows = Receipt.objects.filter(principal=principal, key=key)
        return rows.values_list("fingerprint", "status", "body").first()
    lock = int(sha256(principal.encode(), key.encode())[:15], 16)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(%s), r.fingerprint, r.status, r.body::text"
            " FROM (SELECT 1) AS one"
            " LEFT JOIN events_receipt AS r ON r.principal = %s AND r.key = %s",
            [lock, principal, key],
        )
        ((free, fingerprint, status, body),) = cursor.fetchall()
    if fingerprint is not None:
        return fingerprint, status, json.loads(body) if body is not None else None
    if not free:
        raise KeyBusy(
            "The first request with this Idempotency-Key is still running; ask again shortly.",
            retry_after_seconds=1,
        )
    return None


def prune() -> int:
    """Forget receipts older than KEPT_HOURS. Returns how many."""
    horizon = timezone.now() - timedelta(hours=KEPT_HOURS)
    return Receipt.objects.filter(at__lt=horizon).delete()[0]
