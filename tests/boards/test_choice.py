"""Which card a claim takes where there are caps and shares."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from boards import choice, leases, openings
from boards.models import Attempt, Board, Card, Token
from goals.models import Goal
from kernel.errors import NotClaimable
from tests.factories import claimed, make_board, make_card, make_goal, make_token, make_user

pytestmark = pytest.mark.django_db

WORKFLOW = {"steps": [{"key": "a", "run": "true"}]}


def fill(board: Board, count: int, **fields: Any) -> list[Card]:
    return [make_card(board, **fields) for _ in range(count)]


def take(count: int, *boards: Board, worker: str = "ada", **options: Any) -> list[Attempt]:
    """Return what so many claims get, until one gets nothing."""
    scope = frozenset(b.pk for b in boards) if boards else None
    found = []
    for _ in range(count):
        attempt = leases.claim(worker, boards=scope, **options)
        if attempt is None:
            break
        found.append(attempt)
    return found


def of_boards(attempts: list[Attempt]) -> list[str]:
    keys = dict(Board.objects.values_list("pk", "key"))
    return [keys[a.board_id] for a in attempts]


# ── caps ─────────────────────────────────────────────────────────────────────────────────


def test_a_board_runs_as_many_cards_as_it_may() -> None:
    board = make_board(max_running=2)
    last = fill(board, 3)[-1]
    running = take(5, board)
    assert len(running) == 2
    with pytest.raises(NotClaimable, match="cap of running cards"):
        claimed(last)
    assert not openings.would_find(openings.Want(frozenset([board.pk])))
    leases.complete(running[0].pk, "done")
    assert openings.would_find(openings.Want(frozenset([board.pk])))
    assert len(take(5, board)) == 1


def test_a_goal_runs_as_many_cards_as_it_may_and_the_others_go_on() -> None:
    goal = make_goal(board := make_board(), max_running=1)
    fill(board, 2, goal=goal, priority=0)
    other = make_card(board, priority=4)
    assert [a.card_id for a in take(5, board)][1:] == [other.pk]
    with pytest.raises(NotClaimable, match="its goal is at its cap"):
        claimed(Card.objects.filter(goal=goal, state="waiting").get())


def test_a_label_runs_as_many_cards_as_it_may_on_its_board() -> None:
    board = make_board(caps={"labels": {"gpu": 1}})
    fill(board, 2, labels=["gpu", "x"])
    plain = make_card(board, labels=["gp"])
    elsewhere = fill(make_board(), 2, labels=["gpu"])
    found = take(9)
    assert len(found) == 4
    assert {plain.pk, *(c.pk for c in elsewhere)} < {a.card_id for a in found}
    with pytest.raises(NotClaimable, match="labelled gpu"):
        claimed(Card.objects.get(board=board, state="waiting"))


@pytest.mark.parametrize(
    ("caps", "taken"),
    [
        ({"each_worker": 1}, {"ada-1": 1, "ada-2": 1, "bob": 1}),
        ({"workers": {"ada-*": 1}}, {"ada-1": 1, "bob": 2}),
        ({"workers": {"agent": 3}}, {"ada-1": 2, "ada-2": 1}),
        ({"workers": {"built_in": 1}}, {"ada-1": 2, "ada-2": 2, "bob": 2}),
        ({"workers": {"bob": 0}}, {"ada-1": 2, "ada-2": 2}),
    ],
)
def test_workers_hold_as_many_cards_of_a_board_as_they_may(
    caps: dict[str, Any], taken: dict[str, int]
) -> None:
    make_token("agents")
    token_id = Token.objects.get(name="agents").pk
    board = make_board(caps=caps)
    fill(board, 9)
    for name in ("ada-1", "ada-2", "bob"):
        take(2, board, worker=name, token_id=token_id)
    assert Counter(Attempt.objects.values_list("worker", flat=True)) == taken


def test_built_in_workers_are_a_kind() -> None:
    board = make_board(caps={"workers": {"built_in": 1}}, allow_commands=True)
    fill(board, 2, workflow=WORKFLOW)
    assert len(take(3, board, worker="builtin-a", ours=True)) == 1


def test_what_is_pulled_from_the_backlog_keeps_to_the_caps() -> None:
    board = make_board(pull="auto", max_running=1)
    fill(board, 2, kind="backlog")
    assert len(take(3, board)) == 1


# ── turns ────────────────────────────────────────────────────────────────────────────────


def test_boards_of_equal_shares_are_served_by_priority_then_rank() -> None:
    one, two = make_board(key="ONE"), make_board(key="TWO")
    fill(one, 1, priority=3)
    fill(two, 2, priority=1)
    fill(one, 1, priority=1)
    ranked = Card.objects.order_by("priority", "rank", "id").values_list("pk", flat=True)
    assert [a.card_id for a in take(4, one, two)] == list(ranked)


@pytest.mark.parametrize("ours", [False, True])
def test_boards_take_turns_by_their_shares(ours: bool) -> None:
    boards = [
        make_board(key=key, share=share, allow_commands=True)
        for key, share in (("ONE", 1), ("TWO", 2), ("THREE", 3))
    ]
    for board in boards:
        fill(board, 30, workflow=WORKFLOW, priority=4 if board.key == "THREE" else 0)
    taken = of_boards(take(36, *boards, ours=ours))
    assert Counter(taken) == {"ONE": 6, "TWO": 12, "THREE": 18}
    # And not in blocks: each six turns have all three.
    for n in range(0, 36, 6):
        assert Counter(taken[n : n + 6]) == {"ONE": 1, "TWO": 2, "THREE": 3}


def test_built_in_workers_share_themselves_out_where_agents_go_by_priority() -> None:
    one = make_board(key="ONE", allow_commands=True)
    two = make_board(key="TWO", allow_commands=True)
    fill(one, 6, priority=0, workflow=WORKFLOW)
    fill(two, 6, priority=4, workflow=WORKFLOW)
    assert Counter(of_boards(take(4, ours=True))) == {"ONE": 2, "TWO": 2}
    assert of_boards(take(2)) == ["ONE", "ONE"]


def test_built_in_workers_take_only_what_they_carry_out() -> None:
    make_card(make_board(allow_commands=True), priority=0)
    make_card(make_board(allow_commands=False), priority=0, workflow=WORKFLOW)
    mine = make_card(make_board(allow_commands=True), priority=4, workflow=WORKFLOW)
    assert [a.card_id for a in take(3, ours=True)] == [mine.pk]


def test_who_had_nothing_to_do_can_not_save_up_turns() -> None:
    one, two = make_board(key="ONE", share=2), make_board(key="TWO")
    fill(one, 30)
    take(10, one, two)
    fill(two, 10)
    assert Counter(of_boards(take(9, one, two))) == {"ONE": 6, "TWO": 3}


def test_goals_take_turns_among_the_cards_of_the_best_priority() -> None:
    board = make_board()
    dear, cheap = make_goal(board, share=3), make_goal(board)
    fill(board, 20, goal=cheap, priority=2)
    fill(board, 20, goal=dear, priority=2)
    fill(board, 20, priority=2)
    first = make_card(board, goal=cheap, priority=0)
    found = take(16, board)
    assert found[0].card_id == first.pk
    goals = Counter(Card.objects.get(pk=a.card_id).goal_id for a in found)
    assert goals == {dear.pk: 10, cheap.pk: 3, None: 3}


def test_ageing_lifts_what_has_waited() -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        board = make_board(ageing_seconds=3600)
        old = make_card(board, priority=3)
        clock.shift(timedelta(hours=2, minutes=59))
        fill(board, 2, priority=0)
        assert take(1, board)[0].card_id != old.pk
        clock.shift(timedelta(hours=1, minutes=2))
        # Four hours: one past urgent. The urgent card has waited for one itself, and is not.
        assert take(1, board)[0].card_id == old.pk


def test_without_ageing_priority_comes_first_for_ever() -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        board = make_board()
        make_card(board, priority=3)
        clock.shift(timedelta(days=30))
        urgent = make_card(board, priority=0)
        assert take(1, board)[0].card_id == urgent.pk


# ── setting them ─────────────────────────────────────────────────────────────────────────


def test_caps_and_shares_are_set_over_the_api() -> None:
    page = Client()
    page.force_login(make_user("boss", is_superuser=True))
    board, goal = make_board(key="PAY"), make_goal()

    def patch(path: str, body: Any) -> Any:
        body = json.dumps(body)
        return page.generic("PATCH", f"/api/v1{path}", body, content_type="application/json")

    asked = {
        "share": 3,
        "max_running": 4,
        "caps": {"labels": {"gpu": 1}, "workers": {"ada-*": 2}, "each_worker": 1},
        "ageing_seconds": 3600,
    }
    answer = patch("/boards/PAY", asked).json()
    assert {name: answer[name] for name in asked} == asked
    answer = patch(f"/goals/{goal.pk}", {"share": 2, "max_running": 1}).json()
    assert (answer["share"], answer["max_running"]) == (2, 1)
    assert Goal.objects.get(pk=goal.pk).max_running == 1
    for refused in ({"share": 0}, {"caps": {"gpu": 1}}, {"caps": {"labels": {"gpu": -1}}}):
        assert patch("/boards/PAY", refused).status_code == 422
    assert patch("/boards/PAY", {"max_running": None, "caps": {}}).json()["caps"] == {}
    assert not choice.capped(choice.ruled(Board.objects.filter(pk=board.pk)).get())
