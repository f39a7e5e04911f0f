"""Every page, each theme, wide and narrow, against axe-core: nothing serious, nothing critical.

Besides: landmarks and headings, where Tab goes, zoom, forced colours, motion and fingers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.serving import Site

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent.parent / "vendor" / "axe.min.js").read_text()
SIZES = {"wide": {"width": 1440, "height": 900}, "narrow": {"width": 360, "height": 780}}


async def problems(page: Page) -> list[str]:
    # Evaluated by the debugger, which the page's own script policy does not bind.
    await page.evaluate(AXE)
    found = await page.evaluate(
        """async () => (await axe.run(document, {
             resultTypes: ["violations"], rules: {"target-size": {enabled: true}}})).violations
           .filter(v => ["serious", "critical"].includes(v.impact))
           .map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ")).slice(0, 4).join(", "))"""
    )
    return list(found)


def furnished(site: Site) -> tuple[str, str]:
    """Return a board with a card in every state, and a card with a history."""
    board = site.new_board()["key"]
    token = site.new_token(board)["token"]
    new_card(site, board, "Plan it", labels=["data", "ops"], priority=0)
    for title in ("Run it", "Ask about it", "Review it"):
        new_card(site, board, title, column="In progress", review_required=title == "Review it")
    keys = []
    for call, body in (
        ("/steps", {"key": "go", "title": "Go on"}),
        ("/block", {"reason": "unsure", "question": "Which way?", "options": ["Left", "Right"]}),
        ("/complete", {"summary": "Done"}),
    ):
        grant = site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token).body
        attempt = f"/api/v1/attempts/{grant['attempt']['id']}"
        lease = {"Lease-Token": grant["lease"]["token"]}
        step = {"key": "one", "status": "failed", "error": "It broke"}
        site.call("POST", f"{attempt}/steps", step, token=token, headers=lease)
        saved = {"summary": "Half-way", "tests": {"passed": 3, "failed": 1, "failing": ["t"]}}
        site.call("POST", f"{attempt}/checkpoints", saved, token=token, headers=lease)
        site.call("POST", attempt + call, body, token=token, headers=lease)
        keys.append(grant["card"]["key"])
    new_card(site, board, "Wait for it", column="In progress", depends_on=[keys[0]])
    return board, keys[0]


def paths_of(board: str, key: str) -> list[str]:
    """Return the address of every page, on a furnished board."""
    tabs = ("steps", "checkpoints", "decisions", "discoveries", "messages", "briefing", "activity")
    return [
        f"/boards/{board}",
        f"/boards/{board}?lanes=goal",
        f"/boards/{board}?lanes=priority",
        f"/boards/{board}?as=list",
        f"/boards/{board}?archived=1",
        f"/boards/{board}?show=needs",
        f"/boards/{board}?q=nothing+is+called+so",
        *(f"/cards/{key}?tab={tab}" for tab in tabs),
        f"/cards/{key}?tab=checkpoints&compare=1&against=0",
        f"/boards/{board}/goals",
        f"/boards/{board}/goals/new",
        f"/boards/{board}/insights",
        f"/boards/{board}/activity",
        f"/boards/{board}/workers",
        f"/boards/{board}/workers/ada",
        f"/boards/{board}/connect",
        f"/boards/{board}/settings",
        f"/boards/{board}/import",
        f"/boards/{board}/webhooks",
        "/boards/new",
        "/inbox",
        "/search?q=the",
        "/inbox/settings",
        "/?all",
        "/accounts/password",
        "/accounts/signin",
        "/boards/NOSUCH",
    ]


def goal_paths_of(site: Site, board: str) -> list[str]:
    """Return the address of every page of a goal that is planned, changed and remembers."""
    wanted = {"board": board, "title": "Pay out", "intent": "Within a day", "constraints": ["UTC"]}
    wanted |= {"criteria": [{"text": "Tests pass", "check": "make test"}, {"text": "Told so"}]}
    goal = site.call("POST", "/api/v1/goals", wanted).body["id"]
    at = f"/api/v1/goals/{goal}"
    site.call("PATCH", at, {"intent": "Within an hour"})
    card = new_card(site, board, "Part of it", goal=goal)["key"]
    new_card(site, board, "After it", goal=goal, depends_on=[card])
    site.call("POST", f"{at}/decisions", {"title": "Use a queue", "rationale": "It lasts"})
    for kind in ("dead_end", "new_requirement"):
        site.call("POST", f"{at}/discoveries", {"kind": kind, "title": f"The {kind}"})
    items = [{"title": "Write it", "covers": [1]}, {"title": "Measure it", "estimate": 2}]
    plan = site.call("POST", f"{at}/plans", {"items": items}).body["id"]
    tabs = ("cards", "attempts", "approaches", "decisions", "discoveries", "activity")
    return [
        *(f"/goals/{goal}?tab={tab}" for tab in tabs),
        f"/goals/{goal}/plans",
        f"/goals/{goal}/amendments",
        f"/plans/{plan}",
    ]


