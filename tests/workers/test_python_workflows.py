"""Workflows that are Python functions: remembered steps, questions, sleep, versions, kills."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases, workflows
from boards.models import Card, Message
from checkpoints.models import Checkpoint, Step
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from tests.processes import working_for
from tests.workbench import Bench
from workers.executors.python.clerk import Clerk
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

TOP = """
import os, time
from pathlib import Path
from holdfast.workflows import WorkflowError, workflow

def mark(name):
    with open(os.path.join(os.environ["EFFECTS"], name), "a") as file:
        file.write("x\\n")
    return name
"""


class Shop:
    """A board whose cards are Python workflows from an operator's folder."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder

    def has(self, text: str, name: str = "flows") -> None:
        (self.folder / f"{name}.py").write_text(TOP + text)

    def card(self, given: Any = "flow", **fields: Any) -> Card:
        step = {"key": "it", "python": given, "env": {"EFFECTS": str(self.bench.effects)}}
        return self.bench.card(step, **fields)

    def result(self, card: Card) -> Any:
        return Step.objects.get(card=card, key="it", superseded=False).result["outputs"]


@pytest.fixture
def shop(bench: Bench, tmp_path: Path, settings: Any) -> Shop:
    folder = tmp_path / "workflows"
    folder.mkdir()
    settings.WORKFLOWS_DIR = str(folder)
    return Shop(bench, folder)


def test_steps_are_remembered_files_kept_and_the_result_handed_on(shop: Shop) -> None:
    shop.has(
        """
@workflow("flow")
def flow(ctx):
    ctx.progress("off we go")
    first = ctx.step("first", lambda: (mark("first"), ctx.inputs["n"]))
    ctx.step("file", Path("kept").write_text, "here", checkpoint="The file is there.")
    ctx.checkpoint("Half of it is done.")
    parts = ctx.parallel({f"part:{n}": (lambda n=n: mark(f"part{n}")) for n in range(5)})
    if not os.path.exists(os.environ["EFFECTS"] + "/gate"):
        raise RuntimeError("the gate is shut")
    return {"first": first, "parts": sorted(parts), "kept": Path("kept").read_text()}
"""
    )
    card = shop.card({"workflow": "flow", "inputs": {"n": 3}})
    assert shop.bench.run(card) == Outcome.FAILED
    attempt = card.attempts.get()
    assert attempt.error == "Step it failed: RuntimeError: the gate is shut."
    assert "in flow" in attempt.lesson
    (shop.bench.effects / "gate").touch()
    assert shop.bench.run(card) == Outcome.COMPLETED
    assert shop.result(card) == {
        "first": ["first", 3],
        "parts": [f"part:{n}" for n in range(5)],
        "kept": "here",
    }
    assert [shop.bench.count(f"part{n}") for n in range(5)] == [1] * 5
    assert shop.bench.count("first") == 1
    rows = Step.objects.filter(card=card, key__startswith="it/1/")
    assert len(rows) == len({row.key for row in rows})
    said = Checkpoint.objects.filter(card=card).order_by("number")
    assert [c.summary for c in said][:2] == ["The file is there.", "Half of it is done."]


def test_asking_and_sleeping_free_the_worker(shop: Shop) -> None:
    shop.has(
        """
@workflow("flow")
def flow(ctx):
    ctx.step("before", mark, "before")
    ctx.sleep("rest", 600)
    go = ctx.ask("go", "Go on?", ["yes", "no"], timeout_seconds=600, default="no")
    why = ctx.ask("why", "Why?")
    return f"{go}, {why}"
"""
    )
    card = shop.card()
    began = timezone.now()
    with time_machine.travel(began, tick=True) as clock:
        assert shop.bench.run(card) == Outcome.RELEASED
        card.refresh_from_db()
        assert timedelta(seconds=590) < card.not_before - began < timedelta(seconds=700)
        clock.shift(700)
        for question, answer in (("Go on?", "Yes"), ("Why?", "why not")):
            assert shop.bench.run(card) == Outcome.BLOCKED
            asked = Message.objects.get(card=card, kind="question", closed_at=None)
            assert asked.text == question
            assert (asked.asks, asked.default) == (
                ("choice", "no") if answer == "Yes" else ("text", "")
            )
            cards.say(card.pk, "user:ann", answer, answers=asked.pk)
        assert shop.bench.run(card) == Outcome.COMPLETED
    assert shop.result(card) == {"result": "yes, why not"}
    assert shop.bench.count("before") == 1
    assert not Step.objects.filter(card=card, in_doubt=True).exists()


def test_a_card_goes_on_under_the_version_it_began_with(shop: Shop) -> None:
    old = """
@workflow("flow", version=1)
def flow(ctx):
    ctx.ask("go", "Go on?")
    return "old"
"""
    new = """
@workflow("flow", version=2)
def newer(ctx):
    return "new"
"""
    shop.has(old)
    card, other = shop.card(), shop.card()
    for one in (card, other):
        assert shop.bench.run(one) == Outcome.BLOCKED
        question = Message.objects.get(card=one)
        cards.say(one.pk, "user:ann", "yes", answers=question.pk)
    shop.has(old + new)
    assert shop.bench.run(card) == Outcome.COMPLETED
    assert shop.result(card) == {"result": "old"}
    fresh = shop.card()
    assert shop.bench.run(fresh) == Outcome.COMPLETED
    assert shop.result(fresh) == {"result": "new"}
    shop.has(new)
    assert shop.bench.run(other) == Outcome.BLOCKED
    assert (
        f"{other.key} began under version 1 of the workflow flow, and this host has: 2."
        in other.blocked_reason
    )
    assert other.failures == 0


