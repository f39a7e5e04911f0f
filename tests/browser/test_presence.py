"""Who else looks at the board, as people see it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card, viewer
from tests.serving import Site

pytestmark = pytest.mark.browser


async def test_people_on_a_board_see_each_other_come_and_go(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    ada = await open_page(f"/boards/{board}")
    await expect(ada.locator("#board")).to_have_attribute("data-live", "live")
    await expect(ada.locator("#presence .av")).to_have_count(0)
    eve = await open_page(f"/boards/{board}", cookie=viewer(site, board))
    others = ada.locator("#presence").get_by_role("img")
    await expect(others).to_have_accessible_name(f"viewer-{board} looks at this board, too")
    await expect(ada.locator("#live-viewers")).to_have_text("· 2 viewers")
    await expect(eve.locator("#presence").get_by_role("img")).to_have_accessible_name(
        "ada looks at this board, too"
    )
    await eve.close()
    await expect(ada.locator("#presence .av")).to_have_count(0)
    await expect(ada.locator("#live-viewers")).to_have_text("")


async def test_a_card_shows_who_has_it_open(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    card = new_card(site, board, "Card 0")
    ada = await open_page(f"/boards/{board}")
    eve = await open_page(f"/boards/{board}", cookie=viewer(site, board))
    for page in (ada, eve):
        await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await eve.locator(".card").first.evaluate(
        """card => card.dispatchEvent(new CustomEvent("holdfast:open", {
             detail: {key: card.dataset.key, id: card.dataset.card}, bubbles: true}))"""
    )
    here = ada.locator(".card .here")
    await expect(here).to_have_accessible_name(f"viewer-{board} has it open")
    # Drawn anew, it still shows.
    site.call("PATCH", f"/api/v1/cards/{card['key']}", {"title": "Card 1"})
    await expect(ada.get_by_role("link", name="Card 1")).to_be_visible()
    await expect(here).to_have_count(1)
    await eve.close()
    await expect(here).to_have_count(0)
