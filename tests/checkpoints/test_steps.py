from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from boards import leases
from boards.models import Card
from checkpoints import lines, steps
from checkpoints.models import Checkpoint, Step
from events.models import Event
from kernel.errors import Invalid, NotFound, StepConflict
from tests.factories import claimed, make_card, make_checkpoint, make_step, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt():
    return claimed()


def next_attempt(attempt, worker="bob"):
    """The worker is gone; another one takes over."""
    leases.expire(attempt.pk, actor="system:test")
    Card.objects.update(not_before=None)
    return claimed(attempt.card, worker=worker)


def counting(attempt) -> list[tuple[str, str, int]]:
    rows = Step.objects.on_line(attempt.card_id, 1).order_by("number")
    return [(s.key, s.status, s.number) for s in rows]


# ── doing steps ──────────────────────────────────────────────────────────────────────────


def test_a_step_is_begun_then_finished(attempt):
    begun = steps.begin(attempt.pk, "build", title="Build it", kind="run", input={"target": "all"})
    assert (begun.step.status, begun.replay, begun.step.in_doubt) == ("started", False, False)
    done = steps.finish(attempt.pk, "build", "succeeded", result={"exit": 0})
    assert (done.step.status, done.step.result, done.replay) == ("succeeded", {"exit": 0}, False)
    attempt = now_is(attempt)
    assert (attempt.step_number, attempt.steps_done, attempt.steps_recorded) == (1, 1, 1)


def test_beginning_a_step_that_runs_begins_it_once(attempt):
    first = steps.begin(attempt.pk, "build").step
    again = steps.begin(attempt.pk, "build")
    assert (again.step, again.replay) == (first, False)
    assert now_is(attempt).step_number == 1


def test_a_recorded_result_is_returned_to_whoever_comes_next(attempt):
    make_step(attempt, "build", result={"exit": 0})
    later = next_attempt(attempt)
    for call in (
        lambda: steps.begin(later.pk, "build"),
        lambda: steps.record(later.pk, "build", "succeeded", result={"exit": 0}),
        lambda: steps.finish(later.pk, "build", "succeeded", result={"exit": 0}),
    ):
        answer = call()
        assert (answer.replay, answer.step.result) == (True, {"exit": 0})
    assert counting(later) == [("build", "succeeded", 1)]
    assert now_is(later).steps_done == 0
    assert now_is(later).step_number == 1


def test_the_same_finish_again_is_answered_and_counted_once(attempt):
    steps.begin(attempt.pk, "build")
    for replay in (False, True):
        done = steps.finish(
            attempt.pk, "build", "succeeded", result=[1], usage={"cost_usd": "0.25"}
        )
        assert done.replay is replay
    attempt = now_is(attempt)
    assert (attempt.steps_done, attempt.steps_recorded, attempt.cost_usd) == (1, 1, Decimal("0.25"))


@pytest.mark.parametrize(
    "other",
    [
        {"status": "succeeded", "result": {"exit": 1}},
        {"status": "failed", "result": {"exit": 0}},
        {"status": "succeeded", "result": {"exit": 0}, "error": "boom"},
    ],
)
@pytest.mark.parametrize("call", [steps.finish, steps.record])
def test_the_first_result_stands(attempt, call, other):
    make_step(attempt, "build", result={"exit": 0})
    status = other["status"]
    with pytest.raises(StepConflict) as refusal:
        call(attempt.pk, "build", status, **{k: v for k, v in other.items() if k != "status"})
    assert refusal.value.extra["recorded"] == {"status": "succeeded", "result": {"exit": 0}}
    assert counting(attempt) == [("build", "succeeded", 1)]
    assert now_is(attempt).steps_done == 1


def test_begin_and_finish_may_come_as_one_even_after_a_begin(attempt):
    steps.begin(attempt.pk, "build", title="Build it")
    done = steps.record(attempt.pk, "build", "succeeded", result=1)
    assert (done.step.title, done.step.status, done.replay) == ("Build it", "succeeded", False)
    assert counting(attempt) == [("build", "succeeded", 1)]


def test_a_step_is_finished_only_by_whoever_began_it(attempt):
    with pytest.raises(NotFound):
        steps.finish(attempt.pk, "build", "succeeded")
    steps.begin(attempt.pk, "build")
    later = next_attempt(attempt)
    with pytest.raises(NotFound):
        steps.finish(later.pk, "build", "succeeded")
    assert counting(later) == [("build", "started", 1)]
    assert now_is(later).steps_done == 0


