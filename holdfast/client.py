"""``Client`` and ``AsyncClient``: conversations with the server, carried out."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from holdfast import protocol
from holdfast.attempt import AsyncAttempt, Attempt
from holdfast.protocol import EVENT_WAIT_SECONDS, JSON, PAGE, Call, Outcome, Talk, Where, Wish
from holdfast.stopping import told_by_signal

T = TypeVar("T")
#: What a call gives: parsed JSON, or an awaitable of it.
Given = TypeVar("Given")

IDLE_WAIT_SECONDS = 5.0


class Caller(ABC, Generic[Given]):
    """The calls that both clients have.

    ``url`` and ``token`` come from HOLDFAST_URL and HOLDFAST_TOKEN unless given. A request may
    take ``timeout`` seconds; trouble that passes is waited for up to ``patience`` seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        patience: float = 60.0,
    ) -> None:
        self._where = Where.of(url, token)
        self.timeout = timeout
        self.patience = patience
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Make the connections."""

    @property
    def url(self) -> str:
        """The server's address."""
        return self._where.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abstractmethod
    def _run(self, talk: Talk[Any]) -> Given:
        """Carry out a conversation; give what it returns."""

    def _fetch(self, request: Call, patience: float | None) -> Given:
        return self._run(protocol.fetch(request, self.patience if patience is None else patience))

    def get(
        self,
        path: str,
        /,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
        **params: Any,
    ) -> Given:
        """Return the JSON at ``path``, relative to /api/v1."""
        return self._fetch(protocol.call("GET", path, params=params, headers=headers), patience)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
        patience: float | None = None,
    ) -> Given:
        """Send ``body`` once, however often it takes; return the answer, None for an empty one.

        ``key`` is the Idempotency-Key, made up unless given. ``wait_seconds`` is how long the
        body asks the server to wait.
        """
        request = protocol.call(
            "POST", path, body, key=key, headers=headers, wait_seconds=wait_seconds
        )
        return self._fetch(request, patience)

    def patch(
        self,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Given:
        """Change what is at ``path``; with an ``If-Match`` header only if it is as it was."""
        return self._fetch(protocol.call("PATCH", path, body, headers=headers), patience)

    def delete(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Given:
        """Delete what is at ``path``."""
        return self._fetch(protocol.call("DELETE", path, headers=headers), patience)

    def sibling(self, *, timeout: float) -> Client:
        """Return a client of the same server with connections of its own, and no patience."""
        return Client(self._where.url, self._where.token, timeout=timeout, patience=0.0)


class Client(Caller[Any]):
    """A connection to a server. Threads may share it; a forked child gets its own sockets."""

    def _open(self) -> None:
        self._pid = os.getpid()
        self._http = httpx.Client(**self._where.settings(self.timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._pid == os.getpid():
            self._http.close()

    def _run(self, talk: Talk[T]) -> T:
        answer: Outcome = None
        while True:
            try:
                act = talk.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(act, Call):
                answer = self._send(act)
            else:
                time.sleep(act)
                answer = None

    def _send(self, call: Call) -> Outcome:
        if self._pid != os.getpid():
            self._open()  # two processes on one socket would read each other's answers
        try:
            return self._http.request(
                call.method,
                call.path,
                params=dict(call.params),
                content=call.content,
                headers=dict(call.headers),
                timeout=self.timeout + call.wait_seconds,
            )
        except httpx.RequestError as error:
            return error

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        patience: float | None = None,
    ) -> httpx.Response:
        """Return the whole response, with its headers. Raises ApiError for one without success."""
        request = protocol.call(
            method, path, body, params=params, content=content, headers=headers, key=key
        )
        return self._run(
            protocol.exchange(request, self.patience if patience is None else patience)
        )

    def pages(self, path: str, /, **params: Any) -> Iterator[JSON]:
        """Yield every result of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, **{"limit": PAGE, **params, "cursor": cursor})
            yield from page["results"]
            cursor = page["next"]
            if cursor is None:
                return

    def events(
        self, board: str, after: int = 0, *, wait_seconds: float = EVENT_WAIT_SECONDS
    ) -> Iterator[JSON]:
        """Yield the board's events past ``after``, then each new one, in order, without end.

        A lost connection is taken up again where it broke, without a gap.
        """
        while True:
            call = protocol.events(board, after, wait_seconds)
            for event in self._fetch(call, None)["results"]:
                after = event["seq"]
                yield event

    def claim(self, worker: str, **wish: Unpack[Wish]) -> Attempt | None:
        """Take a card; None when there is none within ``wait_seconds`` (0 unless told).

        ``card`` names one, else it is the best that ``boards``, ``goal`` and ``capabilities``
        allow. Raises Conflict when the named card can't be taken.
        """
        granted = self._fetch(protocol.claim(worker, wish), None)
        return Attempt(self, granted) if granted else None

    def work(
        self, worker: str, *, stop: threading.Event | None = None, **wish: Unpack[Wish]
    ) -> Iterator[Attempt]:
        """Yield one attempt after the other until SIGTERM comes or ``stop`` is set.

        The attempt in hand then releases its card at its next step. Waits for work
        ``wait_seconds`` (5) at a time, which is how long stopping may take. What goes wrong in
        the ``with`` block of an attempt is reported and logged, and the loop goes on.
        """
        wish.setdefault("wait_seconds", IDLE_WAIT_SECONDS)
        stop = stop or threading.Event()
        with told_by_signal(stop):
            while granted := self._run(protocol.next_claim(worker, wish, self.patience, stop)):
                yield Attempt(self, granted, stop)


class AsyncClient(Caller[Coroutine[Any, Any, Any]]):
    """The same for asyncio: every call is awaited."""

    def _open(self) -> None:
        self._http = httpx.AsyncClient(**self._where.settings(self.timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, talk: Talk[T]) -> T:
        answer: Outcome = None
        while True:
            try:
                act = talk.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(act, Call):
                answer = await self._send(act)
            else:
                await asyncio.sleep(act)
                answer = None

    async def _send(self, call: Call) -> Outcome:
        try:
            return await self._http.request(
                call.method,
                call.path,
                params=dict(call.params),
                content=call.content,
                headers=dict(call.headers),
                timeout=self.timeout + call.wait_seconds,
            )
        except httpx.RequestError as error:
            return error

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        patience: float | None = None,
    ) -> httpx.Response:
        """Return the whole response, with its headers. Raises ApiError for one without success."""
        request = protocol.call(
            method, path, body, params=params, content=content, headers=headers, key=key
        )
        return await self._run(
            protocol.exchange(request, self.patience if patience is None else patience)
        )

    async def pages(self, path: str, /, **params: Any) -> AsyncIterator[JSON]:
        """Yield every result of a list, page by page."""
        cursor = None
        while True:
            page = await self.get(path, **{"limit": PAGE, **params, "cursor": cursor})
            for result in page["results"]:
                yield result
            cursor = page["next"]
            if cursor is None:
                return

    async def events(
        self, board: str, after: int = 0, *, wait_seconds: float = EVENT_WAIT_SECONDS
    ) -> AsyncIterator[JSON]:
        """Yield the board's events past ``after``, then each new one, in order, without end."""
        while True:
            call = protocol.events(board, after, wait_seconds)
            for event in (await self._fetch(call, None))["results"]:
                after = event["seq"]
                yield event

    async def claim(self, worker: str, **wish: Unpack[Wish]) -> AsyncAttempt | None:
        """Take a card; None when there is none. See ``Client.claim``."""
        granted = await self._fetch(protocol.claim(worker, wish), None)
        return AsyncAttempt(self, granted) if granted else None

    async def work(
        self, worker: str, *, stop: threading.Event | None = None, **wish: Unpack[Wish]
    ) -> AsyncIterator[AsyncAttempt]:
        """Yield one attempt after the other. See ``Client.work``."""
        wish.setdefault("wait_seconds", IDLE_WAIT_SECONDS)
        stop = stop or threading.Event()
        with told_by_signal(stop):
            while granted := await self._run(
                protocol.next_claim(worker, wish, self.patience, stop)
            ):
                yield AsyncAttempt(self, granted, stop)
