"""A thread that keeps the lease while the attempt's own thread is busy, asleep or blocked."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from holdfast.errors import Error, LeaseLost
from holdfast.protocol import logger

if TYPE_CHECKING:
    from holdfast.attempt import Held

#: What is waited for a beat that is on its way when the attempt ends.
JOIN_SECONDS = 1.0


class Heartbeat:
    """Beats at a third of the lease, on a connection of its own, until stopped or lost.

    The thread runs whenever the interpreter can switch threads: not while C code holds the
    GIL, nor while the process is stopped. It is a daemon, so that no exit waits for it.
    """

    def __init__(self, attempt: Held[Any]) -> None:
        self._attempt = attempt
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go, name="holdfast-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop it; a beat on its way is not waited for longer than a second."""
        self._stopped.set()
        self._thread.join(JOIN_SECONDS)

    def _go(self) -> None:
        attempt = self._attempt
        warned = False
        with attempt.client.sibling(timeout=max(1.0, attempt.ttl_seconds / 3)) as client:
            wait = attempt.ttl_seconds / 3
            while not self._stopped.wait(wait):
                try:
                    client._run(attempt.beat(client.patience))
                    wait, warned = attempt.ttl_seconds / 3, False
                except LeaseLost:
                    return  # the attempt knows; its own thread raises it
                except Error as error:
                    # However late, a beat may still be in time: nobody may have taken over.
                    wait = min(1.0, attempt.ttl_seconds / 10) * random.uniform(0.5, 1.0)
                    if not (warned or self._stopped.is_set()):
                        logger.warning("%s: no heartbeat: %s", attempt, error)
                    warned = True
