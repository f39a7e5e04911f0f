from __future__ import annotations

import datetime as dt
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from events import log
from events.models import Event

BOARD, OTHER, SUBJECT = uuid4(), uuid4(), uuid4()


def record(board: UUID = BOARD, kind: str = "card.moved", **data) -> int:
    return log.record(kind, board_id=board, subject_id=SUBJECT, actor="user:ann", **data)


@pytest.mark.django_db
def test_each_board_counts_its_own_events():
    assert [record(), record(), record(OTHER), record()] == [1, 2, 1, 3]
    assert (log.last_seq(BOARD), log.last_seq(OTHER), log.last_seq(uuid4())) == (3, 1, 0)


@pytest.mark.django_db
def test_an_event_says_what_who_and_when():
    before = dt.datetime.now(dt.UTC)
    record(kind="card.claimed", attempt=3, note="é\u2028", nested={"a": [None]})
    event = Event.objects.get()
    assert (event.kind, event.actor, event.subject_id) == ("card.claimed", "user:ann", SUBJECT)
    assert event.data == {"attempt": 3, "note": "é\u2028", "nested": {"a": [None]}}
    assert before <= event.at <= dt.datetime.now(dt.UTC)


@pytest.mark.django_db
def test_a_long_actor_is_cut():
    log.record("x.y", board_id=BOARD, subject_id=SUBJECT, actor="worker:" + "x" * 500)
    assert len(Event.objects.get().actor) == 200


@pytest.mark.django_db(transaction=True)
def test_an_event_is_part_of_the_change_it_reports():
    with pytest.raises(RuntimeError, match="outside"):
        record()
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    with transaction.atomic():
        assert record() == 1  # the number that was rolled back


@pytest.mark.django_db
def test_a_number_is_given_out_once():
    record()
    twin = Event(board_id=BOARD, seq=1, kind="x.y", actor="a", subject_id=SUBJECT)
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save()


@pytest.mark.django_db
def test_recording_takes_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        record()


@pytest.mark.django_db
def test_counting_goes_on_where_the_log_stands():
    """As after a restore, when the counter row is missing."""
    record()
    record()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM events_stream")
    assert record() == 3


@pytest.mark.django_db
def test_what_comes_after_a_number_comes_in_order():
    for _ in range(4):
        record()
    seqs = Event.objects.of_board(BOARD).after(2).values_list("seq", flat=True)
    assert list(seqs) == [3, 4]
