from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import Client

from boards import tokens
from kernel.access import Role
from runtime_site import sockets


@pytest.mark.parametrize(
    ("origin", "host", "ours"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://hf.example", "hf.example", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]", "[::1]", True),
        ("http://LOCALHOST:8000", "localhost:8000", True),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://evil.example", "localhost:8000", False),
        ("http://localhost.evil.example:8000", "localhost:8000", False),
        ("file://localhost:8000", "localhost:8000", False),
        ("http://localhost:port", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("", "", False),
    ],
)
def test_only_our_own_pages_have_our_origin(origin: str, host: str, ours: bool) -> None:
    assert sockets.is_ours(origin, host) is ours


def test_behind_a_proxy_the_public_address_is_ours(settings: Any) -> None:
    settings.PUBLIC_URL = "https://hf.example"
    assert sockets.is_ours("https://hf.example", "10.0.0.5:8000")
    assert not sockets.is_ours("http://hf.example.evil", "10.0.0.5:8000")


class Door:
    """Stands behind the authentication and notes who comes through."""

    def __init__(self) -> None:
        self.principals: list[Any] = []
        self.sent: list[dict[str, Any]] = []

    async def knock(self, **headers: str) -> list[dict[str, Any]]:
        """Open a socket with these headers and return what was sent before anybody came in."""
        sent = {"host": "localhost:8000", **headers}
        scope = {
            "type": "websocket",
            "path": "/ws/boards/x",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await sockets.Authenticated(self._inside)(scope, receive, send)
        return self.sent

    async def _inside(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.principals.append(scope["principal"])


@pytest.fixture
def door(settings: Any) -> Any:
    settings.ALLOWED_HOSTS = ["localhost"]
    yield Door()
    sockets.in_database.close()


@pytest.fixture
def cookie(transactional_db: None, settings: Any) -> str:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("ada", password=None))
    return f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"


async def test_a_session_comes_in_from_our_own_page(door: Door, cookie: str) -> None:
    await door.knock(cookie=cookie, origin="http://localhost:8000")
    assert door.principals[0].name == "ada"
    assert door.principals[0].is_person


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://localhost:1"])
async def test_a_session_comes_in_from_nowhere_else(
    door: Door, cookie: str, origin: str | None
) -> None:
    sent = await door.knock(cookie=cookie, **({"origin": origin} if origin else {}))
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert door.principals == []


async def test_a_name_that_was_rebound_to_us_comes_not_in(door: Door, cookie: str) -> None:
    await door.knock(cookie=cookie, host="evil.example", origin="http://evil.example")
    assert door.principals == []


@pytest.mark.django_db(transaction=True)
async def test_a_token_needs_no_origin(door: Door) -> None:
    issued = await sockets.in_database(
        lambda: tokens.issue("agent", everywhere=Role.MEMBER).plaintext
    )
    await door.knock(authorization=f"Bearer {issued}")
    assert door.principals[0].name == "agent"
    assert not door.principals[0].is_person


@pytest.mark.django_db(transaction=True)
async def test_nobody_in_particular_comes_in_as_nobody(door: Door) -> None:
    await door.knock(authorization="Bearer holdfast_wrong_wrong_wrong")
    await door.knock(origin="http://localhost:8000")
    await door.knock(origin="http://localhost:8000", cookie="holdfast_x=nonsense")
    assert door.principals == [None, None, None]


async def test_while_the_store_is_away_the_client_is_told_to_come_back(
    door: Door, monkeypatch: Any
) -> None:
    def away(plaintext: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(sockets.tokens, "principal_of", away)
    sent = await door.knock(authorization="Bearer x")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 4503
