"""Tells other programs of events, by HTTP: in order per webhook, at least once, signed.

    log ── cursor ──> head ── 2xx ──────────────> cursor moves on
                       │ 4xx, three times ──────> given up, the cursor moves on
                       │ anything else ─────────> again later; after a day given up
                       └ 410 ───────────────────> the webhook is switched off

The cursor moves with the answer's record in one transaction, so a kill in between costs a
repeat with the same ``webhook-id`` and loses nothing. A lease on the webhook's row keeps two
deliverers from sending the same thing at once; whoever loses it writes nothing.

Signing follows https://www.standardwebhooks.com/.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from events import log, outgoing
from events.entries import event_json
from events.models import Delivery, Event, Webhook
from kernel.errors import Invalid, NotFound, Stale, TransitionRefused
from kernel.release import version
from kernel.tx import transition

#: Webhooks that one board may have.
MAX_PER_BOARD = 20
#: How long one deliverer has a webhook to itself; longer than one sending can take.
LEASE_SECONDS = 60
#: Events looked through, and sendings made, under one lease.
SCAN = 1000
PER_TURN = 50
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 900.0
#: After so many failures in a row only one sending is tried at a time, see ``_pause``.
OPEN_AFTER = 5
OPEN_PAUSE_SECONDS = 60.0
#: A refusal by the receiver is final after so many tries, anything else after so long.
MAX_REFUSED = 3
GIVE_UP_AFTER = timedelta(days=1)
#: A webhook that has failed without a break for so long is switched off.
OFF_AFTER = timedelta(days=7)
KEEP_DELIVERIES = timedelta(days=14)

#: Kinds nobody is told of unless they ask for exactly these: too many, and of no use alone.
CHATTER = frozenset({"log.appended", "attempt.described", "step.started"})


# ── keeping them ─────────────────────────────────────────────────────────────────────────


def create(
    board_id: UUID | None,
    actor: str,
    *,
    url: str,
    kinds: Collection[str] = (),
    active: bool = True,
    user_id: int | None = None,
) -> Webhook:
    """Return a new webhook of a board, or of a person; it is told of what happens from now on."""
    outgoing.check_url(url)
    with transition():
        if board_id is not None:
            if Webhook.objects.filter(board_id=board_id).count() >= MAX_PER_BOARD:
                raise Invalid.field("board", f"has its {MAX_PER_BOARD} webhooks; delete one first.")
            cursor = log.last_seq(board_id)
        else:
            cursor = 0
            # A person has one: another address takes the place of the last.
            Webhook.objects.filter(user_id=user_id).delete()
        return Webhook.objects.create(
            board_id=board_id,
            user_id=user_id,
            url=url,
            kinds=sorted(set(kinds)),
            active=active,
            cursor=cursor,
            created_by=actor,
        )


def edit(pk: UUID, changes: Mapping[str, Any], *, expected_version: int | None = None) -> Webhook:
    """Return the webhook with ``changes`` made. Switched on again, it goes on where it stood."""
    if "url" in changes:
        outgoing.check_url(changes["url"])
    with transition():
        hook = _locked(pk)
        if expected_version is not None and hook.version != expected_version:
            raise Stale("The webhook was changed meanwhile; load it again and redo the change.")
        names = [name for name in ("url", "kinds", "active") if name in changes]
        for name in names:
            setattr(hook, name, changes[name])
        if changes.get("active") or "url" in changes:
            hook.tries = hook.failures = 0
            hook.not_before = hook.failing_since = None
            hook.why_off = ""
        if changes.get("new_secret"):
            hook.secret_number += 1
        hook.version += 1
        hook.save(
            update_fields=[
                *names,
                *("tries", "failures", "not_before", "failing_since", "why_off"),
                *("secret_number", "version"),
            ]
        )
    return hook


def delete(pk: UUID) -> None:
    """Remove the webhook and what is known of its deliveries."""
    with transition():
        Webhook.objects.filter(pk=pk).delete()


def secret_of(hook: Webhook) -> str:
    """Return what the webhook's messages are signed with.

    Derived from SECRET_KEY, never stored: a dump of the database forges nothing.
    """
    text = f"{hook.pk.hex}:{hook.secret_number}"
    mac = salted_hmac("events.webhooks.secret", text, algorithm="sha256")
    return "whsec_" + base64.b64encode(mac.digest()).decode()


def queue(
    hook: Webhook,
    message_id: str,
    kind: str,
    data: Mapping[str, Any],
    due_at: datetime | None = None,
) -> Delivery:
    """Return a delivery that is sent besides the board's events, as soon as it is due."""
    now = timezone.now()
    return Delivery.objects.create(
        webhook=hook,
        message_id=message_id,
        kind=kind,
        body=_encoded(kind, now, data),
        queued=True,
        due_at=due_at or now,
    )


