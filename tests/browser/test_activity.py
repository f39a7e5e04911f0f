"""The board's events in a browser: new ones wait for the reader, old ones have an address."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import SIZES, problems
from tests.browser.test_insights import worked
from tests.serving import Site

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_the_page_shuts_nobody_out(
    site: Site, open_page: Open, theme: str, size: str
) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Watch it", column="In progress")
    worked(site, board, "ada", "complete")
    page = await open_page(f"/boards/{board}/activity", theme=theme, viewport=SIZES[size])
    await expect(page.locator("#live-state")).to_have_text("Live")
    assert not await problems(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_new_events_wait_behind_a_button_and_move_nothing(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    first = new_card(site, board, "First")["key"]
    page = await open_page(f"/boards/{board}/activity")
    await expect(page.locator("#live-state")).to_have_text("Live")
    rows = page.locator("#events li")
    before = await rows.count()
    mine = rows.filter(has_text=first)
    place = await mine.bounding_box()
    await mine.get_by_role("link", name=first).focus()

    for title in ("Second", "Third"):
        new_card(site, board, title)
    button = page.get_by_role("button", name="2 new")
    await expect(button).to_be_visible()
    assert await rows.count() == before
    assert await mine.bounding_box() == place
    await expect(page.locator(":focus")).to_contain_text(first)

    await button.click()
    await expect(rows).to_have_count(before + 2)
    await expect(rows.first).to_contain_text("made the card")
    await expect(rows.first).to_contain_text("Third")
    await expect(rows.first.locator(".seq")).to_be_focused()
    await expect(button).to_be_hidden()


async def test_only_what_the_filter_lets_through_counts_as_new(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Work", column="In progress")
    page = await open_page(f"/boards/{board}/activity?kind=step")
    await expect(page.locator("#live-state")).to_have_text("Live")
    await expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    worked(site, board, "ada", "complete")
    await page.get_by_role("button", name="1 new").click()
    await expect(page.locator("#events li")).to_have_count(1)
    await expect(page.locator("#events li")).to_contain_text("ada finished step one")


async def test_an_event_has_an_address(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(30):
        new_card(site, board, f"Card {n}")
    page = await open_page(f"/boards/{board}/activity")
    await page.get_by_role("link", name="Event #5", exact=True).click()
    await page.wait_for_url("**?seq=5#e5")
    named = page.locator("#events li.named")
    await expect(named).to_contain_text("#5")
    await expect(named).to_be_in_viewport()
    await page.get_by_role("link", name="Newest events").click()
    await expect(page.locator("#events li").first).to_contain_text("Card 29")


async def test_older_events_are_a_page_away(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(110):
        new_card(site, board, f"Card {n}")
    page = await open_page(f"/boards/{board}/activity")
    await expect(page.locator("#events li")).to_have_count(100)
    await page.get_by_role("link", name="Older events").click()
    await expect(page.locator("#events li").last).to_contain_text("made the board")
