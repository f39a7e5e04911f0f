"""The page of a goal and the tree of goals in a browser: read, changed in place, and kept like
what others do meanwhile."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Open, new_card
from tests.browser.goalwork import Work, furnished
from tests.browser.test_access import problems
from tests.serving import Site, until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def work(site: Site) -> Work:
    return furnished(site)


async def opened(open_page: Open, work: Work, path: str) -> Page:
    page = await open_page(path, cookie=work.cookie)
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    return page


def row(page: Page, title: str) -> Locator:
    return page.locator(".rowx").filter(has_text=title)


async def test_what_is_wanted_is_changed_in_place_by_mouse_and_keys(
    work: Work, open_page: Open
) -> None:
    page = await opened(open_page, work, f"/goals/{work.goal}")
    heading = page.get_by_role("heading", level=1)
    await expect(heading).to_have_text("Move off the v1 payments API")
    await expect(page.locator("p.intent")).to_contain_text("Every caller speaks to v2")
    await expect(page.locator(".criterion.met")).to_contain_text("grep finds no /v1")
    # By mouse.
    await heading.click()
    await page.get_by_label("Title").fill("Leave the v1 payments API")
    await page.locator("#ed-title").get_by_role("button", name="Save").click()
    await expect(heading).to_have_text("Leave the v1 payments API")
    # By keys: Escape forgets, Ctrl+Enter saves.
    await page.locator("#ed-intent > summary").focus()
    await page.keyboard.press("Enter")
    field = page.get_by_label("Intent, in your own words")
    await expect(field).to_be_focused()
    await page.keyboard.type("No.")
    await page.keyboard.press("Escape")
    await expect(page.locator("#ed-intent > summary")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("Every caller speaks to v2, and nobody who pays notices.")
    await page.keyboard.type("Nobody who pays notices.")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("p.intent")).to_have_text("Nobody who pays notices.")
    # Criteria are told by the reader, and changed all together.
    await page.locator("#say-3 > summary").click()
    await page.locator("#say-3").get_by_label("What shows it").fill("Three of them wrote back")
    await page.locator("#say-3").get_by_role("button", name="It is met").dblclick()
    await expect(page.locator("#c3.met")).to_contain_text("Three of them wrote back")
    await page.get_by_role("button", name="Change the criteria").click()
    dialog = page.get_by_role("dialog", name="Done means")
    await dialog.get_by_role("button", name="Another criterion").click()
    await page.keyboard.type("The old keys are revoked")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(page.locator(".criterion").last).to_contain_text("The old keys are revoked")
    goal = work.call("GET", f"/goals/{work.goal}")
    assert (goal["title"], goal["intent"]) == (
        "Leave the v1 payments API",
        "Nobody who pays notices.",
    )
    third = next(c for c in goal["criteria"] if c["number"] == 3)
    assert (third["met"], len(third["evidence"])) == (True, 1)


async def test_discoveries_are_settled_where_they_stand(work: Work, open_page: Open) -> None:
    page = await opened(open_page, work, f"/goals/{work.goal}")
    await page.get_by_role("link", name="Discoveries").click()
    await expect(page).to_have_url(f"{work.site.web.origin}/goals/{work.goal}?tab=discoveries")
    dead = row(page, "Rewriting the job from scratch")
    # A dead end is tried again by who says what has changed.
    await dead.locator("summary", has_text="Worth another try").click()
    await dead.get_by_role("button", name="It may work now").click()  # the browser asks why
    await page.get_by_label("What has changed").fill("The ledger rounds like the job")
    await dead.get_by_role("button", name="It may work now").dblclick()
    await expect(dead).to_contain_text("may be worth another try: The ledger rounds like the job")
    # By keys a card is made of what was found, and whoever pressed them is not thrown out.
    issue = row(page, "Two modules share one walrus cache")
    await issue.get_by_role("button", name="Make a card of it").focus()
    await page.keyboard.press("Enter")
    await expect(issue.get_by_role("link", name="a card sees to it")).to_be_visible()
    await expect(issue.and_(page.locator(":focus-within"))).to_have_count(1)
    fact = row(page, "The sandbox answers in UTC")
    await fact.locator("summary", has_text="Resolve").click()
    await fact.get_by_label("What settled it").fill("Not ours to change")
    await fact.get_by_role("button", name="Won't be done").click()
    await expect(fact).to_contain_text("won't be done")
    found = work.call("GET", f"/goals/{work.goal}/discoveries")["results"]
    became = {one["title"]: one["status"] for one in found}
    assert became == {
        "Rewriting the job from scratch": "revived",
        "Two modules share one walrus cache": "proposed",
        "The sandbox answers in UTC": "wont_do",
    }
    # Decisions: what was not taken stands as it was written, and the replaced one says by which.
    await page.get_by_role("link", name="Decisions").click()
    await expect(row(page, "They survive a restart")).to_contain_text("Not taken: A table")
    await expect(row(page, "Cache rates in memory")).to_contain_text("replaced by")
    pin = row(page, "They survive a restart").get_by_role("button", name="Pin")
    await pin.click()
    await expect(row(page, "They survive").get_by_role("button", name="Unpin")).to_be_focused()
    await page.get_by_role("link", name="Approaches").click()
    await expect(row(page, "Rewrite the job")).to_contain_text(
        "The ledger and the job disagree by a cent"
    )
    await expect(row(page, "Rewrite the job")).to_contain_text("Rounding differs")


async def test_discoveries_are_made_one_by_keys(work: Work, open_page: Open) -> None:
    found = {"kind": "architecture_issue", "title": "Modules share a walrus cache: two of them"}
    work.call("POST", f"/goals/{work.goal}/discoveries", found)
    page = await opened(open_page, work, f"/goals/{work.goal}?tab=discoveries")
    again = row(page, found["title"])
    await again.locator("summary", has_text="Merge").focus()
    await page.keyboard.press("Enter")
    into = again.get_by_label("The one that stands for both")
    # What looks alike comes first, so that it is chosen unless told otherwise.
    await expect(into.locator("option:checked")).to_contain_text("Two modules share one walrus")
    assert not await problems(page)
    await into.focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(again).to_contain_text("The same as “Two modules share one walrus cache”.")
    await expect(row(page, "Two modules share one walrus cache").first).to_contain_text(
        "seen 2 times"
    )
    told = page.locator("#announce")
    await expect(told).to_contain_text("“Two modules share one walrus cache” stands for both.")


async def test_what_others_do_is_shown_and_what_is_half_typed_stays(
    work: Work, open_page: Open
) -> None:
    page = await opened(open_page, work, f"/goals/{work.part}?tab=discoveries")
    await page.locator("#ed-constraints > summary").click()
    field = page.get_by_label("Constraints, one a line")
    await field.fill("No refund is lo")
    work.call("POST", f"/goals/{work.part}/discoveries", {"kind": "fact", "title": "Refunds queue"})
    await expect(row(page, "Refunds queue")).to_be_visible()
    work.call("PATCH", f"/goals/{work.part}", {"criteria": [{"text": "Each refund arrives"}]})
    await expect(page.locator(".criterion")).to_contain_text("Each refund arrives")
    await expect(field).to_have_value("No refund is lo")
    await expect(field).to_be_focused()
    # What comes of a card that is not shown on this tab, too.
    card = work.call("POST", "/cards", {"board": work.board, "title": "R", "goal": work.part})
    await expect(page.locator("#goal-side")).to_contain_text("0 of 1 done")
    work.call("POST", f"/cards/{card['key']}/move", {"column": "in_progress"})
    grant = work.site.call(
        "POST", "/api/v1/claims", {"worker": "eve", "card": card["key"]}, token=work.site.token
    ).body
    told = {"kind": "dead_end", "title": "Asking the old host"}
    lease = {"Lease-Token": grant["lease"]["token"]}
    attempt = f"/api/v1/attempts/{grant['attempt']['id']}"
    assert work.site.call("POST", f"{attempt}/discoveries", told, headers=lease).status == 201
    await expect(row(page, "Asking the old host")).to_be_visible()
    await expect(field).to_be_focused()
    # Saved over what somebody else wrote meanwhile, it says so, and keeps both.
    work.call("PATCH", f"/goals/{work.part}", {"constraints": ["Not by hand"]})
    await page.keyboard.type("st")
    await page.keyboard.press("Control+Enter")
    problem = page.locator("#ed-constraints").get_by_role("alert")
    await expect(problem).to_contain_text("Somebody changed this meanwhile")
    await expect(page.locator("#ed-constraints .theirs")).to_contain_text("Not by hand")
    await page.locator("#ed-constraints").get_by_role("button", name="Save").click()
    await expect(page.locator("#goal-constraints li")).to_have_text(["No refund is lost"])


async def test_a_goal_that_nobody_works_on_says_so_and_is_planned_from_there_on_a_phone(
    work: Work, open_page: Open
) -> None:
    criteria = [{"text": "It is there"}]
    asked = {"board": work.board, "title": "Forgotten", "criteria": criteria}
    goal = work.call("POST", "/goals", asked)["id"]
    page = await open_page(
        f"/goals/{goal}", cookie=work.cookie, viewport={"width": 360, "height": 780}
    )
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    strip = page.locator("#goal-missing")
    await expect(strip).to_contain_text("No card works towards it")
    box = await strip.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 360
    for button in await strip.locator(".btn").all():
        inside = await button.bounding_box()
        assert inside is not None
        assert inside["x"] + inside["width"] <= 360
    await strip.get_by_role("button", name="Ask an agent for a plan").click()
    await expect(strip).to_have_count(0)
    await expect(page.locator("#goal-tab")).to_contain_text("Plan")


async def test_the_tree_of_goals_grows_by_itself(work: Work, open_page: Open) -> None:
    page = await opened(open_page, work, f"/boards/{work.board}/goals")
    last = page.locator(".goalrows a").filter(has_text="Refunds speak v2")
    await last.focus()
    below = {"board": work.board, "title": "Tell support", "parent": work.goal}
    made = work.call("POST", "/goals", below)
    await expect(page.get_by_role("link", name="Tell support")).to_be_visible()
    await expect(last).to_be_focused()
    work.call("PATCH", f"/goals/{made['id']}", {"status": "abandoned"})
    await expect(page.locator(f"#g{made['id']}")).to_contain_text("Abandoned")
    await page.get_by_role("link", name="Tell support").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Tell support")
    until(lambda: work.call("GET", f"/goals/{made['id']}")["status"] == "abandoned")


async def test_a_card_for_an_earlier_text_is_said_to_serve_the_newer(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    asked = [{"text": "It builds"}, {"text": "It is fast"}]
    body = {"board": board, "title": "Ship it", "criteria": asked}
    goal = site.call("POST", "/api/v1/goals", body).body["id"]
    card = new_card(site, board, goal=goal, covers=[1, 2])["key"]
    reworded = [asked[0], {"text": "It answers in 3 ms"}]
    assert site.call("PATCH", f"/api/v1/goals/{goal}", {"criteria": reworded}).status == 200
    page = await open_page(f"/goals/{goal}")
    missing = page.locator("#goal-missing")
    await expect(missing).to_contain_text(f"{card} was for an earlier text of 3")
    await missing.get_by_role("link", name=card).click()
    covers = page.locator("dd", has=page.locator("#ed-covers"))
    await expect(covers).to_contain_text("an earlier text of 3")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    await page.locator("#ed-covers > summary").focus()
    await page.keyboard.press("Enter")
    field = page.get_by_label("Criteria it covers, by number")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("1, 3")
    assert not await problems(page)
    await page.keyboard.press("Enter")
    await expect(covers).not_to_contain_text("an earlier text")
    assert site.call("GET", f"/api/v1/cards/{card}").body["covers"] == [1, 3]
