"""Ports for servers of tests: one that is let go of for a moment is still there afterwards.

Linux gives ports from 32768 on to whoever connects somewhere, and hundreds of tests do: a server
that was killed would now and then find its port taken. Each process of a run has a part of those
below, so that two of them do not pick the same one before either listens.
"""

from __future__ import annotations

import os
import random
import socket

_FIRST, _END, _PARTS = 20_000, 32_768, 16
_draw = random.SystemRandom()


def listening(port: int = 0) -> socket.socket:
    """Return a socket that listens on the port, or on a new one. OSError when that is taken."""
    while True:
        made = socket.socket()
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("127.0.0.1", port or _drawn()))
            made.listen(1024)
        except OSError:
            made.close()
            if port:
                raise
        else:
            return made


def free() -> int:
    """Return a port on which nobody listened a moment ago."""
    with listening() as probe:
        return int(probe.getsockname()[1])


def _drawn() -> int:
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PARTS
    size = (_END - _FIRST) // _PARTS
    return _FIRST + part * size + _draw.randrange(size)
