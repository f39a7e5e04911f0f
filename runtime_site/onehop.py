"""Django over ASGI with one thread hop per request.

Django's own handler gives every request a thread of its own and crosses between it and the
event loop several times: four times the processor time of the work itself, threads and
database connections without a bound, and a connection that can't be kept. Here the whole
synchronous chain, from the first middleware to the closed response, runs in one go in one of
a few threads that live as long as the process and keep their connections. Reading and
writing have threads of their own, so that while the store is locked for writing, pages and
lists still come.

What does not fit that goes other ways:

- An async view is handed to Django's own handler, which runs it on the event loop.
- A streamed response leaves its request thread at once: an async stream is read on the event
  loop, a synchronous one (a file) piece by piece in threads of its own.
- A request that waits (long-poll) does not wait in its thread: the view returns its empty
  answer with ``ask_again_seconds`` and ``ask_again_when`` set, and the request is parked, holding
  neither thread nor connection, see ``runtime_site.waiting``. The view is called again when what
  it waits for may be there. So a thousand waiting agents keep no click from being served,
  which no bounded set of threads of their own could promise.

``HTTP_HANDLER=stock`` uses Django's own handler for everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import FileResponse, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from runtime_site import problems, threads, waiting

T = TypeVar("T")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: Streamed responses up to this size are read in the hop and sent like any other.
SMALL_STREAM_BYTES = 1024 * 1024


class Request(ASGIRequest):
    """A request whose body outlives it, so that a parked one can be asked again."""

    def close(self) -> None:
        super(ASGIRequest, self).close()


class OneHopHandler(ASGIHandler):
    """Serves HTTP as the module's docstring says."""

    request_class = Request

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._reads = threads.pool(settings.HTTP_THREADS, "read")
        self._writes = threads.pool(settings.HTTP_THREADS, "write")
        self._streams = threads.pool(settings.HTTP_THREADS, "stream")
        self._stock: ASGIHandler | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this handler serves HTTP, not {scope['type']}")
        await self.handle(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that leaves early ends only what still waits or streams."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            await self._answer(scope, body, receive, send)

    async def _answer(self, scope: Scope, body: IO[bytes], receive: Receive, send: Send) -> None:
        mark = waiting.mark()
        try:
            response = await self._hop(self._pool(scope), self._serve, scope, body)
        except _NeedsStockHandler:
            if self._stock is None:
                self._stock = ASGIHandler()
            await self._stock(scope, _replay(body, receive), send)
            return
        except Exception as error:
            # Outside every middleware: signal receivers, or the error page's own error.
            response = problems.last_resort(scope["path"], error)
        seconds = getattr(response, "ask_again_seconds", 0.0)
        if seconds > 0:
            parked = self._park(scope, body, response, seconds, mark)
            finished = await _unless_gone(parked, receive)
            if finished is None:
                return
            response = finished
        if not response.streaming:
            await self.send_response(response, send)
            return
        try:
            await _unless_gone(self.send_response(self._readable(response), send), receive)
        finally:
            await self._hop(self._streams, response.close)

    # -- in the request thread ---------------------------------------------------------------

    def _serve(self, scope: Scope, body: IO[bytes], waited: float = 0.0) -> HttpResponseBase:
        """Return the response, closed unless it streams."""
        threads.drop_dead_connections()
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        body.seek(0)
        request, _ = self.create_request(scope, body)
        if request is None:
            return problems.last_resort(scope["path"], None)
        if waited:
            request.META["HOLDFAST_WAITED_SECONDS"] = f"{waited:.3f}"
        response: Any = self.get_response(cast(Any, request))
        response._handler_class = self.__class__
        if response.streaming:
            response = _joined_if_small(response)
        if not response.streaming:
            # Ends the request in the thread whose connection it used.
            response.close()
        return cast(HttpResponseBase, response)

    def resolve_request(self, request: Any) -> Any:
        match = super().resolve_request(request)
        if iscoroutinefunction(match.func):
            raise _NeedsStockHandler
        return match

    # -- around it ---------------------------------------------------------------------------

    def _pool(self, scope: Scope) -> ThreadPoolExecutor:
        return self._reads if scope["method"] in ("GET", "HEAD", "OPTIONS") else self._writes

    async def _hop(self, pool: ThreadPoolExecutor, call: Callable[..., T], *args: Any) -> T:
        """Return ``call(*args)`` from a thread of ``pool``.

        A thread can't be cancelled: who cancels this, however often, waits for it, so that what
        the call uses is not closed under it, and a server that stops lets begun work end. What
        no thread has begun is not begun any more.
        """
        context = contextvars.copy_context()
        job = pool.submit(context.run, call, *args)
        work = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not job.cancel():
                while not work.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({work})
                work.exception()  # nobody is left to be told
            raise

    async def _park(
        self, scope: Scope, body: IO[bytes], response: HttpResponseBase, seconds: float, mark: int
    ) -> HttpResponseBase:
        """Return the first answer that does not ask again, or the last one when time is up.

        ``mark`` is from before the view looked: what was committed since may end the wait.
        """
        began = time.monotonic()
        with waiting.guest(response.ask_again_when) as guest:
            while await guest.called(mark, began + seconds - time.monotonic()):
                waited = time.monotonic() - began
                mark = waiting.mark()
                response = await self._hop(self._pool(scope), self._serve, scope, body, waited)
                if getattr(response, "ask_again_seconds", 0.0) <= 0:
                    break
        return response

    def _readable(self, response: Any) -> Any:
        """Return a streaming response that can be read on the event loop without blocking it."""
        if not response.is_async:
            if isinstance(response, FileResponse):
                response.block_size = self.chunk_size
            response.streaming_content = self._pieces(iter(response))
        return response

    async def _pieces(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what a synchronous iterator yields, each piece fetched in a stream thread."""
        while (piece := await self._hop(self._streams, next, pieces, None)) is not None:
            yield piece


class _NeedsStockHandler(BaseException):
    """The view is a coroutine. Not an Exception, so that no middleware answers it."""


def _joined_if_small(response: Any) -> Any:
    """Read a small synchronous stream, such as a static file, to its end."""
    length = response.headers.get("Content-Length", "")
    if response.is_async or not length.isdigit() or int(length) > SMALL_STREAM_BYTES:
        return response
    whole = HttpResponse(b"".join(response), status=response.status_code)
    whole.headers = response.headers
    whole.cookies = response.cookies
    whole._resource_closers = response._resource_closers
    return whole


async def _unless_gone(work: Any, receive: Receive) -> Any:
    """Return what ``work`` returns, or None, having cancelled it, when the client leaves first."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for pending in (task, leaving):
            if not pending.done():
                pending.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: IO[bytes], receive: Receive) -> Receive:
    """Return a ``receive`` that first gives the body that was already read."""
    body.seek(0)
    content: bytes | None = body.read()

    async def replayed() -> dict[str, Any]:
        nonlocal content
        if content is None:
            return await receive()
        given, content = content, None
        return {"type": "http.request", "body": given, "more_body": False}

    return replayed


class StockHandler(ASGIHandler):
    """Django's own handler, taught to wait as above."""

    request_class = Request

    async def get_response_async(self, request: ASGIRequest) -> HttpResponseBase:
        began, mark = time.monotonic(), waiting.mark()
        response = await super().get_response_async(request)
        seconds = getattr(response, "ask_again_seconds", 0.0)
        if seconds <= 0:
            return response
        with waiting.guest(response.ask_again_when) as guest:
            while await guest.called(mark, began + seconds - time.monotonic()):
                await sync_to_async(response.close)()
                again = self.request_class(request.scope, _rewound(request))
                again.META["HOLDFAST_WAITED_SECONDS"] = f"{time.monotonic() - began:.3f}"
                mark = waiting.mark()
                response = await super().get_response_async(again)
                if getattr(response, "ask_again_seconds", 0.0) <= 0:
                    break
        return response


def _rewound(request: Any) -> Any:
    request._stream.seek(0)
    return request._stream


def handler() -> ASGIHandler:
    """Return the HTTP application that the settings ask for."""
    return OneHopHandler() if settings.HTTP_HANDLER == "onehop" else StockHandler()
