"""The card page's messages, decisions, discoveries, briefing and menu, by mouse and by keys."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card, viewer
from tests.browser.test_access import problems
from tests.browser.test_card import claimed
from tests.serving import Site

pytestmark = pytest.mark.browser


async def test_a_long_text_is_let_in_counted_and_refused_in_words(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Talk")["key"]
    page = await open_page(f"/cards/{key}?tab=messages")
    note = page.get_by_label("A note to the worker")
    await note.fill("x" * 20_001)
    await expect(page.get_by_text("20,001 of 20,000 characters", exact=True).last).to_be_visible()
    await page.get_by_role("button", name="Preview").click()
    await page.get_by_role("button", name="Post").click()
    await expect(page.get_by_text("This has 20,001 characters")).to_be_visible()
    assert len(await note.input_value()) == 20_001
    await page.get_by_role("button", name="Write").click()
    # A character of two units is one.
    await note.fill("😀" * 20_000)
    await page.get_by_role("button", name="Post").press("Enter")
    await expect(page.locator(".said")).to_have_count(1)
    await expect(page.get_by_role("button", name="Post")).to_be_focused()


async def test_a_note_is_written_with_names_previewed_posted_and_pinned(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Talk", column="In progress")["key"]
    claimed(site, board)
    page = await open_page(f"/cards/{key}?tab=messages")
    note = page.get_by_label("A note to the worker")
    await note.click()
    await page.keyboard.type("Ask @ad")
    await expect(page.get_by_role("option", name="@ada")).to_be_visible()
    pointed = page.locator('.names [aria-selected="true"]')
    while await pointed.inner_text() != "@ada":
        await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await page.keyboard.type("**now**")
    await expect(note).to_have_value("Ask @ada **now**")
    await expect(page.get_by_role("listbox", name="Names")).to_have_count(0)
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("[data-shown] strong")).to_have_text("now")
    await page.get_by_role("button", name="Post").click()
    said = page.locator(".said")
    await expect(said).to_contain_text("Ask @ada now")
    await expect(note).to_be_visible()
    await expect(note).to_have_value("")
    await said.get_by_role("button", name="Pin").click()
    await expect(said.get_by_role("button", name="Unpin")).to_be_visible()
    [message] = site.call("GET", f"/api/v1/cards/{key}/messages").body["results"]
    assert message["pinned"]
    await page.keyboard.press("Escape")
    await page.locator("#toasts").get_by_role("button", name="Undo").click()
    await expect(said.get_by_role("button", name="Pin", exact=False)).to_contain_text("Pin")
    await expect(said.get_by_role("button")).to_have_attribute("aria-pressed", "false")


async def test_what_is_new_since_the_last_visit_is_marked(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Talk")["key"]
    site.call("POST", f"/api/v1/cards/{key}/messages", {"text": "old"})
    page = await open_page(f"/cards/{key}?tab=messages")
    await expect(page.locator(".said")).to_have_count(1)
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    assert await page.locator(".since-last").count() == 0
    made = site.call("POST", f"/api/v1/cards/{key}/messages", {"text": "young"}).body["id"]
    await expect(page.locator(".talk.new")).to_have_count(1)
    await expect(page.locator(".talk.new")).to_contain_text("young")
    await page.goto(f"/cards/{key}?tab=messages#m{made}")
    await page.reload()
    await expect(page.locator(f"#m{made}:target")).to_be_in_viewport()
    await expect(page.locator(".since-last")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_tabs_and_menu_shut_nobody_out(site: Site, open_page: Open, theme: str) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Talk", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    for call, body in (
        ("/decisions", {"title": "Outbox", "rationale": "no **deadlocks**"}),
        ("/discoveries", {"kind": "fact", "title": "Port taken", "detail": "5433"}),
        ("/block", {"reason": "unsure", "question": "Which port?"}),
    ):
        answer = site.call("POST", attempt + call, body, token=token, headers=lease)
        assert answer.status in (200, 201), answer.body
    page = await open_page(f"/cards/{key}", theme=theme, viewport={"width": 360, "height": 780})
    for tab, words in (
        ("messages", "Which port?"),
        ("decisions", "Outbox"),
        ("discoveries", "Port taken"),
        ("briefing", "Next worker is told"),
    ):
        await page.goto(f"/cards/{key}?tab={tab}")
        await expect(page.locator("#card-tab")).to_contain_text(words)
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await (
        page.get_by_text("More actions").or_(page.get_by_label("More actions")).first.press("Enter")
    )
    await expect(page.get_by_role("button", name="Duplicate")).to_be_visible()
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Duplicate")).to_be_hidden()


async def test_a_discovery_is_resolved_and_a_note_pinned_for_the_next(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Learn", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    body = {"kind": "fact", "title": "Port taken"}
    site.call("POST", f"{attempt}/discoveries", body, token=token, headers=lease)
    page = await open_page(f"/cards/{key}?tab=discoveries")
    await page.locator("[id^=resolve-] summary").press("Enter")
    await page.get_by_label("What settled it").fill("Moved to 5434")
    await page.get_by_role("button", name="Resolve", exact=True).press("Enter")
    await expect(page.locator("#card-tab")).to_contain_text("Moved to 5434")
    await page.goto(f"/cards/{key}?tab=briefing")
    await page.get_by_text("Add a note").click()
    await page.get_by_label("A note that every next worker is told").fill("Mind the rounding")
    await page.get_by_role("button", name="Add and pin").click()
    await expect(page.locator(".pinned")).to_contain_text("Mind the rounding")
    await expect(page.get_by_label("Briefing", exact=True)).to_contain_text("Mind the rounding")


async def test_a_card_is_duplicated_archived_and_deleted(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Twin", labels=["api"], priority=1)["key"]
    page = await open_page(f"/cards/{key}")
    await page.locator("#card-actions summary").click()
    await page.get_by_role("button", name="Duplicate").click()
    await expect(page.get_by_role("heading", name="Twin (copy)")).to_be_visible()
    copied = site.call("GET", f"/api/v1/cards/{board}-2").body
    assert (copied["labels"], copied["priority"]) == (["api"], 1)
    await page.locator("#card-actions summary").click()
    await page.get_by_role("button", name="Archive").click()
    await expect(page.locator(".strip").filter(has_text="Archived")).to_be_visible()
    await page.locator("#card-actions summary").click()
    await page.get_by_role("button", name="Delete…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    await page.wait_for_url(f"**/boards/{board}")
    assert site.call("GET", f"/api/v1/cards/{board}-2").status == 404


async def test_who_may_only_look_reads_what_was_said(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Look")["key"]
    site.call("POST", f"/api/v1/cards/{key}/messages", {"text": "hello"})
    page = await open_page(f"/cards/{key}?tab=messages", cookie=viewer(site, board))
    await expect(page.locator(".said")).to_contain_text("hello")
    assert await page.locator("[data-pin], [data-say], [data-duplicate], #delete").count() == 0
