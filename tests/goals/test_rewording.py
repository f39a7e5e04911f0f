"""Which criterion came in the place of which, and what a card is for by that."""

from __future__ import annotations

import pytest

from boards import covering
from goals import amendments, memory, rewording
from goals.models import Goal
from tests.factories import make_board, make_card, make_goal

pytestmark = pytest.mark.django_db
ANN = "user:ann"


def reworded(goal: Goal, *texts: str) -> dict[str, int | None]:
    """Ask for these criteria; return which one each that is new replaces."""
    there = set(goal.criteria.values_list("pk", flat=True))
    memory.edit(goal.pk, ANN, {"criteria": [{"text": text} for text in texts]})
    return dict(goal.criteria.exclude(pk__in=there).values_list("text", "replaces"))


@pytest.mark.parametrize(
    ("after", "replaces"),
    [
        (("It builds", "It answers in 3 ms", "No write is lost"), {"It answers in 3 ms": 2}),
        (("It builds", "No write is lost", "It logs"), {"It logs": None}),
        (("No write is ever lost", "It builds", "It is fast"), {"No write is ever lost": 3}),
        (("It builds", "It is fast", "No write is lost", "It logs"), {"It logs": None}),
        (("A", "B", "C"), {"A": 1, "B": 2, "C": 3}),
        (
            ("It builds", "It logs", "It is so fast", "No write is lost"),
            {"It is so fast": 2, "It logs": None},
        ),
    ],
)
def test_what_stands_where_another_stood_replaces_it(
    after: tuple[str, ...], replaces: dict[str, int | None]
) -> None:
    goal = make_goal(criteria=["It builds", "It is fast", "No write is lost"])
    assert reworded(goal, *after).items() >= replaces.items()


def test_the_texts_of_one_criterion_lead_to_the_one_that_stands() -> None:
    goal = make_goal(criteria=["It builds", "It is fast"])
    reworded(goal, "It builds", "It is very fast")
    reworded(goal, "It builds", "It answers in 3 ms")
    assert rewording.now(rewording.rows(goal.criteria.all())) == {1: 1, 2: 4, 3: 4, 4: 4}
    amendments.withdraw(goal.pk, 2, ANN)
    assert rewording.now(rewording.rows(goal.criteria.all())) == {1: 1, 2: 3, 3: 3, 4: 3}
    reworded(goal, "It builds")
    assert rewording.now(rewording.rows(goal.criteria.all())) == {1: 1}


def test_a_card_is_for_what_stands_and_what_it_was_for_is_told_apart() -> None:
    board = make_board()
    goal = make_goal(board, criteria=["It builds", "It is fast", "It logs"])
    card = make_card(board, goal=goal, covers=[1, 2, 3])
    reworded(goal, "It builds", "It answers in 3 ms", "It logs")
    reworded(goal, "It builds", "It answers in 3 ms")
    covered = covering.of(card, list(goal.criteria.filter(retired_at=None)))
    assert (covered.now, covered.gone, covered.meant) == ([1], [3], [1, 4])
    assert covered.earlier == [(2, 4)]


def test_very_many_criteria_at_once_are_compared_by_their_places_alone() -> None:
    goal = make_goal(criteria=[f"Case {n} of the suite passes" for n in range(60)])
    after = [f"Case {n} of the suite passes twice" for n in range(61)]
    assert set(reworded(goal, *after).values()) == {None}
