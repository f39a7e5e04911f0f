"""Carries committed events to whoever follows a board in this process.

    log rows ──> source ──> Tail ──> Feed (one per followed board) ──> Subscription ──> socket
                   ^          ^                                            │
                   └──────────┼── catches up by itself: replay, overflow ──┘
                              └── hints: our own commits, NOTIFY, Redis; and the clock

The rows are the truth, hints only shorten the wait. Each subscription yields every event
after its cursor once and in order, because it joins the feed first and then reads what lies
before; numbers without gaps tell it when it has missed something, and then it reads again.

Everything runs on one event loop; ``wake`` and ``is_running`` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from events import hints, listeners, sources
from events.entries import Entry, Row, entry_of, event_json

__all__ = ["Resync", "Subscription", "Tail", "ensure_running", "event_json", "is_running"]

log = logging.getLogger(__name__)

#: Events read or handed on at once.
BATCH = 500
#: A cursor further back than this is not replayed; the reader starts afresh.
MAX_REPLAY = 5000
#: Events that may wait for one reader; past that it catches up from the log instead.
MAX_WAITING = 1000
#: Without an event for so long the tail looks less often.
CALM_SECONDS = 10.0
#: Without a turn for so long the tail counts as stuck.
STUCK_SECONDS = 20.0
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


class Resync(Exception):
    """What lies between the reader's cursor and now can't be replayed; it goes on from here."""

    def __init__(self, last_seq: int) -> None:
        super().__init__(f"start afresh at {last_seq}")
        self.last_seq = last_seq

    @property
    def text(self) -> str:
        """The control frame that says so."""
        return json.dumps({"type": "resync", "last_seq": self.last_seq}, separators=(",", ":"))


class Feed:
    """One board's events as they come, for all of its subscriptions here."""

    def __init__(self, board_id: UUID, last: int) -> None:
        self.board_id = board_id
        self.last = last
        self.subscriptions: set[Subscription] = set()

    def push(self, entries: list[Entry]) -> None:
        """Hand on events that follow ``last``."""
        self.last = entries[-1].seq
        for subscription in self.subscriptions:
            subscription.offer(entries)


class Subscription:
    """One reader of a board: every event after ``cursor``, once, in order."""

    def __init__(self, tail: Tail, feed: Feed, cursor: int, newest: int) -> None:
        self.cursor = cursor
        self._tail = tail
        self._feed = feed
        # Past the newest: numbers we never gave, as after restoring a backup.
        self._lost = cursor > newest or newest - cursor > MAX_REPLAY
        self._behind = cursor < feed.last
        self._waiting: deque[list[Entry]] = deque()
        self._count = 0
        self._arrived = asyncio.Event()
        feed.subscriptions.add(self)

    def offer(self, entries: list[Entry]) -> None:
        """Take events from the feed, unless they will be read from the log anyway."""
        if self._behind:
            return
        self._waiting.append(entries)
        self._count += len(entries)
        if self._count > MAX_WAITING:
            self._fall_behind()
        self._arrived.set()

    async def batch(self) -> list[Entry]:
        """Return all events that wait, at least one. Raises Resync, after which it can go on."""
        while True:
            if self._lost:
                raise await self._start_afresh()
            if self._behind:
                entries = await self._catch_up()
            elif self._waiting:
                entries = self._take()
            else:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if entries:
                self.cursor = entries[-1].seq
                return entries

    def close(self) -> None:
        """Leave the feed."""
        self._tail.leave(self._feed, self)

    def _take(self) -> list[Entry]:
        entries = self._waiting.popleft()
        if self._waiting:
            entries = [*entries, *(entry for others in self._waiting for entry in others)]
            self._waiting.clear()
        self._count = 0
        if entries[0].seq <= self.cursor:
            entries = [entry for entry in entries if entry.seq > self.cursor]
        if entries and entries[0].seq != self.cursor + 1:
            self._fall_behind()
            return []
        return entries

    async def _catch_up(self) -> list[Entry]:
        rows = await self._tail.read(self._feed.board_id, self.cursor, BATCH)
        reached = rows[-1].seq if rows else self.cursor
        # No await between this comparison and the feed's next push: nothing falls in between.
        self._behind = reached < self._feed.last
        if rows[0].seq != self.cursor + 1 if rows else self._behind:
            self._lost = True  # pruned
            return []
        return [entry_of(row) for row in rows]

    async def _start_afresh(self) -> Resync:
        self.cursor = await self._tail.newest(self._feed.board_id)
        self._waiting.clear()
        self._count = 0
        self._lost = False
        self._behind = self.cursor < self._feed.last
        return Resync(self.cursor)

    def _fall_behind(self) -> None:
        self._behind = True
        self._waiting.clear()
        self._count = 0


