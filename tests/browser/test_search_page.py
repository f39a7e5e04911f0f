"""Search in a browser: from the palette, narrowed, and on to the very place."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.goalwork import Work, furnished
from tests.serving import Site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def work(site: Site) -> Work:
    return furnished(site)


async def sought(page: Page, words: str) -> None:
    """Type the words into the palette."""
    await page.wait_for_load_state()
    await page.keyboard.press("Control+k")
    await expect(page.get_by_role("combobox", name="Search cards")).to_be_focused()
    await page.keyboard.type(words)


async def test_what_was_ever_remembered_is_found_from_the_palette(
    work: Work, open_page: Open
) -> None:
    page = await open_page(f"/boards/{work.board}/goals", cookie=work.cookie)
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    await sought(page, "walrus")
    everything = page.get_by_role("option", name="Search everything for “walrus”")
    await expect(everything).to_be_visible()
    await page.keyboard.press("ArrowUp")
    while await everything.get_attribute("aria-selected") != "true":
        await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_contain_text("found")
    hits = page.locator(".hit")
    await expect(hits).to_have_count(2)
    await expect(hits.locator("mark").first).to_have_text("walrus")
    # Narrowed by kind, with the keyboard; the words stay.
    await page.get_by_role("link", name="Steps").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Steps")).to_have_attribute("aria-current", "true")
    await expect(hits).to_have_count(1)
    await expect(page.get_by_role("searchbox")).to_have_value("walrus")
    await hits.first.focus()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(
        f"{work.site.web.origin}/cards/{work.cards['client']}?tab=steps&upto=1#s1"
    )
    await expect(page.locator("#s1")).to_be_in_viewport()
    # What a goal alone remembers leads to where it stands there.
    await page.goto(f"/search?q=walrus&kind=discovery&board={work.board}")
    await hits.first.click()
    await expect(page.locator(f"#f{work.issue}")).to_be_in_viewport()
    await expect(page.locator(f"#f{work.issue}")).to_contain_text("Two modules share one walrus")
    # What can't be is said where it was typed, and asked again.
    await page.goto("/search")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await page.keyboard.type("kind:walrus")
    await page.keyboard.press("Enter")
    await expect(page.locator("#problem")).to_contain_text("There is no such kind")
    await page.get_by_role("searchbox").fill("nothing-like-it")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Nothing has these words")).to_be_visible()


async def test_what_is_found_follows_what_is_typed_and_recovers(
    work: Work, open_page: Open
) -> None:
    page = await open_page(f"/search?board={work.board}", cookie=work.cookie)
    box, hits = page.get_by_role("searchbox"), page.locator(".hit")
    await box.press_sequentially("walrus")
    await expect(hits).to_have_count(2)
    await expect(page.locator("#found").get_by_role("status")).to_have_text("2 found")
    await expect(box).to_be_focused()
    await expect(page).to_have_url(f"{work.site.web.origin}/search?q=walrus&board={work.board}")
    # What can't be looked for is said, and typed on from there.
    await box.press_sequentially(" kind:x")
    await expect(page.locator("#problem")).to_contain_text("There is no such kind")
    await expect(box).to_be_focused()
    # A server that is away: what was found stays, and it is asked again by itself.
    for _n in range(6):
        await box.press("Backspace")
    await expect(page.locator("#problem")).to_have_count(0)
    await box.fill("walrus")
    await expect(hits).to_have_count(2)
    await page.route("**/search?*", lambda route: route.abort())
    await box.fill("walrus nothing-like-it")
    await expect(page.locator("#unreached")).to_contain_text("can't be reached")
    await expect(hits).to_have_count(2)
    await page.unroute("**/search?*")
    await expect(page.locator("#found").get_by_role("status")).to_contain_text("some of them")
    await expect(page.locator("#unreached")).to_be_hidden()
    await expect(box).to_have_value("walrus nothing-like-it")


async def test_goals_and_what_is_done_about_them_are_in_the_palette(
    work: Work, open_page: Open
) -> None:
    page = await open_page(f"/goals/{work.part}", cookie=work.cookie)
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    option = page.get_by_role("option")
    for typed, words, arrives in (
        ("move off", "Move off the v1 payments API", f"/goals/{work.goal}"),
        (">its plans", "This goal: its plans", f"/goals/{work.goal}/plans"),
        (">to goals", "Go to Goals", f"/boards/{work.board}/goals"),
        (">search ev", "Search everything", f"/search?board={work.board}"),
    ):
        await sought(page, typed)
        await expect(option.filter(has_text=words).first).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(work.site.web.origin + arrives)
    # Nothing that only a card can do is offered for a goal.
    await page.goto(f"/goals/{work.goal}")
    await sought(page, ">discoveries")
    await expect(option.first).to_contain_text("This goal: Discoveries")
    await page.keyboard.press("Enter")
    await expect(page.locator("#goal-tab")).to_have_attribute("data-tab", "discoveries")
    await sought(page, ">pause")
    await expect(option.filter(has_text="pause")).to_have_count(0)
