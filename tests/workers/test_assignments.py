"""What an executor is handed: pieces on record, follow-up cards, secrets, a guard."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from boards import leases
from boards.models import Board, Card
from checkpoints.models import Step
from goals.models import Decision, Discovery
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from tests.workbench import Bench, Seat, wait_for
from workers.assignments import Assignment
from workers.executors.contract import Refused

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def seat(bench: Bench) -> Iterator[Seat]:
    seat = Seat(bench, "true")
    seat.watch.start()
    yield seat
    seat.close()
    seat.watch.close()


@pytest.fixture
def assignment(seat: Seat) -> Assignment:
    return seat.assignment()


def test_what_was_learnt_is_on_record_with_the_piece_that_taught_it(
    assignment: Assignment,
) -> None:
    assignment.journal.record(
        "a",
        {"n": 1},
        checkpoint="Learnt something.",
        decisions=[{"title": "Use sums", "rationale": "They are exact."}],
        discoveries=[{"kind": "dead_end", "title": "Floats"}],
        seconds=30,
    )
    step = Step.objects.get(key="step1/1/a")
    assert step.finished_at is not None
    assert (step.finished_at - step.started_at).total_seconds() == 30
    assert Decision.objects.get().title == "Use sums"
    assert Discovery.objects.get().kind == "dead_end"


def test_a_card_is_proposed_once_however_often_the_piece_is_done(assignment: Assignment) -> None:
    key = assignment.journal.propose("p", "Write the docs", "All of them.")
    assert assignment.journal.propose("p", "Write the docs", "All of them.") == key
    assert Card.objects.get(key=key).title == "Write the docs"
    assert Card.objects.count() == 2
    assert assignment.journal.recorded()["p"].result == {"card": key}


def test_a_card_too_many_is_refused_and_nothing_of_it_is_kept(
    assignment: Assignment, seat: Seat
) -> None:
    Board.objects.filter(pk=seat.card.board_id).update(defaults={"follow_ups": 0})
    with pytest.raises(Refused, match="proposed its 0 cards"):
        assignment.journal.propose("p", "One more")
    assert Card.objects.count() == 1
    assert not assignment.journal.recorded()


def test_a_lost_attempt_proposes_nothing(assignment: Assignment, seat: Seat) -> None:
    leases.expire(seat.attempt.pk, actor=SYSTEM.actor)
    with pytest.raises(LeaseLost):
        assignment.journal.propose("p", "One more")
    assert Card.objects.count() == 1


def test_a_secret_that_is_hidden_is_struck_out_from_then_on(assignment: Assignment) -> None:
    assignment.hide("correct-horse-battery")
    said = {"text": "it is correct-horse-battery", "n": [1, "correct-horse-battery"]}
    assert assignment.redacted(said) == {"text": "it is [redacted]", "n": [1, "[redacted]"]}


def test_what_is_guarded_is_cancelled_when_the_lease_is_lost(
    assignment: Assignment, seat: Seat
) -> None:
    cancelled: list[bool] = []
    over = threading.Event()

    class Request:
        def cancel(self, *, at_once: bool = False) -> None:
            cancelled.append(at_once)
            over.set()

    with assignment.guarding(Request()):
        leases.expire(seat.attempt.pk, actor=SYSTEM.actor)
        wait_for(over.is_set)
    assert cancelled == [True]
    with pytest.raises(LeaseLost):
        assignment.check()
