"""From a new token to the first call seen, without leaving or reloading the page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card, viewer
from tests.browser.test_access import SIZES, problems
from tests.serving import Site

pytestmark = pytest.mark.browser

FOCUSED = "(e => e.id || e.dataset.copy || e.tagName)(document.activeElement)"


def mcp(site: Site, token: str, tool: str, **args: Any) -> int:
    """Call a tool as an agent does; return the status of the answer."""
    params = {"name": tool, "arguments": args}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return site.call("POST", "/mcp", body, token=token).status


async def create(page: Page, name: str = "laptop") -> str:
    """Return the token that the page shows for ``name``."""
    await page.get_by_label("Name, for the list of tokens").fill(name)
    await page.get_by_role("button", name="Create token").click()
    await expect(page.locator("#issued")).to_contain_text(name)
    return await page.get_by_label("The new token").input_value()


async def test_create_copy_and_see_the_first_call_come_in(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    card = new_card(site, board, column="In progress")["key"]
    page = await open_page(
        f"/boards/{board}/connect", permissions=["clipboard-read", "clipboard-write"]
    )
    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    await page.get_by_text("Codex", exact=True).click()
    token = await create(page)

    # Codex is still chosen, and its line has the token; the clipboard gets the line whole.
    line = page.locator("#text-codex-1")
    await expect(line).to_contain_text(f"HOLDFAST_TOKEN={token}")
    await page.locator('[data-kind="codex"] [data-copy]').first.click()
    await expect(page.locator('[data-kind="codex"] [data-copy]').first).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f" export HOLDFAST_URL={site.web.origin} HOLDFAST_TOKEN={token}"

    called = page.locator("#called")
    await expect(called).to_contain_text("Waiting for the first call with laptop")
    assert mcp(site, token, "list_cards") == 200
    await expect(called).to_contain_text("laptop called")
    await expect(called).to_contain_text("It has claimed nothing yet")
    assert mcp(site, token, "claim_card", worker="codex-7") == 200
    await expect(called).to_contain_text("codex-7 called")
    await expect(called.get_by_role("link", name=card)).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text(f"codex-7 called: claimed {card}.")
    # The lines stand as they stood, under an address without a secret.
    await expect(line).to_contain_text(token)
    assert token not in page.url
    assert not loads
    stored = await page.evaluate(
        "JSON.stringify([history.state, {...localStorage}, {...sessionStorage}])"
    )
    assert token not in stored
    await page.reload()
    await expect(page.locator("#text-codex-1")).not_to_contain_text(token)


async def test_revoking_asks_first_and_is_not_undone_by_the_next_look(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect")
    token = await create(page)
    row = page.locator("aside li", has_text="laptop")
    await row.get_by_text("Revoke", exact=False).first.click()
    # The question stays open while the list renews itself.
    assert mcp(site, token, "list_cards") == 200
    await expect(row).to_contain_text("ago")
    await row.get_by_role("button", name="Revoke it now").click()
    await expect(row).to_contain_text("revoked")
    await expect(row.get_by_role("button")).to_have_count(0)
    assert mcp(site, token, "list_cards") == 401


async def test_all_of_it_works_from_the_keyboard(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect")
    await page.get_by_label("Name, for the list of tokens").focus()
    await page.keyboard.type("!")
    for _ in range(3):  # role, expiry, the button
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#issued")).to_be_focused()
    reached = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate(FOCUSED))
        if reached[-1] == "kind-claude":
            await page.keyboard.press("ArrowRight")
            await expect(page.locator('[data-kind="codex"]')).to_be_visible()
            await expect(page.locator('[data-kind="claude"]')).to_be_hidden()
    # Through the lines and the tokens, and out again at the other end: no trap.
    for stop in ("the-token", "text-codex-1", "SUMMARY", "BODY"):
        assert stop in reached, reached


async def test_a_reader_sees_the_reason_and_a_page_that_still_renews(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect", cookie=viewer(site, board))
    await expect(page.locator("#main")).to_contain_text("you are viewer")
    await expect(page.get_by_role("button", name="Create token")).to_have_count(0)
    token = site.new_token(board)["token"]
    assert mcp(site, token, "list_cards") == 200
    await expect(page.locator("aside")).to_contain_text("ago")


async def test_a_server_that_is_away_for_a_while_takes_nothing_off_the_page(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect")
    token = await create(page)
    tries = []

    async def away(route: Any) -> None:
        tries.append(route.request.url)
        await route.fulfill(status=503, body="<p>Busy</p>", content_type="text/html")

    await page.route("**/connect/calls*", away)
    while len(tries) < 2:
        await page.wait_for_timeout(100)
    await page.unroute("**/connect/calls*")
    assert mcp(site, token, "list_cards") == 200
    await expect(page.locator("#called")).to_contain_text("laptop called")
    await expect(page.get_by_label("The new token")).to_have_value(token)


async def test_signed_out_elsewhere_the_page_keeps_what_it_shows(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect")
    token = await create(page)
    await page.context.clear_cookies()
    await expect(page.locator("#called")).to_contain_text("You are signed out")
    await expect(page.get_by_label("The new token")).to_have_value(token)
    await expect(page.locator("aside")).to_contain_text("laptop")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_it_shuts_nobody_out(site: Site, open_page: Open, theme: str, size: str) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect", theme=theme, viewport=SIZES[size])
    assert not await problems(page)
    await create(page)
    await page.locator('[data-kind="claude"] summary').click()
    assert not await problems(page)
    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


async def test_without_scripts_a_token_can_be_had_too(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/connect", java_script_enabled=False)
    await page.get_by_text("Gemini CLI", exact=True).click()
    await expect(page.locator('[data-kind="gemini"]')).to_be_visible()
    token = await create(page)
    await expect(page.locator("#text-gemini-1")).to_contain_text(token)
    await expect(page.get_by_role("button", name="Copy")).to_have_count(0)
