"""Budgets, caps and shares, in a browser: raised where they are told of, set in the settings."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import SIZES, problems
from tests.serving import Site

pytestmark = pytest.mark.browser


def overspent(site: Site, board: str) -> str:
    """Return the key of a card that has used more than it may."""
    card = new_card(site, board, "Dear", column="In progress", budgets={"cost_usd": "0.50"})
    token = site.new_token(board)["token"]
    claim = {"worker": "ada", "card": card["key"]}
    held = site.call("POST", "/api/v1/claims", claim, token=token).body
    step = {"key": "a", "status": "succeeded", "usage": {"cost_usd": "0.60"}}
    path = f"/api/v1/attempts/{held['attempt']['id']}"
    lease = {"Lease-Token": held["lease"]["token"]}
    assert site.call("POST", f"{path}/steps", step, token=token, headers=lease).status == 201
    done = {"summary": "over budget", "reason": "budget"}
    assert site.call("POST", f"{path}/release", done, token=token, headers=lease).status == 200
    return str(card["key"])


async def test_a_budget_is_raised_where_the_card_tells_of_it(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = overspent(site, board)
    page = await open_page(f"/cards/{key}")
    told = page.get_by_text(f"{key} has used 0.6 of 0.5 USD.")
    await expect(told).to_be_visible()
    await page.get_by_label("US dollars").fill("2")
    await page.locator("#budget-card").get_by_role("button", name="Save").click()
    await expect(told).to_be_hidden()
    await expect(page.locator("#budget-card")).to_contain_text("0.6 of 2 US dollars")


async def test_an_open_board_says_when_it_is_over_its_budget(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}")
    strip = page.locator("#board-spent")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await expect(strip).to_be_empty()
    overspent(site, board)
    for most, words in (("0.10", "Nobody begins anything here"), ("5", "")):
        path = f"/api/v1/boards/{board}"
        version = site.call("GET", path).body["version"]
        headers = {"If-Match": f'"{version}"'}
        body = {"budgets": {"cost_usd": most}}
        assert site.call("PATCH", path, body, headers=headers).status == 200
        await expect(strip).to_have_text(re.compile(words) if words else "")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_shares_and_caps_are_set_in_the_settings(
    site: Site, open_page: Open, theme: str
) -> None:
    board = site.new_board()["key"]
    key = overspent(site, board)
    for size in SIZES.values():
        page = await open_page(f"/cards/{key}", theme=theme, viewport=size)
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await page.goto(f"/boards/{board}/settings")
        await page.locator("#bounds summary", has_text="Share and caps").click()
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    form = page.locator("#bounds [data-sharing]")
    await form.get_by_label("Share").fill("3")
    await form.get_by_label("At once with a label").fill("gpu 1, slow: 2, x")
    await form.get_by_role("button", name="Save").click()
    await expect(form.locator(".problem")).to_contain_text("caps")
    await form.get_by_label("At once with a label").fill("gpu 1, slow: 2")
    await form.get_by_role("button", name="Save").click()
    await expect(form).to_be_hidden()
    kept = site.call("GET", f"/api/v1/boards/{board}").body
    assert (kept["share"], kept["caps"]) == (3, {"labels": {"gpu": 1, "slow": 2}})
