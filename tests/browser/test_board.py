"""The board as people use it: mouse, touch, keyboard, two browsers at once, bad networks."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card, viewer
from tests.serving import Site

pytestmark = pytest.mark.browser

XSS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '"><svg onload=alert(1)>',
    "[x](javascript:alert(1))",
    "{{ 7*7 }} ${7*7} <b>bold</b>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
]


def cards_of(page: Page, column: str) -> Any:
    return page.get_by_role("region", name=column, exact=True).locator(".card")


async def live(page: Page) -> None:
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")


async def drag(page: Page, source: Any, target: Any) -> None:
    """Drag by mouse to the middle of ``target``, and let go."""
    await lift(page, source, target)
    await page.mouse.up()


async def lift(page: Page, source: Any, target: Any, below_top: float | None = None) -> None:
    """Drag by mouse in small moves, as a hand does, until the page shows where a drop would go."""
    a, b = await source.bounding_box(), await target.bounding_box()
    await page.mouse.move(a["x"] + a["width"] / 2, a["y"] + 10)
    await page.mouse.down()
    await page.mouse.move(a["x"] + a["width"] / 2 + 12, a["y"] + 18, steps=4)
    y = b["y"] + (b["height"] / 2 if below_top is None else below_top)
    await page.mouse.move(b["x"] + b["width"] / 2, y, steps=12)
    shown = target.locator("xpath=ancestor-or-self::*[contains(@class, 'col')][1]")
    await expect(shown).to_have_class(re.compile(r"\bover\b"))
    if below_top is not None:
        await expect(target).to_have_class(re.compile(r"\bedge-(top|bottom)\b"))


def column_list(page: Page, column: str) -> Any:
    return page.get_by_role("region", name=column, exact=True).get_by_role("list")


async def test_a_drag_in_one_browser_is_seen_in_the_other(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Write the parser")["key"]
    ada, bob = await open_page(f"/boards/{board}"), await open_page(f"/boards/{board}")
    await live(ada)
    await live(bob)
    await drag(ada, ada.locator(f'[data-key="{key}"]'), column_list(ada, "In progress"))
    for page in (ada, bob):
        await expect(cards_of(page, "In progress")).to_have_count(1)
        await expect(cards_of(page, "Backlog")).to_have_count(0)
        await expect(page.locator("h2:text-is('In progress') + .n")).to_have_text("1")
    assert site.call("GET", f"/api/v1/cards/{key}").body["state"] == "waiting"


async def test_cards_are_ranked_by_dragging_between_others(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    keys = [new_card(site, board, f"Card {n}")["key"] for n in range(3)]
    page = await open_page(f"/boards/{board}")
    await live(page)
    first, last = (page.locator(f'[data-key="{key}"]') for key in (keys[0], keys[2]))
    await lift(page, last, first, below_top=4)
    await page.mouse.up()
    await expect(cards_of(page, "Backlog").nth(0)).to_have_attribute("data-key", keys[2])
    await expect(page.locator(".card.pending")).to_have_count(0)
    await page.reload()
    for n, key in enumerate((keys[2], keys[0], keys[1])):
        await expect(cards_of(page, "Backlog").nth(n)).to_have_attribute("data-key", key)


async def test_a_move_can_be_undone(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board)["key"]
    page = await open_page(f"/boards/{board}")
    await live(page)
    await drag(page, page.locator(f'[data-key="{key}"]'), column_list(page, "Review"))
    await expect(cards_of(page, "Review")).to_have_count(1)
    await page.get_by_role("button", name="Undo").click()
    await expect(cards_of(page, "Backlog")).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(0)
    assert site.call("GET", f"/api/v1/cards/{key}").body["state"] == "backlog"


async def test_the_keyboard_moves_and_opens_cards(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    one = new_card(site, board, "One")["key"]
    new_card(site, board, "Two")
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="One")).to_be_focused()
    await page.keyboard.press("Alt+ArrowRight")
    await expect(cards_of(page, "In progress")).to_have_count(1)
    await expect(page.get_by_role("link", name="One")).to_be_focused()
    await expect(page.locator("#announce")).to_have_text(
        f"{one} moved from Backlog to In progress, place 1."
    )
    await page.keyboard.press("m")
    await expect(page.get_by_role("menu")).to_be_visible()
    await page.keyboard.press("4")
    await expect(cards_of(page, "Review")).to_have_count(1)
    await page.keyboard.press("z")
    await expect(cards_of(page, "In progress")).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(0)
    await expect(page.get_by_role("link", name="One")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="One", exact=True)).to_be_visible()


async def test_touch_moves_cards_by_the_menu(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Write the parser")
    page = await open_page(
        f"/boards/{board}",
        has_touch=True,
        is_mobile=True,
        viewport={"width": 390, "height": 844},
    )
    await live(page)
    await page.locator(".card .kb").tap()
    await page.get_by_role("menuitem", name="In progress").tap()
    await expect(cards_of(page, "In progress")).to_have_count(1)


async def test_a_change_by_an_agent_arrives_and_keeps_half_typed_text(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    asking = new_card(site, board, "Ask me", column="In progress")["key"]
    claimed = site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token).body
    lease = {"Lease-Token": claimed["lease"]["token"]}
    attempt = f"/api/v1/attempts/{claimed['attempt']['id']}"
    page = await open_page(f"/boards/{board}")
    await live(page)
    await expect(page.locator('.card[data-state="running"]')).to_have_count(1)
    question = {"reason": "unsure", "question": "Half-even or legacy rounding?"}
    site.call("POST", f"{attempt}/block", question, token=token, headers=lease)
    await expect(page.get_by_text("Half-even or legacy rounding?")).to_be_visible()

    await page.locator("summary", has_text="Answer").first.click()
    answer = page.get_by_label(f"Answer to {asking}")
    await answer.fill("Half-ev")
    await answer.focus()
    site.call("PATCH", f"/api/v1/cards/{asking}", {"title": "Ask me now"})
    await expect(page.get_by_role("link", name="Ask me now")).to_be_visible()
    await expect(answer).to_have_value("Half-ev")
    await expect(answer).to_be_focused()
    await answer.fill("Half-even")
    await page.locator("form.answer button[type=submit]").click()
    await expect(cards_of(page, "In progress")).to_have_count(1)
    assert site.call("GET", f"/api/v1/cards/{asking}").body["state"] == "waiting"


async def test_a_refused_move_goes_back_and_says_why(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Contested")["key"]
    page = await open_page(f"/boards/{board}")
    await live(page)
    card = page.locator(f'[data-key="{key}"]')
    await lift(page, card, column_list(page, "Review"))
    # Somebody else is faster, while the card is in the air.
    site.call("PATCH", f"/api/v1/cards/{key}", {"priority": 0})
    await page.mouse.up()
    await expect(card.locator(".strip")).to_contain_text("operator changed its priority")
    await expect(cards_of(page, "Backlog")).to_have_count(1)
    await expect(page.locator("#alarm")).to_contain_text(f"{key} was not moved")
    assert site.call("GET", f"/api/v1/cards/{key}").body["state"] == "backlog"
    await page.get_by_role("button", name="Move anyway").click()
    await expect(cards_of(page, "Review")).to_have_count(1)


async def test_the_limit_of_a_column_warns_a_person(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    columns = site.call("GET", f"/api/v1/boards/{board}").body["columns"]
    limited = [{**c, "wip_limit": 1 if c["kind"] == "review" else None} for c in columns]
    site.call("PATCH", f"/api/v1/boards/{board}", {"columns": limited})
    new_card(site, board, "First", column="Review")
    new_card(site, board, "Second")
    page = await open_page(f"/boards/{board}")
    await live(page)
    region = page.get_by_role("region", name="Review", exact=True)
    await expect(region.get_by_text("At limit")).to_be_visible()
    await drag(page, cards_of(page, "Backlog").first, region.get_by_role("list"))
    await expect(page.locator(".toast", has_text="Review now holds 2 of 1")).to_be_visible()
    await expect(cards_of(page, "Review")).to_have_count(2)
    await expect(region.locator(".n").first).to_have_text("2 / 1")


async def test_somebody_who_may_only_look_can_only_look(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    card = new_card(site, board, "Look at me")
    page = await open_page(f"/boards/{board}", cookie=viewer(site, board))
    await live(page)
    await expect(page.get_by_role("link", name="Look at me")).to_be_visible()
    for name in ("New card", "Add a card to Backlog", f"Move or steer {card['key']}"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    # What the page would not offer is refused all the same.
    refused = await page.evaluate(
        """async path => (await fetch(path, {method: "POST", headers: {
             "Content-Type": "application/json",
             "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value,
           }, body: '{"column": "review"}'})).status""",
        f"/api/v1/cards/{card['key']}/move",
    )
    assert refused == 403


async def test_a_filter_shows_what_needs_somebody_and_stays_true(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    keys = [new_card(site, board, f"Card {n}")["key"] for n in range(3)]
    site.call("POST", f"/api/v1/cards/{keys[0]}/move", {"column": "review"})
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("link", name="To review 1").click()
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page).to_have_url(re.compile("show=review"))
    site.call("POST", f"/api/v1/cards/{keys[1]}/move", {"column": "review"})
    await expect(page.locator(".card")).to_have_count(2)
    site.call("POST", f"/api/v1/cards/{keys[0]}/move", {"column": "backlog"})
    await expect(page.locator(".card")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".card")).to_have_count(1)
    await page.get_by_role("link", name="Show all").click()
    await expect(page.locator(".card")).to_have_count(3)
    await page.get_by_label("Find cards").fill("card 2")
    await expect(page.locator(".card")).to_have_count(1)


async def test_running_cards_stand_apart_from_waiting_ones(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    first = new_card(site, board, "First", column="In progress")["key"]
    new_card(site, board, "Second", column="In progress", depends_on=[first])
    page = await open_page(f"/boards/{board}")
    await live(page)
    rows = page.get_by_role("region", name="In progress", exact=True).get_by_role("listitem")
    await expect(page.locator(".part")).to_have_count(0)
    await expect(cards_of(page, "In progress").nth(1)).to_contain_text("Waits for 1 other card")
    grant = site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token).body
    await expect(rows.nth(1)).to_have_text("Waiting")
    lease = {"Lease-Token": grant["lease"]["token"]}
    steps = f"/api/v1/attempts/{grant['attempt']['id']}/steps"
    for name in ("parse", "emit"):
        site.call("POST", steps, {"key": name, "title": f"Now {name}"}, token=token, headers=lease)
    await expect(cards_of(page, "In progress").first.locator("[data-now]")).to_have_text("Now emit")
    await expect(cards_of(page, "In progress").first.locator(".tape i")).to_have_count(2)


async def test_completed_cards_fold_into_a_rail(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Finished", column="Completed")
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Fold Completed up").click()
    await expect(cards_of(page, "Completed").first).to_be_hidden()
    await page.reload()
    await live(page)
    await expect(page.get_by_role("link", name="Finished")).to_have_count(0)
    await page.get_by_role("button", name="Unfold Completed").click()
    await expect(page.get_by_role("link", name="Finished")).to_be_visible()


async def test_an_open_menu_stays_open_while_its_card_changes(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Busy")["key"]
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.keyboard.press("j")
    await page.keyboard.press("m")
    item = page.get_by_role("menuitem", name="Review")
    await item.focus()
    site.call("PATCH", f"/api/v1/cards/{key}", {"title": "Busier"})
    await expect(page.get_by_role("link", name="Busier")).to_be_visible()
    await expect(item).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(cards_of(page, "Review")).to_have_count(1)
    await expect(page.get_by_role("link", name="Busier")).to_be_focused()


async def test_an_offline_page_says_so_and_catches_up(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.context.set_offline(True)
    await expect(page.locator("#offline")).to_be_visible()
    for n in range(5):
        new_card(site, board, f"While away {n}")
    await page.context.set_offline(False)
    await expect(cards_of(page, "Backlog")).to_have_count(5)
    await live(page)
    await expect(page.locator("#offline")).to_be_hidden()


async def test_quick_add_reads_labels_and_priority(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}")
    await live(page)
    await page.get_by_role("button", name="Add a card to Backlog").click()
    await page.keyboard.type("Retry the relay #ops !1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Retry the relay")).to_be_visible()
    (card,) = site.call("GET", f"/api/v1/cards?board={board}").body["results"]
    assert (card["labels"], card["priority"]) == (["ops"], 1)


async def test_a_long_column_is_paged(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    for n in range(45):
        new_card(site, board, f"Card {n}")
    page = await open_page(f"/boards/{board}")
    await live(page)
    await expect(cards_of(page, "Backlog")).to_have_count(30)
    await page.get_by_role("button", name="15 more").click()
    await expect(cards_of(page, "Backlog")).to_have_count(45)


@pytest.mark.parametrize("payload", XSS)
async def test_what_others_wrote_runs_nowhere(site: Site, open_page: Open, payload: str) -> None:
    board = site.new_board()["key"]
    card = new_card(site, board, payload, description=payload, labels=[payload[:90]])
    site.call("POST", f"/api/v1/cards/{card['key']}/messages", {"text": payload})
    page = await open_page(f"/boards/{board}")
    await live(page)
    await expect(page.locator(".card .t")).to_have_text(payload)
    for tab in ("steps", "messages", "briefing", "activity"):
        await page.goto(f"/cards/{card['key']}?tab={tab}")
        await expect(page.locator("#main")).to_have_attribute("data-live", "live")
        assert await page.locator("main script, main img, main iframe").count() == 0
    hrefs = await page.locator("main a").evaluate_all("all => all.map(a => a.href)")
    assert all(href.startswith("http") for href in hrefs)


# -- with a finger ---------------------------------------------------------------------------


class Finger:
    """One finger on a page's glass, as the browser hears of it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.session: Any = None

    async def _tell(self, kind: str, *point: float) -> None:
        self.session = self.session or await self.page.context.new_cdp_session(self.page)
        points = [{"x": point[0], "y": point[1]}] if point else []
        await self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    async def hold(self, card: Any) -> None:
        """Put it on a card and keep still until the card is lifted."""
        box = await card.bounding_box()
        self.at = (box["x"] + box["width"] / 2, box["y"] + 14)
        await self._tell("touchStart", *self.at)
        await expect(self.page.locator(".carried")).to_be_visible()

    async def flick(self, card: Any, x: float, y: float) -> None:
        """Sweep over a card at once: nothing is waited for between touching it and moving."""
        box = await card.bounding_box()
        self.at = (box["x"] + x, box["y"] + 20)
        self.session = await self.page.context.new_cdp_session(self.page)
        touch = self._tell("touchStart", *self.at)
        await asyncio.gather(touch, self.move(self.at[0], self.at[1] + y))
        await self.let_go()

    async def move(self, x: float, y: float, steps: int = 12) -> None:
        x0, y0 = self.at
        for n in range(1, steps + 1):
            await self._tell("touchMove", x0 + (x - x0) * n / steps, y0 + (y - y0) * n / steps)
        self.at = (x, y)

    async def let_go(self) -> None:
        await self._tell("touchEnd")


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


