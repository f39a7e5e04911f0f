from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import Failure, Task

from workers import pulses, sweep
from workers.management.commands import sweep as command

pytestmark = pytest.mark.django_db


@pytest.fixture
def rounds(monkeypatch: Any) -> Any:
    made = command.Rounds()
    # The connection belongs to the test's transaction.
    monkeypatch.setattr(command.connection, "close", lambda: None)
    return made


def fail_with(monkeypatch: Any, rounds: command.Rounds, *errors: Exception | None) -> list[int]:
    left, done = list(errors), []

    def tick() -> None:
        error = left.pop(0)
        if error is not None:
            raise error
        done.append(1)

    monkeypatch.setattr(rounds._sweep, "tick", tick)
    return done


def test_a_round_that_fails_is_tried_again_more_and_more_rarely(
    rounds: command.Rounds, monkeypatch: Any, settings: Any
) -> None:
    done = fail_with(
        monkeypatch,
        rounds,
        OperationalError("server closed the connection"),
        RuntimeError("a bug"),
        OperationalError("still away"),
        None,
    )
    first, second, third, well = (rounds._one() for _ in range(4))
    assert done == [1]
    assert well <= settings.SWEEP_SECONDS * 1.25
    assert settings.SWEEP_SECONDS < first < third <= command.LONGEST_PAUSE_SECONDS
    assert second <= command.LONGEST_PAUSE_SECONDS


def test_it_stops_when_asked_even_during_a_pause(rounds: command.Rounds, monkeypatch: Any) -> None:
    stop = threading.Event()
    monkeypatch.setattr(rounds._sweep, "tick", stop.set)
    rounds.until(stop)


def test_it_tidies_what_nobody_else_would(rounds: command.Rounds, monkeypatch: Any) -> None:
    fail_with(monkeypatch, rounds, None)
    long_ago = timezone.now() - timedelta(days=30)
    for number, stopped in enumerate((long_ago, timezone.now())):
        Task.objects.create(
            id=str(number), name="n", func="f", started=stopped, stopped=stopped, success=False
        )
    pulses.Pulse.objects.create(name="workers:gone:1", beat_at=long_ago)
    rounds._one()
    assert list(Failure.objects.values_list("id", flat=True)) == ["1"]
    assert pulses.age("workers:gone:1") is None


def test_what_one_part_can_not_do_keeps_no_other_waiting(monkeypatch: Any) -> None:
    made, done = sweep.Sweep(), []

    def fail() -> None:
        raise ValueError("a bad row")

    monkeypatch.setattr(sweep.hygiene, "tidy_beside", lambda: None)  # a thread that outlives us
    monkeypatch.setattr(sweep.timeouts, "tick", fail)
    monkeypatch.setattr(sweep.keeping, "tick", lambda: done.append(1))
    with pytest.raises(ValueError, match="a bad row"):
        made.tick()
    assert done == [1]