#: What is wrong with the page's skeleton: landmarks, headings, ids, width.
SKELETON = """() => {
  const wrong = [], shown = node => node.checkVisibility();
  const mains = [...document.querySelectorAll("main, [role=main]")].filter(shown);
  if (mains.length !== 1) wrong.push(`${mains.length} main landmarks`);
  const navs = [...document.querySelectorAll("nav")].filter(shown).map(nav => nav.ariaLabel);
  if (navs.some(name => !name) || new Set(navs).size < navs.length) wrong.push(`navs: ${navs}`);
  const heads = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
    .filter(node => !node.closest("dialog:not([open]), [popover]:not(:popover-open)"))
    .filter(node => shown(node) || node.classList.contains("sr"));
  const levels = heads.map(node => Number(node.tagName[1]));
  if (levels.filter(level => level === 1).length !== 1) wrong.push(`h1: ${levels}`);
  levels.forEach((level, n) => {
    if (n && level > levels[n - 1] + 1) {
      wrong.push(`h${level} after h${levels[n - 1]}: ${heads[n].textContent}`);
    }
  });
  const ids = [...document.querySelectorAll("[id]")].map(node => node.id);
  const twice = ids.filter((id, n) => ids.indexOf(id) < n);
  if (twice.length) wrong.push(`ids used twice: ${twice.slice(0, 3)}`);
  if (document.documentElement.scrollWidth > innerWidth) {
    const out = [...document.querySelectorAll("body *")].find(
      node => shown(node) && node.getBoundingClientRect().right > innerWidth + 1);
    const by = document.documentElement.scrollWidth - innerWidth;
    wrong.push(`sideways by ${by}: ${out?.className}`);
  }
  if (!document.title) wrong.push("no title");
  if (!document.documentElement.lang) wrong.push("no language");
  return wrong;
}"""


async def shown(page: Page, path: str) -> None:
    await page.goto(path, wait_until="load")
    if await page.locator("#board").count():
        await expect(page.locator("#board")).to_have_attribute("data-live", "live")


#: Colours don't hang on the width, nor the layout on colours; ALL_THEMES=1 tries every pair.
ROUNDS = [("light", "wide"), ("dark", "wide"), ("light", "narrow"), ("contrast", "narrow")]
if os.environ.get("ALL_THEMES"):
    ROUNDS = [(theme, size) for theme in ("light", "dark", "contrast") for size in SIZES]


@pytest.mark.parametrize(("theme", "size"), ROUNDS)
async def test_no_page_shuts_anybody_out(
    site: Site, open_page: Open, theme: str, size: str
) -> None:
    board, key = furnished(site)
    page = await open_page(f"/boards/{board}", theme=theme, viewport=SIZES[size])
    found = {}
    for path in [*paths_of(board, key), *goal_paths_of(site, board)]:
        await shown(page, path)
        if said := await problems(page) + await page.evaluate(SKELETON):
            found[path] = said
    assert not found


#: Fields of words that are too narrow to be typed in.
SQUEEZED = """() => [...document.querySelectorAll(
    "main :is(input:not([type]), input[type=text], input[type=search], textarea)")]
  .filter(node => node.checkVisibility() && node.offsetWidth > 1 && node.offsetWidth < 48)
  .map(node => `${node.offsetWidth} px: ${node.outerHTML.slice(0, 80)}`)"""


