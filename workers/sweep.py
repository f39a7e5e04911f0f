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
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from boards import bounds, choice, dispatch, leases, races, timeouts
from boards.models import Board, Card
from boards.notices import delivering, raising
from boards.secrets import keeping as secrets_keeping
from checkpoints import artifacts, joining
from events import receipts
from goals import criteria
from goals.search import keeping
from workers import breakers, checking, executors, hygiene, presence, pulses, registry

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
        """Expire lapsed leases, settle questions whose time is up, nudge what waits unnoticed,
        tell people, have what was written found; clean up now and then."""
        failed: Exception | None = None
        for part in (
            timeouts.tick,
            self._expire,
            races.tick,
            joining.tick,
            nudge_waiting,
            checking.tick,
            self._clean_now_and_then,
            self._tell,
            keeping.tick,
        ):
            # What one part can't do keeps none of the others waiting.
            try:
                part()
            except (OperationalError, InterfaceError):
                raise  # the store does not answer: neither would the others
            except Exception as error:
                logger.exception("a part of the sweep failed")
                failed = error
        if failed is not None:
            raise failed

    def _expire(self) -> None:
        ended = presence.expire_attempts_of_the_dead() + leases.expire_lapsed()
        if ended:
            logger.info("%d attempt(s) lost their worker; their cards can go on", ended)

    def _clean_now_and_then(self) -> None:
        if time.monotonic() - self.cleaned_at > CLEAN_EVERY_SECONDS:
            self.cleaned_at = time.monotonic()
            receipts.prune()
            artifacts.sweep_incoming(UPLOAD_LEFT_SECONDS)
            hygiene.tidy_beside()
            registry.forget_built_in(FORGET_WORKERS_AFTER)
            breakers.forget_gone()
            if resealed := secrets_keeping.reseal():
                logger.info("%d secret(s) were sealed anew under SECRET_KEY", resealed)
        if time.monotonic() - self.beaten_at > BEAT_EVERY_SECONDS:
            pulses.beat("sweep")
            bounds.tick()
            criteria.tick()
            self.beaten_at = time.monotonic()

    def _tell(self) -> None:
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
