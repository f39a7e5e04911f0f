from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from boards import cards
from checkpoints import logs
from checkpoints.models import LogChunk
from events.models import Event
from kernel.errors import LeaseLost
from tests.factories import claimed, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt():
    return claimed()


def test_output_is_appended_in_order_under_one_event(attempt):
    last = logs.append(attempt.pk, [("a", "stdout", "one"), ("a", "stderr", "two")])
    logs.append(attempt.pk, [("b", "stdout", "three")])
    rows = LogChunk.objects.filter(attempt=attempt).order_by("id")
    assert [(r.step_key, r.stream, r.text) for r in rows] == [
        ("a", "stdout", "one"),
        ("a", "stderr", "two"),
        ("b", "stdout", "three"),
    ]
    first, second = Event.objects.filter(kind="log.appended").order_by("seq")
    assert first.data["last"] == last
    assert second.data["step"] == "b"


def test_long_output_is_cut_into_chunks_and_loses_nothing(attempt):
    text = "0123456789" * 60_000
    logs.append(attempt.pk, [("", "stdout", text)])
    rows = LogChunk.objects.order_by("id")
    assert "".join(r.text for r in rows) == text
    assert all(len(r.text) <= logs.MAX_CHUNK_CHARS for r in rows)


def test_however_many_pieces_there_are_it_takes_four_statements(attempt):
    logs.append(attempt.pk, [("a", "stdout", "before")])
    pieces = [("a", "stdout", f"{n}\n") for n in range(50)] + [("b", "stderr", "x")]
    for some in (pieces[:1], pieces):
        with CaptureQueriesContext(connection) as captured:
            logs.append(attempt.pk, some)
        words = [query["sql"].split()[0] for query in captured]
        assert [w for w in words if w not in ("SAVEPOINT", "RELEASE")] == [
            *("UPDATE", "SELECT", "INSERT"),
            "WITH" if connection.vendor == "postgresql" else "INSERT",
        ]


def test_what_no_store_takes_is_replaced(attempt):
    logs.append(attempt.pk, [("", "stdout", "a\x00b\ud800c")])
    assert LogChunk.objects.get().text == "a\ufffdb?c"


def test_nothing_to_append_still_renews_the_lease(attempt):
    before = now_is(attempt).last_seen_at
    assert logs.append(attempt.pk, []) == 0
    assert now_is(attempt).last_seen_at > before
    assert not Event.objects.filter(kind="log.appended").exists()


def test_an_attempt_that_is_over_logs_no_more(attempt):
    cards.cancel(attempt.card_id, "user:ann")
    with pytest.raises(LeaseLost):
        logs.append(attempt.pk, [("", "stdout", "late")])
    assert not LogChunk.objects.exists()
