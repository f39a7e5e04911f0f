"""A board's figures in a browser: seen, walked by keyboard, filtered, and as they were once."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import SIZES, problems
from tests.serving import Site

pytestmark = pytest.mark.browser


def worked(site: Site, board: str, worker: str, how: str, **usage: Any) -> str:
    """Let a worker take the next card, report usage and end; return the card's key."""
    token = site.new_token(board)["token"]
    grant = site.call("POST", "/api/v1/claims", {"worker": worker}, token=token).body
    attempt = f"/api/v1/attempts/{grant['attempt']['id']}"
    lease = {"Lease-Token": grant["lease"]["token"]}
    step = {"key": "one", "status": "succeeded", "usage": {"model": "large", **usage}}
    site.call("POST", f"{attempt}/steps", step, token=token, headers=lease)
    body = {"summary": "Done"} if how == "complete" else {"error": "It broke"}
    assert site.call("POST", f"{attempt}/{how}", body, token=token, headers=lease).status < 300
    return str(grant["card"]["key"])


def flowing(site: Site) -> tuple[str, list[str]]:
    """Return a board on which two workers have finished cards, and the keys of those."""
    board = site.new_board()["key"]
    keys = []
    for n, worker in enumerate(("ada", "bob", "ada")):
        new_card(site, board, f"Card {n}", column="In progress", labels=["api"] if n else ["db"])
        keys.append(worked(site, board, worker, "complete", cost_usd=1.5, input_tokens=900))
    new_card(site, board, "Still going", column="In progress")
    worked(site, board, "bob", "fail")
    return board, keys


def kpi(page: Page, name: str) -> Locator:
    """Return the figure above the charts that is called so."""
    return page.locator(".kpi", has=page.get_by_text(name, exact=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_the_page_shuts_nobody_out(
    site: Site, open_page: Open, theme: str, size: str
) -> None:
    board, _ = flowing(site)
    page = await open_page(f"/boards/{board}/insights", theme=theme, viewport=SIZES[size])
    await expect(page.get_by_role("heading", name="Cumulative flow")).to_be_visible()
    for table in await page.get_by_text("View as table").all():
        await table.click()
    assert not await problems(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    # Text in a chart stays readable where there is little room.
    heights = await page.evaluate(
        "[...document.querySelectorAll('.plot text:not(.minor)')].slice(0, 40)"
        ".map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) >= 11


async def test_the_keyboard_walks_a_chart_and_opens_a_card(site: Site, open_page: Open) -> None:
    board, keys = flowing(site)
    page = await open_page(f"/boards/{board}/insights")
    chart = page.get_by_role("group", name="Cycle time, 3 cards")
    await chart.focus()
    await page.keyboard.press("End")
    await expect(chart.get_by_role("status")).to_contain_text(f"{keys[2]} Card 2")
    await page.keyboard.press("ArrowLeft")
    await expect(chart.get_by_role("status")).to_contain_text(f"{keys[1]} Card 1")
    # One tab stop a chart: the next one is the chart's own table.
    await page.keyboard.press("Tab")
    await expect(chart.get_by_role("status")).to_have_text("")
    await expect(page.locator(":focus")).to_have_text("View as table")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Home")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/cards/{keys[0]}")


async def test_hovering_tells_the_values(site: Site, open_page: Open) -> None:
    board, _ = flowing(site)
    page = await open_page(f"/boards/{board}/insights")
    chart = page.get_by_role("group", name="Finished: 3")
    await chart.locator("svg .mark").last.hover()
    await expect(chart.get_by_role("status")).to_contain_text("first attempt 3")
    await page.get_by_role("heading", name="Rates").hover()
    await expect(chart.get_by_role("status")).to_have_text("")


async def test_a_filter_narrows_the_figures_and_stands_in_the_address(
    site: Site, open_page: Open
) -> None:
    board, keys = flowing(site)
    page = await open_page(f"/boards/{board}/insights")
    finished = kpi(page, "Finished")
    await expect(finished).to_contain_text("3")
    await page.get_by_label("Label").select_option("db")
    await page.wait_for_url("**/insights?label=db")
    await expect(finished).to_contain_text("1")
    await page.get_by_label("Worker").select_option("bob")
    await page.wait_for_url("**worker=bob**")
    await expect(finished).to_contain_text("0")
    await page.get_by_role("link", name="Reset").click()
    await expect(finished).to_contain_text("3")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Cycle time as CSV").click()
    path = await (await download.value).path()
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["card"] for row in rows] == keys[::-1]
    assert {row["cost_usd"] for row in rows} == {"1.5"}


async def test_the_past_is_shown_as_it_was(site: Site, open_page: Open) -> None:
    board, keys = flowing(site)
    events = site.call("GET", f"/api/v1/events?board={board}&limit=200").body["results"]
    (then,) = (
        e["at"] for e in events if e["kind"] == "card.completed" and e["data"]["card"] == keys[1]
    )
    page = await open_page(f"/boards/{board}/insights?at={then}")
    await expect(kpi(page, "Finished")).to_contain_text("2")
    await expect(page.get_by_text("as it was then")).to_be_visible()
    # Another filter leaves the instant as it is.
    await page.get_by_label("Label").select_option("api")
    await expect(kpi(page, "Finished")).to_contain_text("1")
    await expect(page.get_by_text("as it was then")).to_be_visible()


async def test_days_are_the_readers_own(site: Site, open_page: Open) -> None:
    board, _ = flowing(site)
    page = await open_page(f"/boards/{board}/insights", timezone_id="Asia/Tokyo")
    await expect(page.locator("#main")).to_have_attribute("data-zone", "Asia/Tokyo")


async def test_a_chart_is_there_without_scripts(site: Site, open_page: Open) -> None:
    board, _ = flowing(site)
    page = await open_page(f"/boards/{board}/insights", java_script_enabled=False)
    await expect(
        page.get_by_role("group", name="Cycle time, 3 cards").locator("circle")
    ).to_have_count(3)
    await page.get_by_label("Label").select_option("db")
    await page.get_by_role("button", name="Show").click()
    await expect(kpi(page, "Finished")).to_contain_text("1")
