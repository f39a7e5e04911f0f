from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests import serving

Open = Callable[..., Awaitable[Page]]

# Two browsers and their servers share the machine's cores: waiting costs nothing where all is well.
expect.set_options(timeout=60_000)


def new_card(
    site: serving.Site, board: str, title: str = "a card", **fields: Any
) -> dict[str, Any]:
    """Return a new card of the board as the API shows it."""
    answer = site.call("POST", "/api/v1/cards", {"board": board, "title": title, **fields})
    assert answer.status == 201, answer.body
    return dict(answer.body)


_VIEWER = """
import sys, django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model, BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from boards.models import Board, Membership
from kernel.access import Role
board = Board.objects.get(key=sys.argv[1])
user = get_user_model().objects.create_user(f"viewer-{board.key}")
Membership.objects.create(board=board, user=user, role=Role.VIEWER)
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")
"""


def viewer(site: serving.Site, board: str) -> str:
    """Return the session cookie of somebody new who may only look at the board."""
    return site.run(_VIEWER, board)


@pytest.fixture(scope="session", params=[serving.STORE])
def site(request: pytest.FixtureRequest) -> Iterator[serving.Site]:
    """A running site; tests make boards of their own on it."""
    with serving.new_site(request.param) as site:
        site.serve()
        yield site


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(site: serving.Site, browser: Browser) -> AsyncIterator[Open]:
    """Return a function that opens a path as a signed-in person, in a browser of its own.

    At the end no page may have run a foreign script, opened a dialog or broken the policy.
    """
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    async def opened(path: str, **options: Any) -> Page:
        theme = options.pop("theme", "light")
        options.setdefault("viewport", {"width": 1440, "height": 900})
        name, _, value = options.pop("cookie", site.cookie).partition("=")
        context = await browser.new_context(base_url=site.web.origin, **options)
        contexts.append(context)
        await context.add_cookies(
            [
                {"name": name, "value": value, "url": site.web.origin},
                {"name": "theme", "value": theme, "url": site.web.origin},
            ]
        )
        page = await context.new_page()
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("console", lambda line: trouble.append(line.text) if _bad(line.text) else None)
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.set_default_timeout(60_000)
        await page.goto(path)
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert not trouble


def _bad(line: str) -> bool:
    return "Content Security Policy" in line or "Refused to" in line
