"""Budgets: what is refused once one is used up, and what never is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import bounds, cards, leases
from boards.models import Attempt, Board, Card, Spending
from checkpoints import lines, steps
from events.models import Event
from goals import memory
from kernel.errors import BudgetExceeded, NotClaimable
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    make_user,
    now_is,
)
from workers import sweep

pytestmark = pytest.mark.django_db

DEAR = {"cost_usd": "0.60", "input_tokens": 30, "output_tokens": 30}


def owner(kind: str, budgets: dict[str, Any]) -> Card:
    """Return a card bounded by its own budget, its goal's or its board's."""
    board = make_board(budgets=budgets if kind == "board" else {})
    goal = make_goal(board, budgets=budgets if kind == "goal" else {})
    return make_card(board, goal=goal, budgets=budgets if kind == "card" else {})


def raise_budget(kind: str, card: Card, budgets: dict[str, Any]) -> None:
    if kind == "card":
        cards.edit(card.pk, "user:ann", {"budgets": budgets})
        bounds.look(card=card.pk)
    elif kind == "goal":
        memory.edit(card.goal_id, "user:ann", {"budgets": budgets})
        bounds.look(goal=card.goal_id)
    else:
        cards.edit_board(card.board_id, "user:ann", {"budgets": budgets})
        bounds.look(board=card.board_id)


@pytest.mark.parametrize("kind", ["card", "goal", "board"])
@pytest.mark.parametrize("budgets", [{"cost_usd": "1.00"}, {"tokens": 100}])
def test_a_used_up_budget_stops_the_next_step_and_the_next_claim(
    kind: str, budgets: dict[str, Any]
) -> None:
    card = owner(kind, budgets)
    attempt = claimed(card)
    make_step(attempt, "a", usage=DEAR)
    steps.begin(attempt.pk, "under-way")
    make_step(attempt, "b", usage=DEAR)  # passes the bound, and is kept
    with pytest.raises(BudgetExceeded) as refused:
        steps.begin(attempt.pk, "c")
    assert refused.value.extra["budget"]["of"] == kind
    with pytest.raises(BudgetExceeded):
        make_step(attempt, "c", usage=DEAR)
    assert steps.begin(attempt.pk, "a").replay
    steps.finish(attempt.pk, "under-way", "succeeded", usage=DEAR)
    assert leases.heartbeat(attempt.pk).directive == "pause"
    leases.release(attempt.pk, "over budget")
    assert leases.claim("bob", boards=frozenset([card.board_id])) is None
    with pytest.raises(NotClaimable, match="Raise the budget"):
        claimed(card)

    assert bounds.look(card=card.pk) == 1
    assert bounds.look(card=card.pk) == 0
    card = Card.objects.select_related("goal", "board").get(pk=card.pk)
    assert cards.why_waiting(card) == (
        "paused",
        f"{card.overspent} Raise the budget to let it go on.",
    )
    assert leases.claim("bob", boards=frozenset([card.board_id])) is None
    (said,) = Event.objects.filter(kind="budget.exhausted")
    assert said.data["said"] == card.overspent

    raise_budget(kind, card, {"cost_usd": 5, "tokens": 1000})
    assert Event.objects.filter(kind="budget.restored").count() == 1
    again = leases.claim("bob", boards=frozenset([card.board_id]))
    assert again is not None
    assert steps.begin(again.pk, "c").replay is False


def test_others_are_claimed_past_a_goal_that_nobody_has_signed_yet() -> None:
    board = make_board()
    goal = make_goal(board, budgets={"cost_usd": "0.5"})
    first = claimed(make_card(board, goal=goal, priority=0))
    make_card(board, goal=goal, priority=0)
    other = make_card(board, priority=4)
    make_step(first, "a", usage=DEAR)
    found = leases.claim("bob", boards=frozenset([board.pk]))
    assert found is not None
    assert found.card_id == other.pk


def test_attempts_are_bounded_without_stopping_the_last_one() -> None:
    card = make_card(budgets={"attempts": 2})
    leases.release(claimed(card).pk, "half")
    last = claimed(card)
    steps.begin(last.pk, "a")
    assert leases.heartbeat(last.pk).directive == "continue"
    leases.release(last.pk, "more")
    with pytest.raises(NotClaimable, match="has used 2 of 2 attempts"):
        claimed(card)


def test_minutes_run_while_nothing_is_said() -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        card = make_card(budgets={"minutes": 5})
        attempt = claimed(card, lease_seconds=3600)
        clock.shift(299)
        steps.begin(attempt.pk, "a")
        assert bounds.tick() == 0
        clock.shift(2)
        with pytest.raises(BudgetExceeded, match="minutes"):
            steps.begin(attempt.pk, "b")
        assert bounds.tick() == 1
        assert now_is(card).over
        cards.edit(card.pk, "user:ann", {"budgets": {}})
        assert bounds.tick() == 1
        assert not now_is(card).over


def test_follow_ups_of_a_goal_are_counted_over_all_its_attempts() -> None:
    board = make_board()
    goal = make_goal(board, budgets={"cards": 2})
    one, two = (claimed(make_card(board, goal=goal)) for _ in range(2))
    cards.follow_up(one.pk, title="more")
    leases.complete(one.pk, "done")
    cards.follow_up(two.pk, title="and more")
    with pytest.raises(BudgetExceeded, match="follow-up"):
        cards.follow_up(two.pk, title="too much")
    steps.begin(two.pk, "a")


def test_a_bound_of_nothing_lets_what_is_free_go_on() -> None:
    attempt = claimed(make_card(budgets={"cost_usd": 0}))
    make_step(attempt, "a")
    make_step(attempt, "b", usage={"cost_usd": "0.01"})
    with pytest.raises(BudgetExceeded):
        make_step(attempt, "c")


def ends(attempt: Attempt, how: str) -> None:
    card = attempt.card
    match how:
        case "complete":
            leases.complete(attempt.pk, "done")
        case "fail":
            leases.fail(attempt.pk, "no")
        case "block":
            leases.block(attempt.pk, "stuck")
        case "release":
            leases.release(attempt.pk, "half")
        case "expire":
            leases.expire(attempt.pk, actor="system:sweep")
        case "move":
            cards.move(card.pk, "user:ann", column_of(card.board, "backlog").pk)
        case "cancel":
            cards.cancel(card.pk, "user:ann")
        case "rewind":
            lines.rewind(card.pk, 1, "user:ann")


@pytest.mark.parametrize(
    "how", ["complete", "fail", "block", "release", "expire", "move", "cancel", "rewind"]
)
def test_however_an_attempt_ends_it_is_added_up_once(how: str) -> None:
    goal = make_goal(board := make_board())
    with time_machine.travel(timezone.now(), tick=False) as clock:
        attempt = claimed(make_card(board, goal=goal))
        make_step(attempt, "a", usage=DEAR)
        make_checkpoint(attempt)
        clock.shift(30)
        ends(attempt, how)
    for pk in (attempt.card_id, goal.pk, board.pk):
        row = Spending.objects.get(pk=pk)
        assert (row.cost_usd, row.input_tokens, row.attempts) == (Decimal("0.6"), 30, 1)
        assert row.seconds == pytest.approx(30, abs=0.01)
    assert Attempt.objects.get(pk=attempt.pk).status != "running"


def test_a_race_adds_up_the_winner_and_the_rivals() -> None:
    first = claimed(make_card(board := make_board()))
    make_checkpoint(first)
    leases.release(first.pk, "half")
    rivals = lines.fork(first.card_id, 1, "user:ann", count=2)
    attempts = [claimed(rival) for rival in rivals]
    for attempt in attempts:
        make_step(attempt, "a", usage=DEAR)
    leases.complete(attempts[0].pk, "won")
    assert Spending.objects.get(pk=board.pk).attempts == 3
    assert Spending.objects.get(pk=board.pk).cost_usd == Decimal("1.2")


@pytest.mark.parametrize("budgets", [{}, {"cost_usd": 5}])
def test_a_step_takes_at_most_four_statements_under_a_budget_and_none_more_without(
    budgets: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    card = owner("goal", budgets)
    attempt = claimed(card)
    for n in range(3):
        claimed(make_card(card.board, goal=card.goal), worker=f"other-{n}")
    with (
        CaptureQueriesContext(connection) as seen,
        django_capture_on_commit_callbacks(execute=True),
    ):
        steps.record(attempt.pk, "a", "succeeded", usage=DEAR)
    statements = [q["sql"] for q in seen if "SAVEPOINT" not in q["sql"]]
    assert len(statements) == (4 if budgets else 3), statements


def test_the_sweep_leaves_what_is_over_budget_alone(settings: Any) -> None:
    board = make_board(allow_commands=True)
    card = make_card(board, workflow={"steps": [{"key": "a", "run": "true"}]})
    Card.objects.filter(pk=card.pk).update(updated_at="2020-01-01T00:00:00Z")
    settings.DISPATCH = True
    from django_q.models import OrmQ

    OrmQ.objects.all().delete()
    Board.objects.filter(pk=board.pk).update(over="It has used 5 of 5 USD.")
    assert sweep.nudge_waiting() == 0
    Board.objects.filter(pk=board.pk).update(over="")
    assert sweep.nudge_waiting() == 1


def test_a_budget_is_raised_where_it_is_shown(django_capture_on_commit_callbacks: Any) -> None:
    page = Client()
    page.force_login(make_user("boss", is_superuser=True))
    card = owner("goal", {"cost_usd": "0.50"})
    attempt = claimed(card)
    with django_capture_on_commit_callbacks(execute=True):
        make_step(attempt, "a", usage=DEAR)
    shown = page.get(f"/cards/{card.key}").content.decode()
    assert "Ship it has used 0.6 of 0.5 USD." in shown
    assert f'data-budget="/goals/{card.goal_id}"' in shown
    assert (
        f'data-budget="/goals/{card.goal_id}"'
        in page.get(f"/boards/{card.board.key}/settings").content.decode()
    )
    with django_capture_on_commit_callbacks(execute=True):
        answer = page.generic(
            "PATCH",
            f"/api/v1/goals/{card.goal_id}",
            json.dumps({"budgets": {"cost_usd": "2"}}),
            content_type="application/json",
        )
    assert answer.json()["budgets"] == {"cost_usd": "2"}
    assert page.get(f"/api/v1/goals/{card.goal_id}").json()["over_budget"] == ""
    assert "has used 0.6" not in page.get(f"/cards/{card.key}").content.decode()
