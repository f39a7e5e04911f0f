"""Daphne, with the manners that an open port needs.

Stock daphne reads a body of any size, at any pace, into memory or /tmp before it asks anybody;
answers its own errors in HTML; and buffers without a bound what a slow client does not read.
Here a request must arrive within ``SLOW_BODY_SECONDS``; a body that won't be taken is refused
when its headers are in; and a response is written only as fast as it is read.
"""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from typing import Any

import daphne.server  # first: it installs the asyncio reactor
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from twisted.internet import defer
from twisted.protocols import basic
from twisted.web import http

from runtime_site import bodies, problems

log = logging.getLogger(__name__)

IDLE_SECONDS = 75  # of a kept-alive connection between requests
#: A client that has not taken what was buffered for it by then is cut off.
UNREAD_SECONDS = 30
#: A large upload may go on after SLOW_BODY_SECONDS while it keeps at least this pace.
LEAST_BYTES_PER_SECOND = 16 * 1024
#: How much of a refused body is read and dropped, so that the client can read the answer.
MOST_DROPPED_BYTES = 64 * 1024 * 1024


class Gate:
    """Opens and closes with the room in a connection's send buffer (an IPushProducer)."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pauseProducing(self) -> None:  # noqa: N802  Twisted's name
        self._open.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._open.set()

    stopProducing = resumeProducing  # noqa: N815

    async def passed(self) -> bool:
        """Return True once there is room, False if there was none for UNREAD_SECONDS."""
        if self._open.is_set():
            return True
        try:
            await asyncio.wait_for(self._open.wait(), UNREAD_SECONDS)
        except TimeoutError:
            return False
        return True


class Dropped:
    """Takes the place of a refused body's content and keeps none of it."""

    closed = False

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)

    def tell(self) -> int:
        return 0

    def seek(self, *_: int) -> None: ...

    def read(self, *_: int) -> bytes:
        return b""

    def close(self) -> None: ...


class Request(WebRequest):
    """One request. ``gate`` is set once its response is sent in pieces."""

    gate: Gate | None = None
    refused = False
    received = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsePOSTFormSubmission = False  # Django parses forms, once

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """Decide from the headers, before any of the body is read."""
        refusal = bodies.refusal(
            self.channel.command,
            self.channel.path,
            length="" if length is None else str(length),
            transfer_encoding=self._sent("transfer-encoding"),
            content_encoding=self._sent("content-encoding"),
        )
        if refusal is None:
            super().gotLength(length)
            return
        self.refused = True
        self.content = Dropped()
        self.channel.answer_and_close(refusal.status, refusal.detail)
        if self.requestHeaders.hasHeader("expect"):
            # The client waits for our word and will send nothing more.
            self.requestHeaders.removeHeader("expect")
            self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self.received += len(data)
        if self.refused and self.received > MOST_DROPPED_BYTES:
            self.channel.forceAbortClient()
            return
        super().handleContentChunk(data)

    def process(self) -> Any:
        if self.refused:
            self.channel.loseConnection()
            return None
        return super().process()

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("more_body") and self.gate is None and self.channel is not None:
            self.gate = Gate()
            self.registerProducer(self.gate, True)
        super().handle_reply(message)

    def finish(self) -> None:
        self._open_gate()
        super().finish()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self._open_gate()
        super().connectionLost(reason)

    def cut_off(self) -> None:
        """Drop a connection whose client does not read."""
        if self.channel is not None:
            self.channel.forceAbortClient()

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Answer daphne's own errors in our form."""
        content = json.dumps(problems.document(status, f"{body.rstrip('.')}.")).encode()
        headers = [
            (b"Content-Type", problems.MEDIA_TYPE.encode()),
            (b"Content-Length", str(len(content)).encode()),
        ]
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": content})

    def _open_gate(self) -> None:
        if self.gate is not None:
            self.gate.resumeProducing()
            self.gate = None
            self.unregisterProducer()

    def _sent(self, header: str) -> str:
        values = self.requestHeaders.getRawHeaders(header) or [""]
        return str(values[0])


