"""What the README and the docs say is so."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests import schema
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


def test_a_backup_may_be_broken_off_taken_again_and_put_back(tmp_path):
    page = (ROOT / "docs/operating.md").read_text().split("## Backup")[1]
    backup, restore = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[:2]
    data = tmp_path / "data"
    for name in ("artifacts", "snapshots"):
        (data / name).mkdir(parents=True)
    schema.copy_to(data / "holdfast.sqlite3")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")

    def carry_out(script):
        environment = {**os.environ, "DATA_DIR": str(data), "DATABASE_URL": "", "REDIS_URL": ""}
        environment.pop("SECRET_KEY", None)  # it is made where there is none
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, env=environment, check=True, timeout=120
        )

    def change(n):
        with closing(sqlite3.connect(data / "holdfast.sqlite3")) as store, store:
            store.execute(f"PRAGMA user_version = {n}")

    def version():
        with closing(sqlite3.connect(data / "holdfast.sqlite3")) as store:
            return store.execute("PRAGMA user_version").fetchone()[0]

    change(1)
    carry_out(backup)
    change(2)
    (tmp_path / "backup/draft.sqlite3").write_bytes(b"half of it")  # one was killed
    carry_out(backup)
    change(3)
    (data / "holdfast.sqlite3-wal").write_bytes(b"of a killed server")
    carry_out(restore.partition("LEASE_EPOCH")[0])
    assert version() == 2
    assert not (data / "holdfast.sqlite3-wal").exists()
    assert (data / "secret_key").is_file()
