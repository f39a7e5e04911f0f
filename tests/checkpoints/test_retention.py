"""What boards keep of checkpoints' contents: what goes, what stays for what needs it."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Board
from checkpoints import (
    artifacts,
    differences,
    lines,
    logs,
    recovery,
    retention,
    reviews,
    salvaging,
)
from checkpoints.models import (
    Artifact,
    ArtifactLink,
    Checkpoint,
    Keeping,
    LogChunk,
)
from checkpoints.retention import Retention
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from checkpoints.workspaces import Workspace
from events.models import Event
from kernel.errors import Invalid
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_user,
    now_is,
)

pytestmark = pytest.mark.django_db

LARGE = {"notes": "x" * 5000}


@pytest.fixture
def place(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    settings.WORKSPACES_DIR = tmp_path / "workspaces"
    return tmp_path


class Work:
    """A card whose attempt saves files, an artifact and a large state with each checkpoint."""

    def __init__(self, place: Path, board: Board | None = None) -> None:
        self.place = place
        self.board = board or make_board()
        self.card = make_card(self.board, goal=make_goal(self.board))
        self.attempt = claimed(self.card)
        self.files = self._folder(None)

    def _folder(self, resume: str | None) -> Workspace:
        return Workspace.prepare(
            self.place / "workspaces",
            store_of(self.board.pk),
            card_key=self.card.key,
            attempt_number=self.attempt.number,
            resume_commit=resume,
        )

    def save(self, name: str, **content: Any) -> Checkpoint:
        (self.files.tree / f"{name}.txt").write_text(name * 100)
        kept, _ = artifacts.store([f"about {name}".encode()], principal="system")
        content.setdefault("workspace", self.files.snapshot(name).as_json())
        content.setdefault("artifacts", [{"name": "report", "sha256": kept.pk}])
        return make_checkpoint(self.attempt, summary=name, state={**LARGE, "at": name}, **content)

    def again(self) -> None:
        """End the attempt and begin another one where the card stands."""
        leases.release(self.attempt.pk, "half", "the rest")
        self.files.close()
        self.attempt = claimed(self.card)
        head = recovery.head(self.card.pk, now_is(self.card).line)
        self.files = self._folder((head.workspace or {})["commit"] if head else None)

    def numbers(self, *, kept: bool) -> list[int]:
        rows = Checkpoint.objects.filter(card=self.card, dropped_at__isnull=kept)
        return sorted(rows.values_list("number", flat=True))

    def restored(self, number: int) -> set[str]:
        """Return the names of the files that the checkpoint gives back, elsewhere."""
        commit = Checkpoint.objects.get(card=self.card, number=number).workspace["commit"]
        folder = Workspace.prepare(
            self.place / f"other-{number}-{time.monotonic_ns()}",
            store_of(self.board.pk),
            card_key=self.card.key,
            attempt_number=number,
            resume_commit=commit,
        )
        folder.close()
        return {path.name for path in folder.tree.iterdir()}


@pytest.fixture
def work(place: Path) -> Work:
    return Work(place)


def keep(work: Work, **rule: int | None) -> Keeping:
    return retention.set_rule(work.board, "user:ann", dict(rule))


def go(work: Work, monkeypatch: pytest.MonkeyPatch | None = None) -> int:
    """Let passes go by until nothing is left to do; return how many contents went."""
    passes, went = Retention(), 0
    for _ in range(3):
        went += passes.work(time.monotonic() + 60)
    return went


def settle(work: Work) -> None:
    """Make what there is in the store old enough to go."""
    retention.SETTLED, retention.UNREFERENCED, before = (
        timedelta(seconds=-5),
        timedelta(0),
        (retention.SETTLED, retention.UNREFERENCED),
    )
    try:
        work.attempt.refresh_from_db()
        Checkpoint.objects.filter(card=work.card).exclude(dropped_at=None).update(released_at=None)
        retention.release(work.card)
        retention.collect(Keeping.objects.get(board=work.board), now=True)
    finally:
        retention.SETTLED, retention.UNREFERENCED = before


def test_without_a_rule_everything_stays(work: Work) -> None:
    for name in "abc":
        work.save(name)
    assert go(work) == 0
    assert work.numbers(kept=False) == []


def test_of_an_ended_attempt_the_last_n_stay_and_the_rest_goes_from_disk_too(work: Work) -> None:
    for name in "abcdef":
        work.save(name)
    work.again()
    work.save("g")
    keep(work, keep_last=2)
    store = store_of(work.board.pk)
    commits = {p.number: p.workspace["commit"] for p in Checkpoint.objects.all()}
    assert go(work) == 5  # all of the first attempt's, but what the second began with
    assert work.numbers(kept=True) == [6, 7]
    assert go(work) == 0
    settle(work)
    assert [store.has(commit) for _, commit in sorted(commits.items())] == [False] * 5 + [True] * 2
    assert work.restored(7) == {f"{name}.txt" for name in "abcdefg"}
    assert store.run("fsck", "--full", "--strict", "--no-dangling") == b""
    # The history stays, proves itself, and says what went.
    gone = Checkpoint.objects.get(number=2)
    assert (gone.summary, gone.state, gone.workspace["changed_files"]) == ("b", None, 2)
    assert gone.state_bytes > 5000
    verdict = verify(work.card)
    assert (verdict.intact, verdict.checkpoints, verdict.dropped) == (True, 7, 5)
    # And the worker goes on where it is.
    assert work.save("h").number == 8
    assert verify(work.card).intact


def test_a_drop_that_the_log_knows_nothing_of_is_a_fault(work: Work) -> None:
    work.save("a")
    work.save("b")
    Checkpoint.objects.filter(number=1).update(dropped_at=timezone.now())
    (fault,) = verify(work.card).faults
    assert (fault.checkpoint, fault.problem) == (
        1,
        "has no content, and the log never let it go.",
    )


def test_a_content_stays_while_either_rule_asks_for_it(work: Work) -> None:
    for name in "abcd":
        work.save(name)
    leases.release(work.attempt.pk, "half", "rest")
    keep(work, keep_last=1, keep_days=7)
    assert go(work) == 0
    with time_machine.travel(timezone.now() + timedelta(days=8), tick=False):
        assert go(work) == 3
    assert work.numbers(kept=True) == [4]


def test_what_something_needs_stays(work: Work) -> None:
    for name in "abcdefghij":
        if name == "c":
            recovery.record_memory(work.attempt.pk, decisions=[{"title": "use a queue"}])
        work.save(name)
    leases.release(work.attempt.pk, "half", "rest")
    (fork,) = lines.fork(work.card.pk, 5, "user:ann")
    reviews.remark(work.card.pk, "user:ann", "why?", checkpoint=6, path="a.txt", side="new", line=1)
    retention.name(work.card.pk, 7, "user:ann", "green")
    lines.rewind(work.card.pk, 8, "user:ann")
    keep(work, keep_days=0)
    assert go(work) == 4
    # 3 is the first after a decision; 10 the end of line 1, 8 where line 2 begins.
    assert work.numbers(kept=True) == [3, 5, 6, 7, 8, 10]
    settle(work)
    for number in work.numbers(kept=True):
        assert f"{'abcdefghij'[number - 1]}.txt" in work.restored(number)
    assert verify(work.card).intact
    assert verify(fork).intact
    retention.name(work.card.pk, 7, "user:ann", "")
    assert go(work) == 1


def test_a_live_attempt_and_what_it_left_and_adopted_stay(work: Work) -> None:
    work.save("a")
    (work.files.tree / "late.txt").write_text("late")
    salvaging.leave(work.files, work.card)
    (kept,) = salvaging.Salvage.objects.all()
    work.again()
    for name in "bcd":
        work.save(name)
    keep(work, keep_last=1, keep_days=0)
    assert go(work) == 0
    leases.release(work.attempt.pk, "half", "rest")
    assert go(work) == 3
    settle(work)
    assert store_of(work.board.pk).has(kept.commit)
    point = salvaging.adopt(work.card.pk, kept.pk, "user:ann")
    assert "late.txt" in work.restored(point.number)


def test_a_checkpoint_without_files_keeps_the_one_whose_files_it_goes_on_with(work: Work) -> None:
    work.save("a")
    work.save("b")
    make_checkpoint(work.attempt, summary="only words")
    leases.release(work.attempt.pk, "half", "rest")
    keep(work, keep_days=0)
    assert go(work) == 1
    assert work.numbers(kept=True) == [2, 3]


def test_what_is_no_longer_kept_is_said_and_not_gone_back_to(work: Work) -> None:
    for name in "abc":
        work.save(name)
    leases.release(work.attempt.pk, "half", "rest")
    keep(work, keep_last=1)
    go(work)
    for act in (lines.rewind, lines.fork):
        with pytest.raises(Invalid, match="C1 are no longer kept"):
            act(work.card.pk, 1, "user:ann")
    with pytest.raises(Invalid, match="no files any more"):
        reviews.remark(
            work.card.pk, "user:ann", "x", checkpoint=1, path="a.txt", side="new", line=1
        )
    found = differences.between(
        work.card, Checkpoint.objects.get(number=1), Checkpoint.objects.get(number=3)
    )
    assert (found.files, found.note) == (None, "The contents of C1 are no longer kept.")
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    page = client.get(f"/cards/{work.card.key}", {"tab": "checkpoints", "c": "1"}).text
    assert "no longer kept" in page
    assert 'data-dialog="rewind"' not in page


def test_output_goes_with_the_contents_and_says_so(work: Work) -> None:
    work.save("a")
    logs.append(work.attempt.pk, [("test", "stdout", "line\n")] * 3)
    work.again()
    logs.append(work.attempt.pk, [("test", "stdout", "newer\n")])
    work.save("b")
    work.save("c")
    leases.release(work.attempt.pk, "half", "rest")
    keep(work, keep_last=1)
    go(work)
    told = list(LogChunk.objects.order_by("id").values_list("attempt__number", "text"))
    assert told == [(2, "newer\n"), (1, "[The output is no longer kept.]\n")]
    go(work)
    assert LogChunk.objects.count() == 2


def test_an_artifact_goes_when_nothing_kept_names_it(work: Work) -> None:
    shared, _ = artifacts.store([b"in both"], principal="system")
    both = [{"name": "both", "sha256": shared.pk}]
    work.save("a", artifacts=both)
    first = work.save("b").artifacts[0]["sha256"]
    work.save("c", artifacts=both)
    leases.release(work.attempt.pk, "half", "rest")
    keep(work, keep_last=1)
    go(work)
    linked = set(ArtifactLink.objects.exclude(card=None).values_list("artifact", flat=True))
    assert linked == {shared.pk}
    yesterday = timezone.now() - timedelta(days=1)
    assert artifacts.collect(first[:2], yesterday) == 0  # it was uploaded just now
    with time_machine.travel(timezone.now() + timedelta(days=15)):
        since = timezone.now() - retention.UNUSED
        assert sum(artifacts.collect(s, since) for s in artifacts.shards()) == len("about a") * 3
    assert not artifacts.path_of(first).exists()
    assert artifacts.path_of(shared.pk).exists()
    assert verify(work.card).intact


def test_files_of_cut_off_uploads_go_after_a_while(place: Path) -> None:
    sha = "ab" + "0" * 62
    path = artifacts.path_of(sha)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no row was made of it")
    since = timezone.now() - timedelta(hours=1)
    assert artifacts.collect("ab", since) == 0
    os.utime(path, (0, 0))
    assert artifacts.collect("ab", since) == 21
    assert not path.exists()


@pytest.mark.django_db(transaction=True)
def test_an_upload_of_what_is_being_collected_wins_or_starts_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uploader has found the file in place and not made its row yet; then comes the sweep."""
    old, _ = artifacts.store([b"wanted again"], principal="user:1")
    ArtifactLink.objects.update(at=timezone.now() - timedelta(days=30))
    Artifact.objects.update(at=timezone.now() - timedelta(days=30))
    published, go_on = threading.Event(), threading.Event()
    publish = artifacts._publish

    def then_wait(temporary: Path, final: Path) -> None:
        publish(temporary, final)
        published.set()
        assert go_on.wait(60)

    monkeypatch.setattr(artifacts, "_publish", then_wait)

    def upload() -> None:
        try:
            artifacts.store([b"wanted again"], principal="user:2")
        finally:
            connection.close()

    uploading = threading.Thread(target=upload)
    uploading.start()
    assert published.wait(60)
    assert artifacts.collect(old.pk[:2], timezone.now()) == 0  # it holds the shard
    go_on.set()
    uploading.join(60)
    assert artifacts.collect(old.pk[:2], timezone.now() - timedelta(days=1)) == 0
    assert artifacts.path_of(old.pk).read_bytes() == b"wanted again"
    assert Artifact.objects.get().pk == old.pk


def test_what_a_board_takes_up_is_measured(work: Work) -> None:
    work.save("a")
    logs.append(work.attempt.pk, [("test", "stdout", "line\n")])
    found = retention.measured(work.board)
    assert found.artifacts_bytes == len("about a")
    assert found.logs_bytes == 5
    assert found.events_bytes >= 200 * Event.objects.filter(board_id=found.board_id).count() > 0
    assert found.snapshots_bytes > 0
    assert found.workspaces_bytes > 0
    assert retention.counts(work.board) == {"kept": 1, "dropped": 0}


def test_passes_go_on_where_the_last_one_stopped(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(retention, "_CARDS_AT_ONCE", 1)
    first = Work(place)
    second = Work(place, board=first.board)
    for work in (first, second):
        work.save("a")
        work.save("b")
        leases.release(work.attempt.pk, "half", "rest")
    keep(first, keep_last=1)
    passes = Retention()
    went = [passes.work(time.monotonic() + 60) for _ in range(4)]
    assert sorted(went) == [0, 0, 1, 1]
    assert Attempt.objects.count() == 2
