"""Waiting out a store that is away for a while."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 5.0


def patiently(call: Callable[[], T], seconds: float) -> T:
    """Return ``call()``, tried again while the store is away, for up to ``seconds``.

    The call must be one whose repetition does no harm: its first try may have been committed
    and only the answer lost. The last error comes through.
    """
    until = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return call()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block or time.monotonic() >= until:
                raise
            log.warning("the store does not answer, trying again: %s", str(error).split("\n")[0])
            connection.close()
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
