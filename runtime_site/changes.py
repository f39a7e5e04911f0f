"""Wakes requests that wait in this process when something was committed anywhere.

Only a hint: who waits also looks on a clock. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_count = 0
_waiters = 0
_waiting: set[asyncio.Future[None]] = set()


def announce() -> None:
    """Wake everybody who waits. Called by the tail of this process."""
    global _count
    _count += 1
    for future in _waiting:
        if not future.done():
            future.set_result(None)
    _waiting.clear()


@contextmanager
def waiter() -> Iterator[None]:
    """Count as somebody who waits, so that the tail looks closely."""
    global _waiters
    _waiters += 1
    try:
        yield
    finally:
        _waiters -= 1


def how_many_wait() -> int:
    """Return how many wait here."""
    return _waiters


def anybody_waits() -> bool:
    """Whether an announcement would be of use to somebody."""
    return _waiters > 0


def mark() -> int:
    """Return the point from which ``since`` counts."""
    return _count


async def since(point: int, seconds: float) -> None:
    """Return when something was announced after ``point``, at the latest after ``seconds``."""
    if point != _count or seconds <= 0:
        return
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _waiting.add(future)
    try:
        await asyncio.wait({future}, timeout=seconds)
    finally:
        _waiting.discard(future)
