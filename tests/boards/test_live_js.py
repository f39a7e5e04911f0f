"""``static/js/live.js`` in a real browser, against a real server that fails in several ways."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, WebSocketRoute, async_playwright

from tests.serving import BULK, Site

pytestmark = pytest.mark.browser

FOLLOW = """
async ([board, after]) => {
  const {connect} = await import("/static/js/live.js");
  window.got = []; window.batches = []; window.states = []; window.resyncs = [];
  window.frames = 0; window.failed = 0;
  const count = () => { window.frames++; requestAnimationFrame(count); };
  count();
  window.live = connect({
    board, after,
    onEvents: async events => {
      if (window.broken) { window.failed++; throw new Error("no network"); }
      window.batches.push([window.frames, performance.now()]);
      window.got.push(...events.map(event => event.seq));
      if (window.slow) await new Promise(rest => setTimeout(rest, window.slow));
    },
    onState: ({state, since}) => window.states.push(state) && (window.since = since),
    onResync: seq => window.resyncs.push(seq),
  });
}
"""


@pytest.fixture
async def context(site: Site) -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"]
        )
        context = await browser.new_context(base_url=site.web.origin)
        name, _, value = site.cookie.partition("=")
        await context.add_cookies([{"name": name, "value": value, "url": site.web.origin}])
        yield context
        await browser.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    page = await context.new_page()
    await page.goto("/healthz")
    return page


async def holds(page: Page, expression: str, seconds: float = 60) -> None:
    """Wait until the expression is true in the page."""
    async with asyncio.timeout(seconds):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


async def got(page: Page, last: int, seconds: float = 60) -> list[int]:
    await holds(page, f"window.got.at(-1) >= {last}", seconds)
    numbers: list[int] = await page.evaluate("window.got")
    return numbers


async def commit(site: Site, board: dict[str, Any], count: int) -> None:
    for _ in range(count):
        answer = await asyncio.to_thread(site.new_card, board["id"])
        assert answer.status == 201


async def test_events_come_in_order_and_the_state_is_said(site: Site, page: Page) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 0])
    await holds(page, "window.states.at(-1) === 'live'")
    await commit(site, board, 3)
    assert await got(page, 4) == [1, 2, 3, 4]
    assert await page.evaluate("window.states") == ["connecting", "live"]
    assert await page.evaluate("window.live.cursor") == 4


async def test_many_events_are_few_batches_and_one_at_a_time(site: Site, page: Page) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 1])
    await holds(page, "window.states.at(-1) === 'live'")
    await page.evaluate("window.slow = 30")
    await asyncio.to_thread(site.run, BULK, board["id"], 2000, 10)
    assert await got(page, 2001) == list(range(2, 2002))
    batches = await page.evaluate("window.batches")
    frames = [frame for frame, _ in batches]
    assert len(set(frames)) == len(frames)
    times = [at for _, at in batches]
    assert all(later - earlier > 140 for earlier, later in itertools.pairwise(times))


async def test_nothing_is_handed_over_during_a_drag(site: Site, page: Page) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 1])
    await holds(page, "window.states.at(-1) === 'live'")
    await page.evaluate("window.live.hold()")
    await commit(site, board, 3)
    await holds(page, "window.live.cursor === 4")
    await asyncio.sleep(0.2)
    assert await page.evaluate("window.got") == []
    await page.evaluate("window.live.release()")
    assert await got(page, 4) == [2, 3, 4]
    assert len(await page.evaluate("window.batches")) == 1


async def test_what_happened_while_offline_comes_afterwards(
    site: Site, page: Page, context: BrowserContext
) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 0])
    await holds(page, "window.states.at(-1) === 'live'")
    before = await page.evaluate("Date.now()")
    await context.set_offline(True)
    await holds(page, "window.states.at(-1) === 'offline'")
    assert await page.evaluate("before => before <= window.since", before)
    await asyncio.to_thread(site.run, BULK, board["id"], 500, 10)
    await context.set_offline(False)
    assert await got(page, 501) == list(range(1, 502))
    await holds(page, "window.states.at(-1) === 'live'")
    states = await page.evaluate("window.states")
    assert states[-2:] == ["catching-up", "live"]


async def test_a_restarted_server_is_found_again(site: Site, context: BrowserContext) -> None:
    board = site.new_board()
    doomed = site.serve()
    page = await context.new_page()
    name, _, value = site.cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": doomed.origin}])
    await page.goto(f"{doomed.origin}/healthz")
    await page.evaluate(FOLLOW, [board["key"], 0])
    assert await got(page, 1) == [1]
    doomed.kill()
    await holds(page, "window.states.at(-1) === 'offline'")
    await commit(site, board, 5)
    again = await asyncio.to_thread(lambda: site.serve(port=doomed.port))
    try:
        assert await got(page, 6) == [1, 2, 3, 4, 5, 6]
        await holds(page, "window.states.at(-1) === 'live'")
    finally:
        again.stop()


async def test_where_sockets_fail_the_page_polls_and_says_so(site: Site, page: Page) -> None:
    board = site.new_board()
    refusing = True

    async def route(socket: WebSocketRoute) -> None:
        if refusing:
            await socket.close(code=1011)
        else:
            socket.connect_to_server()

    await page.route_web_socket("**/ws/**", route)
    await page.evaluate(FOLLOW, [board["key"], 0])
    await holds(page, "window.states.at(-1) === 'polling'")
    await commit(site, board, 4)
    assert await got(page, 5) == [1, 2, 3, 4, 5]
    refusing = False
    await holds(page, "window.states.at(-1) === 'live'")
    await commit(site, board, 1)
    assert await got(page, 6) == [1, 2, 3, 4, 5, 6]


async def test_an_event_lost_on_the_way_is_asked_for_again(site: Site, page: Page) -> None:
    board = site.new_board()
    lost: list[str] = []

    async def route(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def forward(sender: Callable[[str], None]) -> Callable[[Any], None]:
            def pass_on(message: Any) -> None:
                if '"seq":3,' in message and not lost:
                    lost.append(message)
                else:
                    sender(message)

            return pass_on

        server.on_message(forward(socket.send))

    await page.route_web_socket("**/ws/**", route)
    await page.evaluate(FOLLOW, [board["key"], 0])
    await holds(page, "window.states.at(-1) === 'live'")
    await commit(site, board, 4)
    async with asyncio.timeout(60):
        while not lost:
            await asyncio.sleep(0.02)
    # What shows a gap is the event after it, and all four may have come in the lost message.
    await commit(site, board, 1)
    assert await got(page, 6) == [1, 2, 3, 4, 5, 6]


async def test_a_gap_too_long_is_one_reload_and_then_news(site: Site, page: Page) -> None:
    board = site.new_board()
    last = int(await asyncio.to_thread(site.run, BULK, board["id"], 5100, 1))
    await page.evaluate(FOLLOW, [board["key"], 0])
    await holds(page, f"window.resyncs.at(-1) === {last}")
    await commit(site, board, 1)
    assert await got(page, last + 1) == [last + 1]
    assert await page.evaluate("window.resyncs.length") == 1


async def test_events_that_could_not_be_applied_are_handed_over_again(
    site: Site, page: Page
) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 1])
    await page.evaluate("window.broken = true")
    await commit(site, board, 2)
    await holds(page, "window.live.cursor === 3")
    await holds(page, "window.failed > 0")
    await page.evaluate("window.broken = false")
    await commit(site, board, 1)
    assert await got(page, 4) == [2, 3, 4]
    assert await page.evaluate("window.resyncs.length") == 0


async def test_a_page_that_keeps_failing_to_apply_events_is_told_to_load_anew(
    site: Site, page: Page
) -> None:
    board = site.new_board()
    await page.evaluate(FOLLOW, [board["key"], 1])
    await page.evaluate("window.broken = true")
    await commit(site, board, 1)
    await holds(page, "window.resyncs.length === 1")
    await page.evaluate("window.broken = false")
    await commit(site, board, 1)
    assert await got(page, 3) == [3]


async def test_whoever_is_signed_out_or_on_no_board_is_told_and_left_alone(
    site: Site, page: Page, context: BrowserContext
) -> None:
    await page.evaluate(FOLLOW, ["NOPE", 0])
    await holds(page, "window.states.at(-1) === 'gone'")
    await context.clear_cookies()
    await page.evaluate(FOLLOW, [site.new_board()["key"], 0])
    await holds(page, "window.states.at(-1) === 'signed-out'")
    await asyncio.sleep(1)
    assert await page.evaluate("window.states") == ["connecting", "signed-out"]
