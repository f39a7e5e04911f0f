"""Database work for coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connections

T = TypeVar("T")


class Offload:
    """A few threads that keep their database connection from one call to the next.

    Channels' own bridge opens and closes a connection around every call, which on PostgreSQL
    costs more than the work itself.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    async def __call__(self, call: Callable[..., T], *args: object) -> T:
        """Return ``call(*args)``, which only reads, from one of the threads.

        It is called once more when the connection it was given turned out to be dead.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self._threads, thread_name_prefix=self._name, initializer=_keep_connections
            )
        return await asyncio.get_running_loop().run_in_executor(self._pool, _alive, call, args)

    def close(self) -> None:
        """Close the connections and end the threads."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        everyone = threading.Barrier(self._threads)

        def leave() -> None:
            connections.close_all()
            everyone.wait(timeout=10)

        for _ in range(self._threads):
            pool.submit(leave)
        pool.shutdown(wait=True)


def _keep_connections() -> None:
    for connection in connections.all():
        connection.settings_dict = {**connection.settings_dict, "CONN_MAX_AGE": None}


def _alive(call: Callable[..., T], args: tuple[object, ...]) -> T:
    try:
        return call(*args)
    except (OperationalError, InterfaceError):
        if not any(c.errors_occurred and not c.is_usable() for c in connections.all(True)):
            raise
        connections.close_all()
        return call(*args)