class Channel(http.HTTPChannel):
    """One connection: bounds how long a request may take to arrive, from its first byte."""

    requestFactory = Request  # noqa: N815
    abortTimeout = 3  # noqa: N815
    _arriving = False
    _counted = 0

    @property
    def command(self) -> str:
        return getattr(self, "_command", b"").decode("latin-1")

    @property
    def path(self) -> str:
        return getattr(self, "_path", b"").decode("latin-1").split("?", 1)[0]

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        # Not the parent's: it starts the clock anew with every byte, however slowly they come.
        if not self._arriving and not self._handlingRequest:
            self._arriving = True
            self._counted = 0
            self.setTimeout(settings.SLOW_BODY_SECONDS)
        basic.LineReceiver.dataReceived(self, data)

    def allContentReceived(self) -> None:  # noqa: N802
        self._arriving = False
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:  # noqa: N802
        self._savedTimeOut = IDLE_SECONDS
        super().requestDone(request)

    def timeoutConnection(self) -> None:  # noqa: N802
        request = self.requests[-1] if self._arriving and self.requests else None
        if request is not None and not request.refused:
            fresh, self._counted = request.received - self._counted, request.received
            if fresh >= LEAST_BYTES_PER_SECOND * settings.SLOW_BODY_SECONDS:
                self.setTimeout(settings.SLOW_BODY_SECONDS)
                return
            self.answer_and_close(408, "The request took too long to arrive.")
        super().timeoutConnection()

    def answer_and_close(self, status: int, detail: str) -> None:
        """Write an answer to a request that is not read to its end."""
        self.persistent = False
        body = json.dumps(problems.document(status, detail)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: {problems.MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)


class Factory(HTTPFactory):
    """Makes our channels instead of Twisted's."""

    protocol = Channel

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        channel = http.HTTPFactory.buildProtocol(self, addr)
        channel.timeOut = settings.SLOW_BODY_SECONDS
        return channel


class Socket(WebSocketProtocol):
    """One WebSocket, which learns when its client does not read."""

    gate: Gate | None = None

    def onOpen(self) -> None:  # noqa: N802
        super().onOpen()
        self.gate = Gate()
        # Until the upgrade it was the HTTP channel that listened for this.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self.gate, True)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        if self.gate is not None:
            self.gate.resumeProducing()
        if hasattr(self, "server"):  # else the handshake never got as far as onConnect
            super().onClose(wasClean, code, reason)

    def cut_off(self) -> None:
        self.transport.abortConnection()


class Server(daphne.server.Server):
    """Daphne's server, which writes no faster than the client reads."""

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        await super().handle_reply(protocol, message)
        gate = getattr(protocol, "gate", None)
        if gate is not None and not await gate.passed():
            log.info("cut off a client that did not read for %s s", UNREAD_SECONDS)
            protocol.cut_off()

    def kill_all_applications(self) -> Any:
        """Cancel what runs and return when it ended; connections without a request have nothing."""
        running = [
            details["application_instance"]
            for details in self.connections.values()
            if "application_instance" in details and not details["application_instance"].done()
        ]
        for application in running:
            application.cancel()
        ended = asyncio.gather(*running, return_exceptions=True)
        return defer.Deferred.fromFuture(ended)


def serve(application: Any, fd: int) -> None:
    """Serve on the listening socket ``fd`` until SIGTERM or SIGINT."""
    daphne.server.HTTPFactory = Factory  # the two names that Server.run looks up
    daphne.server.WebSocketFactory.protocol = Socket
    Server(
        application,
        endpoints=[f"fd:fileno={fd}"],
        websocket_connect_timeout=20,
        websocket_handshake_timeout=20,
        ping_interval=20,
        ping_timeout=20,
        application_close_timeout=2,
        server_name="",
        verbosity=0,
    ).run()
