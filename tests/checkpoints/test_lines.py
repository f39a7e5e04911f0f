from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from boards import cards, leases
from boards.models import Card
from checkpoints import briefing, differences, lines, recovery, steps
from checkpoints.models import Checkpoint, Line, Step
from events.models import Event
from kernel.errors import Invalid, LeaseLost, NotFound, TransitionRefused
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_step,
    now_is,
)

pytestmark = pytest.mark.django_db
State = Card.State


def walked(count: int = 4, **fields):
    """Return a live attempt with so many steps, a checkpoint after each."""
    attempt = claimed(make_card(**fields))
    for n in range(1, count + 1):
        make_step(attempt, f"step-{n}", result={"n": n})
        make_checkpoint(attempt, summary=f"{n} done", next_step=f"do {n + 1}", state={"n": n})
    return attempt


class TestRewind:
    def test_the_next_attempt_goes_on_from_there_and_does_the_rest_again(self):
        old = walked()
        card = lines.rewind(old.card_id, 2, "user:ann")
        new = claimed(card)
        assert (new.line, new.resumed_from, new.steps_recorded) == (2, 2, 2)
        assert recovery.head(card.pk, new.line).number == 2
        assert steps.begin(new.pk, "step-2").replay
        assert steps.begin(new.pk, "step-2").step.result == {"n": 2}
        again = steps.begin(new.pk, "step-3")
        assert not again.replay
        assert not again.step.in_doubt

    def test_what_comes_after_has_new_numbers_and_the_digests_chain(self):
        old = walked()
        card = lines.rewind(old.card_id, 2, "user:ann")
        new = claimed(card)
        make_step(new, "step-3", result={"n": "other"})
        saved = make_checkpoint(new, summary="other way")
        assert (saved.number, saved.parent.number, saved.line) == (5, 2, 2)
        assert recovery.intact(saved)
        numbers = list(Step.objects.filter(card=card).values_list("number", flat=True))
        assert len(set(numbers)) == len(numbers) == 7

    def test_history_stays(self):
        old = walked()
        before = list(Checkpoint.objects.filter(card=old.card_id).values("number", "digest"))
        mine = Step.objects.filter(card=old.card_id, line=1)
        recorded = list(mine.values("key", "result"))
        lines.rewind(old.card_id, 1, "user:ann")
        assert (
            list(Checkpoint.objects.filter(card=old.card_id).values("number", "digest")) == before
        )
        assert list(mine.values("key", "result")) == recorded

    def test_a_running_attempt_loses_its_lease(self):
        old = walked()
        card = lines.rewind(old.card_id, 1, "user:ann")
        assert card.state == State.WAITING
        assert now_is(old).status == "cancelled"
        with pytest.raises(LeaseLost):
            make_step(old, "late")
        (event,) = Event.objects.filter(board_id=card.board_id, kind="card.rewound")
        assert (event.data["checkpoint"], event.data["revoked"]) == (1, 1)

    def test_it_can_be_done_again_and_from_a_line_of_its_own(self):
        old = walked()
        card = lines.rewind(old.card_id, 3, "user:ann")
        second = claimed(card)
        make_step(second, "step-4", result="second")
        make_checkpoint(second)  # C5
        card = lines.rewind(card.pk, 5, "user:ann")
        third = claimed(card)
        assert (third.line, third.steps_recorded) == (3, 4)
        assert steps.begin(third.pk, "step-4").step.result == "second"
        card = lines.rewind(card.pk, 4, "user:ann")  # back on the first line
        fourth = claimed(card)
        assert (fourth.line, fourth.resumed_from) == (4, 4)
        assert steps.begin(fourth.pk, "step-4").step.result == {"n": 4}

    def test_it_can_be_done_twice_before_anybody_goes_on(self):
        old = walked()
        for number in (3, 1, 2):
            card = lines.rewind(old.card_id, number, "user:ann")
        new = claimed(card)
        assert (new.line, new.resumed_from, new.steps_recorded) == (4, 2, 2)
        make_step(new, "step-3", result="other")
        assert make_checkpoint(new).number == 5
        (fork,) = lines.fork(card.pk, 5, "user:ann")
        again = claimed(lines.rewind(fork.pk, 5, "user:ann"))
        assert steps.begin(again.pk, "step-3").step.result == "other"
        make_step(again, "step-4")

    def test_a_step_that_ended_after_the_checkpoint_does_not_count(self):
        attempt = claimed()
        steps.begin(attempt.pk, "slow")
        make_checkpoint(attempt)  # C1, while it runs
        steps.finish(attempt.pk, "slow", "succeeded", result=1)
        make_checkpoint(attempt)
        card = lines.rewind(attempt.card_id, 1, "user:ann")
        new = claimed(card)
        assert new.steps_recorded == 0
        assert not steps.begin(new.pk, "slow").replay

    def test_an_attempt_that_dies_at_once_leaves_the_point_to_the_next_and_counts(self):
        old = walked(max_attempts=2)
        card = lines.rewind(old.card_id, 2, "user:ann")
        first = claimed(card)
        leases.expire(first.pk, actor="system:test")
        card = now_is(card)
        assert card.failures == 1
        second = claimed(card)
        assert second.resumed_from == 2
        leases.expire(second.pk, actor="system:test")
        assert now_is(card).state == State.BLOCKED

    def test_a_completed_card_goes_back_to_work(self):
        old = walked()
        leases.complete(old.pk, "done")
        assert lines.rewind(old.card_id, 2, "user:ann").state == State.WAITING

    def test_the_briefing_says_what_that_checkpoint_said(self):
        old = walked()
        card = lines.rewind(old.card_id, 2, "user:ann")
        told = briefing.build(now_is(card), max_tokens=4000).markdown
        assert "do 3" in told
        assert "do 5" not in told

    @pytest.mark.parametrize("number", [0, 9])
    def test_a_checkpoint_that_is_not_there_is_refused_and_nothing_changes(self, number):
        old = walked()
        with pytest.raises(Invalid):
            lines.rewind(old.card_id, number, "user:ann")
        assert now_is(old).status == "running"
        assert not Line.objects.exists()


