"""What a goal lacks that nothing under way will bring, and who hears of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases, missing, progress
from boards.models import Board, Card, Membership
from boards.notices import letters, raising, rules
from boards.notices.models import Notice
from boards.planning import applying
from goals import amendments, criteria, memory
from goals.models import Goal
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_goal, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


def member(board: Board, name: str, role: Role = Role.MEMBER, **fields: Any) -> Any:
    user = make_user(name, **fields)
    Membership.objects.create(board=board, user=user, role=role)
    return user


def lack_of(goal: Goal) -> missing.Missing | None:
    return missing.of(progress.of([Goal.objects.get(pk=goal.pk)]).values()).get(goal.pk)


def told(user: Any) -> list[str]:
    return list(
        Notice.objects.filter(user=user)
        .unsettled()
        .true()
        .order_by("id")
        .values_list("text", flat=True)
    )


def done(card: Card) -> None:
    leases.complete(claimed(card).pk, "All green")


def test_what_is_missing_goes_from_cards_over_cover_to_proof(board: Board) -> None:
    goal = make_goal(board, criteria=["It builds", "It is fast"])
    lack = lack_of(goal)
    assert lack is not None
    assert lack.kind == "cards"
    card = make_card(board, goal=goal)
    assert lack_of(goal) is None  # nothing says what the card is for
    cards.edit(card.pk, "user:ann", {"covers": [1]})
    assert str(lack_of(goal)) == "No card covers criterion 2 (It is fast)."
    make_card(board, goal=goal, covers=[2])
    assert lack_of(goal) is None
    for open_one in Card.objects.filter(goal=goal):
        done(open_one)
    lack = lack_of(goal)
    assert lack is not None
    assert (lack.kind, [c.number for c in lack.criteria]) == ("proof", [1, 2])
    assert "nothing shows that criteria 1 (It builds), 2 (It is fast) are met" in str(lack)
    criteria.say(goal.pk, "1", "user:ann", met=True)
    assert "criterion 2 (It is fast) is met" in str(lack_of(goal))
    criteria.say(goal.pk, "2", "user:ann", met=True)
    assert lack_of(goal) is None


def test_a_card_for_an_earlier_text_is_named_until_somebody_says_that_it_serves(
    board: Board,
) -> None:
    goal = make_goal(board, criteria=["It builds", "It is fast"])
    card = make_card(board, goal=goal, covers=[1, 2])
    make_card(board, goal=goal, covers=[1])
    assert lack_of(goal) is None
    memory.edit(
        goal.pk, "user:ann", {"criteria": [{"text": "It builds"}, {"text": "It answers in 3 ms"}]}
    )
    lack = lack_of(goal)
    assert lack is not None
    assert str(lack) == (
        f"No card covers criterion 3 (It answers in 3 ms). {card.key} was for an earlier text of 3:"
        " if it still serves, say so at the card."
    )
    assert lack.as_json()["earlier"] == [{"card": card.key, "criterion": 3}]
    cards.edit(card.pk, "user:ann", {"covers": [1, 3]})
    assert lack_of(goal) is None
    amendments.withdraw(goal.pk, 1, "user:ann")
    lack = lack_of(goal)
    assert lack is not None
    assert lack.as_json()["earlier"] == [{"card": card.key, "criterion": 2}]


def test_a_goal_without_criteria_whose_cards_are_done_asks_for_a_word(board: Board) -> None:
    goal = make_goal(board)
    done(make_card(board, goal=goal))
    lack = lack_of(goal)
    assert lack is not None
    assert lack.kind == "criteria"


def test_an_open_plan_and_a_goal_below_are_something_under_way(board: Board) -> None:
    goal = make_goal(board, criteria=["It builds"])
    plan = applying.create(goal, "user:ann", [{"title": "Build it"}])
    lack = lack_of(goal)
    assert lack is not None
    assert lack.plan == plan
    above = make_goal(board)
    memory.edit(goal.pk, "user:ann", {"parent": above})
    assert lack_of(above) is None
    memory.edit(goal.pk, "user:ann", {"status": "abandoned"})
    assert lack_of(goal) is None
    lack = lack_of(above)
    assert lack is not None
    assert lack.kind == "cards"


def test_what_goals_lack_costs_the_same_for_one_and_for_many(board: Board) -> None:
    def statements() -> int:
        goals = list(Goal.objects.all())
        with CaptureQueriesContext(connection) as captured:
            missing.of(progress.of(goals).values())
        return len(captured)

    make_card(board, goal=make_goal(board, criteria=["a", "b"]), covers=[1])
    few = statements()
    for _n in range(5):
        make_card(board, goal=make_goal(board, criteria=["a", "b"]), covers=[1])
    assert statements() == few <= 6


def test_who_forgets_a_goal_is_told_once_and_until_there_is_a_card(board: Board) -> None:
    ann, bea = member(board, "ann"), member(board, "bea")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        goal = make_goal(board, title="Pay out")  # by ann
        clock.shift(timedelta(minutes=59))
        raising.tick()
        assert told(ann) == []
        clock.shift(timedelta(minutes=2))
        raising.tick()
        raising.tick()
        assert told(ann) == ["Pay out: No card works towards it. Plan it, or add a card."]
        assert told(bea) == []  # it is ann's
        notice = Notice.objects.get()
        assert (notice.card, notice.goal, notice.path) == (None, goal, f"/goals/{goal.pk}")
        notice.done_at = timezone.now()
        notice.save(update_fields=["done_at"])
        clock.shift(timedelta(days=2))
        assert raising.tick() == 0  # once is enough
        Notice.objects.update(done_at=None)
        make_card(board, goal=goal)
        raising.tick()
        assert told(ann) == []


def test_everybody_hears_that_all_is_done_and_nothing_shows_it(board: Board) -> None:
    ann, bea = member(board, "ann"), member(board, "bea")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        goal = make_goal(board, title="Pay out", criteria=["It builds"])
        done(make_card(board, goal=goal))
        clock.shift(timedelta(seconds=60))
        raising.tick()
        assert told(bea) == []  # its checks may be about to run
        clock.shift(timedelta(seconds=90))
        raising.tick()
        assert told(ann) == told(bea)
        assert "nothing shows that criterion 1 (It builds) is met" in told(bea)[0]
        again = make_card(board, goal=goal)
        raising.tick()
        assert told(bea) == []
        clock.shift(timedelta(hours=1))
        done(again)
        clock.shift(timedelta(minutes=3))
        raising.tick()
        assert len(told(bea)) == 1  # done again, and still nothing shows it


def test_a_goal_without_a_card_is_told_on_every_way(board: Board) -> None:
    ann = member(board, "ann", email="ann@example.org")
    rules.change(ann, {"kinds": {"goal": ["browser", "email"]}})
    with time_machine.travel(timezone.now(), tick=False) as clock:
        goal = make_goal(board, title="Pay out")
        clock.shift(timedelta(hours=2))
        raising.tick()
        notice = Notice.objects.select_related("card", "goal", "board", "user").get()
        letters.message_of(notice.user, [notice]).send()
        client = Client()
        client.force_login(ann)
        page = client.get("/inbox").text
        listed = client.get("/api/v1/inbox").json()["results"]
        news = client.get(f"/inbox/count?after={'0' * 32}").json()["news"]
        report = client.get(f"/api/v1/goals/{goal.pk}").json()["missing"]
        shown = client.get(f"/goals/{goal.pk}").text
    letter = mail.outbox[0]
    assert letter.subject == "[PAY] News of the goal: Pay out"
    assert f"/goals/{goal.pk}" in str(letter.body)
    assert f'href="/goals/{goal.pk}"' in page
    assert "/cards/" not in page.partition('id="inbox"')[2]
    assert (listed[0]["card"], listed[0]["goal"], listed[0]["title"]) == (
        None,
        str(goal.pk),
        "Pay out",
    )
    assert news[0]["href"] == f"/goals/{goal.pk}"
    assert report["kind"] == "cards"
    assert "goal-missing" in shown


def test_a_goal_that_is_met_or_regresses_without_a_card_is_told(board: Board) -> None:
    bea = member(board, "bea")
    goal = make_goal(board, title="Pay out", criteria=["It builds"])
    criteria.say(goal.pk, "1", "user:ann", met=True)
    raising.tick()
    assert told(bea) == ["Pay out may be achieved: Its one criterion is met."]
