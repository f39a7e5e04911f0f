"""A goal is made in the browser: what is wanted, how one tells, what it is part of."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.serving import Site

pytestmark = pytest.mark.browser


async def test_a_goal_is_made_by_keyboard_with_what_shows_that_it_is_met(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/goals")
    await page.get_by_role("main").get_by_role("link", name="Say what is wanted").click()
    await expect(page.get_by_label("Title")).to_be_focused()
    await page.keyboard.type("Pay out twice as fast")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Customers wait for days.")
    await page.keyboard.press("Tab")
    await page.keyboard.type("The tests pass")
    await page.get_by_label("Found out by").select_option("check")
    await page.get_by_label("The command, which is to succeed").fill("python -m pytest -q")
    await page.get_by_role("button", name="Another criterion").press("Enter")
    await expect(page.get_by_label("What must be so").nth(1)).to_be_focused()
    await page.keyboard.type("Somebody in accounts is content")
    await page.get_by_label("Found out by").nth(1).select_option("by_person")
    await page.get_by_label("Constraints, one a line").fill("No new dependency\n\n Only Python \n")
    await page.get_by_label("Title").press("Enter")
    await expect(page.get_by_role("heading", name="Pay out twice as fast")).to_be_visible()
    (goal,) = site.call("GET", f"/api/v1/goals?board={board}").body["results"]
    assert goal["intent"] == "Customers wait for days."
    assert goal["constraints"] == ["No new dependency", "Only Python"]
    asked = [(c["text"], c["check"], c["by_person"]) for c in goal["criteria"]]
    assert asked == [
        ("The tests pass", "python -m pytest -q", False),
        ("Somebody in accounts is content", "", True),
    ]
    await page.get_by_role("link", name="Add a goal below").click()
    await expect(page.get_by_label("Part of")).to_have_value(goal["id"])
    await page.get_by_label("Title").fill("Faster queries")
    await page.get_by_role("button", name="Make the goal").dblclick()
    await expect(page.locator("#goal-lead")).to_contain_text("Part of Pay out twice as fast")
    listed = site.call("GET", f"/api/v1/goals?board={board}").body["results"]
    assert [(g["title"], g["parent"]) for g in listed if g["id"] != goal["id"]] == [
        ("Faster queries", goal["id"])
    ]


async def test_a_goal_that_can_not_be_made_says_why_and_keeps_what_was_typed(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/goals/new")
    await page.get_by_label("Title").fill("Ship it")
    await page.get_by_label("What must be so").fill("It answers")
    await page.get_by_label("Found out by").select_option("probe")
    await page.get_by_role("textbox", name="Address").fill("ftp://files.example/it")
    await page.get_by_role("button", name="Make the goal").click()
    await expect(page.locator("#new-goal .problem")).to_contain_text("http")
    await expect(page.get_by_label("Title")).to_have_value("Ship it")
    assert site.call("GET", f"/api/v1/goals?board={board}").body["results"] == []
    await page.get_by_label("Found out by").select_option("told")
    await page.get_by_role("button", name="Make the goal").click()
    await expect(page.get_by_role("heading", name="Ship it")).to_be_visible()
