"""What the card page's tabs of words show, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from boards import allowances, cards
from checkpoints import briefing, tabs
from goals.models import Decision, Discovery
from tests.factories import claimed, make_card, make_user, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def learn(card: Any, **fields: Any) -> Discovery:
    wanted = {"kind": "fact", "title": "the port is taken", "actor": "user:a", **fields}
    return Discovery.objects.create(board_id=card.board_id, card_id=card.pk, **wanted)


def test_an_answer_stands_below_its_question() -> None:
    card = make_card()
    question = card.messages.create(kind="question", actor="worker:a", text="Which port?")
    cards.say(card.pk, "user:a", "unrelated")
    answer = cards.say(card.pk, "user:a", "5433", answers=question.pk)
    entries = tabs.thread(card)["entries"]
    assert [e.message.text for e in entries] == ["unrelated", "Which port?"]
    assert entries[1].answers == [answer]
    assert entries[1].newest == answer.pk
    # Alone on its page it says what it answers.
    [alone] = tabs.thread(card, str(question.pk + 1))["entries"]
    assert alone.message == question
    assert alone.answers == []


def test_messages_come_page_by_page(monkeypatch: pytest.MonkeyPatch, person: Client) -> None:
    monkeypatch.setattr(tabs, "SHOWN", 2)
    card = make_card()
    said = [cards.say(card.pk, "user:a", f"note {n}").pk for n in range(3)]
    shown = person.get(f"/cards/{card.key}", {"tab": "messages"}).text
    assert "note 2" in shown
    assert "note 0" not in shown
    assert f"before={said[1]}" in shown
    rest = person.get(f"/cards/{card.key}", {"tab": "messages", "before": said[1]}).text
    assert "note 0" in rest
    assert "note 1" not in rest


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "\x00"])
def test_a_bad_place_in_the_thread_is_no_error(person: Client, before: str) -> None:
    card = make_card()
    answer = person.get(f"/cards/{card.key}", {"tab": "messages", "before": before})
    assert answer.status_code == 200


def test_what_was_decided_and_learnt_has_tabs_with_counts(person: Client) -> None:
    card = make_card()
    Decision.objects.create(
        board_id=card.board_id,
        card_id=card.pk,
        title="Use the outbox",
        rationale="A trigger **deadlocks** <script>alert(1)</script>",
        alternatives=["a trigger"],
        actor="user:a",
    )
    learn(card)
    learn(make_card(board=card.board), title="of another card")
    page = f"/cards/{card.key}"
    decided = person.get(page, {"tab": "decisions"}).text
    assert "Use the outbox" in decided
    assert "<strong>deadlocks</strong>" in decided
    assert "<script>alert" not in decided
    assert "Decisions <span>1</span>" in decided
    learnt = person.get(page, {"tab": "discoveries"}).text
    assert "the port is taken" in learnt
    assert "of another card" not in learnt


def test_the_briefing_says_its_size_and_what_changed_since_the_last_one(person: Client) -> None:
    card = make_card()
    attempt = claimed(card)
    briefing.store(attempt.pk, briefing.build(now_is(card)))
    cards.say(card.pk, "user:a", "mind the rounding", pinned=True)
    shown = tabs.told(now_is(card), None)
    assert shown["previous"] == attempt
    assert any(line.sign == "+" and "mind the rounding" in line.text for line in shown["lines"])
    assert shown["added"] == sum(line.sign == "+" for line in shown["lines"])
    assert [p["text"] for p in shown["pinned"]] == ["mind the rounding"]
    page = person.get(f"/cards/{card.key}", {"tab": "briefing"}).text
    assert f"{shown['built'].tokens} of {briefing.DEFAULT_MAX_TOKENS:,} tokens" in page


def test_alike_texts_have_no_changes_and_others_only_theirs() -> None:
    assert tabs.compared("a\nb", "a\nb") == []
    lines = tabs.compared("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\nfive\n6")
    assert [(line.sign, line.text) for line in lines] == [
        ("…", ""),
        (" ", "4"),
        ("-", "5"),
        ("+", "five"),
        (" ", "6"),
    ]


@pytest.mark.parametrize("tab", ["messages", "decisions", "discoveries", "briefing"])
def test_a_tab_takes_as_many_statements_however_much_it_shows(
    person: Client, tab: str, django_assert_max_num_queries: Any
) -> None:
    card = make_card()
    question = card.messages.create(kind="question", actor="worker:a", text="Which?")
    cards.say(card.pk, "user:a", "that", answers=question.pk, pinned=True)
    learn(card, pinned=True)
    page = f"/cards/{card.key}"
    person.get(page, {"tab": tab})
    with django_assert_max_num_queries(80) as few:
        person.get(page, {"tab": tab})
    for n in range(20):
        asked = card.messages.create(kind="question", actor="worker:a", text=f"Which {n}?")
        cards.say(card.pk, "user:a", "that", answers=asked.pk, pinned=True)
        learn(card, title=f"fact {n}", pinned=True)
    with django_assert_max_num_queries(len(few)):
        person.get(page, {"tab": tab})


def test_the_page_says_what_is_used_of_the_cards_budget(person: Client) -> None:
    card = make_card(budgets={"cost_usd": 2, "attempts": 4})
    attempt = claimed(card)
    type(attempt).objects.filter(pk=attempt.pk).update(cost_usd="3")
    (budget,) = allowances.of_card(card)
    cost, attempts = budget["rows"]
    assert cost["over"]
    assert cost["percent"] == 100
    assert attempts["percent"] == 25
    assert "3 of 2 US dollars" in person.get(f"/cards/{card.key}").text
