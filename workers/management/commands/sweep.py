"""Runs the sweep: the level-triggered round that finds whatever a lost nudge missed."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from django_q.models import Failure

from workers import pulses
from workers.sweep import Sweep

log = logging.getLogger(__name__)

TIDY_SECONDS = 3600.0
LONGEST_PAUSE_SECONDS = 15.0
FAILURES_KEPT = timedelta(days=7)


class Command(BaseCommand):
    help = "Sweep every few seconds until SIGTERM. Any number may run, on any host."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        connection.settings_dict = {**connection.settings_dict, "CONN_MAX_AGE": None}
        Rounds().until(stop)


class Rounds:
    """Sweeps in rounds. A round that fails is tried again, more and more rarely."""

    def __init__(self) -> None:
        self._failed = 0
        self._sweep = Sweep()
        self._tidy_at = 0.0

    def until(self, stop: threading.Event) -> None:
        while not stop.wait(self._one()):
            pass
        connection.close()

    def _one(self) -> float:
        """Do one round and return how long to pause."""
        pause = settings.SWEEP_SECONDS * random.uniform(0.75, 1.25)
        try:
            self._sweep.tick()
            self._tidy(time.monotonic())
        except (DatabaseError, InterfaceError) as error:
            self._failed += 1
            log.warning("the store does not answer: %s", str(error).strip().partition("\n")[0])
        except Exception:
            self._failed += 1
            log.exception("a sweep failed")
        else:
            self._failed = 0
            return pause
        connection.close()
        return float(min(pause * 2 ** min(self._failed, 4), LONGEST_PAUSE_SECONDS))

    def _tidy(self, now: float) -> None:
        """Now and then drop what nobody else would: old pulses, failures that django-q keeps."""
        if now >= self._tidy_at:
            pulses.drop_older_than(timedelta(days=1))
            Failure.objects.filter(stopped__lt=timezone.now() - FAILURES_KEPT).delete()
            self._tidy_at = now + TIDY_SECONDS
