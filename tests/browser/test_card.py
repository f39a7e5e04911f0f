"""The card page while a worker is at it, and what it lets a person do."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser


def claimed(site: Site, board: str) -> tuple[str, dict[str, str], str]:
    token = site.new_token(board)["token"]
    grant = site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token).body
    return (
        f"/api/v1/attempts/{grant['attempt']['id']}",
        {"Lease-Token": grant["lease"]["token"]},
        token,
    )


async def test_steps_output_and_checkpoints_arrive_by_themselves(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Write the parser", column="In progress")["key"]
    page = await open_page(f"/cards/{key}")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    attempt, lease, token = claimed(site, board)

    def post(call: str, body: dict[str, object]) -> None:
        answer = site.call("POST", attempt + call, body, token=token, headers=lease)
        assert answer.status in (200, 201), answer.body

    await expect(page.get_by_text("Running").first).to_be_visible()
    post("/steps", {"key": "test", "title": "Run the tests"})
    await expect(page.locator('[data-step="test"]')).to_be_visible()
    post(
        "/log", {"step": "test", "stream": "stdout", "text": "collected \x1b[32m14 items\x1b[0m\n"}
    )
    output = page.get_by_role("region", name="Live output of test")
    await expect(output.locator(".lt")).to_have_text(["collected 14 items"])
    await expect(output.locator(".f2")).to_have_text("14 items")
    post("/log", {"step": "test", "stream": "stderr", "text": "one warning\n"})
    await expect(output).to_contain_text("one warning")
    done = {"status": "succeeded", "checkpoint": {"summary": "All 14 pass", "next_step": "Ship"}}
    post("/steps/test/finish", done)
    await expect(page.locator("#C1")).to_contain_text("All 14 pass")
    await expect(page.get_by_label("Properties")).to_contain_text("Next: Ship")
    post("/complete", {"summary": "Done."})
    await expect(page.get_by_text("Completed").first).to_be_visible()


async def test_a_step_in_doubt_is_marked(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Deploy", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    site.call("POST", f"{attempt}/steps", {"key": "deploy"}, token=token, headers=lease)
    site.call("POST", f"/api/v1/cards/{key}/move", {"column": "backlog"})
    site.call("POST", f"/api/v1/cards/{key}/move", {"column": "in_progress"})
    attempt, lease, token = claimed(site, board)
    site.call("POST", f"{attempt}/steps", {"key": "deploy"}, token=token, headers=lease)
    page = await open_page(f"/cards/{key}")
    await expect(page.get_by_text("in doubt")).to_be_visible()
    await expect(page.get_by_text("interrupted, done again later")).to_be_visible()


async def test_a_person_pauses_answers_and_approves(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    made = new_card(site, board, "Review me", column="In progress", review_required=True)
    key = made["key"]
    attempt, lease, token = claimed(site, board)
    page = await open_page(f"/cards/{key}")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()
    beat = site.call("POST", f"{attempt}/heartbeat", {}, token=token, headers=lease).body
    assert beat["directive"] == "pause"
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()

    await page.get_by_role("link", name="Messages").click()
    await page.get_by_label("A note to the worker").fill("Mind the **rounding**")
    await page.get_by_role("button", name="Post").click()
    await expect(page.locator(".md strong")).to_have_text("rounding")
    beat = site.call("POST", f"{attempt}/heartbeat", {}, token=token, headers=lease).body
    assert [m["text"] for m in beat["messages"]] == ["Mind the **rounding**"]

    site.call("POST", f"{attempt}/complete", {"summary": "Done"}, token=token, headers=lease)
    await page.get_by_role("button", name="Send back").click()
    await page.get_by_label("What the next worker must change").fill("Use half-even")
    await page.get_by_role("dialog").get_by_role("button", name="Send back").click()
    await expect(page.get_by_text("Waiting").first).to_be_visible()
    attempt, lease, token = claimed(site, board)
    site.call("POST", f"{attempt}/complete", {"summary": "Done"}, token=token, headers=lease)
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("Completed").first).to_be_visible()
    assert site.call("GET", f"/api/v1/cards/{key}").body["state"] == "completed"


async def test_a_person_compares_rewinds_and_forks_checkpoints(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Write the parser", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    for n in (1, 2, 3):
        body = {"key": f"step-{n}", "status": "succeeded", "result": n}
        body["checkpoint"] = {"summary": f"Part {n} stands", "state": {"part": n}}
        assert site.call("POST", f"{attempt}/steps", body, token=token, headers=lease).status == 201
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await expect(page.locator(".cphead")).to_contain_text("C3")
    await page.get_by_role("link", name="C1 · Part 1 stands").click()
    await expect(page.locator(".cphead > b")).to_have_text("C1")
    await page.get_by_text("Compare with…").click()
    await page.locator("#card-tab .pick").get_by_role("link", name="C3 · Part 3 stands").click()
    await expect(page.locator("#card-tab .pick")).not_to_have_attribute("open", "")
    await expect(page.get_by_role("table", name="Changes in the state")).to_contain_text("/part: 1")

    await page.get_by_role("button", name="Rewind here").click()
    dialog = page.get_by_role("dialog", name=f"Rewind {key} to C1")
    await expect(dialog).to_contain_text("2 recorded steps will be done again: step-2 step-3")
    await expect(dialog).to_contain_text("Attempt 1 by ada is stopped")
    await dialog.get_by_role("button", name="Rewind").click()
    await expect(page.get_by_text("Waiting").first).to_be_visible()
    assert site.call("GET", f"/api/v1/cards/{key}").body["line"] == 2

    await page.get_by_role("link", name="C2 · Part 2 stands").click()
    await page.get_by_role("button", name="Fork from C2").click()
    dialog = page.get_by_role("dialog", name="Fork from C2")
    await dialog.get_by_label("Approaches").fill("by hand\n\n  generated \n")
    await dialog.get_by_role("button", name="Fork", exact=True).click()
    await expect(page.get_by_label("Properties")).to_contain_text(f"{board}-2 {board}-3")
    await page.get_by_role("link", name=f"{board}-2").first.click()
    await expect(page.get_by_label("Properties")).to_contain_text(f"{key} C2")
    assert site.call("GET", f"/api/v1/cards/{board}-2").body["race"]
