"""The level-triggered sweep: makes lapses visible and wakes workers that missed a nudge.

Every pass looks at the state as it is, so a lost nudge, a restart or two sweeps at once cost
nothing but time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django_q.models import OrmQ

from boards import bounds, choice, dispatch, leases
from boards.models import Board, Card
from boards.notices import delivering, raising
from checkpoints import artifacts
from events import receipts
from workers import executors, hygiene, presence, pulses, registry

logger = logging.getLogger(__name__)

NUDGE_AFTER_SECONDS = 2
NUDGES_PER_PASS = 50
CLEAN_EVERY_SECONDS = 600
BEAT_EVERY_SECONDS = 10
SETTLE_EVERY_SECONDS = 30
UPLOAD_LEFT_SECONDS = 3600
FORGET_WORKERS_AFTER = timedelta(days=1)


@dataclass
class Sweep:
    """One process's sweep; ``tick`` is one pass."""

    cleaned_at: float = field(default=float("-inf"))
    beaten_at: float = field(default=float("-inf"))
    settled_at: float = field(default=float("-inf"))
    deliverer: delivering.Deliverer = field(default_factory=delivering.Deliverer)

    def tick(self) -> None:
        """Expire lapsed leases, nudge what waits unnoticed, tell people; clean up now and then."""
        ended = presence.expire_attempts_of_the_dead() + leases.expire_lapsed()
        if ended:
            logger.info("%d attempt(s) lost their worker; their cards can go on", ended)
        nudge_waiting()
        if time.monotonic() - self.cleaned_at > CLEAN_EVERY_SECONDS:
            self.cleaned_at = time.monotonic()
            receipts.prune()
            artifacts.sweep_incoming(UPLOAD_LEFT_SECONDS)
            hygiene.tidy_beside()
            registry.forget_built_in(FORGET_WORKERS_AFTER)
        if time.monotonic() - self.beaten_at > BEAT_EVERY_SECONDS:
            pulses.beat("sweep")
            bounds.tick()
            self.beaten_at = time.monotonic()
        settling = time.monotonic() - self.settled_at > SETTLE_EVERY_SECONDS
        raising.tick(settling=settling)
        if settling:
            self.settled_at = time.monotonic()
        self.deliverer.tick()


def nudge_waiting() -> int:
    """Nudge built-in workers about claimable cards that nobody has taken. Returns how many.

    Only while the queue is empty: what stands in it will look at the cards anyway.
    """
    now = timezone.now()
    # A nudge that somebody took stays in the table, locked, until it is done: for hours, if
    # its cluster was killed. Only the others will still make a worker look.
    if not settings.DISPATCH or OrmQ.objects.filter(lock__lte=now).exists():
        return 0
    room = choice.room_without_lock(None)
    ours = choice.workable(choice.ours(Card.objects.all()), executors.capabilities())
    unnoticed = now - timedelta(seconds=NUDGE_AFTER_SECONDS)
    waiting = room.for_waiting(ours.ready(now)).filter(updated_at__lt=unnoticed)
    pulled = room.within(choice.pullable(ours, now)).filter(board__pull=Board.Pull.AUTO)
    nudged = 0
    for cards in (waiting, pulled):
        for card in cards.in_claim_order()[:NUDGES_PER_PASS]:
            dispatch.nudge(card)
            nudged += 1
    return nudged
