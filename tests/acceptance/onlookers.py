"""Whoever follows a board while the ground is pulled from under it: sockets, polls, a browser."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
#: How the card page shows a step; one that was interrupted counts as failed.
SHOWN = {"live": ".step.live", "done": ".step.x:not(.live)", "failed": ".step.f"}
logging.getLogger("httpx").setLevel(logging.WARNING)


class Api:
    """The API as an operator's token sees it. Asks again while nothing answers."""

    def __init__(self, port: int, token: str) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.token = token
        self.client = httpx.Client(
            base_url=f"{self.origin}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        ends = time.monotonic() + 60
        while True:
            try:
                answer = self.client.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.1)
                continue
            if answer.status_code != 503 or time.monotonic() > ends:
                return answer
            time.sleep(0.2)

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self("POST", path, body or {})
        assert answer.is_success, answer.text
        return answer.json()

    def every(self, path: str) -> list[Any]:
        """Return all rows of a list, page by page."""
        found: list[Any] = []
        query = "limit=200"
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}{query}")
            found += page["results"]
            if page["next"] is None:
                return found
            query = f"limit=200&cursor={page['next']}"


class Follower(threading.Thread):
    """Collects a board's events, going on after the last one whenever it is cut off."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.events: list[dict[str, Any]] = []
        self.cut = 0
        self.over = threading.Event()
        self.failed: BaseException | None = None

    def __enter__(self) -> Follower:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(10)

    @property
    def last(self) -> int:
        return int(self.events[-1]["seq"]) if self.events else 0

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.follow()
            except (OSError, WebSocketException, httpx.TransportError, EOFError):
                self.cut += 1
                self.over.wait(0.1)
            except BaseException as error:
                self.failed = error
                return

    def follow(self) -> None:
        raise NotImplementedError

    def until(self, seq: int) -> list[int]:
        """Return the numbers of all events heard, once ``seq`` is among them."""
        ends = time.monotonic() + 60
        while self.last < seq and self.failed is None and time.monotonic() < ends:
            time.sleep(0.05)
        self.over.set()
        assert self.failed is None, self.failed
        return [int(event["seq"]) for event in self.events]


class Socket(Follower):
    """A WebSocket client that asks for what it missed."""

    def __init__(self, api: Api, board: str) -> None:
        super().__init__("socket")
        self.api, self.board = api, board

    def follow(self) -> None:
        url = f"{self.api.origin.replace('http', 'ws')}/ws/boards/{self.board}?after={self.last}"
        headers = {"Authorization": f"Bearer {self.api.token}"}
        with connect(url, additional_headers=headers, proxy=None, close_timeout=1) as socket:
            while not self.over.is_set():
                try:
                    frame = json.loads(socket.recv(timeout=0.5))
                except TimeoutError:
                    continue
                assert frame.get("type") != "resync", frame
                self.events.append(frame)


class Poll(Follower):
    """A client that long-polls the list."""

    def __init__(self, api: Api, board: str) -> None:
        super().__init__("poll")
        self.api, self.board = api, board

    def follow(self) -> None:
        path = f"/events?board={self.board}&after={self.last}&wait_seconds=2"
        answer = self.api.client.get(path)
        if answer.status_code >= 500:
            raise OSError(answer.text)
        assert answer.status_code == 200, answer.text
        self.events += answer.json()["results"]


class Eye:
    """A signed-in browser with pages that stay open and are never loaded again."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.context = browser.new_context(base_url=origin, viewport={"width": 1500, "height": 950})
        self.context.set_default_timeout(PATIENCE_MS)
        self.pages: dict[str, Page] = {}
        self.trouble: list[str] = []

    def sign_in(self, link: str) -> None:
        page = self.context.new_page()
        page.goto(link)
        page.close()

    def open(self, name: str, path: str) -> Page:
        """Open a page and mark the document: a reload would lose the mark."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.goto(path)
        page.evaluate("document.holdfastMark = 'still the first load'")
        self.pages[name] = page
        return page

    def check_never_reloaded(self) -> None:
        for name, page in self.pages.items():
            mark = page.evaluate("document.holdfastMark")
            assert mark == "still the first load", f"the page {name} was loaded again"
        assert not self.trouble, self.trouble

    @property
    def board(self) -> Page:
        return self.pages["board"]

    @property
    def steps(self) -> Page:
        return self.pages["steps"]

    def card_in(self, column: str, key: str) -> Locator:
        region = self.board.get_by_role("region", name=column, exact=True)
        return region.locator(f'[data-key="{key}"]')

    def drag(self, key: str, column: str) -> None:
        """Drag the card by mouse in small moves, as a hand does."""
        mouse = self.board.mouse
        source = self.board.locator(f'[data-key="{key}"]').bounding_box()
        region = self.board.get_by_role("region", name=column, exact=True)
        target = region.get_by_role("list").bounding_box()
        assert source is not None
        assert target is not None
        x, y = source["x"] + source["width"] / 2, source["y"] + 10
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 12, y + 8, steps=4)
        mouse.move(target["x"] + target["width"] / 2, target["y"] + target["height"] / 2, steps=12)
        expect(region).to_have_class(re.compile(r"\bover\b"))
        mouse.up()

    def sees(self, locator: Locator) -> None:
        expect(locator).to_be_visible(timeout=PATIENCE_MS)

    def step(self, key: str, shown: str) -> Locator:
        """Return the row of a step that is shown as ``live``, ``done`` or ``failed``."""
        return self.steps.locator(f'{SHOWN[shown]}[data-step="{key}"]')


@contextmanager
def browser(origin: str) -> Iterator[Eye | None]:
    """Open a browser, or give None where there is none: the rest of the test still holds."""
    path = os.environ.get("CHROMIUM")
    if not path:
        yield None
        return
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield Eye(launched, origin)
        finally:
            launched.close()


def eventually(happened: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true result. Raises AssertionError when there is none in time."""
    ends = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < ends, f"not within {seconds} s: {happened}"
        time.sleep(0.05)
    return result
