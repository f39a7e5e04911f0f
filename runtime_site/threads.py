"""Threads that live as long as the process and keep their database connections."""

from __future__ import annotations

import select
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def pool(count: int, name: str) -> ThreadPoolExecutor:
    """Return an executor of at most ``count`` such threads."""
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=_keep_connections)


def _keep_connections() -> None:
    """Let this thread keep its database connections from one request to the next."""
    for connection in connections.all():
        connection.settings_dict = {**connection.settings_dict, "CONN_MAX_AGE": None}


def drop_dead_connections() -> None:
    """Close connections of this thread that the database server has hung up on.

    Between requests a server has nothing to say; a readable socket is its good-bye. Looking
    costs no round trip, unlike CONN_HEALTH_CHECKS.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor == "postgresql" and connection.connection is not None:
            poll = select.poll()
            try:
                poll.register(connection.connection.fileno(), select.POLLIN)
                dead = bool(poll.poll(0))
            except Exception:
                dead = True
            if dead:
                connection.close()
