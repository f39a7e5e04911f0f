"""Going back in the browser: a race from a checkpoint to the merged winner, and a split."""

from __future__ import annotations

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
from boards.models import Card
from checkpoints import recovery
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
key, name, ends = sys.argv[1:]
card = Card.objects.get(key=key)
board = card.board
attempt = leases.claim("ada", card_id=card.pk)
head = recovery.head(card.pk, card.line)
files = Workspace.prepare(Path(settings.WORKSPACES_DIR), store_of(board.pk), card_key=card.key,
                          attempt_number=attempt.number, repository=board.repository,
                          resume_commit=head.workspace["commit"] if head else None)
(files.tree / name).write_text("print(1)\\n")
recovery.save(attempt.pk, {"summary": f"Wrote {name}", "workspace": files.snapshot("it").as_json(),
                           "tests": {"passed": 7, "failed": 0}})
files.close()
if ends == "1":
    leases.complete(attempt.pk, f"{name} is there")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Begin")
    return folder


def worked(site: Site, key: str, name: str, *, ends: bool) -> None:
    site.run(_WORKED, key, name, "1" if ends else "0")


def begun(site: Site, repository: Path) -> tuple[str, str]:
    board = site.new_board(repository=str(repository))["key"]
    answer: Any = site.call(
        "POST", "/api/v1/cards", {"board": board, "title": "Parse it", "column": "in_progress"}
    )
    key = str(answer.body["key"])
    worked(site, key, "plan.md", ends=False)
    return board, key


async def test_from_a_checkpoint_through_a_race_to_the_merged_winner(
    site: Site, open_page: Open, repository: Path
) -> None:
    board, key = begun(site, repository)
    page = await open_page(f"/cards/{key}?tab=checkpoints")
    await page.get_by_role("button", name="Fork from C1").click()
    dialog = page.get_by_role("dialog", name="Fork from C1")
    await dialog.get_by_label("Approaches").fill("by hand\ngenerated\nborrowed")
    await dialog.get_by_label("Who wins a race").select_option("person")
    await dialog.get_by_role("button", name="Fork", exact=True).click()
    race = page.get_by_role("region", name="Race")
    await expect(race.locator(".racer")).to_have_count(3)
    await race.get_by_role("link", name=f"{board}-3").click()
    await expect(page.locator("#card-race .racer.here")).to_contain_text("generated")
    await expect(page.locator("#main")).to_have_attribute("data-live", "live")

    worked(site, f"{board}-3", "app.py", ends=True)
    worked(site, f"{board}-2", "other.py", ends=True)
    other = page.locator(".racer", has_text=f"{board}-2")
    await expect(other.get_by_role("button", name=f"Choose {board}-2")).to_be_visible()
    await expect(other).to_contain_text("7 passed, 0 failed")
    assert not await problems(page)
    await page.get_by_role("button", name=f"Choose {board}-3").click()
    await expect(page.locator(".racer.won")).to_contain_text(f"{board}-3")
    await expect(other).to_contain_text(f"chose {board}-3.")
    states = [site.call("GET", f"/api/v1/cards/{board}-{n}").body["state"] for n in (2, 3, 4)]
    assert states == ["cancelled", "completed", "cancelled"]

    await page.get_by_role("button", name="Merge…").click()
    dialog = page.get_by_role("dialog", name=f"Merge {board}-3")
    await dialog.get_by_role("button", name="Merge", exact=True).click()
    await expect(page.locator(".toast").last).to_contain_text("main is at")
    assert sorted(git(repository, "ls-tree", "--name-only", "main").split()) == [
        "app.py",
        "plan.md",
    ]
    await expect(page.get_by_role("button", name="Merge…")).to_have_count(0)


async def test_a_card_is_split_and_its_parts_are_seen_and_joined(
    site: Site, open_page: Open, repository: Path
) -> None:
    board, key = begun(site, repository)
    page = await open_page(
        f"/cards/{key}?tab=checkpoints", viewport={"width": 360, "height": 740}, theme="dark"
    )
    await page.get_by_role("button", name="Split…").click()
    dialog = page.get_by_role("dialog", name=f"Split {key} at C1")
    await expect(dialog).to_contain_text("Attempt 1 by ada is stopped.")
    await dialog.get_by_label("Parts, one a line").fill("The reader\n\nThe writer")
    await dialog.get_by_role("button", name="Split", exact=True).click()
    parts = page.get_by_role("region", name="Parts")
    await expect(parts.locator(".racer")).to_have_count(2)
    assert not await problems(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    worked(site, f"{board}-2", "reader.py", ends=True)
    worked(site, f"{board}-3", "writer.py", ends=True)
    await expect(parts).to_contain_text("reader.py is there")
    site.run(
        "import django; django.setup(); from checkpoints import joining; print(joining.tick())"
    )
    await expect(parts).to_contain_text("joined as C2")
    head = site.call("GET", f"/api/v1/cards/{key}/checkpoints/2").body
    assert head["workspace"]["changed_files"] == 3
