"""What people have the board show: filters, lanes, the table, saved views, the archive."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card, viewer
from tests.browser.test_access import problems
from tests.serving import Site

pytestmark = pytest.mark.browser


async def live(page: Page) -> None:
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")


def furnished(site: Site) -> str:
    board = str(site.new_board()["key"])
    goal = site.call("POST", "/api/v1/goals", {"board": board, "title": "Ship it"}).body["id"]
    new_card(site, board, "Parse it", labels=["api"], priority=0, goal=goal)
    new_card(site, board, "Print it", labels=["ops"], priority=4)
    new_card(site, board, "Review it", column="Review", priority=1, goal=goal)
    return board


async def test_the_filter_panel_narrows_the_board_and_its_address(
    site: Site, open_page: Open
) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Filter", exact=True).click()
    panel = page.get_by_role("dialog", name="Filter")
    await expect(panel.get_by_label("Show")).to_be_focused()
    await panel.get_by_label("Goal").select_option(label="Ship it")
    await expect(page.locator(".card")).to_have_count(2)
    await panel.get_by_label("Urgent").check()
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"\?goal=[0-9a-f-]{36}&prio=0$"))
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await expect(page.get_by_role("button", name="Filter", exact=True)).to_be_focused()
    await page.get_by_role("link", name="Filter Urgent: remove").click()
    await expect(page.locator(".card")).to_have_count(2)
    await page.reload()
    await live(page)
    await expect(page.locator(".card")).to_have_count(2)
    await page.get_by_role("link", name="Show all").click()
    await expect(page.locator(".card")).to_have_count(3)
    await expect(page).to_have_url(re.compile(rf"/boards/{board}$"))
    await page.get_by_label("Find cards").fill("label:api prio:0")
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"\?q=label:api"))
    await expect(page.get_by_label("Find cards")).to_be_focused()


async def test_lanes_hold_cells_fold_up_and_stay_true(site: Site, open_page: Open) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Display").click()
    await page.get_by_label("Swimlanes").select_option("goal")
    await expect(page.locator("#board")).to_have_attribute("data-lanes", "goal")
    await live(page)
    cell = page.get_by_role("region", name="Ship it, Backlog", exact=True)
    await expect(cell.locator(".card")).to_have_count(1)
    outside = page.get_by_role("region", name="No goal, Backlog", exact=True)
    await expect(outside.locator(".card")).to_have_count(1)
    key = await outside.locator(".card").get_attribute("data-key")
    goal = await cell.get_attribute("data-lane")
    site.call("PATCH", f"/api/v1/cards/{key}", {"goal": goal})
    await expect(cell.locator(".card")).to_have_count(2)
    await expect(outside.locator(".card")).to_have_count(0)
    assert not await problems(page)
    fold = page.get_by_role("button", name="Cards of Ship it")
    await fold.click()
    await expect(fold).to_have_attribute("aria-expanded", "false")
    await expect(cell).to_be_hidden()
    await page.reload()
    await live(page)
    await expect(page.locator(".card")).to_have_count(0)
    await page.get_by_role("button", name="Cards of Ship it").click()
    await expect(
        page.get_by_role("region", name="Ship it, Backlog").locator(".card")
    ).to_have_count(2)


async def test_sorting_follows_changes_by_others(site: Site, open_page: Open) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}?sort=priority")
    await live(page)
    titles = page.get_by_role("region", name="Backlog", exact=True).locator(".card .t")
    await expect(titles).to_have_text(["Parse it", "Print it"])
    key = await page.locator(".card", has_text="Parse it").get_attribute("data-key")
    site.call("PATCH", f"/api/v1/cards/{key}", {"priority": 4})
    new_card(site, board, "First of all", priority=0)
    await expect(titles).to_have_text(["First of all", "Parse it", "Print it"])


async def test_a_column_is_renamed_limited_and_folded_from_its_menu(
    site: Site, open_page: Open
) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Backlog column menu").click()
    await page.get_by_role("menuitem", name="Set WIP limit…").click()
    await page.get_by_label("Cards at most").fill("1")
    await page.keyboard.press("Enter")
    column = page.locator('.col[data-kind="backlog"]')
    await expect(column.get_by_text("Over limit")).to_be_visible()
    await page.get_by_role("button", name="Backlog column menu").click()
    await page.get_by_role("menuitem", name="Rename…").click()
    await page.get_by_label("Name", exact=True).fill("Ideas")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Ideas")).to_be_visible()
    await page.get_by_role("button", name="Ideas column menu").click()
    await page.get_by_role("menuitem", name="Fold up").click()
    await expect(column.locator(".card").first).to_be_hidden()
    assert not await problems(page)
    await page.get_by_role("button", name="Unfold Ideas").click()
    await expect(column.locator(".card")).to_have_count(2)
    columns = site.call("GET", f"/api/v1/boards/{board}").body["columns"]
    assert (columns[0]["name"], columns[0]["wip_limit"]) == ("Ideas", 1)


async def test_who_may_only_look_changes_no_column(site: Site, open_page: Open) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}", cookie=viewer(site, board))
    await page.get_by_role("button", name="Backlog column menu").click()
    await expect(page.get_by_role("menuitem", name="Fold up")).to_be_visible()
    for name in ("Rename…", "Set WIP limit…"):
        await expect(page.get_by_role("menuitem", name=name)).to_have_count(0)


async def test_a_view_is_saved_opened_renamed_shared_and_deleted(
    site: Site, open_page: Open
) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}?label=api")
    await live(page)
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("The API")
    await page.keyboard.press("Enter")
    link = page.get_by_role("link", name=re.compile("^The API 1"))
    await expect(link).to_have_attribute("aria-current", "true")
    await page.goto(f"/boards/{board}")
    await live(page)
    await link.click()
    await expect(page.locator(".card")).to_have_count(1)
    new_card(site, board, "More of it", labels=["api"])
    await expect(page.get_by_role("link", name=re.compile("^The API 2"))).to_be_visible()
    await page.get_by_role("button", name="Change view The API").click()
    await page.get_by_role("menuitem", name="Rename…").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("Ours")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Change view Ours").click()
    await page.get_by_role("menuitemcheckbox", name="Share with the board").click()
    await expect(page.locator('[data-view][data-shared="1"]')).to_have_count(1)
    other = await open_page(f"/boards/{board}", cookie=viewer(site, board))
    await expect(other.get_by_role("link", name=re.compile("^Ours"))).to_be_visible()
    assert not await problems(page)
    await page.get_by_role("button", name="Change view Ours").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await expect(page.get_by_role("link", name=re.compile("^Ours"))).to_have_count(0)


async def test_the_archive_gives_cards_back(site: Site, open_page: Open) -> None:
    board = furnished(site)
    key = new_card(site, board, "Put away", column="Completed")["key"]
    assert site.call("POST", f"/api/v1/cards/{key}/archive", {}).status == 200
    page = await open_page(f"/boards/{board}")
    await live(page)
    await expect(page.locator(".card")).to_have_count(3)
    await page.get_by_role("button", name="Completed column menu").click()
    await page.get_by_role("menuitem", name="Show the archive").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    assert not await problems(page)
    await page.get_by_role("button", name=f"Restore {key}").click()
    await expect(page.get_by_role("heading", name="Nothing is archived")).to_be_visible()
    await page.get_by_role("link", name="Back to the board").click()
    await expect(page.locator(".card")).to_have_count(4)


_AGE = """
import sys, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from boards.models import Card
old = timezone.now() - timedelta(days=15)
Card.objects.filter(key=sys.argv[1]).update(state_since=old)
"""


async def test_what_was_finished_long_ago_is_archived_at_once_and_back_again(
    site: Site, open_page: Open
) -> None:
    board = furnished(site)
    old = new_card(site, board, "Long done", column="Completed")["key"]
    new_card(site, board, "Just done", column="Completed")
    site.run(_AGE, old)
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Completed column menu").click()
    await page.get_by_role("menuitem", name="Archive all older than 14 days").click()
    await expect(page.get_by_text("1 card archived").last).to_be_visible()
    await expect(page.locator(f'.card[data-key="{old}"]')).to_have_count(0)
    await expect(page.locator(".card")).to_have_count(4)
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator(f'.card[data-key="{old}"]')).to_have_count(1)


async def test_the_table_sorts_follows_and_is_walked_by_keys(site: Site, open_page: Open) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("link", name="List", exact=True).click()
    titles = page.locator("tbody .t")
    await expect(titles).to_have_text(["Parse it", "Print it", "Review it"])
    await live(page)
    await page.get_by_role("link", name="Priority").click()
    await expect(titles).to_have_text(["Parse it", "Review it", "Print it"])
    header = page.get_by_role("columnheader", name="Priority")
    await expect(header).to_have_attribute("aria-sort", "ascending")
    new_card(site, board, "Low one", priority=3)
    await expect(titles).to_have_text(["Parse it", "Review it", "Low one", "Print it"])
    assert not await problems(page)
    await page.locator("body").click(position={"x": 700, "y": 20})
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await expect(titles.nth(1)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("/cards/"))


async def test_how_cards_are_drawn_is_kept(site: Site, open_page: Open) -> None:
    board = furnished(site)
    page = await open_page(f"/boards/{board}")
    await live(page)
    label = page.locator(".card .lab").first
    await expect(label).to_be_visible()
    tall = (await page.locator(".card").first.bounding_box() or {})["height"]
    await page.get_by_role("button", name="Display").click()
    panel = page.get_by_role("dialog", name="Display")
    await panel.get_by_label("Compact").check()
    await panel.get_by_label("Labels").uncheck()
    await expect(label).to_be_hidden()
    assert not await problems(page)
    await page.reload()
    await live(page)
    await expect(label).to_be_hidden()
    assert (await page.locator(".card").first.bounding_box() or {})["height"] < tall


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_phone_filters_reads_lanes_and_the_list(
    site: Site, open_page: Open, theme: str
) -> None:
    board = furnished(site)
    small = {"width": 360, "height": 780}
    page = await open_page(f"/boards/{board}", theme=theme, viewport=small, has_touch=True)
    await live(page)
    await page.get_by_role("button", name="Filter", exact=True).tap()
    await page.get_by_label("Words").fill("print")
    await expect(page.locator(".card")).to_have_count(1)
    await page.get_by_role("button", name="Done").tap()
    for query in ("lanes=priority", "as=list", "archived=1"):
        await page.goto(f"/boards/{board}?{query}")
        await expect(page.locator("#board")).to_be_visible()
        assert not await problems(page), query
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await page.evaluate(wide), query
