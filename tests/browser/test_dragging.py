"""Where a card can be dropped besides a column's list, and what is asked first."""

from __future__ import annotations

import re
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


async def carry(page: Page, source: Any, target: Any) -> None:
    """Lift the card and hold it over the target."""
    a, b = await source.bounding_box(), await target.bounding_box()
    await page.mouse.move(a["x"] + 60, a["y"] + 10)
    await page.mouse.down()
    await page.mouse.move(a["x"] + 75, a["y"] + 18, steps=4)
    await page.mouse.move(b["x"] + b["width"] / 2, b["y"] + min(30, b["height"] / 2), steps=12)


def card(page: Page, key: str) -> Any:
    return page.locator(f'.card[data-key="{key}"]')


def state(site: Site, key: str) -> Any:
    return site.call("GET", f"/api/v1/cards/{key}").body


async def test_another_lane_changes_the_goal_and_one_undo_both(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    one, two = (
        site.call("POST", "/api/v1/goals", {"board": board, "title": f"Goal {n}"}).body["id"]
        for n in range(2)
    )
    key = new_card(site, board, "Card 0", goal=one)["key"]
    new_card(site, board, "Card 1", goal=two)
    page = await opened(open_page, f"/boards/{board}?lanes=goal")
    target = page.locator(f'.col[data-lane="{two}"][data-name="In progress"]')
    await carry(page, card(page, key), target)
    await page.mouse.up()
    await expect(target.locator(".card")).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(0)
    assert (state(site, key)["goal"], state(site, key)["state"]) == (two, "waiting")
    await expect(page.locator(f'[data-lane-count="{two}"]')).to_have_text("2")
    await page.keyboard.press("z")
    await expect(target.locator(".card")).to_have_count(0)
    await expect(page.locator(".card.pending")).to_have_count(0)
    await expect(page.locator("#toasts")).to_contain_text("Undone")
    assert (state(site, key)["goal"], state(site, key)["state"]) == (one, "backlog")


async def test_a_lane_that_is_folded_up_takes_a_card(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    goal = site.call("POST", "/api/v1/goals", {"board": board, "title": "Goal"}).body["id"]
    new_card(site, board, "Card 0", goal=goal)
    key = new_card(site, board, "Card 1")["key"]
    page = await opened(open_page, f"/boards/{board}?lanes=goal")
    lane = page.locator(f'.lane[data-lane="{goal}"]')
    await lane.locator("[data-fold-lane]").click()
    await carry(page, card(page, key), lane.locator("header"))
    await page.mouse.up()
    await expect(page.locator("#announce")).to_contain_text(f"{key} moved")
    assert state(site, key)["goal"] == goal


async def test_the_lane_of_a_worker_takes_none(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    new_card(site, board, "Runs", column="In progress")
    site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token)
    key = new_card(site, board, "Card 1")["key"]
    page = await opened(open_page, f"/boards/{board}?lanes=worker")
    target = page.locator('.col[data-lane="ada"][data-name="In progress"]')
    await carry(page, card(page, key), target)
    await page.mouse.up()
    await expect(card(page, key).locator(".strip")).to_contain_text("when the worker claims it")
    assert state(site, key)["state"] == "backlog"


async def test_a_rail_takes_a_card_and_opens_under_one_that_waits(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    one, two = (new_card(site, board, f"Card {n}")["key"] for n in range(2))
    page = await opened(open_page, f"/boards/{board}")
    await page.get_by_role("button", name="Fold Completed up").click()
    rail = page.locator('.col[data-name="Completed"]')
    await carry(page, card(page, one), rail)
    await page.mouse.up()
    await expect(page.locator("#announce")).to_contain_text("to Completed")
    assert state(site, one)["state"] == "completed"
    await carry(page, card(page, two), rail)
    await expect(rail).not_to_have_class("col rail over")
    await expect(card(page, one)).to_be_visible()
    await page.mouse.up()
    await expect(rail.locator(".card")).to_have_count(2)


async def test_a_running_card_is_taken_only_after_a_question(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    key = new_card(site, board, "Runs", column="In progress")["key"]
    site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token)
    page = await opened(open_page, f"/boards/{board}")
    await expect(page.locator('.card[data-state="running"]')).to_have_count(1)
    title = page.get_by_role("link", name="Runs")
    dialog = page.get_by_role("dialog", name=f"{key} is running")
    await title.focus()
    await page.keyboard.press("Alt+ArrowRight")
    await expect(dialog.get_by_role("button", name="Keep running")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(title).to_be_focused()
    assert state(site, key)["state"] == "running"
    await page.keyboard.press("Alt+ArrowRight")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(page.locator("#announce")).to_contain_text("told to pause")
    assert (state(site, key)["state"], state(site, key)["paused"]) == ("running", True)
    await title.focus()
    await page.keyboard.press("Alt+ArrowRight")
    await dialog.get_by_role("button", name="Take it and move").click()
    await expect(page.locator('.col[data-name="Blocked"] .card')).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(0)
    assert state(site, key)["state"] == "blocked"


async def test_let_go_between_two_cards_it_lands_between_and_over_itself_nothing_happens(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    keys = [new_card(site, board, f"Card {n}")["key"] for n in range(4)]
    page = await opened(open_page, f"/boards/{board}")
    shown = page.locator(".col .card")
    upper, lower = [await card(page, key).bounding_box() for key in keys[:2]]
    gap = (upper["y"] + upper["height"] + lower["y"]) / 2
    assert lower["y"] - upper["y"] - upper["height"] > 2
    await carry(page, card(page, keys[3]), card(page, keys[1]))
    await page.mouse.move(lower["x"] + 40, gap, steps=3)
    await expect(card(page, keys[1])).to_have_class(re.compile(r"\bedge-top\b"))
    await page.mouse.up()
    await expect(page.locator(".card.pending")).to_have_count(0)
    order = [keys[n] for n in (0, 3, 1, 2)]
    assert await shown.evaluate_all("cards => cards.map(card => card.dataset.key)") == order
    await page.reload()
    assert await shown.evaluate_all("cards => cards.map(card => card.dataset.key)") == order
    before = state(site, keys[0])["version"]
    await carry(page, card(page, keys[0]), card(page, keys[0]))
    await page.mouse.up()
    await expect(page.locator(".card.ghost")).to_have_count(0)
    assert await shown.evaluate_all("cards => cards.map(card => card.dataset.key)") == order
    assert state(site, keys[0])["version"] == before
