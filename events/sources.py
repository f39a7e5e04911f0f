"""Reads the log for the event loop: no ORM, no threads, never more than one batch at a time.

A source is one connection of the tail's own. Whatever goes wrong with it is raised; the tail
closes it and opens another.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

import psycopg
from django.db import connection

from events.entries import Row

T = TypeVar("T")

#: How long PostgreSQL may take to answer before the connection counts as dead.
PATIENCE_SECONDS = 10.0
_COLUMNS = "board_id, seq, at, kind, actor, subject_id, data"


class Source(Protocol):
    """Where the tail reads events from."""

    #: True where ``stirred`` only keeps time, False where it knows.
    guesses: bool

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of the connection."""

    async def stirred(self) -> bool:
        """Whether something may have been recorded, on any board, since this was last asked.

        True the first time: nobody knows what was recorded before the source was opened.
        """

    async def newest(self, board_id: UUID) -> int:
        """Return the number of the board's newest event, 0 where there is none."""

    async def read(self, board_id: UUID, after: int, limit: int) -> list[Row]:
        """Return the board's next events after a number, in order."""

    def pause(self, *, followed: bool, calm: bool, awaited: bool) -> float:
        """Return how many seconds to rest before looking again when nothing wakes us.

        ``followed`` says that somebody follows a board, ``calm`` that nothing has happened
        for a while, ``awaited`` that somebody waits for any change at all.
        """


class SQLiteSource:
    """A read-only connection, used on the event loop itself.

    ``PRAGMA data_version`` moves when any other connection, in any process, has committed.
    Asking takes a few microseconds, reading a batch a few milliseconds: less than handing
    either to a thread. Nothing here waits for a lock; a busy file is looked at next time.
    """

    guesses = False

    def __init__(self) -> None:
        name = str(connection.settings_dict["NAME"])
        if ":memory:" in name or "mode=memory" in name:
            raise RuntimeError("The tail needs the database in a file, not in memory.")
        self._uri = f"{Path(name).absolute().as_uri()}?mode=ro"
        self._db: sqlite3.Connection | None = None
        self._version: int | None = None
        self._newest_id: int | None = None

    async def open(self) -> None:
        self._db = sqlite3.connect(self._uri, uri=True, isolation_level=None, timeout=0)

    async def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    async def stirred(self) -> bool:
        try:
            ((version,),) = self._ask("PRAGMA data_version")
            if version == self._version:
                return False
            # A heartbeat commits too; it is no event.
            ((newest,),) = self._ask("SELECT MAX(id) FROM events_event")
        except sqlite3.OperationalError as error:
            if _busy(error):
                return False
            raise
        stirred = self._version is None or newest != self._newest_id
        self._version, self._newest_id = version, newest
        return stirred

    async def newest(self, board_id: UUID) -> int:
        ((seq,),) = await self._patiently(
            "SELECT COALESCE(MAX(seq), 0) FROM events_event WHERE board_id = ?", board_id.hex
        )
        return int(seq)

    async def read(self, board_id: UUID, after: int, limit: int) -> list[Row]:
        rows = await self._patiently(
            f"SELECT {_COLUMNS} FROM events_event"  # noqa: S608 — a constant
            " WHERE board_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            board_id.hex,
            after,
            limit,
        )
        return [
            Row(
                board_id,
                seq,
                datetime.fromisoformat(at).replace(tzinfo=UTC),
                kind,
                actor,
                UUID(subject),
                json.loads(data),
            )
            for _, seq, at, kind, actor, subject, data in rows
        ]

    def pause(self, *, followed: bool, calm: bool, awaited: bool) -> float:
        if followed or awaited:
            return 0.05 if calm else 0.02
        return 1.0

    def _ask(self, sql: str, *params: Any) -> list[Any]:
        if self._db is None:
            raise sqlite3.ProgrammingError("the connection is closed")
        return self._db.execute(sql, params).fetchall()

    async def _patiently(self, sql: str, *params: Any) -> list[Any]:
        """Ask again while a writer holds the file: outside WAL it shuts out readers as well."""
        while True:
            try:
                return self._ask(sql, *params)
            except sqlite3.OperationalError as error:
                if not _busy(error):
                    raise
            await asyncio.sleep(0.01)


def _busy(error: sqlite3.OperationalError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class PostgreSQLSource:
    """An asynchronous connection that reads; news come by LISTEN, see ``events.listeners``.

    NOTIFY is a hint: every POLL_SECONDS all followed boards are read whatever was heard.
    """

    guesses = True
    POLL_SECONDS = 2.0

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._look_at = 0.0

    async def open(self) -> None:
        self._connection = await connect()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def stirred(self) -> bool:
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + self.POLL_SECONDS
        await self._ask("SELECT 1")  # a dead connection shows itself, followed or not
        return True

    async def newest(self, board_id: UUID) -> int:
        sql = "SELECT COALESCE(MAX(seq), 0) FROM events_event WHERE board_id = %s"
        ((seq,),) = await self._ask(sql, board_id)
        return int(seq)

    async def read(self, board_id: UUID, after: int, limit: int) -> list[Row]:
        sql = (
            f"SELECT {_COLUMNS} FROM events_event"  # noqa: S608 — a constant
            " WHERE board_id = %s AND seq > %s ORDER BY seq LIMIT %s"
        )
        return [Row(*row) for row in await self._ask(sql, board_id, after, limit)]

    def pause(self, *, followed: bool, calm: bool, awaited: bool) -> float:
        return self.POLL_SECONDS

    async def _ask(self, sql: str, *params: Any) -> list[Any]:
        return await unbroken(self._query(sql, params))

    async def _query(self, sql: str, params: tuple[Any, ...]) -> list[Any]:
        if self._connection is None:
            raise psycopg.OperationalError("the connection is closed")
        # Awaited one at a time: the connection queues who comes meanwhile.
        cursor = await self._connection.execute(sql, params)
        return await cursor.fetchall()


async def connect() -> psycopg.AsyncConnection[Any]:
    """Return a connection like Django's, for the event loop, that notices a dead server."""
    params = connection.get_connection_params()
    for synchronous in ("cursor_factory", "context"):
        params.pop(synchronous, None)
    for name, seconds in (("keepalives_idle", 10), ("keepalives_interval", 5)):
        params.setdefault(name, seconds)
    params.setdefault("keepalives_count", 3)
    return await asyncio.wait_for(
        psycopg.AsyncConnection.connect(**params, autocommit=True), PATIENCE_SECONDS
    )


async def unbroken(query: Awaitable[T]) -> T:
    """Return what the query returns, within PATIENCE_SECONDS.

    Who gives up waiting leaves the query to itself: cancelling it would cancel it on the
    server too and spoil the connection for all others.
    """
    task = asyncio.ensure_future(query)
    task.add_done_callback(_look_at_exception)
    return await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS)


def _look_at_exception(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def source() -> Source:
    """Return a source for the configured store, not yet open."""
    return PostgreSQLSource() if connection.vendor == "postgresql" else SQLiteSource()
