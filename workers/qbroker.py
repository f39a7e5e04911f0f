"""django-q's queue in our own database: in order, woken instead of polled, deaf to outages.

The stock ORM broker takes rows in no order, sleeps between looks, prefetches what it can't
start, and gives up its process on a database error. This one keeps the table, which makes
``async_task`` inside a transaction a free outbox, and changes the rest.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf

log = logging.getLogger(__name__)

#: PostgreSQL channel on which a commit announces that there is a nudge.
CHANNEL = "holdfast_queue"
#: How often a change of the SQLite file is looked for, microseconds each time.
TICK_SECONDS = 0.025
#: How long one wait lasts: as long as the pusher takes to notice that it should stop.
WAIT_SECONDS = 1.0
#: A look at the table is due after this long, whatever was or was not heard.
LOOK_SECONDS = 5.0
#: How often a full house is looked at for room; it reads shared memory.
FULL_SECONDS = 0.05
OUTAGE_SECONDS = 0.5


class WakingBroker(ORM):  # type: ignore[misc]
    """The ORM broker that ``Q_CLUSTER`` names."""

    #: Whether a worker here could start a task now; set by ``workers.cluster``. What can't be
    #: started stays in the table, where another host may take it.
    has_room: Callable[[], bool] = staticmethod(lambda: True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wake: _Wake | None = None
        self._look_at = 0.0  # monotonic; when the next look at the table is due

    def enqueue(self, task: str) -> Any:
        key = super().enqueue(task)
        connection = connections[Conf.ORM]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:  # delivered when the transaction commits
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
        return key

    def dequeue(self) -> list[tuple[Any, str]] | None:
        """Return the oldest task that is due, or None after at most ``WAIT_SECONDS``."""
        try:
            if self._wake is None:
                self._wake = _wake()
            if not self.has_room():
                time.sleep(FULL_SECONDS)
                self._look_at = 0.0
                return None
            if time.monotonic() < self._look_at and not self._wake.wait(WAIT_SECONDS):
                return None
            # Marked before the look: what commits in between ends the next wait at once.
            self._wake.mark()
            self._look_at = time.monotonic() + LOOK_SECONDS
            taken = self._take()
            if taken:
                self._look_at = 0.0  # there may be more
                return [taken]
        except (DatabaseError, sqlite3.Error, OSError) as error:
            log.warning("the queue can't be read, trying again: %s", _line(error))
            self._recover()
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "psycopg":
                raise
            log.warning("the queue can't be heard, trying again: %s", _line(error))
            self._recover()
        return None

    def delete(self, task_id: Any) -> None:
        """Delete the row. An outage leaves it locked; delivered again, a nudge does no harm."""
        try:
            super().delete(task_id)
        except DatabaseError as error:
            log.warning("a done nudge could not be deleted: %s", _line(error))
            self._recover()

    def _take(self) -> tuple[Any, str] | None:
        due = self.get_connection().filter(key=self.list_key, lock__lte=timezone.now())
        row = due.order_by("id").only("id", "payload", "lock").first()
        if row is None:
            return None
        same = self.get_connection().filter(id=row.pk, lock=row.lock)
        if not same.update(lock=self.timeout(row)):
            return None  # another host was faster
        return row.pk, row.payload

    def _recover(self) -> None:
        self._look_at = 0.0
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        for connection in connections.all(initialized_only=True):
            try:
                connection.close()
            except DatabaseError:
                connection.connection = None
        time.sleep(OUTAGE_SECONDS)


class _Wake:
    """Knows when somebody committed. Opened in the process that waits, after its fork."""

    def mark(self) -> None:
        raise NotImplementedError

    def wait(self, seconds: float) -> bool:
        """Return True as soon as something was committed after ``mark``, else False in time."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _SQLiteWake(_Wake):
    """``PRAGMA data_version`` changes when another connection commits."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
        self._seen = self._version()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def mark(self) -> None:
        self._seen = self._version()

    def wait(self, seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while self._version() == self._seen:
            if time.monotonic() >= ends:
                return False
            time.sleep(TICK_SECONDS)
        return True

    def close(self) -> None:
        self._db.close()


class _PostgresWake(_Wake):
    """``LISTEN`` on a connection of its own."""

    def __init__(self, params: dict[str, Any]) -> None:
        import psycopg

        self._db = psycopg.connect(**params, autocommit=True)
        self._db.execute(f"LISTEN {CHANNEL}")

    def mark(self) -> None:
        """Nothing to do: what is announced meanwhile is kept for the next wait."""

    def wait(self, seconds: float) -> bool:
        return any(True for _ in self._db.notifies(timeout=seconds, stop_after=1))

    def close(self) -> None:
        self._db.close()


def _wake() -> _Wake:
    connection = connections[Conf.ORM]
    if connection.vendor == "sqlite":
        return _SQLiteWake(str(settings.DATABASES["default"]["NAME"]))
    params = connection.get_connection_params()
    for ours in ("cursor_factory", "context", "prepare_threshold", "pool"):
        params.pop(ours, None)
    return _PostgresWake(params)


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
