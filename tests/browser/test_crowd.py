"""Many browsers on one busy board: all of them end with what is true, card by card.

CROWD_BROWSERS, CROWD_RATE and CROWD_SECONDS make it larger; bench/crowd.py runs fifty of them.
"""

from __future__ import annotations

import os

import pytest
from playwright.async_api import async_playwright

from tests import crowd
from tests.serving import Site

pytestmark = pytest.mark.browser


async def test_every_browser_ends_with_the_state_of_the_server(site: Site) -> None:
    browsers = int(os.environ.get("CROWD_BROWSERS", "6"))
    rate = float(os.environ.get("CROWD_RATE", "30"))
    seconds = float(os.environ.get("CROWD_SECONDS", "8"))
    async with async_playwright() as playwright:
        went = await crowd.gather(site, playwright, browsers, rate, seconds)
    assert went.wrong == {}
    assert went.changes > rate * seconds / 10
    assert went.cards_checked >= 150 * browsers


async def test_a_page_that_differs_is_found_out(site: Site) -> None:
    board = crowd.furnish(site, 40)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"]
        )
        page = await crowd.opened(await crowd.entered(browser, site, board), board)
        true = crowd.truth(site, board)
        assert await crowd.differences(page, true) == []
        for spoil in (
            "card => card.querySelector('.t').textContent = 'Another title'",
            "card => card.dataset.version = '99'",
            "card => card.dataset.state = 'blocked'",
            "card => card.parentElement.append(card)",
            "card => card.remove()",
        ):
            await page.reload()
            await crowd.live(page)
            await page.locator(".col .card").first.evaluate(spoil)
            assert await crowd.differences(page, true), spoil
        await browser.close()
