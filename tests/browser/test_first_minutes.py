"""The frame of every page, the palette, the first minutes and another language."""

from __future__ import annotations

import gzip
import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.serving import Site, until

pytestmark = pytest.mark.browser
MOST_SCRIPT = 150 * 1024


async def test_the_palette_finds_runs_and_gives_focus_back(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    card = new_card(site, board, "Reconcile the ledger")
    page = await open_page(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await page.keyboard.press("j")
    await page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Search cards")
    await expect(field).to_be_focused()
    await field.press_sequentially("reconcile")
    chosen = page.locator('#palette [aria-selected="true"]')
    await expect(chosen).to_contain_text(card["key"])
    assert await field.get_attribute("aria-activedescendant") == await chosen.get_attribute("id")
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".card .t").first).to_be_focused()
    await page.keyboard.press("Control+k")
    await field.fill("> theme high")
    await expect(chosen).to_have_text(re.compile("high contrast"))
    await page.keyboard.press("Enter")
    await expect(page.locator("html")).to_have_attribute("data-contrast", "more")
    assert not await problems(page)
    await page.keyboard.press("Control+k")
    await field.fill(card["key"])
    await expect(chosen).to_contain_text("Reconcile")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/cards/{card['key']}")
    await page.keyboard.press("g")
    await page.keyboard.press("i")
    await page.wait_for_url("**/inbox")


async def test_a_small_screen_gets_the_side_bar_and_leaves_it_by_escape(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}", viewport={"width": 360, "height": 780})
    bar = page.get_by_role("navigation", name="Pages")
    for opener in (page.get_by_role("button", name="Menu"), bar.get_by_role("button")):
        await opener.click()
        await expect(page.locator("#side").get_by_role("link", name="Board")).to_be_focused()
        await expect(bar).to_have_attribute("inert", "")
        assert not await problems(page)
        await page.keyboard.press("Escape")
        await expect(opener).to_be_focused()
        await expect(page.locator("#side")).to_be_hidden()
    await bar.get_by_role("link", name="Goals").click()
    await expect(bar.get_by_role("link", name="Goals")).to_have_attribute("aria-current", "page")


async def test_a_board_is_made_toured_and_filled(site: Site, open_page: Open) -> None:
    page = await open_page("/boards/new")
    await page.get_by_label("Bug hunt").check()
    await page.get_by_label("Name", exact=True).fill("First minutes here")
    await expect(page.get_by_label(re.compile("^Key"))).to_have_value("FMH")
    assert not await problems(page)
    await page.get_by_role("button", name="Make the board").click()
    await page.wait_for_url("**/boards/FMH?tour=1")
    tour = page.locator("#tour")
    await expect(tour).to_be_focused()
    await page.keyboard.press("ArrowRight")
    await expect(tour).to_contain_text("2 of 7")
    await page.reload()
    await expect(tour).to_contain_text("2 of 7")
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(tour).to_have_count(0)
    await expect(page.locator(".card")).to_have_count(3)
    await page.goto("/boards/FMH/import")
    await page.locator("#im-text").fill("# Later\n- [ ] one\n  - [ ] two\n")
    await page.get_by_role("button", name="Show what would be made").click()
    await expect(page.locator(".planned tbody tr")).to_have_count(2)
    assert not await problems(page)
    await page.get_by_role("button", name="Make 2 cards").click()
    await page.get_by_role("link", name="Go to the board").click()
    await expect(page.locator(".card")).to_have_count(5)
    await page.goto("/boards/FMH/settings")
    assert not await problems(page)


async def test_the_board_speaks_german(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}", locale="de-DE")
    await expect(page.locator("html")).to_have_attribute("lang", "de")
    await page.keyboard.press("?")
    await expect(page.get_by_role("heading", name="Tastatur und Hilfe")).to_be_visible()
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await page.locator("[popovertarget=person]").click()
    await page.get_by_role("button", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")


async def test_a_board_loads_little_script(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await page.keyboard.press("Control+k")
    await expect(page.locator("#palette")).to_be_visible()
    sources = await page.evaluate(
        """async () => Promise.all(performance.getEntriesByType("resource").map(e => e.name)
           .filter(name => name.endsWith(".js")).map(name => fetch(name).then(a => a.text())))"""
    )
    assert len(sources) > 10
    assert sum(len(gzip.compress(source.encode())) for source in sources) <= MOST_SCRIPT


async def test_a_second_visit_loads_no_script_style_or_font_again(
    site: Site, open_page: Open
) -> None:
    """With 400 ms of delay, asking whether each still holds took longer than all the rest."""
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    loads = """() => performance.getEntriesByType("resource")
        .filter(e => new URL(e.name).pathname.startsWith("/static/"))
        .map(e => [new URL(e.name).pathname, e.transferSize])"""
    first = dict(await page.evaluate(loads))
    assert sum(size > 0 for size in first.values()) > 20
    await page.goto("/")
    await page.goto(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    again = dict(await page.evaluate(loads))
    assert set(again) & set(first)
    assert [path for path in again if path in first and again[path] > 0] == []


async def test_what_a_board_holds_its_workers_to_is_set_on_its_page(
    site: Site, open_page: Open
) -> None:
    board = site.new_board(defaults={"follow_ups": 7})["key"]
    page = await open_page(f"/boards/{board}/settings")
    await expect(page.get_by_label("Cards that one attempt may propose")).to_have_value("7")
    await page.get_by_label("Cards that one attempt may propose").fill("")
    await page.get_by_label("Failures of one kind in a row").fill("5")
    await page.get_by_label("Command that runs the tests").fill("make check")
    await page.get_by_label("a decision like one in force").check()
    await page.get_by_label("an approach like one that failed").check()
    await page.locator("[data-board-form]").get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved.").first).to_be_visible()
    await page.get_by_label("Output that is kept, in MiB").fill("9")
    await page.locator("[data-commands-form]").get_by_role("button", name="Save").click()
    saved = {"same_failures": 5, "test_command": "make check", "enforce_decisions": True}
    until(lambda: "output_mb" in site.call("GET", f"/api/v1/boards/{board}").body["defaults"])
    told = site.call("GET", f"/api/v1/boards/{board}").body
    assert {**told["defaults"], **saved, "output_mb": 9} == told["defaults"]
    assert "follow_ups" not in told["defaults"]
    assert told["enforce_dead_ends"]
    await page.reload()
    await expect(page.get_by_label("Failures of one kind in a row")).to_have_value("5")
    assert not await problems(page)