@pytest.mark.parametrize(
    "look",
    [
        # 200 % zoom of a 1280 px wide window: half as many CSS pixels, each twice as large.
        {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
        {"viewport": {"width": 1024, "height": 768}},
    ],
    ids=["zoomed", "small window"],
)
async def test_in_a_small_window_and_zoomed_nothing_is_lost(
    site: Site, open_page: Open, look: dict[str, Any]
) -> None:
    board, key = furnished(site)
    page = await open_page(f"/boards/{board}", **look)
    found = {}
    for path in [*paths_of(board, key), *goal_paths_of(site, board)]:
        await shown(page, path)
        if said := await page.evaluate(SKELETON) + await page.evaluate(SQUEEZED):
            found[path] = said
    assert not found


async def test_dialogs_and_menus_are_accessible_too(site: Site, open_page: Open) -> None:
    board, _ = furnished(site)
    # Colours are measured where nothing is on its way in.
    page = await open_page(f"/boards/{board}", reduced_motion="reduce")
    await shown(page, f"/boards/{board}")
    found = {}

    async def look(opened: str) -> None:
        await expect(page.locator(opened)).to_be_visible()
        if said := await problems(page):
            found[opened] = said
        await page.keyboard.press("Escape")
        await expect(page.locator(opened)).to_be_hidden()

    await page.keyboard.press("c")
    await look("#new-card")
    await page.keyboard.press("?")
    await look("dialog[open]")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_role("option").first).to_be_visible()
    await look("#palette")
    for key, opened in (("m", "#move-menu"), ("Space", "#card-drawer"), ("x", "#bulk")):
        await page.locator(".card .t").first.focus()
        await page.keyboard.press(key)
        await look(opened)
    for name in ("filter", "display", "column-menu"):
        opener = "data-column-menu" if name == "column-menu" else f"data-{name}-open"
        await page.locator(f"[{opener}]").first.click()
        await look(f"#{name}")
    for menu in ("person", "switcher"):
        await page.locator(f"[popovertarget={menu}]").first.click()
        await look(f"#{menu}")
    assert not found


FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  window.order ??= new Map();
  if (!window.order.has(node)) window.order.set(node, window.order.size);
  const marks = at => {
    const {outlineStyle, outlineWidth, boxShadow} = getComputedStyle(at);
    return (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none";
  };
  const card = node.closest(".card, label, .input, .col");
  return {
    number: window.order.get(node), tag: node.outerHTML.slice(0, 120),
    seen: marks(node) || (card ? marks(card) : false),
  };
}"""
REACHABLE = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex]")]
  .filter(node => node.tabIndex >= 0 && !node.disabled
    && node.checkVisibility({visibilityProperty: true})
    && !node.closest("[inert], dialog:not([open]), [popover]:not(:popover-open)")
    && !(node.type === "radio" && !node.checked) && node.type !== "hidden")
  .map(node => node.outerHTML.slice(0, 120))
  .filter(tag => ![...window.order.keys()].some(node => node.outerHTML.slice(0, 120) === tag))"""


@pytest.mark.parametrize("path", ["/boards/{board}", "/cards/{key}", "/boards/{board}/insights"])
async def test_tab_visits_everything_and_is_caught_nowhere(
    site: Site, open_page: Open, path: str
) -> None:
    board, key = furnished(site)
    page = await open_page("/healthz")
    await shown(page, path.format(board=board, key=key))
    await page.wait_for_load_state("networkidle")  # what it asks for by itself has come
    unseen, last, laps = [], -1, 0
    for _ in range(400):
        await page.keyboard.press("Tab")
        at = await page.evaluate(FOCUSED)
        if at is None or at["number"] < last:
            laps += 1
            if laps and await page.evaluate("window.order?.size > 3"):
                break
            continue
        # A date has a stop for each of its parts.
        assert at["number"] != last or 'type="date' in at["tag"], f"caught at {at['tag']}"
        last = at["number"]
        if not at["seen"]:
            unseen.append(at["tag"])
    assert await page.evaluate(REACHABLE) == []
    assert unseen == []


async def test_focus_is_seen_in_forced_colours(site: Site, open_page: Open) -> None:
    board, _ = furnished(site)
    page = await open_page(f"/boards/{board}", forced_colors="active")
    await shown(page, f"/boards/{board}")
    await page.keyboard.press("j")
    card = page.locator(".card:focus-within")
    await expect(card).to_have_count(1)
    outlined = await card.evaluate(
        """card => [card, card.querySelector(".t")].some(
             node => getComputedStyle(node).outlineStyle !== "none")"""
    )
    assert outlined
    await expect(page.locator(".card .st").first).to_be_visible()
    # What a fill alone says is still said: the priority, the steps, the view that is shown.
    unfilled = await page.evaluate(
        """() => [".prio i", ".tape .now", ".seg [aria-current]"].filter(
             name => [getComputedStyle(document.body).backgroundColor, "rgba(0, 0, 0, 0)"].includes(
               getComputedStyle(document.querySelector(name)).backgroundColor))"""
    )
    assert unfilled == []


