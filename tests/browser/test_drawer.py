"""A card beside its board, and what is edited there and on its page."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import Open, new_card, viewer
from tests.browser.test_access import problems
from tests.serving import Site, until

pytestmark = pytest.mark.browser


async def opened(open_page: Open, board: str, path: str = "", **options: Any) -> Page:
    page = await open_page(f"/boards/{board}{path}", **options)
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    return page


def of(site: Site, key: str) -> dict[str, Any]:
    return dict(site.call("GET", f"/api/v1/cards/{key}").body)


def field(page: Page, name: str):
    return page.locator(f"#ed-{name}")


async def test_it_opens_from_the_keyboard_walks_and_gives_focus_back(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    first, second = (new_card(site, board, f"Card {n}") for n in (1, 2))
    page = await opened(open_page, board)
    drawer = page.locator("#card-drawer")
    await page.locator(".card .t", has_text="Card 1").focus()
    await page.keyboard.press("Space")
    await expect(drawer.get_by_role("heading", name="Card 1", exact=True)).to_be_visible()
    await expect(page).to_have_url(re.compile(f"card={first['key']}$"))
    await drawer.get_by_role("button", name="Next card").click()
    await expect(drawer.get_by_role("heading", name="Card 2", exact=True)).to_be_visible()
    await expect(page).to_have_url(re.compile(f"card={second['key']}$"))
    await page.reload()
    await expect(drawer.get_by_role("heading", name="Card 2", exact=True)).to_be_visible()
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(drawer).to_have_count(0)
    await expect(page).to_have_url(re.compile(f"/boards/{board}$"))
    await expect(page.locator(".card .t", has_text="Card 2")).to_be_focused()


async def test_who_walks_on_gets_there_whatever_others_change_meanwhile(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    first, second = (new_card(site, board, f"Card {n}")["key"] for n in (1, 2))
    page = await opened(open_page, board)
    drawer = page.locator("#card-drawer")
    await page.locator(".card .t", has_text="Card 1").focus()
    await page.keyboard.press("Space")
    await expect(drawer).to_have_attribute("data-key", first)
    late = asyncio.Event()

    async def slowly(route: Route) -> None:
        await late.wait()
        await route.continue_()

    await page.route(f"**/cards/{second}/drawer", slowly)
    async with page.expect_request(f"**/cards/{second}/drawer"):
        await page.keyboard.press("j")
    async with page.expect_request("**/drawer"):
        site.call("PATCH", f"/api/v1/cards/{first}", {"priority": 1})
    late.set()
    await expect(drawer).to_have_attribute("data-key", second)


async def test_back_closes_it(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Only")
    page = await opened(open_page, board)
    await page.locator(".card .t", has_text="Only").focus()
    await page.keyboard.press("Space")
    await expect(page.locator("#card-drawer")).to_be_visible()
    await page.go_back()
    await expect(page.locator("#card-drawer")).to_have_count(0)
    await page.go_forward()
    await expect(page.locator("#card-drawer")).to_be_visible()


async def test_fields_are_changed_in_place_and_taken_back(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Old title", labels=["api"])["key"]
    other = new_card(site, board, "The parser")["key"]
    page = await opened(open_page, board, f"?card={key}")
    await field(page, "title").locator("summary").click()
    await field(page, "title").locator("input").fill("New title")
    await page.keyboard.press("Enter")
    await expect(page.locator(".card .t", has_text="New title")).to_be_visible()
    assert of(site, key)["title"] == "New title"
    await field(page, "labels").locator("summary").click()
    await field(page, "labels").locator("input").fill("api, hot")
    await page.keyboard.press("Enter")
    await expect(field(page, "labels").locator("summary")).to_contain_text("hot")
    await field(page, "priority").locator("summary").click()
    await field(page, "priority").get_by_role("button", name="Urgent").click()
    await expect(field(page, "priority").locator("summary")).to_contain_text("Urgent")
    await field(page, "depends").locator("summary").click()
    await expect(field(page, "depends").locator("input")).to_be_focused()
    await page.keyboard.press("End")
    await page.keyboard.type("pars")
    await field(page, "depends").get_by_role("button", name=f"{other} The parser").click()
    await page.keyboard.press("Enter")
    await expect(field(page, "depends").locator("summary")).to_contain_text(other)
    told = of(site, key)
    assert (told["labels"], told["priority"], told["depends_on"]) == (["api", "hot"], 0, [other])
    for expected in ({"depends_on": []}, {"priority": 3}, {"labels": ["api"]}):
        await page.keyboard.press("z")
        ((name, value),) = expected.items()
        until(lambda name=name, value=value: of(site, key)[name] == value)


async def test_what_another_wrote_is_shown_and_nothing_typed_is_lost(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Contested")["key"]
    page = await open_page(f"/cards/{key}")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    await field(page, "title").locator("summary").click()
    await page.get_by_label("Title", exact=True).fill("Mine")
    site.call("PATCH", f"/api/v1/cards/{key}", {"title": "Theirs"})
    await expect(field(page, "title").locator("h1")).to_have_text("Theirs")
    await expect(page.get_by_label("Title", exact=True)).to_have_value("Mine")
    await page.keyboard.press("Enter")
    form = field(page, "title").locator("form")
    await expect(form).to_contain_text("Somebody changed this meanwhile")
    await expect(form.locator(".theirs")).to_have_text("Theirs")
    assert of(site, key)["title"] == "Theirs"
    await page.get_by_label("Title", exact=True).press("Enter")
    await expect(page.get_by_role("heading", name="Mine")).to_be_visible()
    assert of(site, key)["title"] == "Mine"


async def test_the_description_has_a_preview_and_boxes_to_tick(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "List", description="- [ ] one\n- [x] two\n")["key"]
    page = await open_page(f"/cards/{key}")
    await expect(page.locator("[data-tasks]")).to_have_text("1 of 2 ticked")
    await page.get_by_role("checkbox", name="one").click()
    await expect(page.locator("[data-tasks]")).to_have_text("2 of 2 ticked")
    assert of(site, key)["description"] == "- [x] one\n- [x] two\n"
    await page.get_by_text("Edit description").click()
    box = page.get_by_label("Description, in Markdown")
    await box.fill("<img src=x onerror=alert(1)> **bold**")
    await page.get_by_role("button", name="Preview").click()
    shown = page.locator("[data-shown]")
    await expect(shown.locator("strong")).to_have_text("bold")
    assert await shown.locator("img").count() == 0
    await page.get_by_role("button", name="Write").click()
    await box.press("Control+Enter")
    await expect(page.locator("#card-lead .md strong").first).to_have_text("bold")


async def test_a_cycle_and_a_bad_field_are_said_in_words(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    parent = new_card(site, board, "Parent")["key"]
    child = new_card(site, board, "Child", depends_on=[parent])["key"]
    page = await open_page(f"/cards/{parent}")
    await expect(page.locator(".props")).to_contain_text(child)
    await field(page, "depends").locator("summary").click()
    await expect(field(page, "depends").locator("input")).to_be_focused()
    await page.keyboard.type(child)
    await page.keyboard.press("Enter")
    await expect(field(page, "depends")).to_contain_text("would make the card wait for itself")
    await page.keyboard.press("Escape")
    await expect(field(page, "depends").locator("form")).to_be_hidden()
    assert of(site, parent)["depends_on"] == []


async def test_who_may_only_look_gets_no_forms(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Look", description="- [ ] one")["key"]
    page = await open_page(f"/cards/{key}", cookie=viewer(site, board))
    await expect(page.get_by_role("heading", name="Look")).to_be_visible()
    assert await page.locator("[data-edit]").count() == 0
    await expect(page.get_by_role("checkbox")).to_be_disabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_it_fits_a_phone_and_shuts_nobody_out(
    site: Site, open_page: Open, theme: str
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Narrow " * 12, description="text " * 200)["key"]
    page = await open_page(
        f"/boards/{board}?card={key}", theme=theme, viewport={"width": 360, "height": 780}
    )
    await expect(page.locator("#card-drawer")).to_be_visible()
    assert not await problems(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator("#card-drawer")).to_have_count(0)
