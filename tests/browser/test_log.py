"""A log in a browser: 100,000 lines, live, searched, linked, by keyboard, on a phone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.browser.test_card import claimed
from tests.serving import Site

pytestmark = pytest.mark.browser

CASES = json.loads((Path(__file__).parent.parent / "terminal.json").read_text())
LINES = 100_000

FILL = """
import sys, django
django.setup()
from uuid import UUID
from checkpoints import logs
for begin in range(0, int(sys.argv[2]), 1000):
    text = "".join(
        f"\\x1b[31mFAI\\x1b[0mLED test_{n}\\n" if n % 10000 == 0 else f"line {n}\\n"
        for n in range(begin + 1, begin + 1001)
    )
    logs.append(UUID(sys.argv[1]), [("test", "stdout", text)])
"""


def printed(site: Site, lines: int = LINES) -> tuple[str, str, dict[str, str], str]:
    """Return a running card whose step has printed so many lines, and how its worker calls."""
    board = site.new_board()["key"]
    key = new_card(site, board, "Run the tests", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    site.call("POST", f"{attempt}/steps", {"key": "test"}, token=token, headers=lease)
    site.run(FILL, attempt.rpartition("/")[2], str(lines))
    return key, attempt, lease, token


async def lines_in_sight(page: Page) -> list[int]:
    """The numbers of the lines between the edges of the viewer, checked to be as they should."""
    numbers: list[int] = await page.evaluate(
        """() => { const box = document.querySelector(".lbody").getBoundingClientRect();
          return [...document.querySelectorAll(".lrow")].filter(row => {
            const at = row.getBoundingClientRect();
            return at.top >= box.top - 1 && at.bottom <= box.bottom + 1; })
            .map(row => Number(row.querySelector(".ln").textContent)); }"""
    )
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers


async def test_a_line_is_drawn_by_the_rules_that_the_server_searches_by(
    site: Site, open_page: Open
) -> None:
    page = await open_page("/")
    wrong = await page.evaluate(
        """async cases => { const {runs, styleAfter} = await import("/static/js/terminal.js");
          return cases.filter(one => { const got = runs(one.text, one.style ?? "");
            return got.map(run => run[0]).join("") !== one.plain
              || styleAfter(one.style ?? "", one.text) !== one.after
              || (one.runs && JSON.stringify(got) !== JSON.stringify(one.runs)); }); }""",
        CASES,
    )
    assert wrong == []


async def test_a_hundred_thousand_lines_are_walked_searched_and_linked(
    site: Site, open_page: Open
) -> None:
    key, *_ = printed(site)
    page = await open_page(f"/cards/{key}?tab=log&attempt=1&step=test#L50000-L50002")
    await expect(page.locator(".lrow.marked .ln")).to_have_text(["50000", "50001", "50002"])
    assert 50_000 in await lines_in_sight(page)
    body = page.get_by_role("region", name="Output of test")
    # Rows stand where the bar says, and nearly none are in the page.
    tall = await body.evaluate("node => node.scrollHeight")
    assert tall == pytest.approx(LINES * 18, abs=40)
    await body.evaluate("node => { node.scrollTop = 18 * 69980; }")
    await expect(page.locator(".lrow .lt", has_text="line 69985")).to_be_visible()
    assert (await lines_in_sight(page))[0] in (69_981, 69_982)
    assert await page.locator(".lrow").count() < 150
    # The whole of it is searched, wherever one is; by keyboard alone.
    await body.focus()
    await page.keyboard.press("/")
    await page.keyboard.type("failed test")
    count = page.locator("[data-count]")
    await expect(count).to_have_text("7 of 10")
    await page.keyboard.press("Enter")
    await expect(count).to_have_text("8 of 10")
    await expect(page.locator(".lrow.hit .lt")).to_have_text("FAILED test_80000")
    await expect(page.locator(".lrow.hit mark")).to_have_text(["FAI", "LED test"])
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".lrow.hit .ln")).to_have_text("60000")
    await page.keyboard.press("Escape")
    await expect(count).to_be_empty()
    await page.keyboard.press(":")
    await page.keyboard.type("12345")
    await page.keyboard.press("Enter")
    await expect(page.locator(".lrow.marked .lt")).to_have_text("line 12345")
    assert page.url.endswith("#L12345")
    await page.locator(".lrow .ln", has_text="12350").click(modifiers=["Shift"])
    assert page.url.endswith("#L12345-L12350")
    await page.keyboard.press("Home")
    await expect(page.locator(".lrow .ln").first).to_have_text("1")
    assert await problems(page) == []


@pytest.mark.parametrize("width", [1280, 1024])
async def test_a_steps_row_and_its_tools_keep_apart(
    site: Site, open_page: Open, width: int
) -> None:
    key, attempt, lease, token = printed(site, 1000)
    done = {"status": "failed", "error": "2 tests failed"}
    answer = site.call("POST", f"{attempt}/steps/test/finish", done, token=token, headers=lease)
    assert answer.status == 200
    page = await open_page(f"/cards/{key}", viewport={"width": width, "height": 800})
    row = page.locator('[data-step="test"]')
    tools = row.get_by_role("group", name="Output tools")
    await expect(tools).to_be_visible()
    words, more, arrow, bar = await row.evaluate(
        """row => { const range = document.createRange();
          range.selectNodeContents(row.querySelector(".s"));
          const bar = row.querySelector(".lbar");
          return [range.getBoundingClientRect().right,
            row.querySelector("summary").getBoundingClientRect().left,
            bar.querySelector("[data-next] svg").getBoundingClientRect().width,
            bar.offsetHeight]; }"""
    )
    assert words <= more
    assert arrow < 24
    assert bar < (40 if width == 1280 else 80)
    await expect(tools.get_by_role("link", name="Download")).to_be_visible()


async def test_it_follows_until_one_looks_elsewhere_and_says_how_to_come_back(
    site: Site, open_page: Open
) -> None:
    key, attempt, lease, token = printed(site, 1000)
    page = await open_page(f"/cards/{key}")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    body = page.get_by_role("region", name="Live output of test")
    await expect(body.get_by_text("FAILED").or_(body.get_by_text("line 1000"))).to_be_visible()

    def prints(text: str) -> None:
        body = {"step": "test", "stream": "stdout", "text": text}
        answer = site.call("POST", f"{attempt}/log", body, token=token, headers=lease)
        assert answer.status == 201

    prints("half of")
    await expect(body.get_by_text("half of")).to_be_in_viewport()
    prints(" a line\n" + "".join(f"more {n}\n" for n in range(500)))
    await expect(body.get_by_text("more 499", exact=True)).to_be_in_viewport()
    follow = page.get_by_role("button", name="Follow")
    await expect(follow).to_have_attribute("aria-pressed", "true")
    await body.hover()
    await page.mouse.wheel(0, -1500)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    await expect(body.get_by_text("more 420", exact=True)).to_be_visible()
    before = await lines_in_sight(page)
    prints("later\n" * 50)
    await expect(page.locator(".log[data-total='1551']")).to_be_attached()
    assert await lines_in_sight(page) == before
    await page.get_by_role("button", name="To the end").click()
    await expect(body.get_by_text("later").last).to_be_in_viewport()
    await expect(follow).to_have_attribute("aria-pressed", "true")
    assert await body.get_by_text("half of a line", exact=True).count() == 0  # far above by now


async def test_wrapped_lines_keep_their_place_on_a_phone(site: Site, open_page: Open) -> None:
    key, attempt, lease, token = printed(site, 2000)
    long = "".join(f"{n} {'words that go on ' * 20}\n" for n in range(2001, 2101))
    body = {"step": "test", "stream": "stderr", "text": long + "the end\n"}
    site.call("POST", f"{attempt}/log", body, token=token, headers=lease)
    page = await open_page(
        f"/cards/{key}?tab=log&attempt=1&step=test#L2050",
        viewport={"width": 390, "height": 844},
        has_touch=True,
    )
    await expect(page.locator(".lrow.marked .lt")).to_contain_text("2050 words")
    await page.get_by_role("button", name="Wrap").click()
    row = page.locator(".lrow.marked")
    await expect(row).to_be_in_viewport()
    assert (await row.bounding_box() or {"height": 0})["height"] > 60
    await lines_in_sight(page)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    region = page.get_by_role("region", name="Output of test")
    await region.focus()
    await page.keyboard.press("End")
    await expect(region.get_by_text("the end")).to_be_in_viewport()
    assert await problems(page) == []
