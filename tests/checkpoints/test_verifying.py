from __future__ import annotations

from pathlib import Path

import pytest

from boards.models import Attempt, Token
from checkpoints import artifacts, lines
from checkpoints.models import Checkpoint
from checkpoints.recovery import digest_of
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from events.models import Event
from tests.factories import claimed, make_card, make_checkpoint, make_step, make_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(tmp_path, settings) -> Path:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return tmp_path


@pytest.fixture
def attempt(place: Path) -> Attempt:
    """An attempt with three checkpoints: one with a step, one with an artifact, one with files."""
    found = claimed(make_card())
    make_step(found, "a", checkpoint={"summary": "with a step", "state": {"n": 1}})
    kept, _ = artifacts.store([b"a report"], principal="system")
    make_checkpoint(found, artifacts=[{"name": "report.txt", "sha256": kept.pk}])
    files = Workspace.prepare(
        place / "workspaces",
        store_of(found.board_id),
        card_key=found.card.key,
        attempt_number=1,
    )
    (files.tree / "app.py").write_text("print(1)\n")
    make_checkpoint(found, workspace=files.snapshot("files").as_json())
    files.close()
    return found


def faults(attempt: Attempt, **how: str) -> list[tuple[int | None, str]]:
    return [(f.checkpoint, f.problem) for f in verify(attempt.card, **how).faults]


def test_what_nobody_touched_is_intact(attempt):
    verdict = verify(attempt.card)
    assert verdict.intact
    assert (verdict.checkpoints, verdict.workspaces, verdict.artifacts) == (3, 1, 1)
    assert verdict.head == Checkpoint.objects.get(number=3).digest
    assert not faults(attempt, expected=Checkpoint.objects.get(number=1).digest)
    lines.rewind(attempt.card_id, 1, "user:ann")
    make_checkpoint(claimed(attempt.card), summary="another way")
    attempt.card.refresh_from_db()
    assert verify(attempt.card).checkpoints == 4
    assert not faults(attempt)


def test_a_changed_checkpoint_shows(attempt):
    Checkpoint.objects.filter(number=1).update(state={"n": 2})
    assert faults(attempt) == [(1, "has other content than its digest was made of.")]


def test_a_chain_made_anew_shows_against_the_log_and_a_noted_digest(attempt):
    noted = Checkpoint.objects.get(number=3).digest
    parent = ""
    Checkpoint.objects.filter(number=1).update(summary="another story")
    for point in Checkpoint.objects.order_by("number"):
        names = ("summary", "next_step", "state", "tests", "workspace", "artifacts")
        parent = digest_of({n: getattr(point, n) for n in names}, parent)
        Checkpoint.objects.filter(pk=point.pk).update(digest=parent)
    found = faults(attempt, expected=noted)
    assert [n for n, _ in found] == [1, 2, 3, None]
    assert all("the log says" in problem for _, problem in found[:3])
    for event in Event.objects.filter(subject_id=attempt.card_id):  # and the log as well
        Event.objects.filter(pk=event.pk).update(data={**event.data, "digest": ""})
    assert faults(attempt, expected=noted) == [(None, f"No checkpoint has the digest {noted}.")]


def test_a_checkpoint_that_is_gone_shows(attempt):
    Checkpoint.objects.filter(number=3).delete()
    assert faults(attempt) == [(3, "was saved, says the log, and is not here.")]


def test_a_lost_or_damaged_artifact_shows(attempt):
    path = artifacts.path_of(Checkpoint.objects.get(number=2).artifacts[0]["sha256"])
    path.write_bytes(b"another report")
    assert faults(attempt) == [(2, "report.txt: has other content than its name says.")]
    path.unlink()
    assert faults(attempt) == [(2, "report.txt: is not kept any more.")]


def test_lost_or_damaged_files_show(attempt):
    store = store_of(attempt.board_id)
    blobs = store.run("ls-tree", "-r", Checkpoint.objects.get(number=3).workspace["commit"])
    blob = blobs.split()[2].decode()
    loose = store.path / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o644)
    loose.write_bytes(b"x" * 20)
    ((number, problem),) = faults(attempt)
    assert number == 3
    assert "its files are damaged" in problem


def test_files_that_a_worker_keeps_itself_are_counted_not_missed(attempt, settings):
    Checkpoint.objects.filter(number=3).delete()
    Event.objects.all().delete()
    settings.SNAPSHOTS_DIR = settings.SNAPSHOTS_DIR.with_name("elsewhere")
    make_token()
    Attempt.objects.update(token=Token.objects.get())
    attempt.refresh_from_db()
    make_checkpoint(attempt, workspace={"commit": "c" * 40, "tree": "d" * 40})
    verdict = verify(attempt.card)
    assert (verdict.intact, verdict.elsewhere, verdict.workspaces) == (True, 1, 0)
