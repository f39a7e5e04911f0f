"""How a transition opens its transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from django.db import OperationalError, transaction

T = TypeVar("T")

Postponed = Callable[[], None]

_enclosed: ContextVar[bool] = ContextVar("holdfast_enclosed", default=False)
_postponed: ContextVar[list[Postponed] | None] = ContextVar("holdfast_postponed", default=None)

# SQLSTATEs that mean "try again": serialization failure and deadlock (PostgreSQL, appendix A).
_RETRYABLE = {"40001", "40P01"}


@contextmanager
def transition() -> Iterator[None]:
    """Open the transaction of one transition.

    Inside ``enclosing`` it joins that transaction without a savepoint: the whole request
    is one unit there, and two statements are saved.
    """
    with transaction.atomic(savepoint=not _enclosed.get()), _in_the_end():
        yield


@contextmanager
def enclosing() -> Iterator[None]:
    """Open a transaction that the transitions within join and that fails with any of them."""
    with transaction.atomic(), _in_the_end():
        token = _enclosed.set(True)
        try:
            yield
        finally:
            _enclosed.reset(token)


def enclosed() -> bool:
    """True within ``enclosing``, where a transition does not commit by itself."""
    return _enclosed.get()


def postpone(call: Postponed) -> None:
    """Have ``call`` run right before the next event is recorded, or else in the end.

    For what needs a lock that comes after those which the rest of the transition may still
    take. Runs at once where no transition is open.
    """
    waiting = _postponed.get()
    if waiting is None:
        call()
    else:
        waiting.append(call)


def postponed() -> tuple[Postponed, ...]:
    """Return what is still to run in this transaction."""
    return tuple(_postponed.get() or ())


def catch_up() -> None:
    """Run what was postponed: all locks but those of sums and events have been taken."""
    waiting = _postponed.get()
    while waiting:
        waiting.pop(0)()


@contextmanager
def _in_the_end() -> Iterator[None]:
    """Run what was postponed within, in the end of the outermost block; nothing if it fails."""
    outer = _postponed.get()
    if outer is None:
        token = _postponed.set([])
        try:
            yield
            catch_up()
        finally:
            _postponed.reset(token)
    else:
        before = list(outer)
        try:
            yield
        except BaseException:
            outer[:] = before  # what ran meanwhile is undone with the rest
            raise


def retrying(call: Callable[[], T], tries: int = 3) -> T:
    """Return ``call()``, tried again after a deadlock or serialization failure, briefly jittered.

    Only for a call that opens its transaction itself; inside one, the error is the caller's.
    """
    for left in range(tries - 1, -1, -1):
        try:
            return call()
        except OperationalError as error:
            state = getattr(error.__cause__, "sqlstate", None)
            if not left or state not in _RETRYABLE or transaction.get_connection().in_atomic_block:
                raise
            time.sleep(random.uniform(0.005, 0.05))
    raise AssertionError("unreachable")