async def test_a_finger_that_rests_on_a_card_opens_its_menu(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Card 0")["key"]
    page = await open_page(f"/boards/{board}", **PHONE)
    await live(page)
    finger, menu = Finger(page), page.locator("#move-menu")
    await finger.hold(page.locator(f'[data-key="{key}"]'))
    await finger.let_go()
    await menu.get_by_role("menuitem", name="Review").tap()
    await expect(page.locator("#toasts")).to_contain_text(f"{key} moved to Review")
    await page.get_by_role("button", name=f"Move or steer {key}").tap()
    await menu.get_by_role("menuitem", name="Mute").tap()
    await expect(page.locator("#toasts")).to_contain_text(f"{key} is muted")
    assert key in await (await page.request.get("/inbox/settings")).text()


async def test_a_finger_carries_a_card_into_another_lane(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    one, two = (
        site.call("POST", "/api/v1/goals", {"board": board, "title": f"Goal {n}"}).body["id"]
        for n in range(2)
    )
    key = new_card(site, board, "Card 0", goal=one)["key"]
    new_card(site, board, "Card 1", goal=two)
    page = await open_page(
        f"/boards/{board}?lanes=goal", viewport={"width": 1024, "height": 768}, has_touch=True
    )
    await live(page)
    finger = Finger(page)
    target = page.locator(f'.col[data-lane="{two}"][data-name="In progress"]')
    await finger.hold(page.locator(f'[data-key="{key}"]'))
    box = await target.bounding_box()
    await finger.move(box["x"] + box["width"] / 2, box["y"] + 20)
    await expect(target).to_have_class(re.compile("over"))
    await finger.let_go()
    await expect(target.locator(".card")).to_have_count(1)
    await expect(page.locator(".card.pending")).to_have_count(0)
    told = site.call("GET", f"/api/v1/cards/{key}").body
    assert (told["goal"], told["state"]) == (two, "waiting")


async def test_a_finger_ranks_a_card_and_carries_it_to_another_column(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    keys = [new_card(site, board, f"Card {n}")["key"] for n in range(3)]
    page = await open_page(f"/boards/{board}", **PHONE)
    await live(page)
    finger, backlog = Finger(page), cards_of(page, "Backlog")

    await finger.hold(backlog.nth(0))
    last = await backlog.nth(2).bounding_box()
    await finger.move(last["x"] + 150, last["y"] + last["height"] - 6)
    await expect(backlog.nth(2)).to_have_class(re.compile("edge-bottom"))
    await finger.let_go()
    await expect(page.locator("#toasts")).to_contain_text(f"{keys[0]} moved to Backlog")
    await expect(backlog.nth(2)).to_have_attribute("data-key", keys[0])

    # One column fills the screen: the others are reached over their tabs.
    await finger.hold(page.locator(f'[data-key="{keys[1]}"]'))
    tab = page.locator(".coltabs a", has_text="In progress")
    box = await tab.bounding_box()
    await finger.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await expect(tab).to_have_class(re.compile("over"))
    await finger.let_go()
    await expect(cards_of(page, "In progress")).to_have_count(1)
    await expect(page.locator(".carried, .over, .card.ghost, .card.pending")).to_have_count(0)
    assert site.call("GET", f"/api/v1/cards/{keys[1]}").body["state"] == "waiting"


async def test_a_finger_at_the_edge_turns_to_the_next_column(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Far to go")
    page = await open_page(f"/boards/{board}", **PHONE)
    await live(page)
    finger = Finger(page)
    await finger.hold(cards_of(page, "Backlog").first)
    await finger.move(380, 400)
    await expect(page.locator(".coltabs a", has_text="In progress")).to_have_attribute(
        "aria-current", "true"
    )
    await finger.move(200, 400)
    await finger.let_go()
    await expect(cards_of(page, "Backlog")).to_have_count(0)
    await expect(page.locator("#toasts")).to_contain_text("moved to")


async def test_a_finger_that_moves_at_once_scrolls_and_a_tap_opens(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    for n in range(12):
        key = new_card(site, board, f"Card {n}")["key"]
    page = await open_page(f"/boards/{board}", **PHONE)
    await live(page)
    finger = Finger(page)
    await finger.flick(cards_of(page, "Backlog").nth(4), 100, -270)
    moved = "document.querySelector('.col ol').scrollTop"
    await page.wait_for_function(f"{moved} > 50")
    await expect(page.locator(".carried, .card.ghost")).to_have_count(0)
    moves = site.call("GET", f"/api/v1/events?board={board}&after=0").body["results"]
    assert not [event for event in moves if event["kind"] == "card.moved"]
    await page.locator(f'[data-key="{key}"] .t').tap()
    await page.wait_for_url(f"**/cards/{key}")