def test_a_refused_call_leaves_no_number_behind(attempt):
    make_step(attempt, "a")
    for _ in range(3):
        with pytest.raises(StepConflict):
            steps.record(attempt.pk, "a", "failed", error="other")
    assert make_step(attempt, "b").number == 2


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 201, "a\n", "a;b"])
def test_a_key_is_of_one_shape(attempt, key):
    for call in (
        lambda: steps.begin(attempt.pk, key),
        lambda: steps.finish(attempt.pk, key, "succeeded"),
        lambda: steps.record(attempt.pk, key, "succeeded"),
    ):
        with pytest.raises(Invalid):
            call()


def test_what_a_step_cost_is_added_to_its_attempt(attempt):
    usage = {"input_tokens": 100, "output_tokens": 20, "cost_usd": "0.015", "model": "m-1"}
    step = make_step(attempt, "a", usage=usage)
    make_step(attempt, "b", usage=usage)
    attempt = now_is(attempt)
    assert (attempt.input_tokens, attempt.output_tokens) == (200, 40)
    assert attempt.cost_usd == Decimal("0.03")
    assert (now_is(step).model, now_is(step).cost_usd) == ("m-1", Decimal("0.015"))


# ── failed and in doubt ──────────────────────────────────────────────────────────────────


def test_a_step_whose_worker_died_in_it_is_in_doubt(attempt):
    make_step(attempt, "a")
    steps.begin(attempt.pk, "deploy")
    assert steps.in_doubt(attempt.card_id, 1, live_attempt=attempt.pk) == []
    later = next_attempt(attempt)
    assert steps.in_doubt(attempt.card_id, 1, live_attempt=later.pk) == ["deploy"]
    again = steps.begin(later.pk, "deploy")
    assert (again.replay, again.step.in_doubt, again.step.number) == (False, True, 3)
    assert steps.begin(later.pk, "deploy").step == again.step
    assert steps.in_doubt(attempt.card_id, 1, live_attempt=later.pk) == []


@pytest.mark.parametrize("retry", ["begin", "record"])
def test_a_failed_step_is_tried_again_by_a_later_attempt_alone(attempt, retry):
    make_step(attempt, "build", status="failed", error="boom")
    assert steps.begin(attempt.pk, "build").replay
    later = next_attempt(attempt)
    if retry == "begin":
        step = steps.begin(later.pk, "build").step
    else:
        step = steps.record(later.pk, "build", "succeeded").step
    assert (step.number, step.in_doubt) == (2, False)
    old = Step.objects.get(card=attempt.card, number=1)
    assert (old.superseded, old.status, old.error) == (True, "failed", "boom")


def test_a_succeeded_step_can_never_be_set_aside(attempt):
    step = make_step(attempt)
    with pytest.raises(IntegrityError), transaction.atomic():
        Step.objects.filter(pk=step.pk).update(superseded=True)


def test_steps_recorded_counts_what_the_line_has_done(attempt):
    make_step(attempt, "a")
    make_step(attempt, "b", status="failed")
    later = next_attempt(attempt)
    assert later.steps_recorded == 1
    make_step(later, "b")
    make_step(later, "a")  # a replay
    assert now_is(later).steps_recorded == len(steps.recorded(attempt.card_id, 1)) == 2


# ── results that hang on their input ─────────────────────────────────────────────────────


@pytest.mark.parametrize("call", ["begin", "record"])
@pytest.mark.parametrize(("first", "second"), [({"v": 1}, {"v": 2}), (None, {"v": 1})])
def test_a_result_for_another_input_does_not_count_where_the_input_matters(
    attempt, call, first, second
):
    make_step(attempt, "build", input=first)
    ask = {
        "begin": lambda given: steps.begin(attempt.pk, "build", input=given, depends_on_input=True),
        "record": lambda given: steps.record(
            attempt.pk, "build", "succeeded", input=given, depends_on_input=True
        ),
    }[call]
    assert ask(first).replay
    with pytest.raises(StepConflict):
        ask(second)


def test_a_failed_step_may_be_tried_again_with_another_input(attempt):
    make_step(attempt, "build", status="failed", input={"v": 1})
    later = next_attempt(attempt)
    step = steps.begin(later.pk, "build", input={"v": 2}, depends_on_input=True).step
    assert (step.status, step.input) == ("started", {"v": 2})


