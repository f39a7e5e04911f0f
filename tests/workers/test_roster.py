"""Who works on a board: what they hold, how they have done, and nobody from elsewhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.test import Client

from boards import leases
from boards.models import Board, Membership, Token
from checkpoints import steps
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_step, make_token, make_user
from workers import registry
from workers.roster import roster

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC), tick=False) as clock:
        yield clock


@pytest.fixture
def reader(clock: Any) -> tuple[Client, Board]:
    board = make_board(key="PAY", name="Payments")
    user = make_user()
    Membership.objects.create(board=board, user=user, role=Role.VIEWER)
    client = Client()
    client.force_login(user)
    return client, board


def test_a_worker_is_told_with_what_it_did(clock: Any) -> None:
    board = make_board()
    first, second, third = (make_card(board) for _ in range(3))
    attempt = claimed(first, "ada")
    steps.record(attempt.pk, "a", "succeeded", usage={"cost_usd": 1.5, "input_tokens": 10})
    leases.complete(attempt.pk, "done")
    clock.shift(1)
    leases.fail(claimed(second, "ada").pk, "boom", retryable=True)
    clock.shift(700)
    leases.complete(claimed(second, "bob").pk, "done")
    held = claimed(third, "ada")
    make_step(held, "build")
    (ada, bob), left_out = roster(board)
    assert left_out == 0
    assert (ada.name, ada.attempts, ada.cards) == ("ada", 3, 3)
    assert (ada.firsts, ada.firsts_done, ada.first_rate) == (2, 1, 50)
    assert (ada.usd, ada.tokens) == (1.5, 10)
    assert [p.status for p in ada.last] == ["succeeded", "failed", "running"]
    assert [(h.attempt.pk, h.now) for h in ada.held] == [(held.pk, "build")]
    # Bob's was a second attempt: nothing is known of his first ones.
    assert (bob.first_rate, bob.held, bob.past[0].number) == (None, [], 2)


def test_signs_of_life_are_counted_by_minute(clock: Any) -> None:
    board = make_board()
    attempt = claimed(make_card(board))
    clock.shift(600)
    for n in range(3):
        make_step(attempt, f"s{n}")
    clock.shift(61)
    (ada,), _ = roster(board)
    assert ada.signs[-2] == 3
    assert ada.signs[-12] == 1
    assert sum(ada.signs) == 4
    assert [(x, h) for x, _, h in ada.heights] == [(18, 4), (28, 10)]


def test_who_may_work_here_is_there_and_who_may_not_is_not(clock: Any) -> None:
    here, there = make_board(), make_board()
    make_token("mine", {here.pk: Role.MEMBER})
    make_token("theirs", {there.pk: Role.MEMBER})
    mine, theirs = Token.objects.get(name="mine"), Token.objects.get(name="theirs")
    registry.seen("ada", token_id=mine.pk, capabilities=["python"])
    registry.seen("eve", token_id=theirs.pk)
    registry.seen("builtin-1", token_id=None, kind="built_in")
    found = {e.name: (e.kinds, e.capabilities) for e in roster(here)[0]}
    assert found == {"ada": (["agent"], ["python"]), "builtin-1": (["built_in"], [])}


def test_what_was_done_on_another_board_is_not_told_here(clock: Any) -> None:
    here, there = make_board(), make_board()
    leases.complete(claimed(make_card(there), "ada").pk, "done")
    held = claimed(make_card(there), "ada")
    assert roster(here) == ([], 0)
    leases.release(held.pk, "so far")


def test_a_worker_has_a_page_under_its_name(reader: tuple[Client, Board]) -> None:
    client, board = reader
    card = make_card(board, title="Kept")
    leases.complete(claimed(card, "team/ada & co").pk, "done")
    page = client.get("/boards/PAY/workers").content.decode()
    assert 'href="/boards/PAY/workers/team/ada%20&amp;%20co"' in page
    one = client.get("/boards/PAY/workers/team/ada%20%26%20co").content.decode()
    assert "PAY-1" in one
    assert "succeeded" in one
    assert client.get("/boards/PAY/workers/nobody").status_code == 404
    assert client.get("/boards/PAY/workers/%00").status_code == 422
    assert client.get("/boards/NOWHERE/workers").status_code == 404


def test_a_lapsed_lease_is_told_so(reader: tuple[Client, Board], clock: Any) -> None:
    client, board = reader
    claimed(make_card(board))
    assert "lease 1 min left" in client.get("/boards/PAY/workers").content.decode()
    clock.shift(61)
    assert "lease lapsed" in client.get("/boards/PAY/workers").content.decode()


def test_the_number_of_statements_does_not_grow(
    reader: tuple[Client, Board], django_assert_max_num_queries: Any
) -> None:
    client, board = reader
    make_step(claimed(make_card(board), "w"))
    client.get("/boards/PAY/workers")
    with django_assert_max_num_queries(16) as few:
        client.get("/boards/PAY/workers")
    most = len(few)
    for n in range(12):
        make_step(claimed(make_card(board), f"w{n}"))
    client.get("/boards/PAY/workers")
    with django_assert_max_num_queries(most):
        client.get("/boards/PAY/workers")
