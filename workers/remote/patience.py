"""Waiting out a server that is away for a while."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from holdfast.errors import Unreachable

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 5.0


def patiently(call: Callable[[], T], seconds: float) -> T:
    """Return ``call()``, tried again while the server gives no answer, for up to ``seconds``.

    The call must be one whose repetition does no harm. The last error comes through.
    """
    until = time.monotonic() + seconds
    pause = 0.2
    while True:
        try:
            return call()
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            log.warning("the server does not answer, trying again: %s", error)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
