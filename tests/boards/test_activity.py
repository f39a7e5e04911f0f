"""The board's log in words: filtered, by minute, with an address for every event."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import translation

from boards import activity, cards, sentences
from boards.models import Board, Membership
from boards.planning import applying
from checkpoints import logs
from events import log
from events.models import Event
from kernel.access import Role
from kernel.ids import uuid7
from tests.factories import claimed, make_board, make_card, make_goal, make_step, make_user

ANN = "user:ann"

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader() -> Iterator[tuple[Client, Board]]:
    with time_machine.travel(dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC), tick=False):
        board = make_board(key="PAY", name="Payments")
        user = make_user()
        Membership.objects.create(board=board, user=user, role=Role.VIEWER)
        client = Client()
        client.force_login(user)
        yield client, board


def told(client: Client, query: str = "") -> list[str]:
    """Return what the page says, line by line, the newest first."""
    page = client.get(f"/boards/PAY/activity{query}").content.decode()
    rows = re.findall(r'<li id="e\d+".*?</li>', page, re.S)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


def test_what_happened_is_told_with_who_and_what(reader: tuple[Client, Board]) -> None:
    client, board = reader
    card = make_card(board, title="Parse <it>")
    make_step(claimed(card), "lint")
    assert told(client) == [
        "Event #4 A ada finished step lint PAY-1 Parse <it>",
        "Event #3 A ada took it as attempt 1 PAY-1 Parse <it>",
        "Event #2 A ann made the card PAY-1 Parse <it>",
        "Event #1 H holdfast made the board",
    ]


def test_events_are_grouped_by_the_readers_minute(reader: tuple[Client, Board]) -> None:
    client, board = reader
    make_card(board)
    with time_machine.travel(dt.datetime(2026, 3, 2, 9, 1, 30, tzinfo=dt.UTC), tick=False):
        make_card(board)
    client.cookies["tz"] = "Asia%2FTokyo"
    page = client.get("/boards/PAY/activity").content.decode()
    assert re.findall(r'<h2 id="m\d+"><time[^>]*>([^<]*)', page) == [
        "2 Mar 2026 18:01",
        "2 Mar 2026 18:00",
    ]


def test_a_deleted_card_keeps_its_name_in_the_log(reader: tuple[Client, Board]) -> None:
    client, board = reader
    card = make_card(board, title="Short-lived")
    cards.delete(card.pk, ANN)
    assert told(client)[0] == "Event #3 A ann deleted it PAY-1 Short-lived"


def test_filters_let_through_what_they_name(reader: tuple[Client, Board]) -> None:
    client, board = reader
    goal = make_goal(board, title="Fast")
    make_card(board, title="Other")
    mine = make_card(board, title="Mine", goal=goal)
    attempt = claimed(mine)
    make_step(attempt)
    logs.append(attempt.pk, [("test", "stdout", "x")])
    numbers = {q: [line.split()[1] for line in told(client, q)] for q in QUERIES}
    assert numbers == {
        "?kind=step": ["#6"],
        "?kind=log": ["#7"],
        "?actor=worker:ada": ["#6", "#5"],
        "?card=pay-2": ["#6", "#5", "#4"],
        "?card=PAY-99": [],
        "?actor=nobody": [],
        "?kind=nonsense&card=PAY-1": ["#3"],
    }
    assert [n.split()[1] for n in told(client, f"?goal={goal.pk}")] == ["#6", "#5", "#4", "#2"]


QUERIES = (
    "?kind=step",
    "?kind=log",
    "?actor=worker:ada",
    "?card=pay-2",
    "?card=PAY-99",
    "?actor=nobody",
    "?kind=nonsense&card=PAY-1",
)


def fill(board: Board, count: int, **fields: Any) -> None:
    """Append events that no transition made, as many as a long life would."""
    first = log.last_seq(board.pk) + 1
    fields = {"kind": "card.edited", "actor": ANN, **fields}
    Event.objects.bulk_create(
        Event(board_id=board.pk, seq=first + n, subject_id=uuid7(), **fields) for n in range(count)
    )


def test_a_rare_event_far_back_is_found_a_page_at_a_time(
    reader: tuple[Client, Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, board = reader
    monkeypatch.setattr(activity, "REACH", 50)
    make_step(claimed(make_card(board)))
    fill(board, 120)
    query, seen = "?kind=step", []
    for _ in range(5):
        page = client.get(f"/boards/PAY/activity{query}")
        seen.append(len(told(client, query)))
        older = page.context["older"]
        if not older:
            break
        query = older
    assert seen == [0, 0, 1]


def test_pages_meet_without_gap_or_overlap(
    reader: tuple[Client, Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, board = reader
    monkeypatch.setattr(activity, "ROWS", 7)
    fill(board, 29)
    query, seen = "", []
    while True:
        page = client.get(f"/boards/PAY/activity{query}")
        seen += [int(line.split()[1][1:]) for line in told(client, query)]
        query = page.context["older"]
        if not query:
            break
    assert seen == list(range(30, 0, -1))


def test_a_permalink_shows_its_event_marked_with_some_newer(
    reader: tuple[Client, Board],
) -> None:
    client, board = reader
    fill(board, 40)
    page = client.get("/boards/PAY/activity?seq=20").content.decode()
    assert '<li id="e20" class="named" aria-current="true">' in page
    assert 'id="e30"' in page
    assert 'id="e31"' not in page


def test_how_much_is_new_is_counted_under_the_filter(reader: tuple[Client, Board]) -> None:
    client, board = reader
    make_step(claimed(make_card(board)))
    asked = {q: client.get(f"/boards/PAY/activity{q}").json()["new"] for q in NEW}
    assert asked == {"?after=1": 3, "?after=1&kind=step": 1, "?after=4": 0}
    fill(board, 150)
    assert client.get("/boards/PAY/activity?after=4").json()["new"] == activity.MOST_NEW + 1


NEW = ("?after=1", "?after=1&kind=step", "?after=4")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/boards/PAY/activity?seq=many", 422),
        ("/boards/PAY/activity?before=-1", 422),
        ("/boards/PAY/activity?after=1e9", 422),
        ("/boards/PAY/activity?seq=999999999999999999", 200),
        ("/boards/PAY/activity?actor=%00&goal=x", 200),
        ("/boards/NOWHERE/activity", 404),
    ],
)
def test_a_bad_address_is_told_so(reader: tuple[Client, Board], path: str, status: int) -> None:
    assert reader[0].get(path).status_code == status


def test_the_number_of_statements_does_not_grow(
    reader: tuple[Client, Board], django_assert_max_num_queries: Any
) -> None:
    client, board = reader
    make_card(board)
    with django_assert_max_num_queries(14) as few:
        client.get("/boards/PAY/activity")
    most = len(few)
    for _ in range(20):
        make_card(board, goal=make_goal(board))
    with django_assert_max_num_queries(most):
        client.get("/boards/PAY/activity")


def test_sentences_are_looked_up_in_the_readers_language(
    reader: tuple[Client, Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    _client, board = reader
    cards.edit(make_card(board).pk, ANN, {"title": "{error} is told", "depends_on": []})
    event = Event.objects.get(kind="card.edited")
    assert sentences.told(event, {}) == "changed its title, dependencies"
    german = {"changed its {changed}": "{changed}: geändert", "dependencies": "Warten auf"}

    def looked_up(words: str) -> str:
        return german.get(words, words) if translation.get_language() == "de" else words

    monkeypatch.setattr(translation._trans, "gettext", looked_up)  # type: ignore[attr-defined]
    with translation.override("de"):
        assert sentences.told(event, {}) == "title, Warten auf: geändert"


@pytest.mark.parametrize("items", [1, 2])
def test_a_plan_of_one_card_is_told_so(reader: tuple[Client, Board], items: int) -> None:
    client, board = reader
    drafts = [{"title": f"Item {n}"} for n in range(items)]
    applying.create(make_goal(board), ANN, drafts)
    assert f"proposed plan 1 of {items} card{'s' if items > 1 else ''} " in f"{told(client)[0]} "
