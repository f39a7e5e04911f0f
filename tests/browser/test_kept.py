"""What a checkpoint keeps, looked at in a browser: pictures drawn, notebooks unfolded."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.browser.test_card import claimed
from tests.checkpoints.test_previews import NOTEBOOK, png
from tests.serving import Site

pytestmark = pytest.mark.browser

WORK = """
import sys, django
django.setup()
from pathlib import Path
from uuid import UUID
from django.conf import settings
from boards.models import Attempt
from checkpoints import recovery
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
attempt = Attempt.objects.get(pk=UUID(sys.argv[1]))
files = Workspace.prepare(Path(settings.DATA_DIR) / "workspaces", store_of(attempt.board_id),
                          card_key=attempt.card.key, attempt_number=1,
                          repository=attempt.board.repository)
(files.tree / "dot.png").write_bytes(bytes.fromhex(sys.argv[2]))
recovery.save(attempt.pk, {"summary": "redrawn", "workspace": files.snapshot("redrawn").as_json()})
files.close()
"""


async def test_pictures_are_drawn_and_notebooks_unfold(
    site: Site, open_page: Open, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "dot.png").write_bytes(png(255))
    for words in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "Begin"),
    ):
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        subprocess.run(["git", *words], cwd=repository, check=True, env=env)
    board = site.new_board(repository=str(repository))["key"]
    key = new_card(site, board, "Draw it", column="In progress")["key"]
    attempt, lease, token = claimed(site, board)
    site.run(WORK, attempt.rpartition("/")[2], png(10).hex())
    kept = []
    for name, content in (
        ("plot.png", png()),
        ("sums.ipynb", json.dumps(NOTEBOOK).encode()),
        ("evil.png", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    ):
        answer = httpx.post(
            f"{site.web.origin}/api/v1/artifacts",
            content=content,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "image/png"},
        )
        kept.append({"name": name, "sha256": answer.json()["sha256"]})
    saved = {"summary": "drawn", "artifacts": kept}
    site.call("POST", f"{attempt}/checkpoints", saved, token=token, headers=lease)

    page = await open_page(f"/cards/{key}?tab=checkpoints&c=1&against=base")
    for name in ("dot.png, before", "dot.png, after"):
        picture = page.get_by_role("img", name=name)
        await expect(picture).to_be_visible()
        await expect(picture).to_have_js_property("naturalWidth", 1)
    await page.goto(f"/cards/{key}?tab=checkpoints&c=2")
    artifacts = page.get_by_role("group", name="Artifacts")
    await expect(artifacts.get_by_role("img")).to_have_count(1)
    await expect(artifacts.get_by_role("img")).to_have_js_property("naturalWidth", 1)
    await artifacts.get_by_text("Look inside").focus()
    await page.keyboard.press("Enter")
    await expect(artifacts.get_by_role("heading", name="Sums")).to_be_visible()
    cell = artifacts.get_by_role("region", name="Cell 2", exact=True)
    await expect(cell).to_have_text("print('<b>6</b>')")
    inside = artifacts.get_by_role("img", name="Picture put out by cell 2")
    await expect(inside).to_have_js_property("naturalWidth", 1)
    assert await problems(page) == []
