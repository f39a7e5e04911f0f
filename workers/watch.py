"""Keeps the lease of an attempt while its command runs, and hears what people decided.

A thread with a connection of its own to the store: it depends neither on the step nor on its
output. What it hears, it says by flags, and by ending the command where that can't wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kernel.errors import LeaseLost
from workers.executors.contract import Cancellable
from workers.ledger import Ledger, Shift

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
LOOK_SECONDS = 1.0  # between looks at the attempt's row, which write nothing


class Watch:
    """Watches one attempt from ``start`` to ``close``.

    ``lost``: the attempt is over, whatever runs was ended at once. ``stopping``: this process
    is to end, whatever runs was asked to end. ``paused``: hand over after the current step.
    """

    def __init__(self, ledger: Ledger, shift: Shift) -> None:
        self.ledger, self.shift = ledger, shift
        self.mandate = ledger.mandate
        self.lost = self.stopping = self.paused = False
        self.note = ""
        self.percent: int | None = None
        self._lock = threading.Lock()
        self._execution: Cancellable | None = None
        self._done = threading.Event()
        self._beat_at = 0.0
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._beat_at = time.monotonic() + self._interval()
        self._thread.start()

    def close(self) -> None:
        """End the watch. Nothing is renewed any more when this returns."""
        self._done.set()
        self._thread.join()

    @contextmanager
    def guarding(self, execution: Cancellable) -> Iterator[None]:
        """Have it ended should the attempt be lost, or this process stop, meanwhile."""
        with self._lock:
            self._execution = execution
        self._end_what_must_end()
        try:
            yield
        finally:
            with self._lock:
                self._execution = None

    def check(self) -> None:
        """Raise LeaseLost if the attempt is known to be over."""
        if self.lost:
            raise LeaseLost(f"Attempt {self.mandate.attempt} is over or was replaced.")

    def _interval(self) -> float:
        return min(self.mandate.lease_seconds / 3, self.ledger.beat_seconds)

    def _run(self) -> None:
        try:
            while not self._done.wait(TICK_SECONDS):
                try:
                    self._look(time.monotonic())
                except Exception:
                    # Whatever it is, the lease must go on being renewed.
                    log.exception("the watch over attempt %s stumbled", self.mandate.attempt)
        finally:
            self.ledger.rest()

    def _look(self, now: float) -> None:
        if not self.stopping and self.shift.stopping():
            self.stopping = True
            self._end_what_must_end()
        try:
            if now >= self._beat_at:
                self.paused = self.ledger.renew(self.note or None, self.percent)
                self._beat_at = now + self._interval()
            elif now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                self.paused = self.ledger.look()
        except LeaseLost:
            self.lost = True
            self._end_what_must_end()
            self._done.set()
        except self.ledger.away as error:
            # The store is away. Nobody is replaced while nobody can claim; ask again soon.
            log.warning("a heartbeat failed, trying again: %s", str(error).partition("\n")[0])
            self.ledger.rest()
            self._beat_at = min(self._beat_at, now + LOOK_SECONDS)
            self._look_at = now + LOOK_SECONDS

    def _end_what_must_end(self) -> None:
        with self._lock:
            if self._execution is None:
                return
            if self.lost:
                # Somebody else may be at it already: no time to tidy up.
                self._execution.cancel(at_once=True)
            elif self.stopping:
                self._execution.cancel()
