"""Who follows a board live, and whether they still may.

A request is checked once and over; somebody who follows stays. So everybody in the audience
is checked again about once a second, all of them with a query or two, and whoever has lost
the right is shown out: token revoked or expired, signed out, membership removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.utils import timezone

from boards import tokens
from kernel.access import Principal
from kernel.offload import Offload

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.7

#: Close codes of the WebSocket: 4000 and the HTTP status of the same refusal.
UNKNOWN, HIDDEN = 4401, 4404

#: The thread for the database work of whoever follows.
in_database = Offload("audience")


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who follows a board: as which principal and, for a browser, in which session."""

    kind: str
    id: str
    session: str | None
    board_id: UUID

    @classmethod
    def of(cls, principal: Principal, session: str | None, board_id: UUID) -> Guest:
        return cls(principal.kind, principal.id, session, board_id)


@dataclass(eq=False, slots=True)
class _Seat:
    guest: Guest
    show_out: Callable[[int], None]


class _Audience:
    """Everybody who follows something in this process, on one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.seats: set[_Seat] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Check the seats from now on until the last is empty."""
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._check())

    async def _check(self) -> None:
        while self.seats:
            await asyncio.sleep(CHECK_SECONDS)
            guests = {seat.guest for seat in self.seats}
            try:
                codes = await in_database(unwelcome, guests)
            except DatabaseError as error:
                # No event can be read while the store is away, either.
                log.debug("the audience can't be checked: %s", error)
                continue
            except Exception:
                log.exception("the audience can't be checked")
                continue
            for seat in [seat for seat in self.seats if seat.guest in codes]:
                self.seats.discard(seat)
                seat.show_out(codes[seat.guest])


_audience: _Audience | None = None


@contextmanager
def seated(guest: Guest, show_out: Callable[[int], None]) -> Iterator[None]:
    """Have ``show_out(code)`` called, once, as soon as the guest may no longer follow."""
    global _audience
    if _audience is None or _audience.loop is not asyncio.get_running_loop():
        _audience = _Audience()
    audience, seat = _audience, _Seat(guest, show_out)
    audience.seats.add(seat)
    audience.watch()
    try:
        yield
    finally:
        audience.seats.discard(seat)


def unwelcome(guests: Collection[Guest]) -> dict[Guest, int]:
    """Return those who may no longer follow their board, each with the code that says why."""
    found: dict[Guest, int] = {}
    for kind, boards_of in (("token", _boards_of_tokens), ("user", _boards_of_users)):
        mine = [guest for guest in guests if guest.kind == kind]
        if not mine:
            continue
        boards = boards_of({guest.id for guest in mine})
        for guest in mine:
            if guest.id not in boards:
                found[guest] = UNKNOWN
            elif None not in boards[guest.id] and guest.board_id not in boards[guest.id]:
                found[guest] = HIDDEN
    keys = {guest.session for guest in guests if guest.session is not None}
    if keys:
        open_sessions = set(
            Session.objects.filter(
                session_key__in=keys, expire_date__gt=timezone.now()
            ).values_list("session_key", flat=True)
        )
        for guest in guests:
            if guest.session is not None and guest.session not in open_sessions:
                found[guest] = UNKNOWN
    return found


def _boards_of_tokens(ids: set[str]) -> dict[str, set[UUID | None]]:
    rows = tokens.live(timezone.now()).filter(pk__in=ids)
    return _boards(rows.values_list("pk", "everywhere", "memberships__board"), lambda r: r is None)


def _boards_of_users(ids: set[str]) -> dict[str, set[UUID | None]]:
    rows = get_user_model().objects.filter(pk__in=ids, is_active=True)
    return _boards(rows.values_list("pk", "is_superuser", "memberships__board"), lambda r: not r)


def _boards(rows: Iterable[Any], bounded: Callable[[Any], bool]) -> dict[str, set[UUID | None]]:
    """Return principal → boards; None among them stands for every board."""
    found: dict[str, set[UUID | None]] = {}
    for pk, role, board_id in rows:
        boards = found.setdefault(str(pk), set())
        if not bounded(role):
            boards.add(None)
        elif board_id is not None:
            boards.add(board_id)
    return found
