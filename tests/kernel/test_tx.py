from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from events import log
from events.models import Event
from goals.models import Goal
from kernel.tx import enclosed, enclosing, postpone, postponed, retrying, transition
from tests.factories import make_board, make_goal

pytestmark = pytest.mark.django_db(transaction=True)


class Refused(Exception):
    pass


class ByTheStore(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def make_and_refuse() -> None:
    with transition():
        make_goal()
        raise Refused


def deadlock(sqlstate: str = "40P01") -> OperationalError:
    error = OperationalError("deadlock detected")
    error.__cause__ = ByTheStore(sqlstate)
    return error


def test_transitions_within_an_enclosing_transaction_fail_with_it():
    def make_two() -> None:
        with enclosing():
            with transition():
                make_goal()
            make_and_refuse()

    with pytest.raises(Refused):
        make_two()
    assert not Goal.objects.exists()


def test_a_transition_that_fails_takes_the_enclosing_transaction_with_it():
    with enclosing():
        with pytest.raises(Refused):
            make_and_refuse()
        assert connection.needs_rollback
        connection.set_rollback(True)
    assert not Goal.objects.exists()


def test_within_an_enclosing_transaction_no_savepoints_are_made():
    with CaptureQueriesContext(connection) as seen, enclosing():
        assert enclosed()
        with transition(), transition():
            Goal.objects.exists()
    assert not enclosed()
    assert not any("SAVEPOINT" in q["sql"] for q in seen)


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_what_the_store_undid_for_a_reason_of_its_own_is_tried_again(sqlstate):
    calls = []

    def call() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise deadlock(sqlstate)
        return len(calls)

    assert retrying(call) == 3
    calls.clear()
    with pytest.raises(OperationalError):
        retrying(call, tries=2)


def test_other_errors_are_not_tried_again():
    calls = []

    def call() -> None:
        calls.append(1)
        raise deadlock("57014")

    with pytest.raises(OperationalError):
        retrying(call)
    assert len(calls) == 1


def test_inside_a_transaction_a_deadlock_is_the_callers_affair():
    calls = []

    def call() -> None:
        calls.append(1)
        raise deadlock()

    with pytest.raises(OperationalError), enclosing():
        retrying(call)
    assert len(calls) == 1


def test_what_is_postponed_runs_before_the_next_event_or_in_the_end():
    board, ran = make_board(), []

    def said() -> list[str]:
        told = Event.objects.filter(kind__in=["first", "second"]).order_by("seq")
        return list(told.values_list("kind", flat=True))

    def say(kind: str) -> None:
        log.record(kind, board_id=board.pk, subject_id=board.pk, actor="user:ann")

    with enclosing():
        with transition():
            postpone(lambda: say("first"))
            assert len(postponed()) == 1
        assert said() == []
        say("second")
        with transition():
            postpone(lambda: ran.append("late"))
        assert not ran
    assert said() == ["first", "second"]
    assert ran == ["late"]
    postpone(lambda: ran.append("at once"))
    assert ran == ["late", "at once"]


def test_what_a_failed_transition_postponed_does_not_run():
    board, ran = make_board(), []

    def fail_within(run_outer: bool) -> None:
        with pytest.raises(Refused), transition():
            postpone(lambda: ran.append("inner"))
            if run_outer:
                log.record("x", board_id=board.pk, subject_id=board.pk, actor="user:ann")
            raise Refused

    with transition():
        fail_within(run_outer=False)
    assert not ran
    with transition():
        postpone(lambda: ran.append("outer"))
        fail_within(run_outer=True)
        assert ran == ["outer", "inner"]  # undone with the transition in which it ran
    assert ran == ["outer", "inner", "outer"]
