from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from boards import cards, leases
from boards.models import Attempt, Board, Card
from checkpoints import differences, lines, merging, recovery, steps
from checkpoints.models import Artifact, Checkpoint, LogChunk, Salvage, Step
from checkpoints.stores import store_of
from events.models import Event
from goals.models import Evidence
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from tests.factories import make_goal
from tests.processes import carrying, odd_sleep
from tests.repositories import git
from tests.workbench import Bench, logged, trees, wait_for
from workers import hygiene, livelog, presence, runner, stopping, tasks, turns
from workers.ledger import Ledger, Shift
from workers.models import Worker
from workers.runner import Outcome
from workers.watch import Watch

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "README.md").write_text("hello\n")
    (folder / ".gitignore").write_text(".cache/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


REPORT = (
    "<testsuite><testcase name='a'/><testcase classname='m' name='b'><failure/></testcase>"
    "<testcase name='c'><skipped/></testcase></testsuite>"
)


# ── from the first step to the last ──


def test_a_card_is_carried_out_step_by_step_with_a_checkpoint_after_each(
    bench: Bench, repository: Path
) -> None:
    Board.objects.filter(pk=bench.board.pk).update(repository=str(repository))
    card = bench.card(
        {
            "key": "make",
            "run": "cat README.md; echo built > out.txt; mkdir dist; echo w > dist/a.whl",
        },
        {
            "key": "test",
            "title": "Unit tests",
            "run": f'echo oops >&2; echo "{REPORT}" > report.xml',
            "junit": "report.xml",
            "artifacts": ["dist/*.whl", "report.xml", "nothing/*"],
        },
    )
    assert bench.run(card) == Outcome.COMPLETED
    assert card.state == Card.State.COMPLETED
    make, test = Step.objects.filter(card=card).order_by("number")
    assert (make.status, test.status, test.title) == ("succeeded", "succeeded", "Unit tests")
    assert make.input == {"run": card.workflow["steps"][0]["run"], "cwd": ".", "env": {}}
    assert make.result["exit_code"] == 0
    assert make.result["output"]["tail"] == "hello\n"
    tests = {"passed": 1, "failed": 1, "skipped": 1, "failing": ["m::b"]}
    assert test.result["tests"] == tests
    assert (make.result.get("junit"), test.result["junit"]) == (None, "report.xml")
    assert merging.work_of(card).left_out == ("report.xml",)
    assert test.result["problems"] == ["No file matches nothing/*."]
    first, second = Checkpoint.objects.filter(card=card).order_by("number")
    assert first.summary.startswith("Step make succeeded in ")
    assert first.next_step == "Run step test (Unit tests)."
    assert (first.workspace["changed_files"], first.workspace["additions"]) == (2, 2)
    assert first.workspace["skipped"] == []
    assert second.tests == tests
    assert second.state == {"steps_done": 2, "steps_total": 2}
    assert second.parent == first
    assert recovery.intact(second)
    assert [a["name"] for a in second.artifacts] == ["dist/a.whl", "report.xml"]
    assert Artifact.objects.filter(pk__in=[a["sha256"] for a in second.artifacts]).count() == 2
    assert logged(card) == "hello\noops\n"
    assert set(LogChunk.objects.values_list("step_key", "stream")) == {
        ("make", "stdout"),
        ("test", "stderr"),
    }
    attempt = card.attempts.get()
    assert (attempt.status, attempt.result) == ("succeeded", {"steps": 2})
    kinds = list(
        Event.objects.filter(subject_id=card.pk).order_by("seq").values_list("kind", flat=True)
    )
    for kind in ("card.claimed", "step.started", "step.succeeded", "card.completed"):
        assert kind in kinds


def test_a_yaml_workflow_in_an_empty_folder_runs_too(bench: Bench) -> None:
    card = bench.card(
        workflow="env: {A: '1'}\nsteps:\n  - {key: a, run: 'mkdir -p sub; echo $A > sub/a'}\n"
        "  - {key: b, run: 'cat a; pwd', cwd: sub}\n"
    )
    assert bench.run(card) == Outcome.COMPLETED
    assert logged(card).startswith("1\n")
    assert logged(card).endswith("/tree/sub\n")


def test_a_command_sees_whom_it_works_for_and_none_of_our_secrets(
    bench: Bench, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_KEY = "canary-of-the-server-key"
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary-of-the-server-key@db/x")
    card = bench.card(
        {
            "key": "look",
            "run": "env; echo canary-of-the-server-key | base64; echo canary-of-the-server-key;"
            "echo $MY_API_TOKEN; echo $HOME | grep -q home",
            "env": {"MY_API_TOKEN": "tok-123456789"},
        }
    )
    assert bench.run(card) == Outcome.COMPLETED
    text = logged(card)
    attempt = card.attempts.get()
    assert f"HOLDFAST_CARD={card.key}\n" in text
    assert f"HOLDFAST_ATTEMPT={attempt.pk}\n" in text
    assert "HOLDFAST_STEP=look\n" in text
    assert f"HOLDFAST_URL={settings.BASE_URL}\n" in text
    assert "HOLDFAST_IDEMPOTENCY_KEY=" in text
    assert "DATABASE_URL" not in text
    step = Step.objects.get()
    for place in (text, str(step.result), str(step.input)):
        assert "canary-of" not in place
        assert "tok-123456789" not in place
    assert step.input["env"] == {"MY_API_TOKEN": "[redacted]"}


# ── failing ──


def test_a_failed_step_ends_the_attempt_with_a_lesson_and_the_next_goes_on_there(
    bench: Bench,
) -> None:
    gate = bench.effects / "gate"
    card = bench.card(
        bench.mark("one") + "; echo kept > kept",
        f"{bench.mark('two')}; cat kept; echo half > half; echo 'the reason' >&2; test -e {gate}",
        "test ! -e half || test -e kept",
    )
    assert bench.run(card) == Outcome.FAILED
    attempt = card.attempts.get()
    assert attempt.error.startswith("Step step2 failed with exit code 1 after ")
    assert "the reason" in attempt.lesson
    assert card.state == Card.State.WAITING
    failed = Step.objects.get(key="step2")
    assert failed.status == "failed"
    assert failed.result["workspace"]["changed_files"] == 2  # for whoever looks into it
    assert Checkpoint.objects.filter(card=card).count() == 1
    left = Salvage.objects.get()  # before anybody takes the folder over
    assert left.attempt == attempt
    assert b"half" in store_of(bench.board.pk).run("ls-tree", "--name-only", left.commit)
    gate.touch()
    assert bench.run(card) == Outcome.COMPLETED
    assert (bench.count("one"), bench.count("two")) == (1, 2)
    again = Step.objects.get(key="step2", superseded=False)
    assert not again.in_doubt
    assert "back at the last checkpoint" in logged(card)
    assert Salvage.objects.count() == 1  # taking the folder over found the same


def test_attempts_used_up_block_the_card(bench: Bench) -> None:
    card = bench.card("exit 3", max_attempts=1)
    assert bench.run(card) == Outcome.FAILED
    assert card.state == Card.State.BLOCKED
    assert "exit code 3" in card.blocked_reason


def test_a_retried_step_starts_each_try_from_the_same_files(bench: Bench) -> None:
    card = bench.card(
        "echo 1 > patched",
        {
            "key": "flaky",
            "run": "test $(cat patched) = 1 && echo 2 > patched && touch new && "
            f"{bench.mark('try')} && test $(wc -l < {bench.effects / 'try'}) = 3",
            "retries": 4,
        },
    )
    assert bench.run(card) == Outcome.COMPLETED
    flaky = Step.objects.get(key="flaky")
    assert flaky.result["tries"] == 3
    assert "[Try 3 of 5, from the same files]" in logged(card)


def test_a_step_that_may_fail_is_over_all_the_same(bench: Bench) -> None:
    card = bench.card(
        {"key": "lint", "run": bench.mark("lint") + "; exit 1", "allow_failure": True},
        f"test -e {bench.effects / 'gate'}",
    )
    assert bench.run(card) == Outcome.FAILED
    lint = Step.objects.get(key="lint")
    assert (lint.status, lint.result["allowed_failure"]) == ("failed", True)
    assert Checkpoint.objects.get().summary.endswith(", as it may.")
    (bench.effects / "gate").touch()
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("lint") == 1


def test_checks_become_evidence_on_the_goal(bench: Bench) -> None:
    goal = make_goal(bench.board, criteria=["It compiles", "It is tested", "It is fast"])
    card = bench.card(
        {"key": "test", "run": f"echo 3 passed; {bench.mark('test')}", "criterion": 2},
        f"test -e {bench.effects / 'gate'}",
        {"key": "fast", "run": "echo 9 s; exit 1", "criterion": 3, "allow_failure": True},
        goal=goal,
    )
    assert bench.run(card) == Outcome.FAILED
    assert Evidence.objects.count() == 0
    (bench.effects / "gate").touch()
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("test") == 1
    tested, fast = Evidence.objects.order_by("criterion__number")
    assert (tested.criterion.text, tested.met, tested.card_id) == ("It is tested", True, card.pk)
    assert tested.detail.endswith("3 passed")
    assert "passed in" in tested.detail
    assert "(step test, attempt 1)" in tested.detail
    assert (fast.met, fast.criterion.met) == (False, False)
    assert list(goal.criteria.order_by("number").values_list("met", flat=True)) == [
        None,
        True,
        False,
    ]


def test_a_check_of_what_the_goal_does_not_ask_for_is_refused_first(bench: Bench) -> None:
    step = {"key": "test", "run": bench.mark("test"), "criterion": 2}
    goal = make_goal(bench.board, criteria=["It compiles"])
    for of, words in ((None, "no goal"), (goal, "none of that number")):
        card = bench.card(step, goal=of)
        assert bench.run(card) == Outcome.BLOCKED
        assert words in card.blocked_reason
    assert bench.count("test") == 0


def test_a_step_past_its_timeout_fails_and_says_so(bench: Bench) -> None:
    card = bench.card({"key": "slow", "run": "echo before; sleep 60", "timeout_seconds": 1})
    began = time.monotonic()
    assert bench.run(card) == Outcome.FAILED
    assert time.monotonic() - began < 45
    step = Step.objects.get()
    assert (step.result["timed_out"], step.result["signal"]) == (True, signal.SIGTERM)
    assert "ran into its timeout of 1 s" in step.error


def test_a_report_the_step_did_not_write_does_not_count(bench: Bench) -> None:
    card = bench.card(
        f'echo "{REPORT}" > report.xml',
        {"key": "test", "run": "true", "junit": "report.xml"},
        {"key": "other", "run": "true", "junit": "missing.xml"},
    )
    assert bench.run(card) == Outcome.COMPLETED
    test, other = (Step.objects.get(key=key).result for key in ("test", "other"))
    assert test["tests"] is None
    assert "it was there before" in test["problems"][0]
    assert "wrote no report" in other["problems"][0]


# ── refused ──


def test_commands_run_only_where_an_operator_allowed_them(bench: Bench) -> None:
    Board.objects.update(allow_commands=False)
    card = bench.card(bench.mark("ran"))
    assert bench.run(card) == Outcome.BLOCKED
    assert card.state == Card.State.BLOCKED
    assert "Commands are off for the board Payments" in card.blocked_reason
    assert bench.count("ran") == 0


def test_a_workflow_that_can_not_be_used_blocks_the_card_and_says_where(bench: Bench) -> None:
    card = bench.card("true")
    # No door lets such a one in; it may be there from before a limit was made narrower.
    broken = {"steps": [{"key": "a", "run": "true", "timeout_seconds": 0}]}
    Card.objects.filter(pk=card.pk).update(workflow=broken)
    card.refresh_from_db()
    assert bench.run(card) == Outcome.BLOCKED
    assert "steps[0].timeout_seconds" in card.blocked_reason
    assert Step.objects.count() == 0


def test_a_repository_that_is_gone_blocks_the_card(bench: Bench, repository: Path) -> None:
    Board.objects.update(repository=str(repository))
    repository.rename(repository.with_name("moved"))
    card = bench.card("true")
    assert bench.run(card) == Outcome.BLOCKED
    assert "can't be cloned" in card.blocked_reason
    assert card.failures == 0
    repository.with_name("moved").rename(repository)
    cards.retry(card.pk, SYSTEM.actor)
    card.refresh_from_db()
    assert bench.run(card) == Outcome.COMPLETED


def test_after_a_conflict_every_step_is_done_again_on_both_sides(
    bench: Bench, repository: Path
) -> None:
    Board.objects.filter(pk=bench.board.pk).update(repository=str(repository))
    bench.board.refresh_from_db()
    card = bench.card(
        bench.mark("ran"),
        "if grep -q '<<<' README.md; then echo both > README.md; else echo ours > README.md; fi",
        review_required=True,
    )
    assert bench.run(card) == Outcome.COMPLETED
    (repository / "README.md").write_text("theirs\n")
    git(repository, "commit", "-q", "-a", "-m", "theirs")
    with pytest.raises(merging.MergeConflict):
        merging.push(card)
    merging.send_back(merging.join(card), "user:ann")
    card.refresh_from_db()
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.has("ran", 2)
    merging.record(merging.push(card), "user:ann")
    assert (repository / "README.md").read_text() == "both\n"


@pytest.mark.parametrize("door", ["sent back", "dragged back"])
def test_a_card_that_is_taken_back_does_its_steps_again(bench: Bench, door: str) -> None:
    card = bench.card(bench.mark("ran"), review_required=True)
    assert bench.run(card) == Outcome.COMPLETED
    card.refresh_from_db()
    assert card.state == "review"
    if door == "sent back":
        cards.reject(card.pk, "user:ann", "Once more.")
    else:
        column = bench.board.columns.get(kind="in_progress")
        cards.move(card.pk, "user:ann", column.pk)
    card.refresh_from_db()
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.has("ran", 2)
    card.refresh_from_db()
    assert card.state == "review"
    lines.rewind(card.pk, 1, "user:ann")
    card.refresh_from_db()
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.has("ran", 2), "a rewind keeps what its checkpoint stands on"


def test_a_card_starts_from_what_the_card_it_depends_on_ended_with(
    bench: Bench, repository: Path
) -> None:
    """Where its board says so; elsewhere it starts from the repository."""
    Board.objects.filter(pk=bench.board.pk).update(repository=str(repository))
    bench.board.refresh_from_db()
    parent = bench.card("echo made > made.txt")
    assert bench.run(parent) == Outcome.COMPLETED
    look = "cat made.txt 2>/dev/null || echo not there"
    without = bench.card(look, depends_on=[parent])
    assert bench.run(without) == Outcome.COMPLETED
    assert "not there" in logged(without)
    Board.objects.filter(pk=bench.board.pk).update(defaults={"start_from_parents": True})
    child = bench.card(f"{look}; echo own > own.txt", depends_on=[parent])
    assert bench.run(child) == Outcome.COMPLETED
    assert "not there" not in logged(child)
    assert f"starts from what {parent.key} ended with" in logged(child)
    last = child.checkpoints.order_by("-number").first()
    assert last is not None
    assert last.workspace is not None
    assert last.workspace["changed_files"] == 1


def test_a_workspace_that_a_step_removes_costs_an_attempt_not_the_card(
    bench: Bench, settings: Any
) -> None:
    settings.COMMAND_SANDBOX = "plain"  # under bubblewrap it is mounted and can't be removed
    once = bench.effects / "once"
    card = bench.card(
        "echo kept > kept", f'test -e {once} || {{ touch {once}; rm -rf "$PWD"; }}', "cat kept"
    )
    assert bench.run(card) == Outcome.FAILED
    assert "is gone" in card.attempts.get().error
    assert bench.run(card) == Outcome.COMPLETED


def test_an_artifact_never_leads_out_of_the_workspace(bench: Bench) -> None:
    secret = bench.effects / "secret.txt"
    secret.write_text("secret")
    card = bench.card(
        {
            "key": "a",
            "run": f"ln -s {secret} link.txt; ln -s {bench.effects} out; echo x > own.txt",
            "artifacts": ["*.txt", "out/*.txt", "**/*.txt"],
        }
    )
    assert bench.run(card) == Outcome.COMPLETED
    assert [a["name"] for a in Checkpoint.objects.get().artifacts] == ["own.txt"]


# ── steering ──


def test_cancelling_the_card_ends_its_command_at_once(bench: Bench) -> None:
    card = bench.card(
        f"trap '' TERM; echo half > half; {bench.mark('up')}; sleep 600; {bench.mark('late')}"
    )
    running = bench.start(card)
    wait_for(lambda: bench.count("up"))
    began = time.monotonic()
    cards.cancel(card.pk, "user:ann")
    assert running.result() == Outcome.LOST
    assert time.monotonic() - began < 60
    card.refresh_from_db()
    assert card.state == Card.State.CANCELLED
    assert bench.count("late") == 0
    assert Step.objects.get().status == "started"
    assert Checkpoint.objects.count() == 0
    kept = Salvage.objects.get()
    assert kept.attempt == running.attempt
    assert kept.workspace["changed_files"] == 1


def test_a_lost_lease_is_heard_with_the_next_output(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr("workers.watch.LOOK_SECONDS", 3600)
    card = bench.card(f"{bench.mark('up')}; while :; do echo on; sleep 0.05; done")
    running = bench.start(card)
    wait_for(lambda: bench.count("up"))
    cards.cancel(card.pk, "user:ann")
    assert running.result() == Outcome.LOST


def test_a_paused_card_is_handed_over_after_its_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches: list[Watch] = []

    def watching(ledger: Ledger, shift: Shift) -> Watch:
        watches.append(Watch(ledger, shift))
        return watches[0]

    monkeypatch.setattr(turns, "Watch", watching)
    gate = bench.effects / "gate"
    card = bench.card(
        f"{bench.mark('up')}; while [ ! -e {gate} ]; do sleep 0.05; done", bench.mark("two")
    )
    running = bench.start(card)
    wait_for(lambda: bench.count("up"))
    cards.pause(card.pk, "user:ann")
    wait_for(lambda: watches[0].paused)
    gate.touch()
    assert running.result() == Outcome.RELEASED
    card.refresh_from_db()
    attempt = card.attempts.get()
    assert (attempt.status, attempt.reason) == ("released", "paused")
    assert attempt.outcome == "1 of 2 steps are done. The card was paused."
    assert attempt.next_step == "Run step step2."
    assert bench.count("two") == 0
    cards.resume(card.pk, "user:ann")
    monkeypatch.setattr(turns, "Watch", Watch)
    assert bench.run(card) == Outcome.COMPLETED
    assert (bench.count("up"), bench.count("two")) == (1, 1)


def test_a_lease_is_renewed_through_a_step_longer_than_it(bench: Bench) -> None:
    card = bench.card("sleep 12")
    running = bench.start(card, lease_seconds=10)
    expired = 0
    while running.thread.is_alive():
        expired += leases.expire_lapsed()
        time.sleep(0.1)
    assert expired == 0
    assert running.result() == Outcome.COMPLETED


def test_a_shutdown_leaves_the_running_step_to_the_next_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    monkeypatch.setattr(stopping, "asked", asked.is_set)
    card = bench.card(
        bench.mark("one"),
        f"{bench.mark('two')}; echo half > half;"
        f" test $(wc -l < {bench.effects / 'two'}) = 2 || sleep 600",
        "test -e half",
    )
    running = bench.start(card)
    wait_for(lambda: bench.count("two"))
    began = time.monotonic()
    asked.set()
    assert running.result() == Outcome.RELEASED
    assert time.monotonic() - began < 60
    asked.clear()
    card.refresh_from_db()
    assert (card.state, card.failures) == (Card.State.WAITING, 0)
    assert card.attempts.get().reason == "shutdown"
    assert steps.in_doubt(card.pk, card.line) == ["step2"]
    assert bench.run(card) == Outcome.COMPLETED
    assert (bench.count("one"), bench.count("two")) == (1, 2)
    assert Step.objects.get(key="step2", superseded=False).in_doubt
    assert "An earlier attempt began this step" in logged(card)


def test_a_slice_ends_only_when_another_card_waits(bench: Bench, settings: Any) -> None:
    settings.SLICE_SECONDS = 0
    card = bench.card("true", "true", "true")
    assert bench.run(card) == Outcome.COMPLETED
    settings.DISPATCH = True
    long, other = bench.card("true", "true", "true"), bench.card("true")
    Card.objects.update(updated_at=timezone.now() - timedelta(seconds=5))
    OrmQ.objects.all().delete()
    assert bench.run(long) == Outcome.RELEASED
    attempt = long.attempts.get()
    assert (attempt.reason, attempt.outcome.split(".")[0]) == ("slice", "1 of 3 steps are done")
    assert long.failures == 0
    assert OrmQ.objects.count() == 1  # it stands in line again
    assert bench.run(other) == Outcome.COMPLETED
    assert bench.run(long) == Outcome.COMPLETED
    assert Step.objects.filter(card=long, superseded=True).count() == 0


def test_an_attempt_elsewhere_starts_from_the_snapshot(
    bench: Bench, repository: Path, settings: Any
) -> None:
    Board.objects.update(repository=str(repository))
    card = bench.card(
        "echo made > made; mkdir .cache; touch .cache/x",
        f"test -e {bench.effects / 'gate'}",
        "cat made; test ! -e .cache",
    )
    assert bench.run(card) == Outcome.FAILED
    (bench.effects / "gate").touch()
    settings.WORKSPACES_DIR = settings.DATA_DIR / "another host"
    assert bench.run(card) == Outcome.COMPLETED


def test_a_store_that_is_away_for_a_while_costs_no_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    real = steps.finish
    refused = iter([True, True, False, False])

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if next(refused):
            raise OperationalError("database is locked")
        return real(*args, **kwargs)

    monkeypatch.setattr(steps, "finish", flaky)
    card = bench.card(bench.mark("one"), bench.mark("two"))
    assert bench.run(card) == Outcome.COMPLETED
    assert (bench.count("one"), bench.count("two")) == (1, 1)


def test_output_in_a_flood_is_written_a_few_times_a_second(bench: Bench) -> None:
    card = bench.card("for n in $(seq 40); do seq 500; sleep 0.05; done")
    assert bench.run(card) == Outcome.COMPLETED
    took = Step.objects.get().result["duration_seconds"]
    assert len(logged(card)) == 40 * 1892
    assert Event.objects.filter(kind="log.appended").count() <= took / livelog.FLUSH_SECONDS + 2


# ── the task and who runs it ──


def test_a_nudge_claims_the_card_and_runs_it(bench: Bench) -> None:
    card = bench.card("true")
    assert tasks.work(str(card.pk)) == "completed"
    assert tasks.work(str(card.pk)) == "not claimable"
    worker = Worker.objects.get()
    assert (worker.kind, worker.name) == ("built_in", card.attempts.get().worker)
    assert worker.name.startswith("builtin-")
    agents = bench.card(workflow=None)
    assert tasks.work(str(agents.pk)) == "no such work"
    assert tasks.work("00000000-0000-7000-8000-000000000000") == "no such work"
    needy = bench.card("true", requires=["gpu"])
    assert tasks.work(str(needy.pk)) == "not claimable"


def test_a_fault_of_the_worker_fails_the_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", lambda attempt: 1 / 0)
    card = bench.card("true")
    assert tasks.work(str(card.pk)) == "fault"
    assert "ZeroDivisionError" in card.attempts.get().error


def test_a_stopping_cluster_begins_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "asked", lambda: True)
    assert tasks.work(str(bench.card("true").pk)) == "stopping"
    assert Attempt.objects.count() == 0


def test_workspaces_of_finished_cards_go_after_a_while(bench: Bench, settings: Any) -> None:
    done, open_card = bench.card("echo x > x"), bench.card("exit 1")
    bench.run(done)
    bench.run(open_card)
    assert hygiene.tidy() == 0
    Card.objects.update(state_since=timezone.now() - timedelta(hours=25))
    assert hygiene.tidy() == 1
    assert trees(done) == []
    assert len(trees(open_card)) == 1
    commit = Checkpoint.objects.get(card=done).workspace["commit"]
    assert store_of(done.board_id).has(commit)


def test_the_workspace_of_a_deleted_card_goes_after_a_day_and_is_snapshotted_first(
    bench: Bench,
) -> None:
    card = bench.card("echo x > kept.txt", "exit 1")
    assert bench.run(card) == Outcome.FAILED
    (tree,) = trees(card)
    (tree / "late.txt").write_text("after the last checkpoint\n")
    key, board_id = card.key, card.board_id
    cards.delete(card.pk, SYSTEM.actor)
    assert hygiene.tidy() == 0
    folder = settings.WORKSPACES_DIR / key
    day_before = time.time() - 25 * 3600
    os.utime(folder, (day_before, day_before))
    (settings.WORKSPACES_DIR / "ELSE-1").mkdir()  # of a board that nobody knows
    os.utime(settings.WORKSPACES_DIR / "ELSE-1", (day_before, day_before))
    assert hygiene.tidy() == 1
    assert not folder.exists()
    assert (settings.WORKSPACES_DIR / "ELSE-1").exists()
    store = store_of(board_id)
    kept = store.left_behind(key)
    assert any(b"late.txt" in store.run("ls-tree", "-r", left.commit) for left in kept)


# ── rewound and forked ──


def rewritten(bench: Bench) -> Card:
    """Return a finished card that wrote, changed and deleted files in four steps."""
    return bench.card(
        "echo one > a.txt && seq 500 > gone.txt",
        f"echo two >> a.txt && {bench.mark('second')}",
        "rm gone.txt && printf 'a\\0b' > bin.dat && echo x > 'odd \u00fc name.txt'"
        f" && {bench.mark('third')}",
        "cat a.txt",
    )


def test_a_rewound_card_finds_the_files_of_that_checkpoint_and_repeats_only_the_rest(
    bench: Bench,
) -> None:
    card = rewritten(bench)
    assert bench.run(card) is Outcome.COMPLETED
    lines.rewind(card.pk, 2, "user:ann")
    (tree,) = trees(card)
    attempt = bench.claim(card)
    runner.run_slice(attempt)
    card.refresh_from_db()
    assert card.state == "completed"
    assert (bench.count("second"), bench.count("third")) == (1, 2)
    assert (tree / "a.txt").read_text() == "one\ntwo\n"
    first, again = (
        Checkpoint.objects.get(card=card, line=n, summary__contains="step3").workspace["tree"]
        for n in (1, 2)
    )
    assert first == again


def test_a_fork_works_in_a_folder_of_its_own_with_the_files_of_that_checkpoint(
    bench: Bench,
) -> None:
    card = rewritten(bench)
    assert bench.run(card) is Outcome.COMPLETED
    (fork,) = lines.fork(card.pk, 2, "user:ann")
    assert bench.run(fork) is Outcome.COMPLETED
    assert (bench.count("second"), bench.count("third")) == (1, 2)
    (mine,), (theirs,) = trees(fork), trees(card)
    assert mine != theirs
    assert (mine / "a.txt").read_text() == "one\ntwo\n"
    assert not (mine / "gone.txt").exists()


def test_the_files_of_two_checkpoints_are_compared(bench: Bench) -> None:
    card = rewritten(bench)
    assert bench.run(card) is Outcome.COMPLETED
    one, three = (Checkpoint.objects.get(card=card, number=n) for n in (1, 3))
    found = differences.between(card, one, three)
    files = {file.path: file for file in found.files or ()}
    assert {path: file.status for path, file in files.items()} == {
        "a.txt": "modified",
        "bin.dat": "added",
        "gone.txt": "deleted",
        "odd \u00fc name.txt": "added",
    }
    assert (files["a.txt"].additions, files["gone.txt"].deletions) == (1, 500)
    assert files["bin.dat"].binary
    assert "+two" in (files["a.txt"].patch or "")
    assert "+x" in (files["odd \u00fc name.txt"].patch or "")
    back = differences.between(card, three, one)
    assert (back.additions, back.deletions) == (found.deletions, found.additions)


# ── killed ──

WORKER = """
    import os, sys
    sys.path.insert(0, {root!r})
    os.environ["DJANGO_SETTINGS_MODULE"] = "runtime_site.settings"
    import django
    django.setup()
    from workers import tasks
    print(tasks.work({card!r}), flush=True)
"""


def start_worker(card: Card) -> subprocess.Popen[str]:
    """Start a worker process on the same store and data folder."""
    from django.conf import settings

    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database['NAME']}"
    else:
        user = database["USER"] or "root"
        host, port = database["HOST"] or "127.0.0.1", database["PORT"] or "5432"
        password = f":{database['PASSWORD']}" if database["PASSWORD"] else ""
        url = f"postgresql://{user}{password}@{host}:{port}/{database['NAME']}"
    source = textwrap.dedent(WORKER.format(root=str(ROOT), card=str(card.pk)))
    return subprocess.Popen(
        [sys.executable, "-c", source],
        env={**os.environ, "DATABASE_URL": url, "DATA_DIR": str(settings.DATA_DIR)},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def ended(worker: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with worker:
        try:
            yield worker
        finally:
            worker.kill()


@pytest.mark.chaos
def test_a_killed_worker_costs_only_the_step_it_was_in(bench: Bench, repository: Path) -> None:
    Board.objects.update(repository=str(repository))
    nap = odd_sleep()
    card = bench.card(
        bench.mark("one") + "; echo 1 > one",
        f"{bench.mark('two')}; echo half >> half; setsid sleep {nap} &"
        f" test $(wc -l < {bench.effects / 'two'}) = 3 || {{ {bench.mark('up')}; sleep {nap}; }}",
        bench.mark("three") + "; test $(wc -l < half) = 1 && cat one",
    )
    for killed in (1, 2):
        with ended(start_worker(card)) as worker:
            wait_for(partial(bench.has, "up", killed))
            worker.kill()
        wait_for(lambda: not carrying(nap))
        assert Attempt.objects.live().count() == 1
        assert presence.expire_attempts_of_the_dead() == 1
        assert presence.expire_attempts_of_the_dead() == 0
        card.refresh_from_db()
        assert card.state == Card.State.WAITING
        assert steps.in_doubt(card.pk, card.line) == ["step2"]
    with ended(start_worker(card)) as worker:
        assert worker.communicate(timeout=120)[0] == "completed\n"
    assert [bench.count(name) for name in ("one", "two", "three")] == [1, 3, 1]
    assert Step.objects.get(key="step2", superseded=False).in_doubt
    assert not Step.objects.get(key="step3", superseded=False).in_doubt
    assert len(trees(card)) == 1  # taken over, not made anew
    seqs = list(Event.objects.filter(board_id=card.board_id).values_list("seq", flat=True))
    assert sorted(seqs) == list(range(1, len(seqs) + 1))


@pytest.mark.chaos
def test_a_stopped_worker_that_wakes_up_late_changes_nothing(bench: Bench) -> None:
    card = bench.card(
        f"{bench.mark('one')}; test $(wc -l < {bench.effects / 'one'}) = 2 || sleep 600;"
        f" {bench.mark('end')}"
    )
    with ended(start_worker(card)) as stale:
        wait_for(lambda: bench.count("one"))
        os.kill(stale.pid, signal.SIGSTOP)
        live = Attempt.objects.live().get()
        assert presence.expire_attempts_of_the_dead() == 0  # stopped is not dead
        leases.expire(live.pk, actor="system:test")
        card.refresh_from_db()
        assert bench.run(card) == Outcome.COMPLETED
        before = digest(card)
        os.kill(stale.pid, signal.SIGCONT)
        assert stale.communicate(timeout=120)[0] == "lost\n"
        assert digest(card) == before
    assert len(trees(card)) == 2  # it kept its own folder
    assert (bench.count("one"), bench.count("end")) == (2, 1)


def digest(card: Card) -> list[Any]:
    """Return all that the store holds of a card."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (Card, Attempt, Step, Checkpoint, LogChunk, Event)
    ]


def test_late_writes_of_a_lost_attempt_are_refused(bench: Bench) -> None:
    card = bench.card("true")
    attempt = bench.claim(card)
    leases.expire(attempt.pk, actor="system:test")
    assert runner.run_slice(attempt) == Outcome.LOST
    with pytest.raises(LeaseLost):
        steps.begin(attempt.pk, "step1")
    assert Step.objects.count() == 0


@pytest.mark.parametrize("sandbox", ["auto", "plain"])
def test_git_finds_no_repository_above_a_workspace_that_has_none(
    bench: Bench, tmp_path: Path, settings: Any, sandbox: str
) -> None:
    settings.COMMAND_SANDBOX = sandbox
    git(tmp_path, "init", "-q")  # the data of an installation stands in a checkout
    card = bench.card(
        {"key": "look", "run": "mkdir d; cd d; git rev-parse --git-dir && exit 1 || :"}
    )
    assert bench.run(card) == Outcome.COMPLETED, logged(card)
