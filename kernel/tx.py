"""How a transition opens its transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import OperationalError, transaction

T = TypeVar("T")

_enclosed: ContextVar[bool] = ContextVar("holdfast_enclosed", default=False)

# SQLSTATEs that mean "try again": serialization failure and deadlock (PostgreSQL, appendix A).
_RETRYABLE = {"40001", "40P01"}


def transition() -> AbstractContextManager[Any]:
    """Open the transaction of one transition.

    Inside ``enclosing`` it joins that transaction without a savepoint: the whole request
    is one unit there, and two statements are saved.
    """
    return transaction.atomic(savepoint=not _enclosed.get())


@contextmanager
def enclosing() -> Iterator[None]:
    """Open a transaction that the transitions within join and that fails with any of them."""
    with transaction.atomic():
        token = _enclosed.set(True)
        try:
            yield
        finally:
            _enclosed.reset(token)


def enclosed() -> bool:
    """True within ``enclosing``, where a transition does not commit by itself."""
    return _enclosed.get()


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
