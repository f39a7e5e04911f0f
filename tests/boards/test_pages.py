"""The pages without a browser: who sees them, what they cost, what their fragments say."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from boards import cards, leases
from boards.models import Board, Card, Column
from checkpoints import logs, steps
from goals import memory
from kernel.access import SYSTEM, Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def board() -> Board:
    return cards.create_board(SYSTEM, key="PAY", name="Payments")


@pytest.fixture
def client(board: Board) -> Client:
    user = User.objects.create(username="ada")
    user.memberships.create(board=board, role=Role.MEMBER)  # type: ignore[attr-defined]
    client = Client()
    client.force_login(user)
    return client


def column(board: Board, kind: str) -> Column:
    return board.columns.get(kind=kind)


def fill(board: Board, count: int) -> None:
    """Give the board a goal and ``count`` rounds of cards, some of them run, asked and done."""
    goal = memory.create(board.pk, "user:ada", title="Ship it")
    for n in range(count):
        for kind in ("backlog", "in_progress", "in_progress", "in_progress"):
            cards.create(
                board, "user:ada", title=f"{kind} {n}", column=column(board, kind), goal=goal
            )
        running, asking, done = (leases.claim(f"w{n}", boards=frozenset([board.pk])) for _ in "abc")
        assert running
        assert asking
        assert done
        steps.begin(running.pk, "go")
        leases.block(asking.pk, "unsure", question="Which way?")
        leases.complete(done.pk, "did it")


def statements(client: Client, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


@pytest.mark.parametrize(
    ("path", "most"), [("/boards/PAY", 13), ("/boards/PAY/tapes", 8), ("/cards/PAY-1", 30)]
)
def test_a_page_costs_the_same_with_many_cards_as_with_few(
    client: Client, board: Board, path: str, most: int
) -> None:
    fill(board, 1)
    few = statements(client, path)
    fill(board, 12)
    many = statements(client, path)
    assert many <= few <= most


def test_a_long_column_shows_its_first_cards_and_the_rest_on_request(
    client: Client, board: Board
) -> None:
    for n in range(40):
        cards.create(board, "user:ada", title=f"Card number {n:02}")
    page = client.get("/boards/PAY").content.decode()
    assert "Card number 29" in page
    assert "Card number 30" not in page
    assert "10 more" in page
    last = Card.objects.get(title="Card number 29")
    place = column(board, "backlog").pk
    rest = client.get(f"/boards/PAY/columns/{place}?group=1&rank={last.rank}").content.decode()
    assert rest.count('class="card"') == 10
    assert '<li class="more-row" hidden>' in rest


def test_changes_give_the_named_cards_and_every_count(client: Client, board: Board) -> None:
    one = cards.create(board, "user:ada", title="One")
    gone = uuid4()
    told = client.get(f"/boards/PAY/changes?ids={one.pk},{gone},nonsense").json()
    assert [c["id"] for c in told["cards"]] == [str(one.pk)]
    assert "One" in told["cards"][0]["html"]
    assert told["gone"] == [str(gone)]
    assert told["counts"] == {str(column(board, "backlog").pk): 1}
    assert told["attention"] == {"needs": 0, "running": 0, "review": 0, "stalled": 0}


def test_running_cards_say_what_they_do(client: Client, board: Board) -> None:
    card = cards.create(board, "user:ada", title="Run", column=column(board, "in_progress"))
    attempt = leases.claim("ada")
    assert attempt
    steps.record(attempt.pk, "one", "succeeded", kind="run")
    steps.record(attempt.pk, "two", "failed", kind="run")
    steps.begin(attempt.pk, "three", title="Third time lucky")
    told = client.get("/boards/PAY/tapes").json()["cards"]
    assert told == {str(card.pk): {"now": "Third time lucky", "tape": "xf."}}


def test_the_log_tab_names_the_steps_that_printed(client: Client, board: Board) -> None:
    cards.create(board, "user:ada", title="Run", column=column(board, "in_progress"))
    assert (
        "Nobody has worked on this card yet" in client.get("/cards/PAY-1?tab=log").content.decode()
    )
    attempt = leases.claim("ada")
    assert attempt
    for key in ("go", "silent", "a/b"):
        steps.begin(attempt.pk, key)
    logs.append(attempt.pk, [("go", "stdout", "one\ntwo\nthree"), ("a/b", "stdout", "x\n")])
    page = client.get("/cards/PAY-1?tab=log&step=a/b").content.decode()
    assert 'data-attempt="1" data-only="a/b"' in page
    assert "step=a%2Fb" in page
    assert '<code>go</code></span><span class="num">3</span>' in page
    assert "silent" not in page
    steps.finish(attempt.pk, "go", "succeeded")
    assert "3 lines" in client.get("/cards/PAY-1").content.decode()
    assert client.get("/cards/PAY-1?tab=log&attempt=9&step=%00").status_code == 200


def test_strangers_sign_in_and_see_only_their_boards(client: Client, board: Board) -> None:
    cards.create_board(SYSTEM, key="HID", name="Hidden")
    hidden = cards.create(Board.objects.get(key="HID"), "user:eve", title="Secret")
    for path in ("/boards/HID", f"/cards/{hidden.key}", "/boards/HID/changes?ids=", "/boards/NO"):
        assert client.get(path).status_code == 404, path
    for path in ("/", "/boards/PAY", "/cards/PAY-1"):
        answer = Client().get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/signin")


def test_a_viewer_is_offered_nothing_to_change(client: Client, board: Board) -> None:
    board.memberships.update(role=Role.VIEWER)
    cards.create(board, "user:ada", title="One")
    page = client.get("/boards/PAY").content.decode()
    assert "data-new-card" not in page
    assert "data-menu aria" not in page
    assert "data-steer" not in client.get("/cards/PAY-1").content.decode()
