"""A host that is drained, and one that fails every card: it rests, then tries one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Board
from events.models import Event
from tests.factories import claimed, make_board, make_card, make_user, now_is
from workers import hosts, runner, tasks
from workers.models import Host

pytestmark = pytest.mark.django_db

WORKFLOW = {"steps": [{"key": "a", "run": "true"}]}


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        yield clock


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(hosts, "_looked", (float("-inf"), True))
    hosts.seen()
    return Host.objects.get(name=hosts.here())


@pytest.fixture
def board(host: Host) -> Board:
    return make_board(allow_commands=True)


def new(board: Board) -> str:
    return str(make_card(board, workflow=WORKFLOW).pk)


def broken(attempt: Attempt) -> str:
    leases.fail(attempt.pk, "No space left on device.", fault="infrastructure")
    return "failed"


def well(attempt: Attempt) -> str:
    leases.complete(attempt.pk, "done")
    return "completed"


def test_a_host_that_fails_card_after_card_rests_and_then_tries_one(
    board: Board, host: Host, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", broken)
    cards = [new(board) for _ in range(5)]
    assert [tasks.work(pk) for pk in cards] == ["failed"] * hosts.TRIP + ["at rest"] * 2
    assert Attempt.objects.count() == hosts.TRIP
    assert now_is(host).why == "No space left on device."
    (told,) = Event.objects.filter(kind="host.rested")
    assert told.data["seconds"] == hosts.FIRST_REST.total_seconds()

    clock.shift(hosts.FIRST_REST + timedelta(seconds=1))
    assert tasks.work(cards[3]) == "failed"
    assert tasks.work(cards[4]) == "at rest"
    assert now_is(host).rests_until == timezone.now() + 2 * hosts.FIRST_REST

    clock.shift(2 * hosts.FIRST_REST + timedelta(seconds=1))
    monkeypatch.setattr(runner, "run_slice", well)
    assert tasks.work(cards[4]) == "completed"
    assert (now_is(host).rests_until, now_is(host).rests) == (None, 0)
    assert tasks.work(cards[3]) == "completed"


def test_at_the_end_of_a_rest_there_is_one_probe(board: Board, host: Host, clock: Any) -> None:
    Host.objects.update(rests_until=timezone.now(), rests=1)
    assert hosts.may_begin()
    assert not hosts.may_begin()
    hosts.nothing_to_probe()
    assert hosts.may_begin()
    clock.shift(hosts.PROBE)  # its worker was killed
    assert hosts.may_begin()


def test_one_card_that_fails_again_and_again_is_no_fault_of_the_host(
    board: Board, host: Host, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", broken)
    card = new(board)
    for _ in range(hosts.TRIP + 1):
        assert tasks.work(card) == "failed"
        clock.shift(900)
    assert now_is(host).rests_until is None


def test_a_drained_host_begins_nothing_until_it_is_let(
    board: Board, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", well)
    card = new(board)
    hosts.drain(host.name, True)
    assert not hosts.open_for_work()
    assert tasks.work(card) == "at rest"
    assert hosts.draining()
    hosts.drain(host.name, False)
    assert tasks.work(card) == "completed"


def test_a_host_is_drained_by_a_command_and_in_the_admin(host: Host) -> None:
    call_command("workers", "--drain", stdout=(said := StringIO()))
    assert now_is(host).draining
    assert host.name in said.getvalue()
    call_command("workers", "--undrain", host.name, stdout=StringIO())
    assert not now_is(host).draining
    with pytest.raises(CommandError, match="No built-in worker"):
        call_command("workers", "--drain", "elsewhere")

    page = Client()
    page.force_login(make_user("boss", is_superuser=True, is_staff=True))
    for action, draining in (("drain", True), ("let_work", False)):
        chosen = {"action": action, "_selected_action": [host.name]}
        answer = page.post("/admin/workers/host/", chosen, follow=True)
        assert answer.status_code == 200
        assert now_is(host).draining is draining


def test_the_workers_page_says_which_host_begins_nothing(board: Board, host: Host) -> None:
    page = Client()
    page.force_login(make_user("boss", is_superuser=True))
    shown = f"/boards/{board.key}/workers"
    assert "The host" not in page.get(shown).content.decode()
    hosts.drain(host.name, True)
    assert f"{host.name} is being drained" in page.get(shown).content.decode()
    Host.objects.update(
        draining=False, rests_until=timezone.now() + timedelta(hours=1), why="Full."
    )
    assert "Full." in page.get(shown).content.decode()


def test_a_card_that_kills_its_workers_is_shown_to_a_person(board: Board) -> None:
    card = make_card(board, workflow=WORKFLOW, max_attempts=3)
    for _ in range(3):
        leases.expire(claimed(card).pk, actor="system:sweep")
    card = now_is(card)
    assert card.state == "blocked"
    assert "ended without progress" in card.blocked_reason
