"""What lives as long as a web process does: the tail of the event log.

Daphne has no lifespan protocol, so the first call of any kind starts it, and our own server
makes one as soon as it listens. Servers that have the protocol start it by that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from events import tail
from runtime_site import waiting

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Alive:
    """The application, with everything started that it relies on."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        start()
        await self._application(scope, receive, send)


def start() -> None:
    """Start the tail on the running event loop, unless it runs."""
    tail.watch(waiting.announce, waiting.anybody_waits)
    tail.ensure_running()


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer the lifespan protocol."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
