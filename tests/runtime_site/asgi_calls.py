"""Calls an ASGI application as a server would, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """What the application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: int = 0
    complete: bool = False


class Call:
    """One request; its client may leave at any moment."""

    def __init__(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        query: bytes = b"",
    ) -> None:
        self.reply = Reply()
        self.started = asyncio.Event()
        self._gone = asyncio.Event()
        self._body: bytes | None = body
        sent = [("host", "localhost"), *headers]
        if body and not any(name == "content-length" for name, _ in sent):
            sent.append(("content-length", str(len(body))))
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent],
            "client": ["127.0.0.1", 50000],
            "server": ["127.0.0.1", 8000],
        }

    async def of(self, application: Any) -> Reply:
        """Make the call and return the reply once the application has returned."""
        await application(self.scope, self._receive, self._send)
        return self.reply

    def leave(self) -> None:
        """Hang up."""
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = {
                name.decode().lower(): value.decode() for name, value in message["headers"]
            }
            self.started.set()
            return
        self.reply.body += message.get("body", b"")
        self.reply.pieces += bool(message.get("body"))
        self.reply.complete = not message.get("more_body", False)
