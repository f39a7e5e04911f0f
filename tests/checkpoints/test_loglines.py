"""Output by lines: what is read is what was printed, wherever one begins."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoints import loglines, logs
from checkpoints.loglines import Log, search, stretch
from checkpoints.models import LogChunk
from tests.factories import claimed

pytestmark = pytest.mark.django_db

PIECES = st.lists(
    st.tuples(
        st.sampled_from(["", "test"]),
        st.sampled_from(["stdout", "stderr"]),
        st.text(alphabet="ab\n", max_size=12),
    ),
    max_size=12,
)


@pytest.fixture
def attempt():
    return claimed()


def told(pieces, longest):
    """The lines as one would cut them by hand: ``(step, stream, text)`` each."""
    lines, ended, open_chars = [], True, {}
    for step, stream, text in pieces:
        for char in text:
            feed = char == "\n"
            was, length = open_chars.get(step, (stream, 0))
            length = 0 if was != stream or (length == longest and not feed) else length
            if ended or not length or lines[-1][:2] != (step, stream):
                lines.append((step, stream, ""))
            if not feed:
                lines[-1] = (step, stream, lines[-1][2] + char)
            ended = feed
            open_chars[step] = (stream, 0 if feed else length + 1)
    return lines


def restart():
    LogChunk.objects.all().delete()


@given(batches=st.lists(PIECES, max_size=4))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_lines_are_those_that_were_printed_from_wherever_one_reads(attempt, monkeypatch, batches):
    monkeypatch.setattr(logs, "MAX_LINE_CHARS", 5)
    monkeypatch.setattr(logs, "MAX_CHUNK_CHARS", 9)
    monkeypatch.setattr(loglines, "_BATCH", 4)
    restart()
    for batch in batches:
        logs.append(attempt.pk, batch)
    printed = [piece for batch in batches for piece in batch]
    for log, pieces in (
        (Log(attempt.pk), printed),
        (Log(attempt.pk, "test"), [p for p in printed if p[0] == "test"]),
    ):
        wanted = told(pieces, 5)
        assert log.total() == len(wanted)
        for first in range(1, len(wanted) + 2):
            got = stretch(log, first, 3)
            assert [line.line for line in got] == list(range(first, len(wanted) + 1))[:3]
            assert [(x.step, x.stream, x.text) for x in got] == wanted[first - 1 :][:3]
        assert b"".join(loglines.raw(log)).decode() == "".join(text for *_, text in pieces)
        found = search(log, "AB")
        assert found.lines == [n for n, line in enumerate(wanted, 1) if "ab" in line[2]]
        assert found.next_line is None


def test_the_numbers_of_older_output_are_those_it_would_get_today(attempt):
    pieces = [
        ("a", "stdout", "one\ntw"),
        ("a", "stderr", "broken in\n"),
        ("b", "stdout", "x"),
        ("a", "stdout", "o\n"),
        ("a", "stdout", "y" * logs.MAX_LINE_CHARS),
        ("a", "stdout", "z\n"),
    ]
    for piece in pieces:
        logs.append(attempt.pk, [piece])
    names = ("pk", "line", "step_line", "breaks", "open_chars")
    rows = LogChunk.objects.order_by("pk").values_list(*names)
    before = list(rows)
    LogChunk.objects.update(line=1, step_line=1, breaks=0, open_chars=0)
    migration = import_module("checkpoints.migrations.0007_number_log_lines")
    migration.number_lines(apps, SimpleNamespace(connection=connection))
    assert list(rows.all()) == before


def test_a_stretch_costs_two_statements_and_few_rows_anywhere_in_a_long_log(attempt):
    for n in range(40):
        logs.append(
            attempt.pk, [("t", "stdout", "".join(f"line {n * 50 + k}\n" for k in range(50)))]
        )
    log = Log(attempt.pk, "t")
    assert log.total() == 2000
    for first in (1, 777, 1990):
        with CaptureQueriesContext(connection) as captured:
            lines = stretch(log, first, 10)
        assert [line.text for line in lines] == [f"line {n}" for n in range(first - 1, first + 9)]
        assert len(captured) <= 2


def test_a_search_goes_on_where_it_stopped_and_finds_each_line_once(attempt, monkeypatch):
    monkeypatch.setattr(loglines, "SEARCH_CHARS", 300)
    monkeypatch.setattr(loglines, "_GROUP_CHARS", 100)
    for n in range(1, 101):
        logs.append(attempt.pk, [("t", "stdout", f"Hit {n} hit\n" if n % 7 == 0 else f"{n}\n")])
    found, first, looks = [], 1, 0
    while first is not None:
        looks += 1
        matches = search(Log(attempt.pk), "hit", first)
        found += matches.lines
        first = matches.next_line
    assert found == [n for n in range(1, 101) if n % 7 == 0]
    assert looks > 1
    assert search(Log(attempt.pk), "hit", 50, case=True).lines == [56, 63, 70, 77, 84, 91, 98]
    assert search(Log(attempt.pk), ".*").lines == []


def test_a_search_sees_what_is_seen(attempt):
    text = "\x1b[31mFAI\x1b[0mLED one\r\n 10%\r100%\n[31m no colour\nlast FAILED"
    logs.append(attempt.pk, [("t", "stdout", text)])
    log = Log(attempt.pk, "t")
    assert search(log, "failed").lines == [1, 4]
    assert search(log, "10%").lines == []
    assert search(log, "100%").lines == [2]
    assert search(log, "[31m").lines == [3]


def test_a_line_knows_the_style_it_begins_with(attempt):
    logs.append(attempt.pk, [("t", "stdout", "a \x1b[1;31mred\nstill\nstill\n")])
    logs.append(attempt.pk, [("t", "stdout", "on\nand \x1b[0moff\nplain\n")])
    styles = ["", "1;31", "1;31", "1;31", "1;31", ""]
    for first in range(1, 7):
        assert [x.style for x in stretch(Log(attempt.pk), first, 9)] == styles[first - 1 :]


def test_very_long_lines_come_fewer_at_a_time(attempt):
    for _ in range(80):
        logs.append(attempt.pk, [("t", "stdout", "x" * 16_000 + "\n")])
    got = stretch(Log(attempt.pk), 1, 200)
    assert 0 < len(got) < 80
    assert stretch(Log(attempt.pk), got[-1].line + 1, 200)[0].line == got[-1].line + 1
