"""Secrets of a board in its settings: set, replaced and removed by the keyboard alone."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import SIZES, problems
from tests.browser.test_card import claimed
from tests.serving import Site

pytestmark = pytest.mark.browser

PEM = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----"


async def test_a_secret_goes_in_by_the_keyboard_and_never_comes_out(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/settings")
    part, keys = page.locator("#secrets"), page.keyboard
    name, value = part.get_by_label("Name of the variable"), part.get_by_label("Value", exact=True)
    await expect(part).to_contain_text("No secrets yet.")

    await name.focus()
    await keys.type("PATH")
    await keys.press("Tab")
    await keys.insert_text(PEM)
    assert await value.evaluate("box => getComputedStyle(box).webkitTextSecurity") == "disc"
    await keys.press("Tab")
    await keys.press("Space")
    assert await value.evaluate("box => getComputedStyle(box).webkitTextSecurity") == "none"
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(part.get_by_role("alert")).to_contain_text("use another name")
    await expect(name).to_be_focused()
    await expect(name).to_have_attribute("aria-invalid", "true")

    await keys.press("Control+a")
    await keys.type("DEPLOY_KEY")
    await keys.press("Enter")
    await expect(part.locator("li b")).to_have_text("DEPLOY_KEY")
    await expect(part.get_by_role("alert")).to_be_hidden()
    await expect(name).to_be_focused()
    await expect(value).to_have_value("")
    assert await value.evaluate("box => getComputedStyle(box).webkitTextSecurity") == "disc"
    kept = site.call("GET", f"/api/v1/boards/{board}/secrets").body["results"]
    assert [secret["name"] for secret in kept] == ["DEPLOY_KEY"]

    for size in SIZES.values():
        await page.set_viewport_size(size)
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await page.reload()
    assert "abcdefgh" not in await page.content()

    await part.get_by_role("button", name="Replace DEPLOY_KEY").focus()
    await keys.press("Enter")
    await expect(value).to_be_focused()
    await expect(name).to_have_value("DEPLOY_KEY")
    await keys.insert_text("another key, just as long")
    await part.get_by_role("button", name="Set the secret").press("Enter")
    await expect(name).to_be_focused()
    await expect(part.locator("li[data-name]")).to_have_count(1)
    again = site.call("GET", f"/api/v1/boards/{board}/secrets").body["results"]
    assert again[0]["set_at"] > kept[0]["set_at"]

    remove = part.get_by_role("button", name="Remove DEPLOY_KEY")
    await remove.focus()
    await keys.press("Enter")
    sure = part.get_by_role("button", name="Really remove DEPLOY_KEY?")
    await expect(sure).to_have_text("Really?")
    await expect(sure).to_be_focused()
    await keys.press("Enter")
    await expect(part).to_contain_text("No secrets yet.")
    await expect(name).to_be_focused()
    assert site.call("GET", f"/api/v1/boards/{board}/secrets").body["results"] == []


async def test_a_secret_that_a_card_asks_for_is_typed_unseen_and_stands_on_no_page(
    site: Site, open_page: Open
) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, "Deploy it", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    body = {"reason": "It is not set.", "question": "Which key opens the shop?"}
    body |= {"question_kind": "secret", "options": ["SHOP_KEY"]}
    site.call("POST", f"{attempt}/block", body, token=token, headers=lease)
    page = await open_page(f"/boards/{board}")
    card = page.locator(f'.card[data-key="{key}"]')
    await expect(card.get_by_role("button", name="SHOP_KEY")).to_have_count(0)
    await card.locator("summary").click()
    value = card.get_by_role("textbox", name="Answer")
    assert await value.evaluate("box => getComputedStyle(box).webkitTextSecurity") == "disc"
    await expect(card).to_contain_text("Kept sealed as SHOP_KEY")
    assert not await problems(page)
    await value.fill("short")
    await card.get_by_role("button", name="Answer").click()
    # The reader is told what is wrong with it, not that the card was not moved.
    await expect(card.locator(".strip")).to_be_visible()
    await expect(page.locator("#alarm")).to_have_text(await card.locator(".strip").inner_text())
    assert site.call("GET", f"/api/v1/cards/{key}").body["state"] == "blocked"
    await value.fill(PEM)
    await card.get_by_role("button", name="Answer").click()
    await expect(page.locator(f'.card[data-key="{key}"][data-state="waiting"]')).to_be_visible()
    (kept,) = site.call("GET", f"/api/v1/boards/{board}/secrets").body["results"]
    assert kept["name"] == "SHOP_KEY"
    await page.goto(f"/cards/{key}?tab=messages")
    await expect(page.locator("#main")).to_contain_text("SHOP_KEY")
    assert "abcdefgh" not in await page.content()