class Tail:
    """Follows the log for this process, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turned_at = time.monotonic()
        self._feeds: dict[UUID, Feed] = {}
        self._source: sources.Source | None = None
        self._opened = asyncio.Event()
        self._wake = asyncio.Event()
        self._heard: set[UUID] = set()
        self._heard_all = False
        self._news_at = time.monotonic()
        self._pause = _FIRST_RETRY_SECONDS
        self._failing = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow."""
        hints.listen(self.wake)
        self._spawn(self._run())
        for name, ear in listeners.ears():
            self._spawn(listeners.listen(name, ear, self._hear))

    async def stop(self) -> None:
        """Let go of everything."""
        hints.unlisten(self.wake)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    @property
    def is_running(self) -> bool:
        """True while the tail takes its turns; whether the store answers is another question."""
        return time.monotonic() - self.turned_at < STUCK_SECONDS

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)

    # -- for readers -------------------------------------------------------------------------

    async def subscribe(self, board_id: UUID, after: int | None = None) -> Subscription:
        """Return a subscription to events after that number; without one, from now on."""
        newest = await self.newest(board_id)
        feed = self._feeds.get(board_id)
        if feed is None:
            feed = self._feeds[board_id] = Feed(board_id, newest)
            if len(self._feeds) == 1:
                self._wake.set()  # from now on it looks more often
        return Subscription(self, feed, newest if after is None else after, newest)

    def leave(self, feed: Feed, subscription: Subscription) -> None:
        """Forget a subscription, and its feed with the last one."""
        feed.subscriptions.discard(subscription)
        if not feed.subscriptions and self._feeds.get(feed.board_id) is feed:
            del self._feeds[feed.board_id]

    async def newest(self, board_id: UUID) -> int:
        """Return the board's newest number, as soon as the store answers."""
        while True:
            source = await self._open_source()
            try:
                return await source.newest(board_id)
            except Exception:
                await self._doubt(source)

    async def read(self, board_id: UUID, after: int, limit: int) -> list[Row]:
        """Return the next rows, as soon as the store answers."""
        while True:
            source = await self._open_source()
            try:
                return await source.read(board_id, after, limit)
            except Exception:
                await self._doubt(source)

    async def _open_source(self) -> sources.Source:
        while self._source is None:
            await self._opened.wait()
        return self._source

    async def _doubt(self, source: sources.Source) -> None:
        """Have the source opened anew, unless that was done, and let a moment pass."""
        if self._source is source:
            self._source = None
            self._opened.clear()
            await source.close()
            self._wake.set()
        await asyncio.sleep(_FIRST_RETRY_SECONDS * random.uniform(1, 2))

    # -- hints -------------------------------------------------------------------------------

    def wake(self, board_id: UUID, seq: int) -> None:
        """Have the board looked at now. From any thread."""
        try:
            self.loop.call_soon_threadsafe(self._hear, (board_id, seq))
        except RuntimeError:  # the loop is closed: the process ends
            hints.unlisten(self.wake)

    def _hear(self, hint: tuple[UUID, int] | None) -> None:
        if hint is None:
            self._heard_all = True
        else:
            board_id, seq = hint
            feed = self._feeds.get(board_id)
            if feed is not None and feed.last >= seq:
                return
            self._heard.add(board_id)
        self._wake.set()

    def attend(self) -> None:
        """Take the next turn now."""
        self._wake.set()

    # -- following ---------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self.turned_at = time.monotonic()
            try:
                await self._reopen()
                await self._follow()
            except Exception as error:
                if not self._failing:
                    log.warning("the event log can't be read (%s); trying again", error)
                self._failing = True
            await self._close()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(2 * self._pause, _LAST_RETRY_SECONDS)

    async def _reopen(self) -> None:
        source = sources.source()
        await source.open()
        self._source = source
        self._opened.set()

    async def _close(self) -> None:
        source, self._source = self._source, None
        self._opened.clear()
        if source is not None:
            await source.close()

    async def _follow(self) -> None:
        """Hand on what is recorded until the source fails or is doubted."""
        while (source := self._source) is not None:
            self.turned_at = time.monotonic()
            self._wake.clear()
            heard, self._heard = self._heard, set()
            heard_all, self._heard_all = self._heard_all, False
            stirred = await source.stirred()
            self._well()
            if heard or heard_all or (stirred and not source.guesses):
                self._news_at = time.monotonic()
                for changed, _ in _watchers:
                    changed()
            everywhere = heard_all or stirred
            for board_id in list(self._feeds) if everywhere else heard:
                feed = self._feeds.get(board_id)
                if feed is not None:
                    await self._drain(source, feed)
            pause = source.pause(
                followed=bool(self._feeds),
                calm=time.monotonic() - self._news_at > CALM_SECONDS,
                awaited=any(awaited() for _, awaited in _watchers),
            )
            await self._rest(pause)

    async def _drain(self, source: sources.Source, feed: Feed) -> None:
        while feed.subscriptions:
            rows = await source.read(feed.board_id, feed.last, BATCH)
            if rows:
                self._news_at = time.monotonic()
                feed.push([entry_of(row) for row in rows])
            if len(rows) < BATCH:
                return
            await asyncio.sleep(0)

    async def _rest(self, seconds: float) -> None:
        """Return when woken, at the latest after ``seconds``."""
        if self._wake.is_set():
            return
        alarm = self.loop.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _well(self) -> None:
        if self._failing:
            log.info("the event log can be read again")
        self._pause, self._failing = _FIRST_RETRY_SECONDS, False


