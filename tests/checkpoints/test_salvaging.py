"""What attempts left behind is kept, shown, and adopted by whoever wants it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from boards import cards, leases
from boards.models import Attempt, Card
from checkpoints import artifacts, lines, salvaging, steps
from checkpoints.models import ArtifactLink, Checkpoint, Salvage
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from events.models import Event
from kernel.errors import Invalid, NotFound, TransitionRefused
from tests.factories import claimed, make_card, make_checkpoint, make_step, make_user, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(tmp_path, settings) -> Path:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return tmp_path


def folder_of(attempt: Attempt, place: Path, resume: str | None = None) -> Workspace:
    return Workspace.prepare(
        place / "workspaces",
        store_of(attempt.board_id),
        card_key=attempt.card.key,
        attempt_number=attempt.number,
        resume_commit=resume,
    )


@pytest.fixture
def failed(place: Path) -> Attempt:
    """An attempt with a checkpoint, that failed with more in its folder."""
    attempt = claimed(make_card())
    files = folder_of(attempt, place)
    (files.tree / "app.py").write_text("print(1)\n")
    make_step(attempt, "write", checkpoint={"summary": "written", "state": {"at": 1}})
    make_checkpoint(
        attempt, summary="kept", state={"at": 2}, workspace=files.snapshot("kept").as_json()
    )
    (files.tree / "app.py").write_text("print(1)\nprint(2)\n")
    salvaging.leave(files, attempt.card)
    files.close()
    leases.fail(attempt.pk, "it broke")
    return now_is(attempt)


# ── told by a worker ──


def test_a_superseded_attempt_may_leave_what_it_holds_and_nothing_else_changes():
    attempt = claimed()
    cards.cancel(attempt.card_id, "user:ann")
    card = now_is(attempt.card)
    told = {"summary": "had two files", "workspace": {"commit": "abc"}}
    kept = salvaging.salvage(attempt.pk, told)
    assert salvaging.salvage(attempt.pk, told) == kept
    assert Salvage.objects.get().attempt == attempt
    assert now_is(card).version == card.version
    assert Event.objects.filter(kind="attempt.salvaged").count() == 1
    with pytest.raises(NotFound):
        salvaging.salvage(card.pk, {"summary": "x"})


def test_its_artifacts_are_there_and_on_the_card():
    attempt = claimed()
    unknown = [{"name": "log", "sha256": "0" * 64}]
    with pytest.raises(Invalid):
        salvaging.salvage(attempt.pk, {"summary": "x", "artifacts": unknown})
    assert not Salvage.objects.exists()
    stored, _ = artifacts.store([b"a log"], principal="token:1")
    salvaging.salvage(
        attempt.pk, {"summary": "x", "artifacts": [{"name": "log", "sha256": stored.pk}]}
    )
    assert ArtifactLink.objects.get(card=attempt.card_id).artifact == stored


def test_a_worker_that_goes_on_and_on_is_refused(monkeypatch):
    monkeypatch.setattr(salvaging, "MAX_PER_ATTEMPT", 2)
    attempt = claimed()
    for n in range(2):
        salvaging.salvage(attempt.pk, {"summary": f"part {n}"})
    with pytest.raises(TransitionRefused):
        salvaging.salvage(attempt.pk, {"summary": "part 3"})
    assert salvaging.salvage(attempt.pk, {"summary": "part 1"})


# ── kept by itself ──


def test_what_is_in_a_folder_and_in_no_checkpoint_is_kept_once(failed, place):
    (kept,) = Salvage.objects.all()
    assert kept.attempt == failed
    assert kept.summary == "1 file changed since C2, +1 −0, in no checkpoint."
    shown = store_of(failed.board_id).run("cat-file", "blob", f"{kept.commit}:app.py")
    assert shown == b"print(1)\nprint(2)\n"
    # The next attempt finds the folder as it was left: the same again.
    head = Checkpoint.objects.get(number=2).workspace["commit"]
    cards.retry(failed.card_id, "user:ann")
    taken = folder_of(claimed(failed.card, "bob"), place, head)
    assert taken.discarded == kept.commit
    assert salvaging.record_left(failed.card, taken.store) == []
    assert (taken.tree / "app.py").read_text() == "print(1)\n"


def test_a_kill_between_keeping_and_recording_loses_no_row(failed):
    store = store_of(failed.board_id)
    Salvage.objects.all().delete()
    (again,) = salvaging.record_left(failed.card, store)
    assert again.attempt == failed
    assert salvaging.record_left(failed.card, store) == []


def test_files_that_a_checkpoint_holds_are_no_orphans(failed, place):
    make = lines.rewind(failed.card_id, 1, "user:ann")
    attempt = claimed(make)
    files = folder_of(attempt, place)
    (files.tree / "other.py").write_text("x\n")
    make_checkpoint(attempt, workspace=files.snapshot("other").as_json())
    salvaging.leave(files, make)
    files.close()
    assert Salvage.objects.count() == 1
    assert len(store_of(failed.board_id).left_behind(make.key)) == 1


# ── adopted ──


def test_adopted_it_is_what_the_next_attempt_goes_on_from(failed):
    kept = Salvage.objects.get()
    point = salvaging.adopt(failed.card_id, kept.pk, "user:ann", "Keep the second line.")
    assert (point.number, point.line, point.parent.number) == (3, 1, 2)
    assert (point.state, point.next_step) == ({"at": 2}, "Keep the second line.")
    assert point.workspace["commit"] == kept.commit
    assert "what attempt 1 by ada left behind" in point.summary
    kept.refresh_from_db()
    assert (kept.adopted_as, kept.adopted_by) == (point, "user:ann")
    assert salvaging.adopt(failed.card_id, kept.pk, "user:bob") == point
    card = now_is(failed.card)
    assert (card.state, card.not_before) == ("waiting", None)
    later = claimed(card, "bob")
    assert (later.resumed_from, later.checkpoint_number, later.steps_recorded) == (3, 3, 1)
    assert make_checkpoint(later).number == 4
    assert verify(card).intact
    assert Event.objects.filter(kind="salvage.adopted").count() == 1


def test_adopting_ends_a_live_attempt_and_works_after_a_rewind_too(failed):
    kept = Salvage.objects.get()
    first = salvaging.adopt(failed.card_id, kept.pk, "user:ann")
    lines.rewind(failed.card_id, 1, "user:ann")
    live = claimed(failed.card, "bob")
    second = salvaging.adopt(failed.card_id, kept.pk, "user:ann")
    assert now_is(live).status == "cancelled"
    assert (second.number, second.line, second.state) == (first.number + 1, 2, {"at": 1})
    assert second.parent.number == 1
    assert claimed(failed.card, "cy").resumed_from == second.number
    assert verify(failed.card).intact


def test_a_workflow_that_was_through_is_done_again_on_what_was_adopted(failed):
    """Its steps said that other files are fine."""
    kept = Salvage.objects.get()
    Card.objects.filter(pk=failed.card_id).update(workflow={"steps": [{"key": "a", "run": "true"}]})
    card = now_is(failed.card)
    lines.rewind(card.pk, 2, "user:ann")
    through = claimed(card, "bob")
    make_step(through, "a")
    make_checkpoint(through, summary="through")
    leases.complete(through.pk, "done")
    point = salvaging.adopt(card.pk, kept.pk, "user:ann")
    card = now_is(card)
    assert (card.state, card.line, point.line) == ("waiting", 3, 2)
    assert salvaging.adopt(card.pk, kept.pk, "user:bob") == point
    later = claimed(card, "cy")
    assert (later.resumed_from, later.steps_recorded) == (point.number, 0)
    assert not steps.begin(later.pk, "a").replay
    assert make_checkpoint(later).parent == point
    assert verify(card).intact


def test_what_there_is_nothing_of_can_not_be_adopted():
    attempt = claimed()
    kept = salvaging.salvage(attempt.pk, {"summary": "only words"})
    with pytest.raises(Invalid, match="neither files nor artifacts"):
        salvaging.adopt(attempt.card_id, kept.pk, "user:ann")
    with pytest.raises(NotFound):
        salvaging.adopt(make_card().pk, kept.pk, "user:ann")
    built_in = claimed(make_card(workflow={"steps": [{"key": "a", "run": "true"}]}))
    elsewhere = salvaging.salvage(
        built_in.pk, {"summary": "files", "workspace": {"commit": "a" * 40}}
    )
    with pytest.raises(Invalid, match="not in this host's snapshots"):
        salvaging.adopt(built_in.card_id, elsewhere.pk, "user:ann")
    assert now_is(built_in).status == "running"
    assert not Checkpoint.objects.exists()


def test_the_page_shows_it_with_its_difference(failed):
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    page = client.get(f"/cards/{failed.card.key}", {"tab": "left"}).text
    assert "Left behind <span>1</span>" in page
    assert "1 file changed since C2" in page
    assert 'data-adopt="' in page
    other = client.get(f"/cards/{make_card().key}", {"tab": "left"}).text
    assert "No attempt left anything behind." in other
    assert "Left behind" not in other
