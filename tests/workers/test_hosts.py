"""A host that is drained, and one that fails every card: it rests, then tries one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Board, Card, Membership
from boards.notices import raising
from boards.notices.models import Notice, NoticeCursor
from checkpoints import steps
from events.models import Event
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_user, now_is
from workers import breakers, hosts, runner, tasks
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
    monkeypatch.setattr(hosts, "_probing", set())
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
    assert [tasks.work(pk) for pk in cards] == ["failed"] * breakers.TRIP + ["at rest"] * 2
    assert Attempt.objects.count() == breakers.TRIP
    assert now_is(host).why == "No space left on device."
    (told,) = Event.objects.filter(kind="host.rested")
    assert told.data["seconds"] == breakers.FIRST_REST.total_seconds()

    clock.shift(breakers.FIRST_REST + timedelta(seconds=1))
    assert tasks.work(cards[3]) == "failed"
    assert tasks.work(cards[4]) == "at rest"
    assert now_is(host).rests_until == timezone.now() + 2 * breakers.FIRST_REST

    clock.shift(2 * breakers.FIRST_REST + timedelta(seconds=1))
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
    clock.shift(breakers.PROBE)  # its worker was killed
    assert hosts.may_begin()


def test_one_card_that_fails_again_and_again_is_no_fault_of_the_host(
    board: Board, host: Host, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", broken)
    card = new(board)
    for _ in range(breakers.TRIP + 1):
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


def with_agent(board: Board) -> str:
    step = {"key": "a", "agent": {"cli": "command", "command": "true", "prompt": "Do it"}}
    return str(make_card(board, workflow={"steps": [step]}).pk)


def broken_agent(attempt: Attempt) -> str:
    """What a worker records of an agent that can't be started."""
    steps.record(
        attempt.pk, "a", "failed", kind="agent", result={"broken": True}, error="No interpreter."
    )
    leases.fail(attempt.pk, "No interpreter.", fault="infrastructure")
    return "failed"


def well_with(kind: str) -> Callable[[Attempt], str]:
    def carry_out(attempt: Attempt) -> str:
        steps.record(attempt.pk, "a", "succeeded", kind=kind)
        return well(attempt)

    return carry_out


def test_a_broken_executor_rests_alone_and_is_probed_by_one_card(
    board: Board, host: Host, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_slice", broken_agent)
    agents = [with_agent(board) for _ in range(4)]
    assert [tasks.work(pk) for pk in agents] == ["failed"] * breakers.TRIP + ["not claimable"]
    rests = Host.objects.get(name=f"{hosts.here()}/agent")
    assert (rests.host, rests.kind, rests.why) == (host.name, "agent", "No interpreter.")
    assert now_is(host).rests_until is None
    (told,) = Event.objects.filter(kind="executor.rested")
    assert (told.data["host"], told.data["steps"]) == (host.name, "agent")

    monkeypatch.setattr(runner, "run_slice", well_with("run"))
    assert tasks.work(new(board)) == "completed"
    assert now_is(rests).rests == 1

    # Its rest is over: a card without such a step is no probe of it.
    clock.shift(breakers.FIRST_REST + timedelta(seconds=1))
    other = new(board)
    Card.objects.filter(pk=other).update(priority=0)
    assert tasks.work(other) == "completed"
    monkeypatch.setattr(runner, "run_slice", broken_agent)
    assert tasks.work(agents[3]) == "failed"
    assert now_is(rests).rests_until == timezone.now() + 2 * breakers.FIRST_REST
    assert tasks.work(with_agent(board)) == "not claimable"

    clock.shift(2 * breakers.FIRST_REST + timedelta(seconds=1))
    monkeypatch.setattr(runner, "run_slice", well_with("agent"))
    assert tasks.work(with_agent(board)) == "completed"
    assert (now_is(rests).rests_until, now_is(rests).rests) == (None, 0)
    assert Event.objects.filter(kind="executor.recovered").count() == 1


def test_letting_a_host_work_ends_the_rests_of_its_executors(board: Board, host: Host) -> None:
    later = timezone.now() + timedelta(hours=1)
    rests = Host.objects.create(name=f"{host.name}/llm", rests_until=later, rests=1, why="Broken.")
    assert hosts.kinds_to_leave() == {"llm"}
    page = Client()
    page.force_login(make_user("boss", is_superuser=True))
    shown = page.get(f"/boards/{board.key}/workers").content.decode()
    assert f"Steps of the kind llm rest on the host {host.name}" in shown
    hosts.drain(host.name, False)
    assert (now_is(rests).rests, hosts.kinds_to_leave()) == (0, frozenset())


def test_people_are_told_once_of_a_host_at_rest_until_it_works_again(
    board: Board, host: Host, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_board(allow_commands=True)
    bea, cyd = make_user("bea"), make_user("cyd")
    for user, of in ((bea, board), (bea, other), (cyd, other)):
        Membership.objects.create(user=user, board=of, role=Role.MEMBER)
    make_user("stranger")
    monkeypatch.setattr(runner, "run_slice", broken)
    cards = [new(board), new(other), new(board), new(board)]
    assert [tasks.work(pk) for pk in cards] == ["failed"] * breakers.TRIP + ["at rest"]
    assert raising.tick() == 2
    told = {notice.user_id: notice for notice in Notice.objects.filter(kind="host")}
    assert set(told) == {bea.pk, cyd.pk}
    assert "No space left" in told[bea.pk].text
    page = Client()
    page.force_login(bea)
    assert f"/boards/{told[bea.pk].board.key}/workers" in page.get("/inbox").content.decode()

    # The probe fails as well: that is the same trip.
    clock.shift(breakers.FIRST_REST + timedelta(seconds=1))
    assert tasks.work(cards[3]) == "failed"
    assert raising.tick() == 0
    assert Notice.objects.unsettled().filter(kind="host").count() == 2

    clock.shift(2 * breakers.FIRST_REST + timedelta(seconds=1))
    monkeypatch.setattr(runner, "run_slice", well)
    assert tasks.work(cards[0]) == "completed"
    raising.tick()
    assert not Notice.objects.unsettled().filter(kind="host").exists()

    # Who comes too late is not told of what is over.
    Notice.objects.filter(kind="host").delete()
    NoticeCursor.objects.update(seq=0)
    raising.tick()
    assert not Notice.objects.filter(kind="host").exists()
