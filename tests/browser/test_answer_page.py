"""The page behind the link in a letter, in a browser: every kind of question, by mouse and keys,
what is no answer, and what others answered meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.goalwork import Work, furnished
from tests.browser.test_access import SIZES, SKELETON, problems
from tests.serving import Site

pytestmark = pytest.mark.browser

QUESTIONS: list[dict[str, Any]] = [
    {
        "title": "Choose the cache",
        "question": "Redis or the database?",
        "question_kind": "choice",
        "options": ["Redis", "The database"],
        "detail": "redis 3 ms\ndatabase 9 ms",
    },
    {"title": "Round it", "question": "Which **rounding**?", "options": ["half up", "half even"]},
    {
        "title": "Drop the table",
        "question": "May I run this?",
        "question_kind": "approve",
        "detail": "DROP TABLE v1_calls;",
        "timeout_seconds": 3600,
        "default": "no",
    },
    {"title": "Set the limit", "question": "How many a minute?", "question_kind": "number"},
    {"title": "Set the day", "question": "When may v1 go?", "question_kind": "date"},
]


@pytest.fixture(scope="module")
def work(site: Site) -> Work:
    found = furnished(site)
    found.call("PATCH", f"/boards/{found.board}", {"answer_by_link": True})
    return found


def said(work: Work, asked: dict[str, Any]) -> tuple[str, str, str]:
    """Return the answer to the question, how it came, and the reason."""
    messages = work.call("GET", f"/cards/{asked['key']}/messages")["results"]
    (answer,) = [m for m in messages if m["answers"] == asked["message"]]
    return answer["text"], answer["via"], answer["reason"]


async def answered(page: Page, asked: dict[str, Any]) -> None:
    await expect(page.get_by_role("heading", name="Answered")).to_be_visible()
    await expect(page.get_by_text(f"{asked['key']} goes on")).to_be_visible()


async def test_each_kind_is_answered_without_signing_in(work: Work, open_page: Open) -> None:
    choice, text, approve, number, date = work.asked(*QUESTIONS)
    page = await open_page(choice["path"], cookie="nobody=1")
    await expect(page.get_by_text("database 9 ms")).to_be_visible()
    await page.get_by_role("button", name="The database").dblclick()
    await answered(page, choice)
    # By keys alone: the field has focus, what is empty is not sent, and the words are kept whole.
    await page.goto(text["path"])
    field = page.get_by_label("Your answer")
    await expect(field).to_be_focused()
    await page.keyboard.type("   ")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("Write or choose an answer first.")
    await expect(field).to_be_focused()
    await field.fill("x" * 200_001)
    await page.get_by_role("button", name="Answer", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("200,001 characters; up to 200,000")
    assert len(await field.input_value()) == 200_001
    await field.fill("half even,\nas the ledger does")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await answered(page, text)
    await page.goto(approve["path"])
    await expect(page.get_by_text("DROP TABLE v1_calls;")).to_be_visible()
    await expect(page.get_by_text("Without an answer it is “no”")).to_be_visible()
    await page.get_by_label("Why (may be left out)").fill("It is copied")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Yes, do it")).to_be_focused()
    await page.keyboard.press("Enter")
    await answered(page, approve)
    # What no field would let through is refused by the server, beside what was written.
    for asked, bad, words, good in (
        (number, "a few", "no number, such as 12 or 0.5", "12.5"),
        (date, "soon", "no date, such as 2030-01-31", "2030-01-31"),
    ):
        await page.goto(asked["path"])
        await page.get_by_label("Your answer").evaluate("field => { field.type = 'text'; }")
        await page.get_by_label("Your answer").fill(bad)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text(words)
        field = page.get_by_label("Your answer")
        await expect(field).to_have_attribute("aria-invalid", "true")
        await field.fill(good)
        await page.keyboard.press("Enter")
        await answered(page, asked)
    assert said(work, choice) == ("The database", "link", "")
    assert said(work, text) == ("half even,\nas the ledger does", "link", "")
    assert said(work, approve) == ("yes", "link", "It is copied")
    assert said(work, number)[0] == "12.5"
    assert said(work, date)[0] == "2030-01-31"


async def test_who_is_late_loses_nothing_and_a_suggestion_is_one_press(
    work: Work, open_page: Open
) -> None:
    first, second = work.asked(QUESTIONS[1], QUESTIONS[1])
    page = await open_page(first["path"], cookie=work.cookie)
    await page.route("**/*?standing", lambda route: route.abort())
    await expect(page.get_by_text(f"you answer as {work.name}")).to_be_visible()
    await page.get_by_label("Your answer").fill("Neither; ask finance")
    body = {"text": "half up", "answers": first["message"]}
    work.call("POST", f"/cards/{first['key']}/messages", body)
    await page.get_by_role("button", name="Answer", exact=True).click()
    await expect(page.get_by_role("heading", name="no longer good")).to_be_visible()
    await expect(page.get_by_text("Neither; ask finance")).to_be_visible()
    await page.goto(second["path"])
    await page.get_by_role("button", name="half even").click()
    await answered(page, second)
    assert said(work, second)[0] == "half even"


async def test_what_becomes_of_the_question_meanwhile_stands_on_the_page_and_what_was_typed_stays(
    work: Work, open_page: Open
) -> None:
    text, choice = work.asked(QUESTIONS[1], QUESTIONS[0])
    page = await open_page(text["path"], cookie="nobody=1")
    meanwhile = page.locator("#meanwhile")
    field = page.get_by_label("Your answer")
    await field.fill("Neither; ask fin")
    await expect(meanwhile).to_be_hidden()
    body = {"text": "half up", "answers": text["message"]}
    work.call("POST", f"/cards/{text['key']}/messages", body)
    await expect(meanwhile).to_contain_text("has answered: “half up”")
    await expect(field).to_have_value("Neither; ask fin")
    await expect(page.get_by_role("button", name="Answer", exact=True)).to_be_disabled()
    # A server that is away for a while is asked again.
    await page.goto(choice["path"])
    away = "**/*?standing"
    await page.route(away, lambda route: route.abort())
    work.call("POST", f"/cards/{choice['key']}/retry")
    async with page.expect_event("requestfailed"):
        await expect(meanwhile).to_be_hidden()
    await page.unroute(away)
    await expect(meanwhile).to_contain_text("asked no more")
    await expect(page.get_by_role("button", name="Redis")).to_be_disabled()


async def test_the_page_shuts_nobody_out(work: Work, open_page: Open) -> None:
    asked = work.asked(*QUESTIONS)
    gone = "/inbox/answer/no-such-link"
    found: dict[tuple[str, str], list[str]] = {}
    for theme, size in (("light", "wide"), ("dark", "narrow"), ("contrast", "narrow")):
        page = await open_page(gone, cookie="nobody=1", theme=theme, viewport=SIZES[size])
        for path in (gone, *(question["path"] for question in asked)):
            await page.goto(path)
            if wrong := await problems(page) + await page.evaluate(SKELETON):
                found[theme, path] = wrong
        await page.get_by_label("Your answer").evaluate("field => { field.type = 'text'; }")
        await page.get_by_label("Your answer").fill("x")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        if wrong := await problems(page) + await page.evaluate(SKELETON):
            found[theme, "refused"] = wrong
    assert not found
