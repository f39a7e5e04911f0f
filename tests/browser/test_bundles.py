"""Bundles in the browser: downloaded from a card, brought in on another board's page."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.serving import Site

pytestmark = pytest.mark.browser


async def test_a_bundle_is_brought_in_and_leads_to_its_cards(
    site: Site, open_page: Open, tmp_path: Path
) -> None:
    card = new_card(site, site.new_board()["key"], "Reconcile the ledger")
    request = urllib.request.Request(
        f"{site.web.origin}/api/v1/cards/{card['key']}/bundle",
        headers={"Authorization": f"Bearer {site.token}"},
    )
    bundle = tmp_path / "card.bundle.tar"
    with urllib.request.urlopen(request) as answer:
        bundle.write_bytes(answer.read())
    spoilt = tmp_path / "spoilt.bundle.tar"
    spoilt.write_bytes(b"no bundle at all")

    other = site.new_board()["key"]
    page = await open_page(f"/boards/{other}/import")
    await page.locator("#import input[type=file]").set_input_files(bundle)
    await page.get_by_role("button", name="Show what would be made").click()
    await expect(page.locator("#import [role=alert]")).to_contain_text("That is a bundle")
    field = page.locator("#bundle-file")
    await expect(field).to_be_focused()
    await field.set_input_files(spoilt)
    await page.get_by_role("button", name="Bring it in").click()
    refusal = page.locator("#bundle [role=alert]")
    await expect(refusal).to_be_visible()
    await expect(refusal).to_contain_text("bundle")
    assert not await problems(page)

    await field.set_input_files(bundle)
    await page.get_by_role("button", name="Bring it in").click()
    brought = page.locator("[data-brought]")
    await expect(brought).to_contain_text("1 card is here.")
    await expect(brought).to_contain_text(f"was {card['key']}")
    await expect(refusal).to_be_hidden()
    assert not await problems(page)
    await brought.get_by_role("link").click()
    await page.wait_for_url(f"**/cards/{other}-1")
    await expect(page.locator("#main")).to_contain_text("Reconcile the ledger")
