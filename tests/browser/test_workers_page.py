"""Who works on a board, in a browser: what they hold follows the board by itself."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import SIZES, problems
from tests.browser.test_insights import flowing
from tests.serving import Site

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_the_pages_shut_nobody_out(
    site: Site, open_page: Open, theme: str, size: str
) -> None:
    board, _ = flowing(site)
    page = await open_page(f"/boards/{board}/workers", theme=theme, viewport=SIZES[size])
    for path in (f"/boards/{board}/workers", f"/boards/{board}/workers/ada"):
        await page.goto(path)
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_a_worker_and_what_it_holds(site: Site, open_page: Open) -> None:
    board, keys = flowing(site)
    page = await open_page(f"/boards/{board}/workers")
    ada = page.get_by_role("article", name="ada")
    await expect(ada).to_contain_text("Holds no card.")
    await expect(ada).to_contain_text("100 %")
    await expect(ada).to_contain_text("2 of 2")
    await expect(ada).to_contain_text("$3.00")

    held = new_card(site, board, "Hold it", column="In progress")["key"]
    token = site.new_token(board)["token"]
    claim = {"worker": "ada", "card": held, "capabilities": ["python"]}
    assert site.call("POST", "/api/v1/claims", claim, token=token).status == 201
    # Nobody reloads: the list looks again by itself.
    await expect(ada.get_by_role("link", name=held)).to_be_visible()
    await expect(ada).to_contain_text("lease")
    await expect(ada).to_contain_text("python")

    await ada.get_by_role("link", name="ada").click()
    rows = page.get_by_role("row")
    await expect(rows.nth(1)).to_contain_text(held)
    await expect(rows.nth(1)).to_contain_text("running")
    await expect(rows.nth(2)).to_contain_text(keys[2])
    await page.get_by_role("link", name="Activity").last.click()
    await expect(page.locator("#events li").first).to_contain_text("ada")