class TestFork:
    def test_a_fork_starts_with_what_its_origin_had_recorded(self):
        old = walked(labels=["x"])
        (made,) = lines.fork(old.card_id, 2, "user:ann", title="Another way", approach="faster")
        assert (made.title, made.state, made.labels) == ("Another way", State.WAITING, ["x"])
        assert made.key != old.card.key
        new = claimed(made)
        assert (new.steps_recorded, new.resumed_from) == (2, 2)
        assert steps.begin(new.pk, "step-2").replay
        assert not steps.begin(new.pk, "step-3").replay
        saved = make_checkpoint(new, summary="mine")
        assert saved.number == 3
        assert saved.parent.card_id == old.card_id
        assert recovery.intact(saved)

    def test_the_origin_goes_on_untouched(self):
        old = walked()
        lines.fork(old.card_id, 2, "user:ann")
        make_step(old, "step-5")
        assert now_is(old).status == "running"

    def test_its_worker_is_told_where_it_comes_from_and_how_to_go_about_it(self):
        old = walked()
        (made,) = lines.fork(old.card_id, 2, "user:ann", approach="use a parser generator")
        told = briefing.build(now_is(made), max_tokens=4000).markdown
        assert "do 3" in told
        assert "use a parser generator" in told
        assert f"Forked from {old.card.key} at its checkpoint C2" in told

    def test_a_fork_can_be_rewound_to_where_it_began_and_forked_again(self):
        old = walked()
        (made,) = lines.fork(old.card_id, 2, "user:ann")
        new = claimed(made)
        make_step(new, "step-3", result="mine")
        make_checkpoint(new)  # its C3
        (again,) = lines.fork(made.pk, 3, "user:ann")
        third = claimed(again)
        assert third.steps_recorded == 3
        assert steps.begin(third.pk, "step-3").step.result == "mine"
        card = lines.rewind(made.pk, 2, "user:ann")
        assert not steps.begin(claimed(card).pk, "step-3").replay

    def test_a_card_with_forks_is_not_deleted_before_them(self):
        old = walked()
        leases.complete(old.pk, "done")
        (made,) = lines.fork(old.card_id, 2, "user:ann")
        with pytest.raises(TransitionRefused, match="forked"):
            cards.delete(old.card_id, "user:ann")
        cards.delete(made.pk, "user:ann")
        cards.delete(old.card_id, "user:ann")
        assert not Card.objects.filter(pk=old.card_id).exists()

    def test_a_bad_one_leaves_nothing(self):
        old = walked()
        for wrong in ({"count": 0}, {"count": 11}, {"count": 2, "approaches": ["only one"]}):
            with pytest.raises(Invalid):
                lines.fork(old.card_id, 2, "user:ann", **wrong)
        with pytest.raises(Invalid):
            lines.fork(old.card_id, 99, "user:ann", count=3)
        assert Card.objects.filter(board=old.board_id).count() == 1

    def test_it_costs_the_same_statements_for_many_steps(self):
        counts = []
        for size in (3, 60):
            old = walked(size)
            with CaptureQueriesContext(connection) as sent:
                lines.fork(old.card_id, size, "user:ann")
            counts.append(len(sent))
        assert counts[0] == counts[1]