def test(hook: Webhook, actor: str) -> Delivery:
    """Return a delivery that shows whether the receiver can be reached and checks signatures."""
    with transition():
        return queue(hook, f"test_{uuid4().hex}", "webhook.tested", {"by": actor})


def repeat(delivery: Delivery) -> Delivery:
    """Return a new delivery of the same message, under its old id."""
    with transition():
        if delivery.state == Delivery.State.WAITING:
            raise TransitionRefused("This delivery is still under way; see what comes of it first.")
        return Delivery.objects.create(
            webhook=delivery.webhook,
            message_id=delivery.message_id,
            seq=delivery.seq,
            kind=delivery.kind,
            body=delivery.body,
            queued=True,
        )


def wants(hook: Webhook, kind: str) -> bool:
    """True if the webhook is told of events of the kind."""
    if not hook.kinds:
        return kind not in CHATTER
    noun = kind.partition(".")[0]
    return kind in hook.kinds or (f"{noun}.*" in hook.kinds and kind not in CHATTER)


# ── delivering ───────────────────────────────────────────────────────────────────────────


def due(now: datetime) -> list[UUID]:
    """Return the webhooks that have something to send now, in one statement."""
    newest = Event.objects.filter(board_id=OuterRef("board_id"), seq__gt=OuterRef("cursor"))
    queued = _queued(now).filter(webhook=OuterRef("pk"))
    return list(
        _free(now)
        .filter(Exists(newest) | Exists(queued))
        .order_by("not_before")
        .values_list("pk", flat=True)[:100]
    )


def deliver(pk: UUID) -> int:
    """Send what the webhook is to be told, as long as it gets through. Returns how many got.

    Does nothing while somebody else is at it.
    """
    me = uuid4()
    now = timezone.now()
    lease = {"taken_by": me, "taken_until": now + timedelta(seconds=LEASE_SECONDS)}
    if not _free(now).filter(pk=pk).update(**lease):
        return 0
    got = 0
    try:
        for _ in range(PER_TURN):
            done = _next(pk, me)
            if not done:
                break
            got += 1
    finally:
        Webhook.objects.filter(pk=pk, taken_by=me).update(taken_by=None, taken_until=None)
    return got


def prune(now: datetime) -> int:
    """Forget deliveries that ended long ago, and return how many."""
    ended = Delivery.objects.filter(finished_at__lt=now - KEEP_DELIVERIES)
    ids = list(ended.values_list("pk", flat=True)[:1000])
    return Delivery.objects.filter(pk__in=ids).delete()[0] if ids else 0


def _free(now: datetime) -> QuerySet[Webhook]:
    """The webhooks that are switched on, not resting and that nobody delivers to."""
    return Webhook.objects.filter(
        Q(not_before=None) | Q(not_before__lte=now),
        Q(taken_until=None) | Q(taken_until__lte=now),
        active=True,
    )


def _queued(now: datetime) -> QuerySet[Delivery]:
    return Delivery.objects.filter(queued=True, state=Delivery.State.WAITING, due_at__lte=now)


def _next(pk: UUID, me: UUID) -> bool:
    """Send the next thing, if there is one, and say whether it got through."""
    now = timezone.now()
    hook = Webhook.objects.filter(pk=pk, taken_by=me, active=True).first()
    if hook is None or (hook.not_before is not None and hook.not_before > now):
        return False
    renewed = now + timedelta(seconds=LEASE_SECONDS)
    if not Webhook.objects.filter(pk=pk, taken_by=me).update(taken_until=renewed):
        return False
    waiting = _queued(now).filter(webhook=hook).order_by("due_at", "id").first()
    if waiting is None:
        waiting = _head(hook, me)
    if waiting is None:
        return False
    body = waiting.body or _body_of(hook, waiting)
    if body is None:
        _record(hook, waiting, me, outgoing.Answer(None, "", "The event was pruned.", 0))
        return True
    sent = outgoing.post(hook.url, body.encode(), headers(hook, waiting.message_id, now, body))
    return _record(hook, waiting, me, sent)


