"""What an attempt left is looked at and adopted, a checkpoint named, a board's rule set."""

from __future__ import annotations

import os

import pytest
from playwright.async_api import expect

from tests import serving
from tests.browser.conftest import Open, new_card

pytestmark = pytest.mark.browser

_FAILED = """
import sys, django
django.setup()
from pathlib import Path
from django.conf import settings
from boards import leases
from boards.models import Card
from checkpoints import recovery, salvaging
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
card = Card.objects.get(key=sys.argv[1])
attempt = leases.claim("ada", card_id=card.pk)
files = Workspace.prepare(
    Path(settings.WORKSPACES_DIR), store_of(card.board_id),
    card_key=card.key, attempt_number=attempt.number,
)
(files.tree / "app.py").write_text("print(1)\\n")
recovery.save(attempt.pk, {"summary": "It prints.", "workspace": files.snapshot("a").as_json()})
(files.tree / "app.py").write_text("print(1)\\nprint(2)\\n")
salvaging.leave(files, card)
files.close()
leases.fail(attempt.pk, "it broke")
"""


async def test_what_an_attempt_left_is_adopted(site: serving.Site, open_page: Open) -> None:
    board = site.new_board()["key"]
    key = new_card(site, board, column="in_progress")["key"]
    site.run(_FAILED, key)
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await page.get_by_role("button", name="Name…").click()
    await page.get_by_label("Name (empty: none)").fill("prints")
    await page.locator("#name").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("button", name="prints")).to_be_visible()
    await page.get_by_role("link", name="Left behind 1").click()
    await expect(page.locator("#card-tab")).to_contain_text("1 file changed since C1, +1 −0")
    await expect(page.locator("table.diff tr.a")).to_contain_text("print(2)")
    if shots := os.environ.get("SHOTS"):
        for width in (1400, 390):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.screenshot(path=f"{shots}/left-{width}.png")
        await page.set_viewport_size({"width": 1400, "height": 900})
    await page.get_by_role("button", name="Adopt…").click()
    await page.get_by_label("What the next attempt is to do with it").fill("Keep both lines.")
    await page.locator("#adopt").get_by_role("button", name="Adopt").click()
    await expect(page.locator("#card-tab")).to_contain_text("adopted as C2")
    await expect(page.locator("#card-side")).to_contain_text("Keep both lines.")
    await page.goto(f"/boards/{board}/settings")
    await page.get_by_label("Newest checkpoints of each card").fill("20")
    await page.locator("#storage").get_by_role("button", name="Save").click()
    await expect(page.locator("#toasts")).to_contain_text("Saved.")
    if shots:
        for width in (1400, 390):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.locator("#storage").scroll_into_view_if_needed()
            await page.screenshot(path=f"{shots}/storage-{width}.png")
    kept = site.call("GET", f"/api/v1/boards/{board}/storage").body
    assert (kept["keep_last"], kept["checkpoints"]["kept"]) == (20, 2)
