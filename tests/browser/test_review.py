"""A review in the browser: the difference read, remarked on, sent back, approved and merged."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.test_access import problems
from tests.repositories import git
from tests.serving import Site

pytestmark = pytest.mark.browser

_WORKED = """
import sys, django
django.setup()
from pathlib import Path
from django.conf import settings
from boards import cards, leases
from boards.models import Board
from checkpoints import recovery
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
board = Board.objects.get(key=sys.argv[1])
column = board.columns.get(kind="in_progress")
card = cards.create(board, "user:ann", title="Write the app", column=column, review_required=True)
attempt = leases.claim("ada", card_id=card.pk)
files = Workspace.prepare(Path(settings.WORKSPACES_DIR), store_of(board.pk), card_key=card.key,
                          attempt_number=1, repository=board.repository)
(files.tree / "app.py").write_text("def add(a, b):\\n    return a - b\\n")
(files.tree / "README.md").write_text("hello, world\\n")
recovery.save(attempt.pk, {"summary": "Wrote it", "workspace": files.snapshot("it").as_json()})
files.close()
leases.complete(attempt.pk, "Done")
print(card.key)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "README.md").write_text("hello\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


def in_review(site: Site, repository: Path) -> str:
    board = site.new_board(repository=str(repository))["key"]
    return site.run(_WORKED, board).strip()


def told(site: Site, key: str) -> str:
    return str(site.call("GET", f"/api/v1/cards/{key}/briefing").body["markdown"])


async def test_remarks_by_mouse_and_keys_reach_the_next_worker(
    site: Site, open_page: Open, repository: Path
) -> None:
    key = in_review(site, repository)
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await expect(page.get_by_text("the whole change")).to_be_visible()
    app = page.get_by_role("region", name="Changes in app.py")
    await app.locator('tr[data-n="2"] td.ln').last.click()
    await page.get_by_label("Remark on line 2 of app.py").fill("Add, **don't** subtract.")
    await page.get_by_role("button", name="Add remark").click()
    await expect(app.locator(".remark strong")).to_have_text("don't")
    readme = page.get_by_role("region", name="Changes in README.md")
    await readme.focus()
    await page.keyboard.press("j")
    # The page is made anew meanwhile: keys are about the same line.
    site.call("PATCH", f"/api/v1/cards/{key}", {"title": "Renamed meanwhile"})
    await expect(page.get_by_role("heading", name="Renamed meanwhile")).to_be_visible()
    await page.keyboard.press("Enter")
    await page.keyboard.type("Why?")
    await page.keyboard.press("Control+Enter")
    await expect(readme.locator(".remark")).to_contain_text("Why?")
    assert not await problems(page)
    assert "on line 2 of “app.py”" in told(site, key)
    await readme.get_by_role("button", name="Resolve").click()
    await expect(readme.locator(".remark.over")).to_have_count(1)
    await page.get_by_role("button", name="Send back").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("1 open remark goes along.")
    await dialog.get_by_label("What the next worker must change").fill("See the remark.")
    await dialog.get_by_role("button", name="Send back").click()
    await expect(page.locator("#card-top .pill").first).to_contain_text("Waiting")
    briefing = told(site, key)
    assert "Add, **don't** subtract." in briefing
    assert "Why?" not in briefing


async def test_split_and_viewed_are_remembered(
    site: Site, open_page: Open, repository: Path
) -> None:
    key = in_review(site, repository)
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await page.get_by_role("button", name="Split", exact=True).click()
    await expect(page.locator("table.diff.split")).to_have_count(2)
    await expect(page.locator("table.diff.split mark").first).to_be_visible()
    await page.locator('[data-path="README.md"]').get_by_label("Viewed").check()
    await page.reload()
    await expect(page.locator("table.diff.split")).to_have_count(2)
    await expect(page.locator('[data-path="README.md"]')).not_to_have_attribute("open", "")
    assert not await problems(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_approved_it_is_merged_into_the_repository(
    site: Site, open_page: Open, repository: Path
) -> None:
    key = in_review(site, repository)
    page = await open_page(f"/cards/{key}")
    await page.get_by_role("button", name="Approve…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("And then").select_option("squash")
    await dialog.get_by_label("Commit message").fill("Add the app")
    assert not await problems(page)
    await dialog.get_by_role("button", name="Approve").click()
    await expect(page.locator(".toast")).to_contain_text("main is at")
    await expect(page.locator("#card-top .pill").first).to_contain_text("Completed")
    assert git(repository, "log", "-1", "--format=%s") == "Add the app"
    assert (repository / "app.py").exists()


async def test_a_conflict_is_said_and_can_be_sent_back(
    site: Site, open_page: Open, repository: Path
) -> None:
    key = in_review(site, repository)
    (repository / "README.md").write_text("something else\n")
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "Theirs"],
        cwd=repository,
        check=True,
    )
    page = await open_page(f"/cards/{key}")
    await page.get_by_role("button", name="Approve…").click()
    dialog: Any = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Approve").click()
    await expect(dialog.locator(".problem")).to_contain_text("same lines of README.md")
    await dialog.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Send back").click()
    await expect(page.get_by_label("What the next worker must change")).to_have_value(
        "Bring it up to date: others changed the same lines of README.md."
    )


async def test_a_half_written_remark_outlives_what_others_do(
    site: Site, open_page: Open, repository: Path
) -> None:
    key = in_review(site, repository)
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")
    app = page.get_by_role("region", name="Changes in app.py")
    await app.locator('tr[data-n="2"] td.ln').last.click()
    text = page.get_by_label("Remark on line 2 of app.py")
    await text.press_sequentially("half of")
    site.call("POST", f"/api/v1/cards/{key}/messages", {"text": "I look, too."})
    await expect(page.locator("#card-tabs a", has_text="Messages")).to_contain_text("1")
    await expect(text).to_be_focused()
    await page.keyboard.type(" a thought")
    await expect(text).to_have_value("half of a thought")
