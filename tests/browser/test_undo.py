"""Moves taken back and done again, and what others did in between left alone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser


async def opened(open_page: Open, path: str) -> Page:
    page = await open_page(path)
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    return page


def column(page: Page, name: str) -> Any:
    return page.locator(f'.col[data-name="{name}"] .card')


async def settled(page: Page, name: str, count: int = 1) -> None:
    await expect(column(page, name)).to_have_count(count)
    await expect(page.locator(".card.pending")).to_have_count(0)


async def test_a_row_of_moves_is_taken_back_and_done_again(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    page = await opened(open_page, f"/boards/{board}")
    await page.keyboard.press("j")
    for name in ("In progress", "Blocked"):
        await page.keyboard.press("Alt+ArrowRight")
        await settled(page, name)
    for _ in range(2):
        for key, name in (("z", "In progress"), ("z", "Backlog"), ("Z", "In progress")):
            await page.keyboard.press(key)
            await settled(page, name)
        await page.keyboard.press("Control+Shift+Z")
        await settled(page, "Blocked")
    await expect(page.get_by_role("link", name="Card 0")).to_be_focused()
    await expect(page.locator("#toasts")).to_contain_text("Done again")
    assert site.call("GET", f"/api/v1/cards/{board}-1").body["state"] == "blocked"


async def test_an_undo_is_refused_where_somebody_was_there_since(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    page = await opened(open_page, f"/boards/{board}")
    await page.keyboard.press("j")
    await page.keyboard.press("Alt+ArrowRight")
    await settled(page, "In progress")
    site.call("PATCH", f"/api/v1/cards/{board}-1", {"priority": 0})
    await page.keyboard.press("z")
    await expect(page.locator("#toasts")).to_contain_text("Not undone")
    await expect(page.locator("#alarm")).to_contain_text("operator changed its priority")
    await settled(page, "In progress")
    card = site.call("GET", f"/api/v1/cards/{board}-1").body
    assert (card["state"], card["priority"]) == ("waiting", 0)


async def test_there_may_be_nothing_to_undo(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await opened(open_page, f"/boards/{board}")
    await page.keyboard.press("z")
    await expect(page.locator("#announce")).to_have_text("There is nothing to undo.")
