"""The live board over a WebSocket. It formats and forwards; it decides nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

from channels.consumer import get_handler_name
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import DatabaseError
from django.http import parse_cookie

from boards import audience, lookup, presence
from boards.audience import Guest
from events import tail
from kernel.errors import DomainError
from kernel.limits import whole_number

log = logging.getLogger(__name__)

#: Close codes, besides those of ``audience``; only 4000 and above are an application's to send.
MALFORMED, TOO_SLOW, TOO_BIG, FAILED, STORE_AWAY = 4400, 4409, 4413, 4500, 4503
#: A reader that has not taken an event by then is shown out; it comes back with its cursor.
SLOW_SECONDS = 10.0
STORE_SECONDS = 5.0
MAX_FRAME_CHARS = 1024 * 1024
#: Between two frames for a reader that takes several events in one.
GATHER_SECONDS = 0.05


class Refused(Exception):
    """The socket is closed with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class BoardConsumer(AsyncWebsocketConsumer):
    """Streams a board's events in order: replay from ``after``, then live.

    Each text frame is one event as the API gives it, or ``{"type": "resync"}``. With ``many=1``
    events come as JSON arrays, at most one every GATHER_SECONDS: a busy board has fifty readers
    woken twenty times a second, not each of them for every event.

    With ``presence=1`` a person's page is told who looks at the board, ``{"type": "presence"}``,
    and the others are told of it; it may say ``{"looking": card}``. Nothing else that comes in
    means anything. Refusals accept first: a browser can't see why a handshake failed.
    """

    # No channel layer: it would tie every socket to Redis, and messages may be lost in it.
    channel_layer_alias = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._leaving = ExitStack()
        self._work: set[asyncio.Task[None]] = set()
        self._closed = self._many = False
        self._page: presence.Page | None = None
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle a message without the visit to a thread that the parent pays for each."""
        handler = getattr(self, get_handler_name(message), None)
        if handler is not None:
            await handler(message)

    async def connect(self) -> None:
        try:
            guest, after = await self._admitted()
            async with asyncio.timeout(STORE_SECONDS):
                subscription = await tail.subscribe(guest.board_id, after)
        except Refused as refused:
            await self._refuse(refused.code)
            return
        except (DatabaseError, TimeoutError):
            await self._refuse(STORE_AWAY)
            return
        self._leaving.callback(subscription.close)
        await self.accept()
        self._leaving.enter_context(audience.seated(guest, self._show_out))
        self._spawn(self._pump(subscription))
        if b"presence=1" in self.scope.get("query_string", b"").split(b"&"):
            being = presence.present(self.scope["principal"], guest.board_id, self._tell)
            self._page = self._leaving.enter_context(being)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if len(text_data or bytes_data or "") > MAX_FRAME_CHARS:
            await self._leave(TOO_BIG)
        elif self._page is not None and text_data:
            self._look(self._page, text_data)

    def _look(self, page: presence.Page, text: str) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(said, dict) and "looking" in said:
            page.look(lookup.as_uuid(said["looking"]))

    def _tell(self, text: str) -> None:
        self._spawn(self._told(text))

    async def _told(self, text: str) -> None:
        try:
            await self._deliver(text)
        except TimeoutError:
            self._show_out(TOO_SLOW)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        raise StopConsumer

    async def _admitted(self) -> tuple[Guest, int | None]:
        """Return who follows which board from where. Raises Refused."""
        principal = self.scope.get("principal")
        if principal is None:
            raise Refused(audience.UNKNOWN)
        query = self.scope.get("query_string", b"")
        after = _cursor(query)
        self._many = b"many=1" in query.split(b"&")
        name = self.scope["url_route"]["kwargs"]["board"]
        try:
            board = await audience.in_database(lookup.board, principal, name)
        except DomainError:
            raise Refused(audience.HIDDEN) from None
        session = _session_key(self.scope) if principal.is_person else None
        return Guest.of(principal, session, board.pk), after

    async def _pump(self, subscription: tail.Subscription) -> None:
        try:
            while True:
                try:
                    entries = await subscription.batch()
                except tail.Resync as resync:
                    await self._deliver(resync.text)
                    continue
                if self._many:
                    await self._deliver(f"[{','.join(entry.text for entry in entries)}]")
                    await asyncio.sleep(GATHER_SECONDS)
                    continue
                for entry in entries:
                    await self._deliver(entry.text)
        except TimeoutError:
            self._show_out(TOO_SLOW)
        except Exception:
            log.exception("a live board broke off")
            self._show_out(FAILED)

    async def _deliver(self, text: str) -> None:
        async with asyncio.timeout(SLOW_SECONDS):
            await self.send(text_data=text)

    async def _refuse(self, code: int) -> None:
        await self.accept()
        await self._leave(code)

    def _show_out(self, code: int) -> None:
        self._spawn(self._leave(code))

    async def _leave(self, code: int) -> None:
        if not self._closed:
            self._closed = True
            self._end()
            await self.close(code)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _end(self) -> None:
        """Leave the feed and the audience, and end whatever still runs for this socket."""
        self._leaving.close()
        for task in self._work:
            if task is not asyncio.current_task():
                task.cancel()


class Nowhere(AsyncWebsocketConsumer):
    """Refuses a socket at an address where there is none."""

    channel_layer_alias = ""

    async def connect(self) -> None:
        await self.close()


def _cursor(query: bytes) -> int | None:
    """Return the number in ``after``, None without one. Raises Refused."""
    values = parse_qs(query.decode("latin-1")).get("after")
    if not values:
        return None
    after = whole_number(values[-1], 18)
    if after is None:
        raise Refused(MALFORMED)
    return after


def _session_key(scope: dict[str, Any]) -> str | None:
    cookies = dict(scope["headers"]).get(b"cookie", b"").decode("latin-1")
    return parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
