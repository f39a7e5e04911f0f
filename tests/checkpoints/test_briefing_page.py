"""What the card page shows of briefings."""

from __future__ import annotations

import pytest
from django.test import Client

from checkpoints import briefing
from tests.factories import claimed, make_card, make_checkpoint, make_user, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def test_the_page_shows_what_an_attempt_was_told_and_what_the_next_will_be(person: Client) -> None:
    card = make_card()
    attempt = claimed(card)
    briefing.store(attempt.pk, briefing.build(now_is(card)))
    make_checkpoint(attempt, summary="the header is parsed")
    page = f"/cards/{card.key}"
    assert f"?tab=briefing&amp;attempt={attempt.number}" in person.get(page).text
    shown = person.get(page, {"tab": "briefing", "attempt": attempt.number}).text
    assert "Attempt 1 was told" in shown
    told = shown.partition("Attempt 1 was told")[2].partition("</pre>")[0]
    assert "No checkpoint yet" in told
    assert "the header is parsed" not in told
    shown = person.get(page, {"tab": "briefing"}).text
    told = shown.partition("Next worker is told")[2].partition("</pre>")[0]
    assert "the header is parsed" in told


@pytest.mark.parametrize("number", ["2", "0", "-1", "x", "\u00b2", "9" * 30, "\x00"])
def test_an_attempt_that_never_was_shows_what_the_next_is_told(person: Client, number: str) -> None:
    card = make_card()
    claimed(card)
    shown = person.get(f"/cards/{card.key}", {"tab": "briefing", "attempt": number})
    assert shown.status_code == 200
    assert "Attempt" in shown.text
    assert "was told" not in shown.text


def test_an_attempt_that_was_told_nothing_says_so(person: Client) -> None:
    card = make_card()
    claimed(card)
    shown = person.get(f"/cards/{card.key}", {"tab": "briefing", "attempt": "1"})
    assert "It was given no briefing" in shown.text
