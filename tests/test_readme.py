"""What the README and the docs say is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving import new_site

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_settings_table_has_every_variable_that_is_read():
    read = set(
        re.findall(r'env_\w+\(\s*"([A-Z_]+)"', (ROOT / "runtime_site/settings.py").read_text())
    )
    table = README.split("## Settings")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    rows = {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert rows == read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}


def test_the_worker_of_the_readme_works(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n# worker\.sh.*?)```", README, re.DOTALL)
    (tmp_path / "worker.sh").write_text(script)
    with new_site("sqlite") as site:
        board = site.new_board()
        token = site.new_token(board["key"])["token"]
        wanted = {"title": "Write", "column": "in_progress", "requires": ["writing"]}
        card = site.call("POST", "/api/v1/cards", {"board": board["key"], **wanted}).body

        def work():
            return subprocess.run(
                ["sh", "worker.sh", card["key"]],
                cwd=tmp_path,
                env={**os.environ, "TOKEN": token, "URL": site.web.origin},
                capture_output=True,
                text=True,
                timeout=60,
            )

        first, again = work(), work()
        steps = site.call("GET", f"/api/v1/cards/{card['key']}/steps").body["results"]
        points = site.call("GET", f"/api/v1/cards/{card['key']}/checkpoints").body["results"]
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"# {card['key']}: ")
    assert first.stdout.endswith("\ncompleted\n")
    assert [(s["key"], s["status"]) for s in steps] == [("draft", "succeeded")]
    assert [p["summary"] for p in points] == ["The paragraph is drafted."]
    assert again.returncode != 0
    assert "not_claimable" in again.stdout + again.stderr