# ── with a checkpoint ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("call", [steps.finish, steps.record])
def test_a_step_and_its_checkpoint_are_kept_together(attempt, call):
    steps.begin(attempt.pk, "build")
    done = call(attempt.pk, "build", "succeeded", checkpoint={"summary": "built"})
    assert (done.checkpoint.number, done.checkpoint.after_step) == (1, 1)
    again = call(attempt.pk, "build", "succeeded", checkpoint={"summary": "built"})
    assert again.replay
    assert again.checkpoint == done.checkpoint
    assert Checkpoint.objects.count() == 1
    assert now_is(attempt).checkpoint_number == 1


def test_a_step_whose_checkpoint_is_refused_is_not_finished_either(attempt):
    steps.begin(attempt.pk, "build")
    unknown = {"summary": "built", "artifacts": [{"name": "x", "sha256": "0" * 64}]}
    with pytest.raises(Invalid):
        steps.finish(attempt.pk, "build", "succeeded", checkpoint=unknown)
    assert counting(attempt) == [("build", "started", 1)]
    assert now_is(attempt).checkpoint_number == 0


# ── how much it costs ────────────────────────────────────────────────────────────────────


def test_a_recorded_step_takes_three_statements(attempt):
    with CaptureQueriesContext(connection) as seen:
        steps.record(attempt.pk, "build", "succeeded", result=1)
    statements = [q["sql"] for q in seen if "SAVEPOINT" not in q["sql"]]
    assert len(statements) == 3, statements


def test_every_step_leaves_its_events(attempt):
    steps.begin(attempt.pk, "a")
    steps.finish(attempt.pk, "a", "succeeded")
    steps.record(attempt.pk, "b", "failed", error="boom", checkpoint={"summary": "x"})
    log = Event.objects.filter(subject_id=attempt.card_id, kind__startswith="step.").order_by("seq")
    assert [(e.kind, e.data["step"], e.data.get("checkpoint")) for e in log] == [
        ("step.started", "a", None),
        ("step.succeeded", "a", None),
        ("step.failed", "b", 1),
    ]


def test_steps_of_two_cards_have_nothing_to_do_with_each_other(attempt):
    other = claimed(make_card())
    make_step(attempt, "build", result=1)
    assert steps.record(other.pk, "build", "succeeded", result=2).step.number == 1


class TestFacts:
    """What the newest checkpoint says of tests and files stands on the attempt's own row."""

    SAID = {
        "summary": "half way",
        "tests": {"passed": 5, "failed": 1, "failing": ["test_round"]},
        "workspace": {"commit": "c" * 40, "additions": 128, "deletions": 9},
    }

    @staticmethod
    def of(attempt):
        row = now_is(attempt)
        return row.tests_passed, row.tests_failed, row.additions, row.deletions

    def test_a_checkpoint_with_a_step_or_alone_sets_them(self, attempt):
        assert self.of(attempt) == (None, None, None, None)
        steps.record(attempt.pk, "a", "succeeded", checkpoint=self.SAID)
        assert self.of(attempt) == (5, 1, 128, 9)
        steps.begin(attempt.pk, "b")
        steps.finish(attempt.pk, "b", "succeeded", checkpoint={**self.SAID, "tests": {"passed": 6}})
        assert self.of(attempt) == (6, 0, 128, 9)
        make_checkpoint(attempt, workspace={"additions": 130})
        assert self.of(attempt) == (6, 0, 130, 0)

    def test_an_old_finish_that_comes_again_does_not_bring_its_facts_back(self, attempt):
        steps.record(attempt.pk, "a", "succeeded", checkpoint=self.SAID)
        newer = {**self.SAID, "tests": {"passed": 6}}
        steps.record(attempt.pk, "b", "succeeded", checkpoint=newer)
        assert steps.record(attempt.pk, "a", "succeeded", checkpoint=self.SAID).replay
        assert self.of(attempt) == (6, 0, 128, 9)

    def test_the_next_attempt_begins_with_them(self, attempt):
        steps.record(attempt.pk, "a", "succeeded", checkpoint=self.SAID)
        assert self.of(next_attempt(attempt)) == (5, 1, 128, 9)

    def test_a_rewind_brings_those_of_its_checkpoint(self, attempt):
        steps.record(attempt.pk, "a", "succeeded", checkpoint=self.SAID)
        steps.record(attempt.pk, "b", "succeeded", checkpoint={**self.SAID, "tests": {"passed": 6}})
        card = lines.rewind(attempt.card_id, 1, "user:ann")
        assert self.of(claimed(card)) == (5, 1, 128, 9)
