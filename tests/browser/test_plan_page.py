"""Plans and amendments in a browser: reviewed, applied, withdrawn, and kept like what others do."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.goalwork import Work, furnished
from tests.serving import Site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def work(site: Site) -> Work:
    return furnished(site)


async def opened(open_page: Open, work: Work, path: str) -> Page:
    page = await open_page(path, cookie=work.cookie)
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    return page


def item(page: Page, title: str) -> Locator:
    return page.locator(".item").filter(has=page.locator(".t", has_text=title))


async def test_a_plan_is_reviewed_item_by_item_and_applied(work: Work, open_page: Open) -> None:
    page = await opened(open_page, work, f"/plans/{work.plan}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Plan 1")
    guide = item(page, "Write the migration guide")
    await expect(guide.locator("del")).to_have_text(["Write the guide"])
    await expect(guide.locator("ins").first).to_have_text("Write the migration guide")
    log, off = item(page, "Log what still calls v1"), item(page, "Switch v1 off for a day")
    # What is no number is said beside its field, and nothing is sent.
    await log.locator("summary").click()
    covers = log.get_by_label("Criteria it covers, by number")
    await covers.fill("2, all")
    await page.get_by_role("button", name="Save the changes").click()
    problem = page.locator("#review > .problem")
    await expect(problem).to_contain_text("“all” is no number")
    await expect(covers).to_be_focused()
    await expect(covers).to_have_attribute("aria-invalid", "true")
    # What the server refuses stands with the field that it is about.
    await covers.fill("2, 9")
    await page.get_by_role("button", name="Save the changes").click()
    await expect(problem).to_contain_text("the goal has no criterion 9; it has 1, 2, 3.")
    await expect(covers).to_be_focused()
    await covers.fill("2")
    await log.get_by_label("Estimate").fill("5")
    # By keys: further up, and not accepted.
    await page.get_by_role("button", name="Move Switch v1 off for a day up").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".item .t").nth(4)).to_have_text("Switch v1 off for a day")
    await off.get_by_role("checkbox", name="Accept").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("button", name="Save the changes").dblclick()
    await expect(off.locator(".pill")).to_have_text("dropped")
    await expect(page.locator("#main")).to_have_attribute("data-version", "2")
    await expect(covers).to_have_value("2")
    plan = work.call("GET", f"/plans/{work.plan}")
    assert [i["ref"] for i in plan["items"]][4:] == ["off", "log"]
    assert (plan["items"][5]["estimate"], plan["items"][4]["dropped"]) == (5, True)
    # A change to a card that is not accepted cancels nothing.
    await item(page, "Port the refund job").get_by_role("checkbox", name="Accept").uncheck()
    gone = page.locator("#gone li")
    await expect(gone).to_have_count(1)
    await expect(gone).to_contain_text("Mirror the traffic")
    await page.get_by_role("button", name="Apply what is accepted").dblclick()
    await expect(page.locator(".receipts")).to_contain_text("Log what still calls v1")
    await expect(page.locator("#plan")).to_be_focused()
    plan = work.call("GET", f"/plans/{work.plan}")
    became = {r["title"]: r["did"] for r in plan["outcome"]}
    assert became == {
        "Write the migration guide": "changed",
        "Teach the client v2": "kept",
        "Port the refund job": "left",
        "Port the invoice job, too": "left",
        "Log what still calls v1": "created",
        "Mirror the traffic": "cancelled",
    }
    refund = work.call("GET", f"/cards/{work.cards['refund']}")
    assert (refund["state"], refund["depends_on"]) == ("blocked", [work.cards["client"]])
    await expect(page.get_by_text("It is running; name it in confirm")).to_be_visible()


async def test_what_others_change_comes_unless_something_is_not_saved(
    work: Work, open_page: Open
) -> None:
    items = [{"title": "One"}, {"title": "Two"}]
    plan = work.call("POST", f"/goals/{work.part}/plans", {"items": items})
    page = await opened(open_page, work, f"/plans/{plan['id']}")
    changed = plan["items"]
    changed[0]["title"] = "Number one"
    work.call("PATCH", f"/plans/{plan['id']}", {"items": changed})
    await expect(item(page, "Number one")).to_be_visible()
    newer = page.locator("[data-newer]")
    await expect(newer).to_be_hidden()
    # Half typed, nothing is put in its place.
    await item(page, "Two").locator("summary").click()
    field = item(page, "Two").get_by_label("What is to be done")
    await field.fill("Half a tho")
    changed[0]["title"] = "The first"
    work.call("PATCH", f"/plans/{plan['id']}", {"items": changed})
    await expect(newer).to_be_visible()
    await expect(field).to_have_value("Half a tho")
    await expect(field).to_be_focused()
    await page.get_by_role("button", name="Save the changes").click()
    await expect(page.locator("#review > .problem")).to_contain_text("The plan is at version 3")
    await newer.get_by_role("button", name="Drop mine").click()
    await expect(item(page, "The first")).to_be_visible()
    await expect(newer).to_be_hidden()
    await expect(field).to_have_value("")
    # Thrown away only by who means it.
    discard = page.get_by_role("button", name="Discard the plan")
    await discard.click()
    await page.get_by_role("button", name="Discard it for good").click()
    await expect(page.locator(".planpage .pill").first).to_have_text("discarded")
    assert work.call("GET", f"/plans/{plan['id']}")["status"] == "discarded"


async def test_plans_are_written_and_asked_for(work: Work, open_page: Open) -> None:
    page = await opened(open_page, work, f"/goals/{work.part}/plans")
    plans = page.locator("#plans li:has(a)")
    before = await plans.count()
    await page.locator("summary", has_text="Write a plan").click()
    text = page.get_by_label("A checklist in Markdown")
    await text.fill("- [ ] First\n  Covers: 7")
    work.call("POST", f"/goals/{work.part}/plans", {"items": [{"title": "Else"}]})
    await expect(plans).to_have_count(before + 1)
    await expect(text).to_have_value("- [ ] First\n  Covers: 7")
    await expect(text).to_be_focused()
    await page.get_by_role("button", name="Show what would be made").click()
    await expect(page.locator("#newplan .problem")).to_contain_text("no criterion 7")
    await text.fill("- [ ] First\n  - [ ] Second")
    await page.get_by_role("button", name="Show what would be made").dblclick()
    await expect(item(page, "First")).to_contain_text("after second")
    made = work.call("GET", f"/goals/{work.part}/plans")["results"]
    assert len(made) == before + 2
    await page.goto(f"/goals/{work.part}/plans")
    await page.get_by_role("button", name="Ask an agent for a plan").dblclick()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Plan: Refunds speak v2")
    asked = work.call("GET", f"/cards?goal={work.part}&label=plan")["results"]
    assert len(asked) == 1


async def test_amendments_are_withdrawn_once_and_come_by_themselves(
    work: Work, open_page: Open
) -> None:
    page = await opened(open_page, work, f"/goals/{work.goal}/amendments")
    two = page.locator("#amendment-2")
    await expect(two.locator("ins")).to_have_text(["Amounts stay whole cents"])
    await expect(two.locator("del")).to_have_count(0)
    await two.locator("summary").click()
    why = two.get_by_label("Why (may be left out)")
    await why.fill("Finance took it ba")
    # Somebody else changes it meanwhile: shown, and what is half typed stays.
    changes = {"intent": "Nobody notices.", "reason": "Shorter"}
    work.call("PATCH", f"/goals/{work.goal}", changes)
    await expect(page.locator("#amendment-3")).to_contain_text("Shorter")
    await expect(why).to_have_value("Finance took it ba")
    await expect(why).to_be_focused()
    await page.keyboard.type("ck")
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
    await two.get_by_role("button", name="Withdraw amendment 2").dblclick()
    await expect(two.locator(".pill")).to_have_text("withdrawn")
    await expect(two).to_contain_text("Finance took it back")
    assert len(sent) == 1
    assert "Amounts stay whole cents" not in work.call("GET", f"/goals/{work.goal}")["constraints"]
    # What was changed again since is refused in a sentence.
    work.call("PATCH", f"/goals/{work.goal}", {"title": "Leave v1"})
    await expect(page.locator("#amendment-4")).to_be_visible()
    one = page.locator("#amendment-1")
    await one.locator("summary").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(one.get_by_role("alert")).to_contain_text("withdraw that one first")
