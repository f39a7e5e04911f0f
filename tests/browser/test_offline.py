"""Moves made while the server is away: kept, sent in order, refused in words, none lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser

#: Moves cards about through the transitions, as many as an hour of many agents makes.
MOVES = """
import random, sys, django
django.setup()
from boards import cards
from boards.models import Board, Card
board, count = Board.objects.get(key=sys.argv[1]), int(sys.argv[2])
columns = list(board.columns.all())
ids = list(Card.objects.filter(board=board).values_list("pk", flat=True))
dice = random.Random(4)
for n in range(count):
    cards.move(dice.choice(ids), "user:bob", dice.choice(columns).pk)
"""


async def opened(open_page: Open, board: str) -> Page:
    page = await open_page(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    return page


def column(page: Page, name: str) -> Any:
    return page.locator(f'.col[data-name="{name}"] .card')


async def go_offline(page: Page) -> None:
    await page.context.set_offline(True)
    await expect(page.locator("#board")).to_have_attribute("data-live", "offline")


async def right(page: Page, title: str) -> None:
    await page.get_by_role("link", name=title).focus()
    await page.keyboard.press("Alt+ArrowRight")


def stored(site: Site, board: str) -> dict[str, str]:
    found = site.call("GET", f"/api/v1/cards?board={board}&limit=200").body["results"]
    return {card["key"]: card["column"] for card in found}


async def test_moves_wait_and_are_sent_in_order(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(3):
        new_card(site, board, f"Card {n}")
    page = await opened(open_page, board)
    await go_offline(page)
    await right(page, "Card 0")
    await expect(column(page, "In progress")).to_have_count(1)
    await right(page, "Card 0")
    await right(page, "Card 1")
    await expect(page.locator(".card.pending")).to_have_count(2)
    await expect(page.locator("#offline")).to_contain_text(
        "3 changes will be sent when you are back"
    )
    await expect(page.locator("#announce")).to_contain_text("when the server is back")
    assert set(stored(site, board).values()) == {stored(site, board)[f"{board}-3"]}
    await page.context.set_offline(False)
    await expect(page.locator("#offline")).to_be_hidden()
    await expect(page.locator(".card.pending")).to_have_count(0)
    events = site.call("GET", f"/api/v1/events?board={board}&after=0").body["results"]
    moved = [e["data"]["card"] for e in events if e["kind"] == "card.moved"]
    assert moved == [f"{board}-1", f"{board}-1", f"{board}-2"]
    assert site.call("GET", f"/api/v1/cards/{board}-1").body["state"] == "blocked"


async def test_moves_outlive_a_reload(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    page = await opened(open_page, board)
    # The page loads; only what it would change doesn't get through.
    await page.route("**/api/v1/cards/**", lambda route: route.abort())
    await right(page, "Card 0")
    await expect(page.locator("#offline")).to_contain_text("1 change is being sent")
    await page.reload()
    await expect(column(page, "In progress")).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(1)
    await page.unroute("**/api/v1/cards/**")
    await expect(page.locator(".card.pending")).to_have_count(0)
    assert site.call("GET", f"/api/v1/cards/{board}-1").body["state"] == "waiting"


async def test_an_answer_that_was_lost_is_no_second_move(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Card 0")
    page = await opened(open_page, board)

    async def lose(route: Any) -> None:
        await route.fetch()
        await route.abort()

    await page.route("**/api/v1/cards/*/move", lose, times=1)
    await right(page, "Card 0")
    await expect(page.locator("#announce")).to_contain_text("when the server is back")
    await expect(page.locator(".card.pending")).to_have_count(0)
    events = site.call("GET", f"/api/v1/events?board={board}&after=0").body["results"]
    assert [e["kind"] for e in events].count("card.moved") == 1
    await expect(page.locator(".card > .strip")).to_have_count(0)


async def test_what_others_changed_meanwhile_is_not_overwritten(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    for n in range(2):
        new_card(site, board, f"Card {n}")
    page = await opened(open_page, board)
    await go_offline(page)
    await right(page, "Card 0")
    await right(page, "Card 0")
    await right(page, "Card 1")
    await expect(page.locator(".card.pending")).to_have_count(2)
    site.call("PATCH", f"/api/v1/cards/{board}-1", {"priority": 0})
    await page.context.set_offline(False)
    card = page.locator(f'[data-key="{board}-1"]')
    await expect(card.locator(".strip")).to_be_visible()
    await expect(column(page, "Backlog")).to_have_count(1)
    await expect(column(page, "In progress")).to_have_count(1)
    await expect(page.locator("#alarm")).to_contain_text(f"{board}-1 was not moved")
    assert site.call("GET", f"/api/v1/cards/{board}-1").body["state"] == "backlog"
    assert site.call("GET", f"/api/v1/cards/{board}-2").body["state"] == "waiting"


async def test_500_moves_of_others_are_all_there_afterwards(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(20):
        new_card(site, board, f"Card {n}")
    page = await opened(open_page, board)
    await go_offline(page)
    site.run(MOVES, board, "500")
    await page.context.set_offline(False)
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    last = site.call("GET", f"/api/v1/events?board={board}&after=500&limit=200").body["last_seq"]
    await expect(page.locator("#live-seq")).to_have_text(re.compile(rf"event {last}"))
    await expect(page.locator(".card")).to_have_count(20)
    for key, column in stored(site, board).items():
        there = page.locator(f'.col[data-column="{column}"] .card[data-key="{key}"]')
        await expect(there).to_have_count(1)


async def retitle(page: Page, title: str) -> None:
    await page.locator("#ed-title summary").click()
    await page.locator("#ed-title input").fill(title)
    await page.keyboard.press("Enter")


async def test_edits_wait_too_and_follow_each_other(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Card 0")["key"]
    page = await opened(open_page, board)
    await page.get_by_role("link", name="Card 0").focus()
    await page.keyboard.press("Space")
    await expect(page.locator("#ed-title")).to_be_visible()
    await go_offline(page)
    await retitle(page, "Once")
    await expect(page.locator("#announce")).to_contain_text("when the server is back")
    await expect(page.locator(".card.pending .t")).to_have_text("Once")
    await expect(page.locator(".waits")).to_have_text("Once")
    await retitle(page, "Twice")
    await page.get_by_role("link", name="Twice").focus()
    await page.keyboard.press("p")
    await page.keyboard.press("1")
    await expect(page.locator("#offline")).to_contain_text("3 changes will be sent")
    await page.context.set_offline(False)
    await expect(page.locator(".card.pending")).to_have_count(0)
    await expect(page.locator("#ed-title summary")).to_contain_text("Twice")
    await expect(page.locator(".waits")).to_have_count(0)
    told = site.call("GET", f"/api/v1/cards/{key}").body
    assert (told["title"], told["priority"]) == ("Twice", 0)


async def test_an_edit_that_no_longer_fits_is_shown_beside_what_it_met(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Card 0")["key"]
    page = await opened(open_page, board)
    await page.get_by_role("link", name="Card 0").focus()
    await page.keyboard.press("Space")
    await expect(page.locator("#ed-title")).to_be_visible()
    await go_offline(page)
    await retitle(page, "Mine")
    await expect(page.locator(".card.pending")).to_have_count(1)
    site.call("PATCH", f"/api/v1/cards/{key}", {"title": "Theirs"})
    await page.context.set_offline(False)
    toast = page.locator(".toast", has_text="Mine")
    await expect(toast).to_contain_text("Theirs")
    await expect(page.get_by_role("link", name="Theirs")).to_be_visible()
    assert site.call("GET", f"/api/v1/cards/{key}").body["title"] == "Theirs"
    await toast.get_by_role("button", name="Save mine").click()
    await expect(page.get_by_role("link", name="Mine")).to_be_visible()
    assert site.call("GET", f"/api/v1/cards/{key}").body["title"] == "Mine"
