"""Workers on other hosts whose agents are broken: the server has them rest, says so, and tries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

import holdfast
from boards import tokens
from boards.models import Attempt, Board, Card, Membership
from boards.notices import raising
from boards.notices.models import Notice
from events.models import Event
from kernel.access import Role
from tests.factories import make_board, make_user, now_is
from tests.workbench import Afar, keep_files_in
from workers import breakers, executors
from workers.breakers import Place
from workers.models import Host, Worker
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

CODEX = {"key": "it", "agent": {"cli": "codex", "prompt": "Mend it"}}
DIES = "#!/bin/sh\necho 'config.toml: unknown field nowhere' >&2; exit 1\n"
WELL = f"""#!{sys.executable}
import json
for said in (
    {{"type": "thread.started", "thread_id": "t"}},
    {{"type": "item.completed", "item": {{"id": "1", "type": "agent_message", "text": "Done."}}}},
    {{"type": "turn.completed", "usage": {{"input_tokens": 1, "output_tokens": 1}}}},
):
    print(json.dumps(said))
"""


@pytest.fixture
def bench(tmp_path: Path, settings: Any, live_server: Any) -> Iterator[Afar]:
    keep_files_in(tmp_path, settings)
    settings.BASE_URL = live_server.url
    bench = Afar(tmp_path, live_server.url)
    yield bench
    bench.close()


@pytest.fixture
def codex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program of that name on the PATH, and of no other agent."""
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(DIES)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    found = (executors.capabilities, executors.lacking)
    for cached in found:
        cached.cache_clear()
    yield program
    for cached in found:
        cached.cache_clear()


@pytest.fixture
def page() -> Client:
    client = Client()
    client.force_login(make_user("boss", is_superuser=True, is_staff=True))
    return client


def shown(page: Client, board: Board) -> str:
    return page.get(f"/boards/{board.key}/workers").content.decode()


def at_rest(bench: Afar, word: str = "", card: Card | None = None) -> Host:
    """Have the worker's breaker for the word be tripped, and return it."""
    known(bench)
    place = Place.of(Worker.objects.get())
    return Host.objects.create(
        name=place.row(word),
        worker=place.worker,
        rests=1,
        rests_until=timezone.now() + timedelta(minutes=1),
        failed_cards=[str(card.pk)] if card else [],
    )


def known(bench: Afar) -> None:
    """Have the worker be known, from a claim that found nothing."""
    if not Worker.objects.exists():
        assert bench.worker().once() is None


def rest_over() -> None:
    Host.objects.update(rests_until=timezone.now())


def test_an_agent_that_dies_on_its_settings_rests_until_it_works_again(
    bench: Afar, codex: Path, page: Client
) -> None:
    bea = make_user("bea")
    Membership.objects.create(user=bea, board=bench.board, role=Role.MEMBER)
    worker = bench.worker()
    cards = [bench.card(CODEX) for _ in range(breakers.TRIP)]
    assert [worker.once() for _ in cards] == [Outcome.FAILED] * breakers.TRIP
    assert not any(now_is(card).failures for card in cards)  # none of them is to blame
    run, _ = bench.card("true"), bench.card(CODEX)
    assert worker.once() == Outcome.COMPLETED
    assert now_is(run).state == Card.State.COMPLETED
    assert worker.once() is None
    breaker = Host.objects.get()

    told = shown(page, bench.board)
    assert "Steps of the kind agent codex rest on the host afar" in told
    assert "config.toml: unknown field" in told
    assert "afar/agent.cli=codex" in page.get("/admin/workers/host/").content.decode()
    assert "rest on the host" not in shown(page, make_board())  # no business of that board's
    raising.tick()
    (notice,) = Notice.objects.unsettled().filter(kind="host", user=bea)
    assert "agent codex steps rest on afar" in notice.text

    rest_over()
    assert worker.once() == Outcome.FAILED  # one card tries
    assert Attempt.objects.count() == breakers.TRIP + 2
    assert now_is(breaker).rests == 2
    assert worker.once() is None

    rest_over()
    codex.write_text(WELL)
    bench.card(CODEX)
    assert worker.once() == Outcome.COMPLETED
    assert (now_is(breaker).rests, now_is(breaker).rests_until) == (0, None)
    assert Event.objects.filter(kind="executor.recovered").exists()
    raising.tick()
    assert not Notice.objects.unsettled().filter(kind="host").exists()


