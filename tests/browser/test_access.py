"""Every page, both themes, wide and narrow, against axe-core: nothing serious, nothing critical."""

from __future__ import annotations

from pathlib import Path

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
        """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_no_page_shuts_anybody_out(
    site: Site, open_page: Open, theme: str, size: str
) -> None:
    board, key = furnished(site)
    page = await open_page(f"/boards/{board}", theme=theme, viewport=SIZES[size])
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    paths = [f"/boards/{board}"]
    paths += [f"/cards/{key}?tab={tab}" for tab in ("steps", "checkpoints", "messages")]
    paths += [f"/cards/{key}?tab=briefing", f"/cards/{key}?tab=activity", "/accounts/signin"]
    found = {}
    for path in paths:
        await page.goto(path)
        if said := await problems(page):
            found[path] = said
        # Nothing sticks out sideways at any size.
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, (path, wide)
    assert not found


async def test_dialogs_and_menus_are_accessible_too(site: Site, open_page: Open) -> None:
    board, _ = furnished(site)
    page = await open_page(f"/boards/{board}")
    await expect(page.locator("#board")).to_have_attribute("data-live", "live")
    await page.keyboard.press("c")
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await page.keyboard.press("j")
    await page.keyboard.press("m")
    assert not await problems(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".card .t").first).to_be_focused()