#: How much lighter or darker the full bars of a priority are than the empty ones.
BARS = """() => {
  const light = node => { const [r, g, b] = getComputedStyle(node).backgroundColor
      .match(/[0-9.]+/g).map(n => n / 255)
      .map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
  const [one, other] = [1, 3].map(n => light(document.querySelector(
    `.card .prio[data-p="1"] i:nth-child(${n})`)));
  return Math.max(one, other) / Math.min(one, other);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_in_high_contrast_a_low_priority_is_no_high_one(
    site: Site, open_page: Open, scheme: str
) -> None:
    board = site.new_board()["key"]
    new_card(site, board, "Some day", priority=3)
    page = await open_page(f"/boards/{board}", theme="contrast", color_scheme=scheme)
    assert await page.evaluate(BARS) > 3


async def test_nothing_moves_for_those_who_ask_for_less_motion(site: Site, open_page: Open) -> None:
    board, _ = furnished(site)
    page = await open_page(f"/boards/{board}", reduced_motion="reduce")
    await shown(page, f"/boards/{board}")
    moving = await page.evaluate(
        """() => {
          document.querySelectorAll(".card").forEach(card => card.classList.add("flash"));
          return [...document.querySelectorAll("body *")].filter(node => {
            const style = getComputedStyle(node);
            const lasts = text => text.split(",").some(part => parseFloat(part) > 0);
            return lasts(style.transitionDuration)
              || (style.animationName !== "none" && lasts(style.animationDuration));
          }).map(node => node.className || node.tagName).slice(0, 5);
        }"""
    )
    assert moving == []


async def test_fingers_get_large_targets(site: Site, open_page: Open) -> None:
    board, _ = furnished(site)
    page = await open_page(
        f"/boards/{board}", viewport=SIZES["narrow"], has_touch=True, is_mobile=True
    )
    await shown(page, f"/boards/{board}")
    small = await page.evaluate(
        """() => [...document.querySelectorAll(
             ".card .kb, .top button, .top a, .bar button, .coltabs a")]
          .filter(node => node.checkVisibility())
          .map(node => [node, node.getBoundingClientRect()])
          .filter(([, box]) => box.width && Math.min(box.width, box.height) < 44)
          .map(([node, box]) => `${node.outerHTML.slice(0, 90)} ${box.width}x${box.height}`)"""
    )
    assert small == []


#: What reaches beyond the screen and is nothing that is scrolled sideways.
BEYOND = """() => [...document.querySelectorAll("main :is(h1, h2, p, span, b, .btn, .tx, .md)")]
  .filter(node => node.checkVisibility())
  .filter(node => !node.closest(".sr, .tabs, .line, .quick, .coltabs, .col:not(:has(.ask))"))
  .map(node => [node, node.getBoundingClientRect()])
  .filter(([, box]) => box.width && box.left < innerWidth && box.right > innerWidth + 1)
  .map(([node]) => node.outerHTML.slice(0, 80))"""


async def test_long_words_stay_on_a_phone_and_its_actions_lie_below(
    site: Site, open_page: Open
) -> None:
    long = "w" * 200
    board = site.new_board(name=long[:100])["key"]
    token = site.new_token(board)["token"]
    goal = site.call("POST", "/api/v1/goals", {"board": board, "title": long}).body["id"]
    key = new_card(site, board, long, column="In progress", goal=goal)["key"]
    held = site.call("POST", "/api/v1/claims", {"worker": long[:100]}, token=token).body
    asked = {"reason": long, "question": long, "options": [long[:100], "No"]}
    path, lease = f"/api/v1/attempts/{held['attempt']['id']}", held["lease"]["token"]
    site.call("POST", f"{path}/block", asked, token=token, headers={"Lease-Token": lease})
    page = await open_page("/healthz", viewport=SIZES["narrow"], has_touch=True, is_mobile=True)
    for at in (f"/boards/{board}", f"/cards/{key}?tab=activity", f"/goals/{goal}", "/inbox"):
        await page.goto(at)
        assert await page.evaluate(BEYOND) == [], at
        if at.startswith("/cards"):
            bar = await page.get_by_role("button", name="Retry now").bounding_box()
            assert bar
            assert bar["y"] > SIZES["narrow"]["height"] - 60
            assert bar["height"] >= 44
            tab = await page.get_by_role("link", name="Activity").bounding_box()
            assert tab
            assert tab["x"] + tab["width"] <= SIZES["narrow"]["width"]