def test_what_is_not_installed_is_said_with_what_could_not_be_loaded(shop: Shop) -> None:
    shop.has("@workflow('other')\ndef other(ctx): pass\n")
    shop.has("import nothing_of_this_name\n", "broken")
    card = shop.card()
    assert shop.bench.run(card) == Outcome.BLOCKED
    assert "No workflow named flow is installed on this host; there are: other." in (
        card.blocked_reason
    )
    assert "broken.py: ModuleNotFoundError" in card.blocked_reason
    pinned = shop.card({"workflow": "other", "version": 4})
    assert shop.bench.run(pinned) == Outcome.BLOCKED
    assert "Version 4 of other is not installed; this host has: 1." in pinned.blocked_reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("ctx.step('a', object)", "is no JSON and can't be remembered"),
        ("ctx.step('a', int); ctx.step('a', int)", "The key 'a' is used twice"),
        ("ctx.step('a b', int)", "'a b' is no key"),
        ("ctx.step('@began', int)", "'@began' is no key"),
        ("ctx.step('a', lambda: ctx.sleep('s', 1))", "stands within the step 'a'"),
        ("ctx.sleep('s', -1)", "must be a number from 0 to"),
        ("ctx.step('a', lambda: float('nan'))", "is no JSON"),
    ],
)
def test_what_a_workflow_may_not_do_is_said(shop: Shop, body: str, words: str) -> None:
    shop.has(f"\n@workflow('flow')\ndef flow(ctx):\n    {body}\n")
    card = shop.card()
    assert shop.bench.run(card) == Outcome.FAILED
    assert words in card.attempts.get().error


def test_a_step_that_was_announced_is_looked_into_when_it_is_in_doubt(shop: Shop) -> None:
    shop.has(
        """
def send(n):
    mark("send")
    if not os.path.exists(os.environ["EFFECTS"] + "/gate"):
        os.kill(os.getpid(), 9)
    return "sent"

def look(n):
    return "had been sent"

@workflow("flow")
def flow(ctx):
    return ctx.step("send", send, 1, announced=True, if_in_doubt=look)
"""
    )
    card = shop.card()
    assert shop.bench.run(card) == Outcome.FAILED
    assert "signal 9" in card.attempts.get().error
    assert shop.bench.run(card) == Outcome.COMPLETED
    assert shop.result(card) == {"result": "had been sent"}
    assert shop.bench.count("send") == 1


def test_killed_at_any_point_no_recorded_step_is_computed_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is killed with SIGKILL, the worker loses its lease, in turn, all the way."""
    shop.has(
        """
@workflow("flow")
def flow(ctx):
    return [ctx.step(f"s{n}", mark, f"s{n}", announced=n % 2 == 1) for n in range(6)]
"""
    )
    card = shop.card(max_attempts=50)
    points = iter(range(1, 100))
    fuse = {"left": 0, "how": 0}
    real = Clerk._answered

    def dying(self: Clerk, line: bytes) -> Any:
        before = fuse["how"] % 2
        fuse["left"] -= 1
        if fuse["left"] == 0 and fuse["how"] < 12:
            answered = None if before else real(self, line)
            if fuse["how"] % 3:
                for pid in working_for(str(self.assignment.attempt)):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            else:
                leases.expire(leases.UUID(self.assignment.attempt), actor=SYSTEM.actor)
                self._raised = LeaseLost("expired")
            return answered or {"stop": True}
        return real(self, line)

    monkeypatch.setattr(Clerk, "_answered", dying)
    outcome = None
    while outcome != Outcome.COMPLETED:
        fuse["left"], fuse["how"] = 2 + next(points) % 3, fuse["how"] + 1
        outcome = shop.bench.run(card)
        assert fuse["how"] < 40
    assert fuse["how"] > 6
    succeeded = Step.objects.filter(card=card, status="succeeded", key__startswith="it/1/s")
    assert sorted(succeeded.values_list("key", flat=True)) == [f"it/1/s{n}" for n in range(6)]
    assert shop.result(card) == {"result": [f"s{n}" for n in range(6)]}
    # Done and not recorded when it died: that may happen once for each death, never more.
    times = [shop.bench.count(f"s{n}") for n in range(6)]
    assert min(times) == 1
    assert sum(times) - 6 <= fuse["how"] // 2


def test_a_recorded_step_costs_four_statements_in_one_transaction(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.has(
        """
@workflow("flow")
def flow(ctx):
    for n in range(5):
        ctx.step(f"s{n}", int)
"""
    )
    spent: list[list[str]] = []
    real = Clerk._record

    def counted(self: Clerk, op: str, key: str, said: Any) -> Any:
        assert threading.current_thread().name == "clerk"
        with CaptureQueriesContext(connection) as queries:
            answer = real(self, op, key, said)
        spent.append([q["sql"].split()[0] for q in queries.captured_queries])
        return answer

    monkeypatch.setattr(Clerk, "_record", counted)
    assert shop.bench.run(shop.card()) == Outcome.COMPLETED
    assert len(spent) == 5
    for words in spent:
        statements = [word for word in words if word not in ("BEGIN", "COMMIT")]
        assert len(statements) <= 4, words
        assert words.count("BEGIN") == 1


def test_both_ways_to_name_a_python_workflow_mean_the_same() -> None:
    short = workflows.parse({"python": "release", "inputs": {"channel": "beta"}, "version": 2})
    step = {
        "key": "workflow",
        "python": {"workflow": "release", "version": 2, "inputs": {"channel": "beta"}},
    }
    assert workflows.parse({"steps": [step]}) == short
    assert workflows.parse("python: release\n").steps[0].given == {
        "workflow": "release",
        "inputs": {},
    }
