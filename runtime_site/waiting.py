"""Where long-polls wait: many requests, no thread, no connection, and one look for all of them.

    commit anywhere ──> tail ──> announce ──> look ──> call as many as will find something
                                     clock ────┘

A request whose answer is empty says what it waits for: its *want*, a value whose class has
``look``, which answers from the store for any number of wants at once, and ``shared``, which says
whether what is found is for all (an event) or for one (a card). A look runs when something
was committed, and on a clock for what becomes possible by time alone. Who came first is called
first, and for an opening that is not shared nobody else is called until that one has asked:
five hundred waiting agents cost a new card one look and one claim, not five hundred.

All of it is a hint: whoever is called asks again like anybody else, and the store decides.
Everything here runs on the event loop, the looks apart, which have one thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import connections

from events import tail
from runtime_site import threads

log = logging.getLogger(__name__)

#: A look is taken at least so often, for what becomes possible by time alone.
LOOK_ANYWAY_SECONDS = 1.0
#: Between two looks, the shortest rest, and how many times its own duration a look is paid with.
REST_SECONDS = 0.02
REST_PER_LOOK = 2
#: An opening that somebody was called for and did not get is offered again after so long.
COOL_SECONDS = 0.2


class Want(Protocol):
    """What somebody waits for. Equal wants are looked for once."""

    @property
    def shared(self) -> bool: ...

    @staticmethod
    def look(wants: Mapping[Any, int]) -> Mapping[Any, Sequence[Hashable]]:
        """Return the openings for each want that has any now; each has so many who wait."""

    def __hash__(self) -> int: ...


class Guest:
    """One request that waits, from its first empty answer to its last."""

    def __init__(self, room: Room, want: Want) -> None:
        self.want = want
        self.opening: Hashable = None
        self._room = room
        self._called: asyncio.Future[None] | None = None

    @property
    def rests(self) -> bool:
        """True while it waits to be called, false while it asks."""
        return self._called is not None and not self._called.done()

    def call(self, opening: Hashable) -> None:
        """Have it ask again."""
        self.opening = opening
        if self._called is not None and not self._called.done():
            self._called.set_result(None)

    async def called(self, mark: int, seconds: float) -> bool:
        """Return True when it should ask again, False when ``seconds`` are over.

        ``mark`` is from before it last asked: for what was committed since then a look is due.
        """
        if seconds <= 0:
            return False
        self._called = self._room.loop.create_future()
        self._room.rests(self, mark)
        await asyncio.wait({self._called}, timeout=seconds)
        return self._called.done()


class Room:
    """Those who wait on one event loop, in the order in which they came."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.guests: dict[Guest, None] = {}
        #: Openings that somebody was called for, and from when on others may be.
        self._given: dict[Hashable, float] = {}
        self._due = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def enter(self, want: Want) -> Guest:
        guest = Guest(self, want)
        self.guests[guest] = None
        if self._looking is None:
            tail.attend()
            self._looking = self.loop.create_task(self._run())
        return guest

    def leave(self, guest: Guest) -> None:
        del self.guests[guest]
        if guest.opening is not None:
            # Taken, or left by one who went away: who comes next may find it.
            self._given.pop(guest.opening, None)
            self._due.set()
        if not self.guests and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def rests(self, guest: Guest, mark: int) -> None:
        if guest.opening is not None:
            self._given[guest.opening] = time.monotonic() + COOL_SECONDS
            guest.opening = None
        if mark != _count:
            self._due.set()

    def announce(self) -> None:
        self._due.set()

    async def _run(self) -> None:
        failing = False
        while True:
            await self._until_due()
            began = time.monotonic()
            try:
                await self._look()
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("nobody who waits can be called (%s); trying again", error)
                failing = True
            took = time.monotonic() - began
            await asyncio.sleep(max(REST_SECONDS, min(took * REST_PER_LOOK, 1.0)))

    async def _until_due(self) -> None:
        now = time.monotonic()
        soonest = min((at - now for at in self._given.values()), default=LOOK_ANYWAY_SECONDS)
        alarm = self.loop.call_later(min(max(soonest, 0), LOOK_ANYWAY_SECONDS), self._due.set)
        try:
            await self._due.wait()
        finally:
            alarm.cancel()
        self._due.clear()

    async def _look(self) -> None:
        now = time.monotonic()
        self._given = {opening: at for opening, at in self._given.items() if at > now}
        wants: dict[type, Counter[Want]] = {}
        for guest in self.guests:
            if guest.rests:
                wants.setdefault(type(guest.want), Counter())[guest.want] += 1
        for kind, counted in wants.items():
            # What somebody was called for already still shows among the openings.
            many = {want: count + len(self._given) for want, count in counted.items()}
            look: Callable[..., Any] = kind.look  # type: ignore[attr-defined]
            self._call(await self.loop.run_in_executor(_thread, _looked, look, many), kind)

    def _call(self, found: Mapping[Want, Sequence[Hashable]], kind: type) -> None:
        for guest in self.guests:
            if type(guest.want) is not kind or not guest.rests:
                continue
            openings = found.get(guest.want, ())
            if guest.want.shared:
                if openings:
                    guest.call(None)
                continue
            opening = next((o for o in openings if o not in self._given), None)
            if opening is not None:
                self._given[opening] = float("inf")
                guest.call(opening)


_thread = threads.pool(1, "look")


def _looked(look: Callable[..., Any], wants: Mapping[Any, int]) -> Any:
    threads.drop_dead_connections()
    try:
        return look(wants)
    except Exception:
        connections.close_all()
        raise


# -- the process's own ------------------------------------------------------------------------

_count = 0
_room: Room | None = None


def announce() -> None:
    """Have a look taken for those who wait. Called by the tail of this process."""
    global _count
    _count += 1
    if _room is not None:
        _room.announce()


def anybody_waits() -> bool:
    """Whether an announcement would be of use to somebody."""
    return _room is not None and bool(_room.guests)


def mark() -> int:
    """Return the point from which ``Guest.called`` counts what was committed."""
    return _count


@contextmanager
def guest(want: Want) -> Iterator[Guest]:
    """Keep a place for one who waits for ``want``."""
    global _room
    if _room is None or _room.loop is not asyncio.get_running_loop():
        _room = Room()
    room = _room
    entered = room.enter(want)
    try:
        yield entered
    finally:
        room.leave(entered)
