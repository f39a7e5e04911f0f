"""What a claim would find is what it finds: every card is looked for, then claimed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Board, Card, Column
from boards.openings import MOST, Want
from goals.models import Goal
from tests.factories import claimed, column_of, make_board, make_card, make_goal

pytestmark = pytest.mark.django_db


def found(want: Want) -> bool:
    """Whether the want has an opening; fails where the claim says otherwise."""
    openings = Want.look({want: 1}).get(want, [])
    attempt = leases.claim(
        "ada", boards=want.boards, capabilities=want.capabilities, goal_id=want.goal_id
    )
    assert bool(openings) == (attempt is not None)
    assert attempt is None or openings[0] == attempt.card_id
    return attempt is not None


def test_the_best_card_is_found_once() -> None:
    board = make_board()
    make_card(board, priority=4)
    best = make_card(board, priority=0)
    assert Want.look({Want(): 5})[Want()][0] == best.pk
    assert found(Want())
    assert found(Want())
    assert not found(Want())


def test_cards_of_other_boards_and_goals_are_not_found() -> None:
    card = make_card(goal=None)
    other = make_goal(card.board)
    assert not found(Want(boards=frozenset([make_board().pk])))
    assert not found(Want(boards=frozenset()))
    assert not found(Want(goal_id=other.pk))
    assert found(Want(boards=frozenset([card.board_id])))


def test_a_card_that_takes_more_is_not_found() -> None:
    make_card(requires=["python", "shell"])
    assert not found(Want(capabilities=frozenset(["python"])))
    assert found(Want(capabilities=frozenset(["python", "shell", "docs"])))


@pytest.mark.parametrize(
    "fields",
    [
        {"paused": True},
        {"unmet_dependencies": 1},
        {"not_before": timezone.now() + dt.timedelta(hours=1)},
    ],
    ids=["paused", "dependency", "backoff"],
)
def test_a_card_that_waits_for_something_is_not_found(fields: dict[str, Any]) -> None:
    Card.objects.filter(pk=make_card().pk).update(**fields)
    assert not found(Want())


def test_a_card_of_a_goal_that_is_over_is_not_found() -> None:
    board = make_board()
    card = make_card(board, goal=make_goal(board))
    Goal.objects.update(status=Goal.Status.ABANDONED)
    assert not found(Want())
    Goal.objects.update(status=Goal.Status.ACTIVE)
    assert card.pk in Want.look({Want(): 1})[Want()]


def test_a_column_at_its_limit_has_no_opening() -> None:
    board = make_board()
    Column.objects.filter(pk=column_of(board, "in_progress").pk).update(wip_limit=1)
    make_card(board)
    make_card(board)
    assert found(Want())
    assert not found(Want())


def test_the_backlog_is_found_where_workers_may_pull_and_there_is_room() -> None:
    board = make_board()
    make_card(board, kind="backlog")
    assert not found(Want())
    Board.objects.update(pull=Board.Pull.AUTO)
    assert found(Want())
    make_card(board, kind="backlog", requires=["python"])
    assert not found(Want())
    Column.objects.filter(kind=Column.Kind.IN_PROGRESS).update(wip_limit=1)
    assert not found(Want(capabilities=frozenset(["python"])))


def test_a_card_whose_worker_is_gone_is_found_by_those_it_suits() -> None:
    attempt = claimed(make_card(requires=["python"]), capabilities=["python"])
    Attempt.objects.update(lease_expires_at=timezone.now() - dt.timedelta(seconds=1))
    able = Want(capabilities=frozenset(["python"]))
    assert Want.look({Want(): 1, able: 1}) == {able: [attempt.card_id]}


def test_each_want_gets_as_many_as_it_asks_for() -> None:
    board = make_board()
    for _ in range(5):
        make_card(board)
    make_card(board, requires=["python"])
    able = Want(capabilities=frozenset(["python"]))
    seen = Want.look({Want(): 2, able: MOST * 2})
    assert len(seen[Want()]) == 2
    assert len(seen[able]) == 6


def test_a_look_takes_the_same_statements_however_many_wait_and_cards_there_are() -> None:
    board = make_board()
    with CaptureQueriesContext(connection) as empty:
        Want.look({Want(): 500})
    assert len(empty) <= 3
    counts = []
    for _ in range(2):
        for _ in range(20):
            make_card(board)
        with CaptureQueriesContext(connection) as seen:
            Want.look({Want(): 500})
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 6
    assert not any("FOR " in query["sql"] for query in seen.captured_queries)
