"""The drawing of attempts in a browser: walked by arrow keys, clicked, and read as a list."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.browser.test_card import claimed
from tests.serving import Site

pytestmark = pytest.mark.browser


def tried(site: Site, times: int) -> str:
    """Return a card that so many workers handed over, each with a checkpoint."""
    board = site.new_board()["key"]
    key = new_card(site, board, "Ship the parser", column="In progress")["key"]
    for n in range(1, times + 1):
        attempt, lease, token = claimed(site, board)
        for call, body in (
            ("/checkpoints", {"summary": f"part {n} is done"}),
            ("/release", {"summary": "enough", "next_step": "go on"}),
        ):
            answer = site.call("POST", attempt + call, body, token=token, headers=lease)
            assert answer.status in (200, 201), answer.body
    return str(key)


async def spoken(page: Page, label: str | re.Pattern[str]) -> None:
    """What has the focus is labelled so."""
    await expect(page.locator(":focus")).to_have_attribute("aria-label", label)


async def test_the_drawing_is_one_stop_walked_by_arrows(site: Site, open_page: Open) -> None:
    key = tried(site, 12)
    made = site.call("POST", f"/api/v1/cards/{key}/fork", {"checkpoint": 11, "title": "Other"})
    fork = made.body["key"]
    page = await open_page(f"/cards/{key}")
    await page.evaluate("window.same = true")
    drawing = page.get_by_role("group", name="12 attempts; arrow keys walk")
    assert await drawing.locator("a[tabindex='0']").count() == 1
    await drawing.locator("a[tabindex='0']").focus()
    await spoken(page, "Attempt 12 ada handed over, went on from C11")
    await page.keyboard.press("Home")
    await spoken(page, "Checkpoint C12: part 12 is done")
    await page.keyboard.press("ArrowUp")
    await spoken(page, re.compile("11"))
    await page.keyboard.press("Home")
    await spoken(page, "Checkpoint C11: part 11 is done")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await spoken(page, f"Forked from checkpoint 11: {fork} Other, Waiting")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Home")
    # Where one was walking stays the stop for Tab, and Enter goes there in place.
    assert await drawing.locator("a[tabindex='0']").count() == 1
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"tab=checkpoints&c=11$"))
    await expect(page.locator(".cphead b")).to_have_text("C11")
    assert await page.evaluate("window.same")
    # All twelve are within reach.
    await page.locator("[data-lanes] [data-first]").focus()
    await page.keyboard.press("PageUp")
    await expect(drawing.get_by_text("Attempts 1 to 8 of 12")).to_be_visible()
    await expect(page.locator("[data-lanes] [data-first]")).to_be_focused()
    await spoken(page, re.compile("^Attempt 8 ada"))
    await drawing.get_by_role("link", name="Attempt 1 ada").click()
    await expect(page.get_by_role("region", name="Output of attempt 1")).to_be_visible()
    assert await problems(page) == []


async def test_the_list_says_the_same_on_a_phone(site: Site, open_page: Open) -> None:
    key = tried(site, 3)
    page = await open_page(f"/cards/{key}", viewport={"width": 390, "height": 844})
    await page.get_by_text("As a list").click()
    rows = page.get_by_role("table", name=f"Attempts at {key}").get_by_role("row")
    await expect(rows).to_have_count(4)
    await expect(rows.nth(1)).to_contain_text("handed over")
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await rows.nth(2).get_by_role("link", name="C1").click()
    await expect(page.locator(".cphead b")).to_have_text("C1")