# -- the process's own ------------------------------------------------------------------------

_tail: Tail | None = None
_watchers: list[tuple[Callable[[], None], Callable[[], bool]]] = []


def ensure_running() -> Tail:
    """Return the tail of the running event loop, started on first use."""
    global _tail
    if _tail is None or _tail.loop is not asyncio.get_running_loop():
        _tail = Tail()
        _tail.start()
    return _tail


def is_running() -> bool:
    """True while this process has a tail that takes its turns. From any thread."""
    return _tail is not None and _tail.is_running


async def stop() -> None:
    """End the tail of this process, if there is one."""
    global _tail
    if _tail is not None:
        tail, _tail = _tail, None
        await tail.stop()


def attend() -> None:
    """Look now, and closely from now on: somebody has begun to wait for a change."""
    if _tail is not None:
        _tail.attend()


def watch(changed: Callable[[], None], awaited: Callable[[], bool]) -> None:
    """Have ``changed()`` called, on the loop, whenever any board's log may have grown.

    The tail looks closely only while ``awaited()`` says that somebody waits for it.
    """
    if (changed, awaited) not in _watchers:
        _watchers.append((changed, awaited))


async def subscribe(board_id: UUID, after: int | None = None) -> Subscription:
    """Return a subscription in this process, see ``Tail.subscribe``."""
    return await ensure_running().subscribe(board_id, after)
