"""Criteria that check themselves: in a clean clone, with evidence, and what broke one is found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from boards import leases
from boards.models import Board
from boards.notices import raising
from boards.notices.models import Notice
from checkpoints import artifacts
from events.models import Event
from goals import checks, criteria, memory
from goals.models import CheckRun, Evidence, Goal, Regression
from kernel.access import SYSTEM
from kernel.errors import EvidenceMissing, LeaseLost
from tests.factories import claimed, make_card, make_goal, make_user, now_is
from tests.repositories import git
from tests.workbench import Bench
from workers import checking

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def repository(tmp_path: Path, bench: Bench) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, "first", ok="yes\n")
    defaults = {"test_command": "sh -c 'for t; do grep -q yes $t || exit 1; done' tests"}
    Board.objects.filter(pk=bench.board.pk).update(repository=str(folder), defaults=defaults)
    bench.board.refresh_from_db()
    return folder


def commit(folder: Path, subject: str, card: str = "", **files: str) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    trailer = ["-m", f"Holdfast-Card: {card}"] if card else []
    git(folder, "commit", "-q", "--allow-empty", "-m", subject, *trailer)
    return git(folder, "rev-parse", "HEAD")


def run(goal: Goal, why: str = "asked", **more: Any) -> CheckRun:
    made = checks.request(goal, "user:ann", why, **more)
    checking.check(made.pk)
    return now_is(made)


def test_each_check_leaves_evidence_with_its_output_and_the_commit(
    bench: Bench, repository: Path
) -> None:
    goal = make_goal(
        bench.board,
        criteria=[
            {"text": "there", "check": "echo looking; cat ok"},
            {"text": "not there", "check": "echo gone >&2; exit 3"},
            {"text": "tested", "tests": "ok"},
            {"text": "told"},
        ],
    )
    done = run(goal)
    assert (done.status, done.said) == ("done", "2 met, 1 not met.")
    assert done.commit == git(repository, "rev-parse", "HEAD")
    assert [c.met for c in criteria.standing(goal.pk)] == [True, False, True, None]
    first, second, _ = Evidence.objects.order_by("criterion__number")
    assert first.commit == done.commit
    assert artifacts.path_of(first.artifact).read_text() == "looking\nyes\n"
    assert "failed with exit code 3" in second.detail
    assert artifacts.readable(first.artifact, SYSTEM)
    # On a board of which nobody said so nothing is run, and what is known stays.
    Board.objects.filter(pk=bench.board.pk).update(allow_commands=False)
    refused = run(goal)
    assert refused.status == "failed"
    assert "Commands are off" in refused.error
    assert Evidence.objects.count() == 3


def test_a_regression_reopens_the_goal_and_names_the_card_that_did_it(
    bench: Bench, repository: Path
) -> None:
    person = make_user("ada", is_superuser=True)
    goal = make_goal(
        bench.board, achieves_itself=True, criteria=[{"text": "ok", "check": "grep yes ok"}]
    )
    card = make_card(bench.board, goal=goal, title="tidy up")
    run(goal)
    assert now_is(goal).status == "achieved"
    for n in range(9):
        commit(repository, f"unrelated {n}", other=f"{n}\n")
    culprit = commit(repository, "tidy up", card=card.key, ok="no\n")
    for n in range(6):
        commit(repository, f"later {n}", other=f"later {n}\n")
    done = run(goal)
    assert done.said == "1 not met."
    assert now_is(goal).status == "active"
    found = Regression.objects.get()
    assert found.culprit is not None
    assert (found.culprit["commit"], found.culprit["card"]) == (culprit, card.key)
    assert len(found.suspects) == 16
    assert len(found.trials) == 4
    assert artifacts.path_of(found.trials[-1]["artifact"] or found.trials[0]["artifact"]).exists()
    kinds = list(Event.objects.filter(subject_id=goal.pk).values_list("kind", flat=True))
    for kind in ("goal.achieved", "goal.reopened", "criterion.regressed"):
        assert kind in kinds
    raising.tick()
    told = [notice.text for notice in Notice.objects.filter(user=person, kind="goal")]
    assert any(card.key in text for text in told), told
    # Mended, the goal is achieved again.
    commit(repository, "mend", ok="yes again\n")
    run(goal)
    assert now_is(goal).status == "achieved"
    assert Regression.objects.count() == 1


def test_what_is_red_only_once_is_no_regression(bench: Bench, repository: Path) -> None:
    flaky = f"test -e {bench.effects}/seen || {{ touch {bench.effects}/seen; exit 1; }}"
    goal = make_goal(bench.board, criteria=[{"text": "flaky", "check": flaky}])
    (bench.effects / "seen").touch()
    run(goal)
    (bench.effects / "seen").unlink()
    run(goal)
    assert "It failed once before." in Evidence.objects.order_by("-pk")[0].detail
    assert not Regression.objects.exists()


def test_a_card_that_is_completed_has_its_goal_checked_where_something_came_of_it(
    bench: Bench, repository: Path
) -> None:
    goal = make_goal(bench.board, criteria=[{"text": "ok", "check": "grep yes ok"}])
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        card = make_card(bench.board, goal=goal)
        leases.complete(claimed(card).pk, "done", evidence=[{"criterion": 1, "met": True}])
        made = CheckRun.objects.get()
        assert (made.why, made.card_id) == ("completed", card.pk)
        checking.check(made.pk)
    assert now_is(made).said == "Nothing new is in the repository."
    run(goal)
    commit(repository, "broken", ok="no\n")
    other = make_card(bench.board, goal=goal)
    leases.complete(claimed(other).pk, "done")
    last = CheckRun.objects.order_by("-pk")[0]
    checking.check(last.pk)
    assert now_is(last).said == "1 not met."


def test_a_schedule_asks_again_and_the_same_again_is_no_new_row(
    bench: Bench, repository: Path
) -> None:
    goal = make_goal(
        bench.board, check_every_seconds=60, criteria=[{"text": "ok", "check": "grep yes ok"}]
    )
    assert checks.schedule() == 1
    assert checks.schedule() == 0
    checking.check(CheckRun.objects.get().pk)
    Goal.objects.filter(pk=goal.pk).update(check_due_at=timezone.now())
    assert checks.schedule() == 1
    checking.check(CheckRun.objects.order_by("-pk")[0].pk)
    shown = Evidence.objects.get()
    assert shown.confirmed_at is not None
    memory.edit(goal.pk, "user:ann", {"check_every_seconds": None})
    assert now_is(goal).check_due_at is None


def test_who_goes_on_with_a_run_does_the_rest_and_the_late_one_writes_nothing(
    bench: Bench, repository: Path
) -> None:
    wanted = [{"text": f"c{n}", "check": bench.mark(f"c{n}")} for n in range(3)]
    goal = make_goal(bench.board, criteria=wanted)
    made = checks.request(goal, "user:ann")
    assert checks.request(goal, "user:bob").pk == made.pk
    late = checks.begin(made.pk, "a")
    assert late is not None
    first = criteria.standing(goal.pk)[0]
    checks.show(late, first, met=True, detail="x")
    assert checks.begin(made.pk, "b") is None
    CheckRun.objects.update(lease_expires_at=timezone.now())
    assert [r.pk for r in checks.waiting(2)] == [made.pk]
    checking.check(made.pk)
    assert [bench.count(f"c{n}") for n in range(3)] == [0, 1, 1]
    with pytest.raises(LeaseLost):
        checks.show(late, first, met=False, detail="y")
    assert now_is(first).met is True
    assert now_is(made).status == "done"


def test_done_without_evidence_is_refused_where_the_goal_asks_for_it(bench: Bench) -> None:
    goal = make_goal(bench.board, evidence_required=True, criteria=["fast", "right"])
    attempt = claimed(make_card(bench.board, goal=goal))
    with pytest.raises(EvidenceMissing) as refused:
        leases.complete(attempt.pk, "done")
    assert "1. fast; 2. right" in refused.value.detail
    assert refused.value.status == 422
    assert now_is(attempt).status == "running"
    with pytest.raises(EvidenceMissing):
        leases.complete(attempt.pk, "done", evidence=[{"criterion": 1, "met": False}])
    leases.complete(attempt.pk, "done", evidence=[{"criterion": 1, "met": True}])
    with pytest.raises(EvidenceMissing, match=r"2\. right"):
        memory.edit(goal.pk, "user:ann", {"status": "achieved"})
    criteria.say(goal.pk, "2", "user:ann", met=True, detail="I looked")
    assert now_is(goal).met_at is not None
    memory.edit(goal.pk, "user:ann", {"status": "achieved"})
    criteria.say(goal.pk, "2", "user:ann", met=False)
    assert now_is(goal).status == "active"


def test_what_a_person_must_say_no_worker_says(bench: Bench) -> None:
    goal = make_goal(bench.board, criteria=[{"text": "agreed", "by_person": True}])  # type: ignore[dict-item]
    criteria.record_evidence(goal.pk, [{"criterion": 1, "met": True}], actor="worker:a")
    assert criteria.standing(goal.pk)[0].met is None


@pytest.fixture
def site() -> Iterator[dict[str, Any]]:
    told: dict[str, Any] = {"status": 200, "body": b"all ok", "where": "", "hits": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told["hits"].append(self.path)
            turned = told["where"] if self.path == "/" else ""
            self.send_response(302 if turned else told["status"])
            if turned:
                self.send_header("Location", turned)
            self.send_header("Content-Length", str(len(told["body"])))
            self.end_headers()
            self.wfile.write(told["body"])

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told["url"] = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_called_only_as_far_as_it_may_be(
    bench: Bench, site: dict[str, Any], settings: Any
) -> None:
    probe = {"url": site["url"], "status": 200, "text": "ok", "timeout_seconds": 2}
    goal = make_goal(bench.board, criteria=[{"text": "answers", "probe": probe}])  # type: ignore[dict-item]
    Board.objects.filter(pk=bench.board.pk).update(allow_network=False)
    assert "keeps off the network" in run(goal).error
    Board.objects.filter(pk=bench.board.pk).update(allow_network=True)
    settings.ALLOW_PRIVATE_PROBES = False
    run(goal)
    assert "private network" in Evidence.objects.order_by("-pk")[0].detail
    assert not site["hits"]
    settings.ALLOW_PRIVATE_PROBES = True
    run(goal)
    assert criteria.standing(goal.pk)[0].met is True
    site["where"] = "/there"
    run(goal)
    assert site["hits"][-1] == "/there"
    for where in ("http://localhost:1/", "http://169.254.169.254/", "//other.example/"):
        site["where"] = where
        run(goal)
        assert "answered 302, not 200" in Evidence.objects.order_by("-pk")[0].detail
    assert Regression.objects.get().status == "listed"
    site["where"], site["body"] = "", b"sorry"
    run(goal)
    assert "without" in Evidence.objects.order_by("-pk")[0].detail


def test_a_workflow_that_shows_nothing_blocks_its_card_where_evidence_is_asked_for(
    bench: Bench,
) -> None:
    goal = make_goal(bench.board, evidence_required=True, criteria=["fast"])
    card = bench.card("true", goal=goal)
    assert bench.run(card) == "blocked"
    assert "1. fast" in card.blocked_reason
    other = bench.card({"key": "look", "check": "echo quick", "criterion": 1}, goal=goal)
    assert bench.run(other) == "completed"
    shown = Evidence.objects.get()
    assert (shown.step, shown.checkpoint, shown.card_id) == ("look", 1, other.pk)