class TestRace:
    def test_the_first_to_complete_wins_and_the_others_stop(self):
        old = walked()
        made = lines.fork(
            old.card_id, 2, "user:ann", count=3, approaches=["by hand", "generated", "borrowed"]
        )
        assert len({card.race for card in made}) == 1
        one, two = claimed(made[0]), claimed(made[1], "bob")
        leases.complete(two.pk, "won")
        states = [now_is(card).state for card in made]
        assert states == [State.CANCELLED, State.COMPLETED, State.CANCELLED]
        assert now_is(one).status == "cancelled"
        assert made[1].key in now_is(one).reason
        with pytest.raises(LeaseLost):
            leases.complete(one.pk, "too late")
        assert now_is(old).status == "running"

    def test_a_review_decides_at_the_approval(self):
        old = walked(review_required=True)
        made = lines.fork(old.card_id, 2, "user:ann", count=2)
        leases.complete(claimed(made[0]).pk, "first")
        assert now_is(made[1]).state == State.WAITING
        leases.complete(claimed(made[1]).pk, "second")
        cards.approve(made[1].pk, "user:ann")
        assert [now_is(c).state for c in made] == [State.CANCELLED, State.COMPLETED]

    def test_a_person_who_moves_one_to_completed_decides_it(self):
        old = walked()
        made = lines.fork(old.card_id, 2, "user:ann", count=2)
        cards.move(made[0].pk, "user:ann", column_of(now_is(old.card).board, "completed").pk)
        assert now_is(made[1]).state == State.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_all_racers_finish_at_once_and_one_wins():
    old = walked(board=make_board())
    made = lines.fork(old.card_id, 2, "user:ann", count=4)
    attempts = [claimed(card, f"w{n}") for n, card in enumerate(made)]
    gate = Barrier(len(attempts))

    def finish(attempt):
        gate.wait()
        try:
            leases.complete(attempt.pk, "done")
            return "won"
        except LeaseLost:
            return "lost"
        finally:
            connection.close()

    with ThreadPoolExecutor(len(attempts)) as pool:
        ends = list(pool.map(finish, attempts))
    assert sorted(ends) == ["lost", "lost", "lost", "won"]
    states = sorted(now_is(card).state for card in made)
    assert states == ["cancelled", "cancelled", "cancelled", "completed"]
    log = Event.objects.filter(board_id=old.board_id).order_by("seq").values_list("seq", flat=True)
    assert list(log) == list(range(1, len(log) + 1))


class TestDifference:
    def test_state_tests_and_memory(self):
        attempt = claimed(make_card(board=make_board()))
        first = make_checkpoint(
            attempt,
            state={"a": 1, "gone": True, "list": [1, 2], "x/y": 0},
            tests={"passed": 1, "failed": 2, "failing": ["t1", "t2"]},
        )
        second = make_checkpoint(
            attempt,
            state={"a": 2, "new": {"b": 1}, "list": [1], "x/y": 0},
            tests={"passed": 2, "failed": 2, "failing": ["t2", "t3"]},
            decisions=[{"title": "Use WAL", "rationale": "reads go on"}],
        )
        found = differences.between(attempt.card, first, second)
        assert found.state == [
            {"path": "/a", "op": "replace", "from": 1, "to": 2},
            {"path": "/gone", "op": "remove", "from": True},
            {"path": "/list/1", "op": "remove", "from": 2},
            {"path": "/new", "op": "add", "to": {"b": 1}},
        ]
        assert (found.newly_failing, found.newly_passing) == (["t3"], ["t1"])
        assert [d.title for d in found.decisions] == ["Use WAL"]
        assert found.files is None
        assert "without a workspace" in found.note
        back = differences.between(attempt.card, second, first)
        assert back.newly_failing == ["t1"]
        assert [d.title for d in back.decisions] == ["Use WAL"]

    def test_true_is_not_one(self):
        attempt = claimed()
        first = make_checkpoint(attempt, state={"a": 1})
        second = make_checkpoint(attempt, state={"a": True})
        assert len(differences.between(attempt.card, first, second).state) == 1

    def test_a_checkpoint_of_another_card_is_not_there(self):
        attempt, other = walked(1), walked(3)
        assert other.card_id != attempt.card_id
        with pytest.raises(NotFound):
            differences.named(attempt.card, 3)


@pytest.mark.django_db
def test_a_test_that_ends_both_ways_with_the_same_files_is_flaky():
    attempt = claimed()
    points = [
        make_checkpoint(
            attempt,
            tests={"passed": 3 - len(failing), "failed": len(failing), "failing": failing},
            workspace={"commit": "", "tree": tree},
        )
        for tree, failing in [("a" * 40, ["x"]), ("a" * 40, []), ("b" * 40, ["x", "y"])]
    ]
    found = differences.between(attempt.card, points[1], points[2])
    assert (found.newly_failing, found.flaky) == (["x", "y"], ["x"])
    assert differences.between(attempt.card, points[2], points[2]).flaky == []
