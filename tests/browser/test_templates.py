"""Workflow templates in a browser: kept in the settings, filled in for a new card."""

from __future__ import annotations

import os
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.test_access import SIZES, problems
from tests.serving import Site

pytestmark = pytest.mark.browser

SOURCE = """\
inputs:
  version: {required: true, help: As in the changelog}
  channel: {options: [stable, beta], default: beta}
  dry: {type: boolean}
steps:
  - key: build
    run: make build
  - key: publish
    needs: [bild]
    run: make publish
"""


async def seen(page: Any, name: str) -> None:
    if folder := os.environ.get("SHOTS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def test_a_template_is_kept_and_a_card_made_from_it(site: Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    page = await open_page(f"/boards/{board}/settings")
    form = page.locator("[data-template-form]:not([data-template])")
    await form.locator("[name=name]").fill("Release")
    await form.locator("[name=source]").fill(SOURCE)
    await form.locator("[type=submit]").click()
    await expect(form.locator(".problem")).to_contain_text("steps[1].needs: names bild")
    await expect(form.locator(".problem")).to_contain_text("(line 9)")
    await seen(page, "refused")
    await form.locator("[name=source]").fill(SOURCE.replace("bild", "build"))
    await form.locator("[type=submit]").click()
    await expect(page.locator(".kept summary b")).to_have_text("Release")
    await seen(page, "kept")
    for size in SIZES.values():
        await page.set_viewport_size(size)
        assert not await problems(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await page.locator(".kept summary").first.click()
    await page.locator("#workflow-templates").scroll_into_view_if_needed()
    await seen(page, "phone")
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.goto(f"{site.web.origin}/boards/{board}")
    await page.locator("[data-new-card]").click()
    dialog = page.locator("#new-card")
    await dialog.locator("[name=title]").fill("Release 1.2")
    await dialog.locator("[name=template]").select_option("Release")
    await expect(dialog.locator("[name=workflow]")).to_be_hidden()
    await seen(page, "form")
    assert not await problems(page)
    await dialog.get_by_label("version (needed)").fill("1.2")
    await dialog.get_by_label("channel").select_option("stable")
    await dialog.locator("[type=submit]").click()
    await expect(page.locator(".card .t").first).to_contain_text("Release 1.2")
    cards = site.call("GET", f"/api/v1/cards?board={board}").body["results"]
    assert cards[0]["inputs"] == {"version": "1.2", "channel": "stable", "dry": False}
    await page.goto(f"{site.web.origin}/cards/{cards[0]['key']}")
    await expect(page.locator(".planned").last).to_contain_text("after build")
    await seen(page, "card")
