from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from boards import cards, ranks
from boards.models import Card
from tests.factories import column_of, make_board, make_card, now_is

pytestmark = pytest.mark.django_db
ANN = "user:ann"


@pytest.fixture
def column():
    return column_of(make_board(), "backlog")


def fill(column, count):
    return [make_card(column.board, kind="backlog") for _ in range(count)]


def order(column):
    return list(Card.objects.filter(column=column).order_by("rank"))


def test_a_move_goes_right_above_or_right_below_its_neighbour(column):
    a, b, c = fill(column, 3)
    cards.move(c.pk, ANN, column.pk, before=a)
    assert order(column) == [c, a, b]
    cards.move(c.pk, ANN, column.pk, after=a)
    assert order(column) == [a, c, b]
    cards.move(a.pk, ANN, column.pk, after=b)
    assert order(column) == [c, b, a]


def test_without_a_neighbour_a_move_goes_last(column):
    a, b, c = fill(column, 3)
    cards.move(a.pk, ANN, column.pk)
    assert order(column) == [b, c, a]


def test_a_neighbour_that_has_left_is_ignored(column):
    a, b, c = fill(column, 3)
    gone = now_is(a)
    cards.move(a.pk, ANN, column_of(column.board, "review").pk)
    cards.move(c.pk, ANN, column.pk, before=gone, after=None)
    assert order(column) == [b, c]
    cards.move(b.pk, ANN, column.pk, before=gone, after=c)
    assert order(column) == [c, b]


def test_a_card_is_no_neighbour_of_itself(column):
    a, b = fill(column, 2)
    cards.move(a.pk, ANN, column.pk, before=a)
    assert order(column) == [b, a]


@pytest.mark.parametrize("anchor", ["before", "after"])
def test_many_moves_to_one_place_leave_the_others_alone(column, anchor):
    first, last, *moving = fill(column, 42)
    place = {anchor: last if anchor == "before" else first}
    ranks_then = {c.pk: now_is(c).rank for c in (first, last)}
    for card in moving:
        cards.move(card.pk, ANN, column.pk, **place)
    assert ranks_then == {c.pk: now_is(c).rank for c in (first, last)}
    between = moving if anchor == "before" else moving[::-1]
    assert order(column) == [first, *between, last]


def test_a_place_that_is_used_up_is_made_anew(column):
    first, last, *moving = fill(column, 60)
    anchor = last
    for card in moving:  # each right above the one before it: the room halves every time
        cards.move(card.pk, ANN, column.pk, before=anchor)
        anchor = now_is(card)
    assert order(column) == [first, *moving[::-1], last]


def test_a_used_up_place_is_made_anew_even_behind_the_back_of_make_room(column, monkeypatch):
    monkeypatch.setattr(ranks, "make_room", lambda *args, **options: None)
    a, b, c = fill(column, 3)
    Card.objects.filter(pk=b.pk).update(rank=a.rank + 1)
    cards.move(c.pk, ANN, column.pk, after=a)
    assert order(column) == [a, c, b]


def test_numbering_anew_stays_within_a_browsers_numbers(column):
    fill(column, 3)
    for _ in range(1000):
        ranks._renumber(column)
    assert all(abs(c.rank) < 2**53 for c in order(column))


class AnyMoves(TestCase):
    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 5), st.integers(0, 5), st.sampled_from(["before", "after", None])
            ),
            max_size=30,
        )
    )
    def test_any_moves_give_the_order_that_a_list_would_have(self, moves):
        column = column_of(make_board(), "backlog")
        everyone = fill(column, 6)
        expected = list(everyone)
        for moved, beside, side in moves:
            card, anchor = everyone[moved], everyone[beside]
            if card == anchor:
                continue
            cards.move(card.pk, ANN, column.pk, **({side: anchor} if side else {}))
            expected.remove(card)
            at = len(expected) if side is None else expected.index(anchor) + (side == "after")
            expected.insert(at, card)
            assert order(column) == expected