def test_a_worker_that_rests_as_a_whole_claims_nothing_until_it_is_let(
    bench: Afar, page: Client
) -> None:
    worker = bench.worker()
    bench.card("true")
    assert worker.once() == Outcome.COMPLETED
    breaker = at_rest(bench)
    bench.card("true")
    assert worker.once() is None
    assert "The host afar rests" in shown(page, bench.board)
    board = bench.board.pk
    boss = tokens.issue("boss", roles={board: Role.OPERATOR}).plaintext
    with holdfast.Client(bench.url, boss) as client:
        (found,) = client.get("/workers")["results"]
        assert [rest["kind"] for rest in found["rests"]] == [""]
        client.post("/workers/afar/undrain", {})
    assert now_is(breaker).rests == 0
    assert worker.once() == Outcome.COMPLETED


def test_the_button_on_the_page_lets_it_work(bench: Afar, page: Client) -> None:
    breaker = at_rest(bench, "run")
    form = {"worker": "afar", "wanted": "undrain"}
    assert 'name="worker" value="afar"' in shown(page, bench.board)
    page.post(f"/boards/{bench.board.key}/drain", form)
    assert now_is(breaker).rests == 0
    breaker = now_is(breaker)
    Host.objects.update(rests=1)
    chosen = {"action": "let_work", "_selected_action": [breaker.name]}
    assert page.post("/admin/workers/host/", chosen, follow=True).status_code == 200
    assert now_is(breaker).rests == 0


def test_a_probe_that_found_no_such_card_is_given_back(bench: Afar) -> None:
    breaker = at_rest(bench, "agent.cli=codex")
    rest_over()
    bench.card("true")
    assert bench.worker().once() == Outcome.COMPLETED
    assert bench.worker().once() is None
    assert now_is(breaker).rests == 1
    assert now_is(breaker).rests_until <= timezone.now()


def test_a_probe_that_never_came_to_the_step_is_given_back(bench: Afar, codex: Path) -> None:
    breaker = at_rest(bench, "agent.cli=codex")
    rest_over()
    bench.card("false", CODEX)
    assert bench.worker().once() == Outcome.FAILED
    assert now_is(breaker).rests == 1
    assert now_is(breaker).rests_until <= timezone.now()


def test_what_came_to_rest_meanwhile_is_told_with_a_heartbeat(bench: Afar) -> None:
    granted = bench.worker().claim(card=bench.card("true").key)
    assert granted is not None
    lease = {"Lease-Token": granted["lease"]["token"]}

    def told() -> Any:
        with holdfast.Client(bench.url, bench.token) as client:
            beat = client.post(f"/attempts/{attempt}/heartbeat", {}, headers=lease)
        return beat["resting"]

    attempt = granted["attempt"]["id"]
    assert told() == []
    at_rest(bench, "run")
    assert told() == ["run"]
    Host.objects.update(probe=attempt)
    assert told() == []


def test_the_rests_of_a_worker_that_is_gone_are_forgotten(bench: Afar) -> None:
    known(bench)
    breaker = at_rest(bench, "run", bench.card("true"))
    breakers.forget_gone()
    assert now_is(breaker).rests == 1
    Worker.objects.update(last_seen_at=timezone.now() - 2 * breakers.GONE)
    breakers.forget_gone()
    assert now_is(breaker).rests == 0
    assert Event.objects.filter(kind="executor.forgotten").count() == 1


@pytest.mark.parametrize("again", ["It died.", "No way."])
def test_only_failures_alike_and_in_a_row_add_up(bench: Afar, again: str) -> None:
    assert bench.worker().once() is None
    place = Place.of(Worker.objects.get())
    for error in ("It died.", again, "It died."):
        breakers.failed(place, bench.claim(bench.card("true")), error, "run")
    assert Host.objects.get().rests == (1 if again == "It died." else 0)


def test_an_end_that_is_told_again_counts_once(bench: Afar) -> None:
    breaker = at_rest(bench, "run")
    attempt = bench.claim(bench.card("true"))
    Host.objects.update(probe=attempt.pk)
    for _ in range(2):
        breakers.failed(Place.of(Worker.objects.get()), attempt, "It died.", "run")
    assert now_is(breaker).rests == 2
