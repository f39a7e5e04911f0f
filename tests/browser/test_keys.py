"""What keys open, and what a new card's line means."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser


async def opened(open_page: Open, path: str, **options: object) -> Page:
    page = await open_page(path, **options)
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    return page


async def test_space_opens_a_card_beside_the_board_and_j_walks_on(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    for n in range(2):
        new_card(site, board, f"Card {n}")
    page = await opened(open_page, f"/boards/{board}")
    drawer = page.locator("#drawer aside")
    await page.get_by_role("link", name="Card 0").focus()
    await page.keyboard.press("Space")
    await expect(drawer).to_have_attribute("data-key", f"{board}-1")
    await expect(drawer).to_be_focused()
    await page.keyboard.press("j")
    await expect(drawer).to_have_attribute("data-key", f"{board}-2")
    await page.keyboard.press("k")
    await expect(drawer).to_have_attribute("data-key", f"{board}-1")
    site.call("PATCH", f"/api/v1/cards/{board}-1", {"title": "Another title"})
    await expect(drawer).to_contain_text("Another title")
    await page.keyboard.press("Escape")
    await expect(drawer).to_have_count(0)


async def test_keys_go_on_where_a_card_went_and_at_what_was_found(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    for title in ("First", "Second", "Third"):
        new_card(site, board, title)
    page = await opened(open_page, f"/boards/{board}")
    await page.get_by_role("link", name="Second").focus()
    await page.keyboard.press("e")
    await expect(page.get_by_role("link", name="Third")).to_be_focused()
    site.call("POST", f"/api/v1/cards/{board}-3/archive", {})
    await expect(page.get_by_role("link", name="First")).to_be_focused()
    await page.keyboard.press("z")
    second = page.get_by_role("link", name="Second", exact=True)
    await expect(second).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("second")
    await page.keyboard.press("Enter")
    await expect(second).to_be_focused()


async def test_an_own_move_asks_the_server_once_what_became_of_it(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Carried")
    page = await opened(open_page, f"/boards/{board}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.get_by_role("link", name="Carried").focus()
    await page.keyboard.press("Alt+ArrowRight")
    await expect(page.locator(".card.pending")).to_have_count(0)
    await expect(page.locator("#live-seq")).to_contain_text("event 3")
    new_card(site, board, "Later")
    await expect(page.get_by_role("link", name="Later")).to_be_visible()
    assert len([url for url in asked if "/changes?" in url]) == 2


async def test_a_small_screen_opens_the_page_of_a_card(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Card 0")["key"]
    page = await opened(
        open_page, f"/boards/{board}", viewport={"width": 390, "height": 844}, has_touch=True
    )
    await page.get_by_role("link", name="Card 0").tap()
    await page.wait_for_url(f"**/cards/{key}")


async def test_a_filters_by_worker(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    new_card(site, board, "Runs", column="In progress")
    new_card(site, board, "Waits")
    site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token)
    page = await opened(open_page, f"/boards/{board}")
    await page.keyboard.press("a")
    await expect(page.locator("#f-worker")).to_be_focused()
    await page.keyboard.type("ada")
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page).to_have_url(re.compile("worker=ada"))
    await page.keyboard.press("Enter")
    await expect(page.locator("#filter")).to_be_hidden()


async def test_single_keys_can_be_turned_off(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    page = await opened(open_page, f"/boards/{board}")
    await page.evaluate("localStorage.setItem('single-keys', 'off')")
    await page.reload()
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="Card 0")).not_to_be_focused()
    await page.get_by_role("link", name="Card 0").focus()
    await page.keyboard.press("Alt+ArrowRight")
    await expect(page.locator('.col[data-name="In progress"] .card')).to_have_count(1)


async def test_a_new_cards_line_names_labels_priority_and_what_it_waits_for(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    first = new_card(site, board, "First")["key"]
    page = await opened(open_page, f"/boards/{board}")
    await page.get_by_role("button", name="Add a card to Backlog").click()
    await page.keyboard.type(f"Retry the relay #ops !high after:{first.lower()}")
    await expect(page.locator(".compose .ft")).to_have_text(f"#ops · priority high · after {first}")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Retry the relay")).to_be_visible()
    made = site.call("GET", f"/api/v1/cards/{board}-2").body
    assert (made["labels"], made["priority"], made["depends_on"]) == (["ops"], 1, [first])
    # What is refused stays, with the reason.
    line = "Never after:NOPE-9"
    await page.locator(".compose input").fill(line)
    await page.keyboard.press("Enter")
    await expect(page.locator(".compose .ft")).to_contain_text("no card")
    await expect(page.locator(".compose input")).to_have_value(line)


async def test_several_lines_become_cards_after_a_question(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await opened(open_page, f"/boards/{board}")
    await page.get_by_role("button", name="Add a card to Backlog").click()
    await page.locator(".compose input").evaluate(
        """input => {
             const data = new DataTransfer();
             data.setData("text", "- One #a\\n- [ ] Two\\n\\n3. Three");
             input.dispatchEvent(new ClipboardEvent("paste", {
               clipboardData: data, bubbles: true, cancelable: true}));
           }"""
    )
    await page.get_by_role("button", name="3 cards").click()
    await expect(page.locator('.col[data-name="Backlog"] .card')).to_have_count(3)
    found = site.call("GET", f"/api/v1/cards?board={board}").body["results"]
    assert sorted(card["title"] for card in found) == ["One", "Three", "Two"]
