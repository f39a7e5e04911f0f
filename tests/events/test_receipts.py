from __future__ import annotations

import datetime as dt

import pytest
import time_machine
from django.db import IntegrityError

from events import receipts
from events.models import Receipt
from events.receipts import Answer, once
from goals.models import Goal
from kernel.errors import Invalid, KeyReused
from tests.factories import make_goal

pytestmark = pytest.mark.django_db


def making() -> Answer:
    return Answer(201, {"id": str(make_goal().pk)})


def refusing() -> Answer:
    make_goal()
    raise Invalid.field("title", "no")


def test_a_request_that_comes_again_gets_the_first_answer():
    first = once("token:a", "k", "f", making)
    again = once("token:a", "k", "f", making)
    assert (again.status, again.body, again.replayed) == (201, first.body, True)
    assert not first.replayed
    assert Goal.objects.count() == 1


def test_no_content_is_an_answer_too():
    once("token:a", "k", "f", lambda: Answer(204, None))
    again = once("token:a", "k", "f", making)
    assert (again.status, again.body, again.replayed) == (204, None, True)


def test_a_key_does_not_serve_two_requests():
    once("token:a", "k", "f", making)
    with pytest.raises(KeyReused):
        once("token:a", "k", "other", making)
    assert Goal.objects.count() == 1


def test_keys_of_two_principals_have_nothing_to_do_with_each_other():
    once("token:a", "k", "f", making)
    assert not once("token:b", "k", "f", making).replayed


def test_a_refusal_leaves_neither_effect_nor_receipt():
    with pytest.raises(Invalid):
        once("token:a", "k", "f", refusing)
    assert not Goal.objects.exists()
    assert not once("token:a", "k", "f", making).replayed


@pytest.mark.parametrize("answer", [Answer(409, {}), Answer(204, None, keep=False)])
def test_what_changed_nothing_is_asked_anew(answer):
    once("token:a", "k", "f", lambda: answer)
    assert not once("token:a", "k", "f", making).replayed


def test_secrets_are_taken_out_of_what_is_kept():
    hide = {"redact": lambda body: {**body, "token": None}}
    first = once("token:a", "k", "f", lambda: Answer(201, {"token": "s3cret"}), **hide)
    assert first.body == {"token": "s3cret"}
    assert Receipt.objects.get().body == {"token": None}


@pytest.mark.parametrize("trouble", [Invalid("the key is taken"), IntegrityError("duplicate")])
def test_meeting_the_first_requests_own_effect_is_no_refusal(monkeypatch, trouble):
    """The first request may commit between our look for its receipt and our effect."""
    first = once("token:a", "k", "f", making)
    real, looks = receipts._find, []

    def too_early(principal, key):
        looks.append(key)
        return None if len(looks) == 1 else real(principal, key)

    def effect() -> Answer:
        raise trouble

    monkeypatch.setattr(receipts, "_find", too_early)
    again = once("token:a", "k", "f", effect)
    assert (again.replayed, again.body) == (True, first.body)


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\nb"])
def test_a_key_must_be_one_that_can_be_kept(key):
    with pytest.raises(Invalid):
        receipts.check_key(key)
    assert receipts.check_key("x" * 255)


def test_receipts_are_kept_long_enough_and_then_forgotten():
    with time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False) as clock:
        once("token:a", "k", "f", making)
        clock.shift(dt.timedelta(hours=24))
        assert receipts.prune() == 0
        clock.shift(dt.timedelta(hours=25))
        assert receipts.prune() == 1
