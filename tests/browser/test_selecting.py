"""Cards picked by mouse and keyboard, changed together, and every change taken back."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser


async def opened(open_page: Open, board: str, **options) -> Page:
    page = await open_page(f"/boards/{board}", **options)
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    return page


def card(page: Page, title: str):
    return page.locator(".card", has_text=title)


def column(page: Page, name: str):
    return page.locator(f'.col[data-name="{name}"]')


def state_of(site: Site, key: str) -> dict:
    return site.call("GET", f"/api/v1/cards/{key}").body


async def test_picked_with_keys_moved_together_and_back(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    cards = [new_card(site, board, f"Card {n}") for n in range(4)]
    page = await opened(open_page, board)
    await card(page, "Card 0").locator(".t").focus()
    await page.keyboard.press("x")
    await page.keyboard.press("Shift+J")
    await page.keyboard.press("Shift+J")
    await expect(page.locator(".card.sel")).to_have_count(3)
    await expect(page.locator("#bulk")).to_contain_text("3 selected")
    await expect(page.locator("#announce")).to_have_text("3 cards selected.")
    await page.keyboard.press("m")
    await page.keyboard.press("2")
    there = column(page, "In progress").locator(".card .t")
    await expect(there).to_have_text(["Card 0", "Card 1", "Card 2"])
    await expect(page.locator(".toast")).to_contain_text("3 cards moved to In progress")
    await page.keyboard.press("z")
    await expect(column(page, "Backlog").locator(".card .t")).to_have_text(
        ["Card 0", "Card 1", "Card 2", "Card 3"]
    )
    assert [state_of(site, c["key"])["state"] for c in cards] == ["backlog"] * 4
    await page.keyboard.press("Shift+Z")
    await expect(there).to_have_text(["Card 0", "Card 1", "Card 2"])
    await page.keyboard.press("Escape")
    await expect(page.locator("#bulk")).to_be_hidden()


async def test_labels_and_priority_for_all_and_undone(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    one = new_card(site, board, "First", labels=["api"])
    two = new_card(site, board, "Second", priority=4)
    page = await opened(open_page, board)
    await card(page, "First").hover()
    await card(page, "First").get_by_role("checkbox").check()
    await card(page, "Second").click(modifiers=["Shift"], position={"x": 80, "y": 12})
    bar = page.get_by_role("toolbar", name="Selected cards")
    await bar.get_by_role("button", name="Label").click()
    await page.locator("#bulk-label input").fill("hot, #ui")
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_contain_text("2 cards have the label hot, ui")
    assert state_of(site, one["key"])["labels"] == ["api", "hot", "ui"]
    assert state_of(site, two["key"])["labels"] == ["hot", "ui"]
    await page.keyboard.press("z")
    await expect(card(page, "Second").locator(".lab")).to_have_count(0)
    assert state_of(site, one["key"])["labels"] == ["api"]
    await card(page, "First").locator(".t").focus()
    await page.keyboard.press("p")
    await page.keyboard.press("1")
    await expect(page.locator(".toast")).to_contain_text("1 card has priority Urgent")
    assert state_of(site, one["key"])["priority"] == 0


async def test_what_is_refused_says_so_at_its_card(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Planned")
    busy = new_card(site, board, "Under way", column="In progress")
    page = await opened(open_page, board)
    await card(page, "Planned").locator(".t").focus()
    await page.keyboard.press("Control+a")
    await page.keyboard.press("Control+a")
    await expect(page.locator(".card.sel")).to_have_count(2)
    await page.keyboard.press("e")
    await expect(card(page, "Planned")).to_have_count(0)
    await expect(card(page, "Under way")).to_contain_text("finish or cancel it before archiving")
    await expect(page.locator("#alarm")).to_contain_text("1 card was refused")
    assert state_of(site, busy["key"])["state"] == "waiting"
    await page.keyboard.press("z")
    await expect(card(page, "Planned")).to_have_count(1)


async def test_an_undo_never_overwrites_what_others_did(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    made = new_card(site, board, "Contested")
    page = await opened(open_page, board)
    await card(page, "Contested").locator(".t").focus()
    await page.keyboard.press("p")
    await page.keyboard.press("2")
    await expect(page.locator(".toast")).to_contain_text("priority High")
    site.call("PATCH", f"/api/v1/cards/{made['key']}", {"priority": 4})
    await page.keyboard.press("z")
    await expect(page.locator("#alarm")).to_contain_text("changed by others since")
    assert state_of(site, made["key"])["priority"] == 4


async def test_a_selection_is_dragged_as_one(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(3):
        new_card(site, board, f"Card {n}")
    page = await opened(open_page, board)
    for title in ("Card 0", "Card 2"):
        await card(page, title).click(modifiers=["Control"], position={"x": 80, "y": 12})
    start = await card(page, "Card 2").bounding_box()
    end = await column(page, "Review").bounding_box()
    assert start is not None
    assert end is not None
    await page.mouse.move(start["x"] + 60, start["y"] + 10)
    await page.mouse.down()
    for n in range(1, 11):
        await page.mouse.move(
            start["x"] + (end["x"] + 60 - start["x"]) * n / 10,
            start["y"] + (end["y"] + 200 - start["y"]) * n / 10,
        )
    await expect(page.locator(".card.ghost")).to_have_count(2)
    await page.mouse.up()
    await expect(column(page, "Review").locator(".card .t")).to_have_text(["Card 0", "Card 2"])
    await expect(page.locator(".card.ghost")).to_have_count(0)
    await page.keyboard.press("z")
    await expect(column(page, "Backlog").locator(".card .t")).to_have_text(
        ["Card 0", "Card 1", "Card 2"]
    )


async def test_a_selection_survives_what_others_do(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    cards = [new_card(site, board, f"Card {n}") for n in range(3)]
    page = await opened(open_page, board)
    await card(page, "Card 0").locator(".t").focus()
    await page.keyboard.press("x")
    await page.keyboard.press("Shift+J")
    site.call("PATCH", f"/api/v1/cards/{cards[0]['key']}", {"title": "Card 0, better"})
    await expect(card(page, "Card 0, better")).to_have_class(re.compile(r"\bsel\b"))
    site.call("DELETE", f"/api/v1/cards/{cards[1]['key']}")
    await expect(page.locator("#bulk")).to_contain_text("1 selected")
