"""The page that looks for words: what it shows, links to, and refuses in a sentence."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from boards import search_pages
from boards.models import Membership
from goals import memory
from goals.search import keeping
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_goal, make_step, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    return make_board(key="PAY")


@pytest.fixture
def client(board):
    user = make_user()
    Membership.objects.create(board=board, user=user, role=Role.VIEWER)
    client = Client()
    client.force_login(user)
    return client


def test_a_hit_leads_to_the_very_step_however_long_ago(client, board):
    attempt = claimed(make_card(board))
    make_step(attempt, "walrus", result={"output": "<script>alert(1)</script> tusk"})
    for n in range(250):
        make_step(attempt, f"later-{n}")
    keeping.tick(30)
    shown = client.get("/search", {"q": "tusk"}).content.decode()
    assert "alert(1)" in shown
    assert "<script>alert" not in shown
    assert "<mark>tusk</mark>" in shown
    (href,) = re.findall(r'class="hit" href="([^"]+)"', shown)
    assert href == f"/cards/{attempt.card.key}?tab=steps&amp;upto=1#s1"
    page = client.get(href.replace("&amp;", "&")).content.decode()
    assert 'id="s1"' in page
    assert 'id="s250"' not in page


def test_a_decision_of_a_goal_alone_leads_to_where_it_stands_on_the_goal(client, board):
    goal = make_goal(board)
    made = memory.decide(board.pk, goal.pk, "user:ann", title="walrus queue")
    for n in range(60):
        memory.decide(board.pk, goal.pk, "user:ann", title=f"later {n}")
    shown = client.get("/search", {"q": "walrus", "kind": "decision", "board": "PAY"})
    (href,) = re.findall(r'class="hit" href="([^"]+)"', shown.text)
    assert href == f"/goals/{goal.pk}?tab=decisions&amp;at={made.pk}#d{made.pk}"
    page = client.get(href.replace("&amp;", "&")).text
    assert f'id="d{made.pk}"' in page
    assert page.count('class="rowx"') == 51
    met = memory.discover(board.pk, goal.pk, "user:ann", kind="fact", title="walrus fact")
    page = client.get("/search?q=walrus+fact").text
    assert f"/goals/{goal.pk}?tab=discoveries&amp;at={met.pk}#f{met.pk}" in page
    assert "walrus queue" not in client.get("/search?q=walrus&kind=card").content.decode()


def test_what_is_on_no_board_of_ones_own_is_not_there(client):
    hidden = make_board(key="HID")
    make_card(hidden, title="walrus")
    assert "Nothing has these words" in client.get("/search?q=walrus").content.decode()
    assert client.get("/search?q=walrus&board=HID").status_code == 404


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("q=kind:walrus", "Diese Art gibt es nicht"),
        ("q=x&cursor=x", "Von hier geht es"),
        ("q=after:soon", "2026-11-23"),
        ("q=" + "x" * 401, "401"),
        ("q=" + "+".join(f"by:a{n}" for n in range(21)), "20"),
    ],
)
def test_what_can_not_be_is_said_on_the_page_in_the_reader_s_words(
    client, query, words, monkeypatch
):
    refused = client.get(f"/search?{query}")
    assert refused.status_code == 422
    assert "autofocus" in refused.text
    said = search_pages._
    german = {
        "There is no such kind; after kind: comes one of %(kinds)s.": "Diese Art gibt es nicht",
        "These results go no further from here; search again.": "Von hier geht es nicht weiter",
    }
    monkeypatch.setattr(search_pages, "_", lambda text: german.get(text, said(text)))
    assert words in client.get(f"/search?{query}").text
    assert 'role="alert"' in refused.content.decode()


def test_a_signed_out_reader_is_sent_to_sign_in():
    assert Client().get("/search?q=x").status_code == 302
