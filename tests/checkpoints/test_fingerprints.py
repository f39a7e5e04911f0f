"""What a checkpoint says of the environment its files were run in."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from checkpoints import differences, fingerprints, recovery
from checkpoints.fingerprints import changes, taken
from checkpoints.models import Checkpoint
from checkpoints.snapshots import SnapshotStore
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from tests.factories import claimed, make_checkpoint, make_user


@pytest.fixture
def person(db: None) -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_it_names_interpreter_platform_and_what_pins_versions(tmp_path: Path) -> None:
    (tmp_path / "requirements-dev.txt").write_text("pytest\n")
    (tmp_path / "go.sum").write_text("x\n")
    (tmp_path / "notes.txt").write_text("x\n")
    assert taken(tmp_path) == {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "requirements-dev.txt": digest("pytest\n"),
        "go.sum": digest("x\n"),
    }


@pytest.mark.parametrize("line", ["version = 3.12.1", "version_info = 3.12.1.final.0"])
def test_the_workspace_s_own_python_counts(tmp_path: Path, line: str) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"home = /usr/bin\n{line}\n")
    assert taken(tmp_path)["python"] == "3.12.1"


def test_nothing_but_plain_files_of_a_fair_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "MAX_FILE_BYTES", 10)
    (tmp_path / "uv.lock").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "go.sum")
    (tmp_path / "yarn.lock").mkdir()
    (tmp_path / "Cargo.lock").write_text("x" * 11)
    assert set(taken(tmp_path)) == {"python", "platform"}


def test_changes_are_named_with_both_sides() -> None:
    old = {"python": "3.11.7", "uv.lock": "sha256:1", "same": "x"}
    assert list(changes(old, {"python": "3.12.1", "go.sum": "sha256:2", "same": "x"})) == [
        {"name": "go.sum", "to": "sha256:2"},
        {"name": "python", "from": "3.11.7", "to": "3.12.1"},
        {"name": "uv.lock", "from": "sha256:1"},
    ]


def test_a_snapshot_has_one_and_so_has_its_commit(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "board.git")
    workspace = Workspace.prepare(tmp_path / "w", store, card_key="B-1", attempt_number=1)
    (workspace.tree / "requirements.txt").write_text("django\n")
    snapshot = workspace.snapshot("x")
    workspace.close()
    assert snapshot.as_json()["environment"]["requirements.txt"] == digest("django\n")
    assert store.snapshot_of(snapshot.commit) == snapshot


def test_a_difference_says_what_changed_and_the_digest_covers_it(person: Client) -> None:
    attempt = claimed()
    before: dict[str, Any] = {"commit": "", "environment": {"python": "3.11.7", "uv.lock": "a"}}
    after = {"commit": "", "environment": {"python": "3.12.1", "uv.lock": "sha256:b"}}
    make_checkpoint(attempt)  # has none: an old one
    first = make_checkpoint(attempt, workspace=before)
    second = make_checkpoint(attempt, workspace=after)
    assert differences.between(attempt.card, None, first).environment == []
    found = differences.between(attempt.card, first, second).environment
    assert [change["name"] for change in found] == ["python", "uv.lock"]
    key = attempt.card.key
    said = person.get(f"/api/v1/cards/{key}/checkpoints/{second.number}/diff").json()
    assert said["environment"] == found
    page = person.get(f"/cards/{key}?tab=checkpoints&c={second.number}").content.decode()
    assert "3.11.7 → 3.12.1" in page
    assert "<code>uv.lock</code> changed" in page
    assert verify(attempt.card).faults == []
    second.workspace["environment"]["python"] = "3.13.0"
    Checkpoint.objects.filter(pk=second.pk).update(workspace=second.workspace)
    second.refresh_from_db()
    assert recovery.intact(second) is False


def test_what_was_left_out_is_said_on_the_checkpoint(person: Client) -> None:
    attempt = claimed()
    skipped = [{"path": "data.bin", "reason": "is larger than 32 MiB"}]
    point = make_checkpoint(attempt, workspace={"commit": "", "skipped": skipped})
    page = person.get(f"/cards/{attempt.card.key}?tab=checkpoints&c={point.number}")
    assert "<code>data.bin</code> is larger than 32 MiB" in page.content.decode()
