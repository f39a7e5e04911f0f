"""Who may open a WebSocket: a bearer token from anywhere, a session only from our own pages.

Browsers send cookies along with a WebSocket that any page opens, and no CSRF token guards it.
So with a session the ``Origin`` must be there and must be ours; absent and ``null`` are not.
The Host is checked too: a rebound DNS name has a matching Origin.

The consumer finds ``scope["principal"]``: a ``kernel.access.Principal`` or None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from boards import tokens
from boards.authentication import principal_of_user
from kernel.access import Principal
from kernel.offload import Offload

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

#: Sent after accepting: a browser can't see why a handshake failed, and this one may retry.
STORE_AWAY = 4503
_DEFAULT_PORTS = {"http": 80, "https": 443}

in_database = Offload("handshake")


class Authenticated:
    """Puts the principal into the scope, or refuses the handshake (403 on the wire)."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope.get("headers", [])}
        host = headers.get("host", b"").decode("latin-1")
        bearer = headers.get("authorization", b"").decode("latin-1")
        by_token = bearer[:7].lower() == "bearer "
        allowed = validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS) and (
            by_token or is_ours(headers.get("origin", b"").decode("latin-1"), host)
        )
        if not allowed:
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": 4403})
            return
        principal: Principal | None = None
        try:
            if by_token:
                principal = await in_database(tokens.principal_of, bearer[7:].strip())
            elif key := _session_key(headers.get("cookie", b"")):
                principal = await in_database(principal_of_session, key)
        except DatabaseError:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": STORE_AWAY})
            return
        await self.application({**scope, "principal": principal}, receive, send)


def _session_key(cookie: bytes) -> str | None:
    return parse_cookie(cookie.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)


def is_ours(origin: str, host: str) -> bool:
    """Whether a page of this site, reached under ``host``, has this Origin."""
    if settings.PUBLIC_URL and origin == settings.PUBLIC_URL:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not port:
        return False
    name, _, rest = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not name:
        name, rest = host, ""
    wanted = int(rest) if rest.isdigit() else _DEFAULT_PORTS[parts.scheme]
    return parts.hostname == name.strip("[]").lower() and port == wanted


def principal_of_session(key: str) -> Principal | None:
    """Return who the session cookie stands for, or None."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(cast(Any, SimpleNamespace(session=store)))
    if not user.is_authenticated or not user.is_active:
        return None
    return principal_of_user(cast(Any, user))