def _head(hook: Webhook, me: UUID) -> Delivery | None:
    """Return the delivery of the next event that the webhook wants; the rest are passed over."""
    if hook.board_id is None:
        return None
    rows = Event.objects.of_board(hook.board_id).after(hook.cursor).values_list("seq", "kind")
    passed = hook.cursor
    for seq, kind in rows[:SCAN]:
        if wants(hook, kind):
            break
        passed = seq
    else:
        seq = None
    if passed != hook.cursor:
        held = Webhook.objects.filter(pk=hook.pk, taken_by=me, cursor=hook.cursor)
        if not held.update(cursor=passed, tries=0):
            return None
        hook.cursor = passed
    if seq is None:
        return None
    delivery, _ = Delivery.objects.get_or_create(
        webhook=hook,
        seq=seq,
        queued=False,
        defaults={"message_id": f"evt_{hook.board_id.hex}_{seq}", "kind": kind},
    )
    return delivery


def _body_of(hook: Webhook, delivery: Delivery) -> str | None:
    if hook.board_id is None or delivery.seq is None:
        return None
    event = Event.objects.filter(board_id=hook.board_id, seq=delivery.seq).first()
    return None if event is None else _encoded(event.kind, event.at, event_json(event))


def _encoded(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    body = {"type": kind, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": data}
    return json.dumps(body, separators=(",", ":"), default=str)


def headers(hook: Webhook, message_id: str, now: datetime, body: str) -> dict[str, str]:
    """Return the headers that prove where the message is from, and when it was sent."""
    stamp = str(int(now.timestamp()))
    key = base64.b64decode(secret_of(hook).removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{stamp}.{body}".encode(), hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Holdfast/{version()}",
        "Webhook-Id": message_id,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": "v1," + base64.b64encode(mac.digest()).decode(),
    }


def _record(hook: Webhook, delivery: Delivery, me: UUID, sent: outgoing.Answer) -> bool:
    """Write what came of a sending, if the webhook is still ours, and say whether it got through.

    Moves the cursor past an event that got through or is given up.
    """
    now = timezone.now()
    delivery.tries += 1
    delivery.code = sent.code
    delivery.error = sent.error[:300]
    delivery.answer = sent.text.replace("\x00", "")[:500]
    delivery.duration_ms = sent.milliseconds
    good = sent.code is not None and 200 <= sent.code < 300
    final = good or _is_final(delivery, sent.code, now)
    changed: dict[str, Any] = {}
    if good:
        changed.update(tries=0, failures=0, failing_since=None, not_before=None)
        delivery.state = Delivery.State.DELIVERED
    else:
        failures = hook.failures + 1
        since = hook.failing_since or now
        pause = timedelta(seconds=_pause(failures, delivery.tries))
        changed.update(failures=failures, failing_since=since, not_before=now + pause)
        if final:
            delivery.state = Delivery.State.FAILED
        if delivery.queued:
            delivery.due_at = now + pause
        if sent.code == 410 or now - since > OFF_AFTER:
            gone = sent.code == 410
            changed["active"] = False
            changed["why_off"] = (
                "The receiver answered 410: it wants no more."
                if gone
                else f"Nothing got through for {OFF_AFTER.days} days."
            )
    if final:
        delivery.finished_at = now
        if not delivery.queued:
            changed.update(cursor=delivery.seq, tries=0)
    with transition():
        held = Webhook.objects.filter(pk=hook.pk, taken_by=me)
        if not delivery.queued:
            held = held.filter(cursor=hook.cursor)
        if not held.update(**changed):
            return False
        delivery.save(
            update_fields=[
                *("tries", "code", "error", "answer", "duration_ms"),
                *("state", "due_at", "finished_at"),
            ]
        )
    return good


def _is_final(delivery: Delivery, code: int | None, now: datetime) -> bool:
    if code is None and delivery.error == "The event was pruned.":
        return True
    if code is not None and 400 <= code < 500 and code not in (408, 425, 429):
        return code == 410 or delivery.tries >= MAX_REFUSED
    return now - delivery.created_at > GIVE_UP_AFTER


def _pause(failures: int, tries: int) -> float:
    """Return how long to rest: doubling with the tries, at least a minute once the circuit is open.

    The jitter keeps webhooks that failed together from coming back together.
    """
    seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 12))
    if failures >= OPEN_AFTER:
        seconds = max(seconds, OPEN_PAUSE_SECONDS)
    return seconds * random.uniform(0.75, 1.25)


def _locked(pk: UUID) -> Webhook:
    hook = Webhook.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if hook is None:
        raise NotFound("There is no such webhook.")
    return hook
