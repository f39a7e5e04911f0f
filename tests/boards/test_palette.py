"""What the palette finds, for whom, and at what cost."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from boards.models import Card, Membership
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_goal, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def page() -> Client:
    """Return a signed-in operator's browser."""
    client = Client()
    client.force_login(make_user(is_superuser=True))
    return client


def found(page: Client, **asked: str) -> dict[str, list[Any]]:
    answer = page.get("/palette", asked)
    assert answer.status_code == 200, answer.content
    return {section["kind"]: section["items"] for section in answer.json()["sections"]}


def titles(items: list[Any]) -> list[str]:
    return [item["title"] for item in items]


def test_an_exact_key_comes_first_then_beginnings_then_words_then_letters(page: Client) -> None:
    board = make_board(key="PAL")
    letters = make_card(board, title="p-a-l by letters")
    words = make_card(board, title="A card about pal-1")
    assert letters.key == "PAL-1"
    cards = found(page, q="pal-1", board="PAL")["cards"]
    assert [card["key"] for card in cards][:2] == ["PAL-1", words.key]
    make_card(board, title="Write the parser")
    make_card(board, title="The parser is written")
    listed = titles(found(page, q="write", board="PAL")["cards"])
    assert listed[0] == "Write the parser"
    assert titles(found(page, q="wtprs", board="PAL")["cards"]) == ["Write the parser"]
    assert titles(found(page, q="parser written", board="PAL")["cards"]) == [
        "The parser is written"
    ]


def test_nothing_is_found_on_boards_that_one_may_not_see() -> None:
    seen, hidden = make_board(name="Seen"), make_board(name="Hidden")
    user = make_user()
    Membership.objects.create(board=seen, user=user, role=Role.VIEWER)
    for board in (seen, hidden):
        make_goal(board, title=f"Goal of {board.name}")
        claimed(make_card(board, title="Secret parser", labels=["secret"]), worker="ada")
    client = Client()
    client.force_login(user)
    key = Card.objects.get(board=hidden).key
    everything = [
        item
        for q in ("secret", "goal", "hidden", "@ada", key, "")
        for items in found(client, q=q, recent=key).values()
        for item in items
        if item["id"] != "everything"  # it says again what was typed
    ]
    assert everything
    assert all(hidden.key not in item["href"] for item in everything)
    assert client.get("/palette", {"board": hidden.key}).status_code == 404
    assert Client().get("/palette").status_code == 302


def test_recent_cards_come_in_their_order(page: Client) -> None:
    board = make_board()
    one, two = make_card(board, title="One"), make_card(board, title="Two")
    recent = found(page, recent=f"{two.key},NO-1,{one.key}", board=board.key)["recent"]
    assert titles(recent) == ["Two", "One"]


def test_signs_ask_for_labels_and_workers(page: Client) -> None:
    board = make_board()
    claimed(make_card(board, labels=["api", "data"]), worker="claude 1")
    labels = found(page, q="#ap", board=board.key)
    assert titles(labels["labels"]) == ["api"]
    assert labels["labels"][0]["href"].endswith("?label=api")
    workers = found(page, q="@clau", board=board.key)
    assert titles(workers["workers"]) == ["claude 1"]
    assert page.get(workers["workers"][0]["href"]).status_code == 200


@pytest.mark.parametrize(
    "q", ["", "par", "#a", "@ad", "PAL-1", "7", "%_\\", "x\0y", "(.*", "é" * 300]
)
def test_it_takes_as_many_statements_however_much_there_is(page: Client, q: str) -> None:
    board = make_board()

    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            found(page, q=q, board=board.key)
        return len(queries)

    def more() -> None:
        make_goal(board, title="Parse it")
        claimed(make_card(board, title="Parser", labels=["a"]), worker="ada")
        make_card(make_board(), title="Parser 2")

    more()
    few = statements()
    for _ in range(5):
        more()
    assert statements() == few <= 9
