"""Calls that run at once, each on a connection of its own, and races staged by order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection, connections

Call = Callable[[], Any]


def at_once(*calls: Call) -> list[Any]:
    """Return what each call returned or raised, all of them having started together."""
    together = threading.Barrier(len(calls))

    def run(call: Call) -> Any:
        try:
            together.wait(60)
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def failures(results: Sequence[Any]) -> list[Exception]:
    """Return the exceptions among the results."""
    return [r for r in results if isinstance(r, Exception)]


def wait_until_blocked(count: int = 1, seconds: float = 60) -> None:
    """Return once that many connections to this database wait for a lock of another one.

    At once on SQLite, where a writer waits for the whole file and can't be seen to.
    """
    if connection.vendor != "postgresql":
        return
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            # The activity is a snapshot that lasts as long as the transaction asking.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0] >= count:
                return
        time.sleep(0.01)
    raise AssertionError("nothing blocked")


def blocked_behind(first: Callable[[Call], Any], second: Call) -> tuple[Any, Any]:
    """Return what both calls returned or raised, ``second`` having waited for a lock of ``first``.

    ``first`` is given a function to call, inside its transaction, once it holds its locks; that
    returns when ``second`` is waiting for one of them.
    """
    holds = threading.Event()

    def pause() -> None:
        holds.set()
        wait_until_blocked()

    def follow() -> Any:
        assert holds.wait(60)
        return second()

    one, two = at_once(lambda: first(pause), follow)
    return one, two
