"""Carries out a card in this process, under an attempt that a built-in worker has claimed.

An attempt lasts for one slice: long enough to get somewhere, short enough that cards share
the workers. Whatever was recorded is never done again, whoever goes on.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from boards import choice
from boards.models import Attempt, Card
from workers import executors, hosts, stopping, turns
from workers.database import Database
from workers.turns import Outcome

__all__ = ["Outcome", "run_slice"]

OTHERS_WAIT_SECONDS = 1.0  # a card that waits for less is about to be taken by an idle worker


def run_slice(attempt: Attempt) -> Outcome:
    """Carry out the attempt's card for one slice, see ``turns.take``."""
    return turns.take(Database(attempt), Slice())


class Slice:
    """A built-in worker's turn at a card, from now on: see ``ledger.Shift``."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def stopping(self) -> bool:
        return stopping.asked()

    def draining(self) -> bool:
        return hosts.draining()

    def resting(self, kind: str, given: object) -> bool:
        return hosts.resting(kind, given)

    def room_for(self, seconds: float) -> bool:
        """Return whether so much is left before django-q ends this task by force."""
        allowed: Any = settings.Q_CLUSTER["timeout"]
        return bool(time.monotonic() - self._began + seconds < allowed)

    def turn_over(self) -> bool:
        return time.monotonic() - self._began >= settings.SLICE_SECONDS and _others_wait()


def _others_wait() -> bool:
    now = timezone.now()
    return (
        choice.workable(Card.objects.ready(now), executors.capabilities())
        .filter(
            workflow__isnull=False,
            board__allow_commands=True,
            updated_at__lt=now - timedelta(seconds=OTHERS_WAIT_SECONDS),
        )
        .exists()
    )
