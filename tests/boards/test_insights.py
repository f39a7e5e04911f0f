"""Flow metrics of small boards whose every figure can be told by hand."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from boards import cards, leases
from boards.insights import asking, flow, fold, tables
from boards.insights.flow import DAY, HOUR, Wanted
from boards.insights.forecast import forecast
from boards.models import Board, Card, Membership
from checkpoints import steps
from kernel.access import Role
from kernel.errors import Invalid
from tests.factories import claimed, column_of, make_board, make_card, make_goal, make_user

ANN = "user:ann"
T0 = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)  # a Monday

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(T0, tick=False) as clock:
        yield clock


def hours(n: float) -> dt.timedelta:
    return dt.timedelta(hours=n)


def report(board: Board, **wanted: Any) -> flow.Report:
    wanted.setdefault("until", timezone.now())
    with fold.of_board(board.pk) as ledger:
        return flow.report(ledger, Wanted(**wanted))


def finish(card: Card, worker: str = "ada", **usage: Any) -> None:
    attempt = claimed(card, worker)
    if usage:
        steps.record(attempt.pk, "work", "succeeded", usage=usage)
    leases.complete(attempt.pk, "done")


# ── time ─────────────────────────────────────────────────────────────────────────────────


def test_cycle_time_runs_from_the_backlog_and_lead_time_from_creation(clock: Any) -> None:
    board = make_board()
    card = make_card(board, kind="backlog")
    clock.shift(hours(10))
    cards.move(card.pk, ANN, column_of(board, "in_progress").pk)
    clock.shift(hours(5))
    finish(card)
    (done,) = report(board).finished
    assert (done.cycle, done.lead, done.attempts) == (5 * HOUR, 15 * HOUR, 1)


def test_a_card_that_went_back_has_been_in_progress_since_the_first_time(clock: Any) -> None:
    board = make_board()
    card = make_card(board)
    clock.shift(hours(1))
    cards.move(card.pk, ANN, column_of(board, "backlog").pk)
    clock.shift(hours(1))
    cards.move(card.pk, ANN, column_of(board, "in_progress").pk)
    clock.shift(hours(1))
    finish(card)
    assert report(board).finished[0].cycle == 3 * HOUR


def test_a_card_that_is_taken_up_again_is_not_finished_though_it_was_then(clock: Any) -> None:
    board = make_board()
    card = make_card(board)
    clock.shift(hours(1))
    finish(card)
    clock.shift(hours(1))
    then = timezone.now()
    clock.shift(hours(1))
    cards.move(card.pk, ANN, column_of(board, "in_progress").pk)
    assert report(board).finished == []
    assert [f.cycle for f in report(board, until=then).finished] == [HOUR]
    clock.shift(hours(1))
    finish(card)
    assert [f.cycle for f in report(board).finished] == [4 * HOUR]


def test_time_blocked_and_in_review_is_waiting_on_a_person(clock: Any) -> None:
    board = make_board()
    card = make_card(board, review_required=True)
    attempt = claimed(card)
    leases.block(attempt.pk, "which?", question="Which?")
    clock.shift(hours(2))
    cards.retry(card.pk, ANN)
    finish(card)
    clock.shift(hours(3))
    cards.approve(card.pk, ANN)
    found = report(board)
    assert found.finished[0].waited == 5 * HOUR
    assert sum(b.counts["blocked"] for b in found.waiting) == 2 * HOUR
    assert sum(b.counts["review"] for b in found.waiting) == 3 * HOUR


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 21)]
    assert [flow.percentile(values, p) for p in (50, 85, 95)] == [10, 17, 19]
    assert flow.percentile([7.0], 95) == 7


# ── what is on the board ─────────────────────────────────────────────────────────────────


def test_a_deleted_card_stands_in_the_days_before_and_not_after(clock: Any) -> None:
    board = make_board()
    card = make_card(board, kind="backlog")
    make_card(board, kind="backlog")
    clock.shift(hours(24))
    then = timezone.now()
    clock.shift(hours(24))
    cards.delete(card.pk, ANN)
    found = report(board)
    assert found.samples[-1].counts["backlog"] == 1
    assert found.samples[0].counts["backlog"] == 2
    assert report(board, until=then).samples[-1].counts["backlog"] == 2


def test_the_past_is_what_it_was_whatever_happened_since(clock: Any) -> None:
    board, goal = make_board(), None
    goal = make_goal(board)
    first, second = make_card(board, goal=goal), make_card(board)
    clock.shift(hours(30))
    finish(first, cost_usd=2)
    clock.shift(hours(30))
    then = timezone.now()
    before = report(board, until=then, goal=goal.pk)
    clock.shift(hours(1))
    finish(second)
    cards.edit(first.pk, ANN, {"goal": None, "title": "Another"})
    cards.delete(second.pk, ANN)
    assert report(board, until=then, goal=goal.pk) == before
    assert report(board, goal=goal.pk).finished == []


def test_age_counts_from_the_backlog_and_is_compared_with_past_cards(clock: Any) -> None:
    board = make_board()
    for taken in (1, 2, 3, 40):
        card = make_card(board)
        clock.shift(hours(taken))
        finish(card)
    old, new = make_card(board, title="Old"), None
    clock.shift(hours(20))
    new = make_card(board, title="New")
    clock.shift(hours(1))
    found = report(board)
    # Half of them had left Waiting after 2 hours, 85 % (the last of four) after 40.
    assert found.bands["waiting"] == (2 * HOUR, 40 * HOUR)
    assert [(a.key, a.age / HOUR, a.band) for a in found.ageing] == [
        (old.key, 21, 1),
        (new.key, 1, 0),
    ]


def test_littles_law_holds_on_a_steady_board(clock: Any) -> None:
    """One card in progress at any time, each for two hours."""
    board = make_board()
    for _ in range(12):
        card = make_card(board)
        clock.shift(hours(2))
        finish(card)
    little = report(board).little
    assert little is not None
    assert little.in_progress == pytest.approx(1)
    assert little.product == pytest.approx(little.in_progress)


def test_the_wip_limit_is_that_of_the_time(clock: Any) -> None:
    board = make_board()
    clock.shift(hours(30))
    columns = [
        {"id": c.pk, "wip_limit": 2 if c.kind == "in_progress" else None}
        for c in board.columns.all()
    ]
    cards.edit_board(board.pk, ANN, {"columns": columns})
    clock.shift(hours(30))
    samples = report(board).samples
    assert (samples[0].limit, samples[-1].limit) == (None, 2)


# ── counting ─────────────────────────────────────────────────────────────────────────────


def test_throughput_is_by_the_attempts_that_a_card_needed(clock: Any) -> None:
    board = make_board()
    again, by_hand = make_card(board), make_card(board)
    leases.fail(claimed(again).pk, "boom")
    clock.shift(hours(1))
    finish(make_card(board))
    finish(again)
    cards.move(by_hand.pk, ANN, column_of(board, "completed").pk)
    found = report(board)
    assert {
        n: sum(b.counts[n] for b in found.throughput) for n in ("first", "more", "by hand")
    } == {
        "first": 1,
        "more": 1,
        "by hand": 1,
    }
    assert (found.first_rate, found.retry_rate, found.failure_rate) == (0.5, 0.5, 1 / 3)
    assert found.ended == {
        "succeeded": 2,
        "failed": 1,
        "expired": 0,
        "released": 0,
        "cancelled": 0,
    }


def test_costs_are_by_goal_worker_and_model(clock: Any) -> None:
    board = make_board()
    goal = make_goal(board)
    finish(make_card(board, goal=goal), "ada", cost_usd=2.5, model="large", input_tokens=7)
    finish(make_card(board), "bob", cost_usd=0.25, output_tokens=3)
    clock.shift(hours(1))
    found = report(board)
    assert found.usd == 2.75
    told = {by: [(c.name, c.usd) for c in costs] for by, costs in found.costs.items()}
    assert told == {
        "goal": [(str(goal.pk), 2.5), ("", 0.25)],
        "worker": [("ada", 2.5), ("bob", 0.25)],
        "model": [("large", 2.5), ("", 0.25)],
    }
    assert report(board, worker="bob").usd == 0.25
    assert [f.usd for f in report(board, goal=goal.pk).finished] == [2.5]


def test_filters_narrow_every_figure(clock: Any) -> None:
    board = make_board()
    finish(make_card(board, labels=["api"]), "ada")
    finish(make_card(board, labels=["db"]), "bob")
    make_card(board, labels=["db"])
    clock.shift(hours(1))
    assert len(report(board, label="db").finished) == 1
    assert len(report(board, label="db").ageing) == 1
    assert report(board, label="api").samples[-1].in_progress == 0
    assert len(report(board, worker="ada").finished) == 1


def test_days_are_those_of_the_readers_zone_also_when_the_clock_changes() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    since = dt.datetime(2026, 3, 27, 12, tzinfo=berlin)
    until = dt.datetime(2026, 3, 31, 12, tzinfo=berlin)
    edges = flow.boundaries(since.timestamp(), until.timestamp(), DAY, berlin)
    told = [dt.datetime.fromtimestamp(e, berlin).strftime("%d %H:%M") for e in edges]
    assert told == ["27 12:00", "28 00:00", "29 00:00", "30 00:00", "31 00:00"]
    assert edges[3] - edges[2] == 23 * HOUR


# ── forecast ─────────────────────────────────────────────────────────────────────────────


def test_a_steady_past_gives_a_certain_forecast() -> None:
    cast = forecast(10, [2] * 20, "seed")
    assert cast.after == {50: 5, 85: 5, 95: 5}


def test_a_forecast_agrees_with_the_chances_that_it_draws_from() -> None:
    """One card is done on every third day: waiting for it is geometric, 2, 5 and 8 days."""
    cast = forecast(1, [0, 0, 1] * 10, "seed")
    assert cast.after == {50: 2, 85: 5, 95: 8}


def test_the_same_question_gets_the_same_answer() -> None:
    history = [0, 3, 1, 0, 2, 5, 0, 1, 1, 2]
    assert forecast(40, history, "a") == forecast(40, history, "a")


def test_a_far_goal_is_drawn_in_runs_and_lands_where_its_throughput_says() -> None:
    cast = forecast(3000, [0, 3, 1, 0, 2, 5, 0, 1, 1, 2] * 6, "seed")
    assert cast.block > 1
    assert cast.after[50] == pytest.approx(2000, rel=0.05)


@pytest.mark.parametrize("history", [[1] * 9, [9] + [0] * 30, []])
def test_too_little_history_is_said(history: list[int]) -> None:
    cast = forecast(5, history, "seed")
    assert (cast.short, cast.after) == ("history", {})


# ── asking ───────────────────────────────────────────────────────────────────────────────


def test_a_date_is_a_day_of_the_zone(clock: Any) -> None:
    clock.shift(hours(24 * 30))
    wanted = asking.asked({"from": "2026-03-02", "to": "2026-03-03", "tz": "Asia/Tokyo"})
    assert wanted.since == dt.datetime(2026, 3, 1, 15, tzinfo=dt.UTC)
    assert wanted.until == dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"at": "soon"}, "at"),
        ({"at": "9999-12-31T23:59:59-23:00"}, "at"),
        ({"to": "9999-12-31"}, "to"),
        ({"from": "2026-13-01"}, "from"),
        ({"from": "2026-03-05", "at": "2026-03-01"}, "from"),
        ({"at": "2026-03-01", "to": "2026-03-01"}, "to"),
        ({"days": "0"}, "days"),
        ({"days": "many"}, "days"),
        ({"goal": "ship it"}, "goal"),
        ({"label": "a\x00"}, "label"),
        ({"tz": "../../etc/passwd"}, "tz"),
        ({"tz": "Nowhere/City"}, "tz"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    clock: Any, asked: dict[str, str], name: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        asking.asked(asked)
    assert list(refusal.value.errors) == [name]


# ── pages ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reader(clock: Any) -> tuple[Client, Board]:
    board = make_board(key="PAY", name="Payments")
    user = make_user()
    Membership.objects.create(board=board, user=user, role=Role.VIEWER)
    client = Client()
    client.force_login(user)
    return client, board


def test_the_page_and_its_tables_say_the_same(reader: tuple[Client, Board], clock: Any) -> None:
    client, board = reader
    finish(make_card(board, title="=cmd()"), cost_usd=1)
    make_card(board)
    clock.shift(hours(2))
    page = client.get("/boards/PAY/insights").content.decode()
    assert "Cumulative flow" in page
    assert "=cmd()" in page
    assert 'style="' not in page
    text = client.get("/boards/PAY/insights/finished.csv").content.decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["card"], row["title"], row["cost_usd"]) == ("PAY-1", "'=cmd()", "1.0")
    assert (row["finished_at"], row["attempts"]) == ("2026-03-02T09:00:00Z", "1")
    for name in tables.NAMES:
        answer = client.get(f"/boards/PAY/insights/{name}.csv")
        assert answer.status_code == 200
        assert answer["Content-Type"] == "text/csv; charset=utf-8"
        assert f'filename="PAY-{name}-2026-03-02.csv"' in answer["Content-Disposition"]


def test_the_api_gives_the_same_figures(reader: tuple[Client, Board], clock: Any) -> None:
    client, board = reader
    card = make_card(board)
    clock.shift(hours(3))
    finish(card, cost_usd=1.25)
    make_card(board)
    told = client.get("/api/v1/boards/PAY/insights?days=7").json()
    assert told["cycle_seconds"] == {"p50": 10800, "p85": 10800, "p95": 10800}
    assert (told["finished_cards"], told["first_attempt_rate"], told["cost_usd"]) == (1, 1, 1.25)
    assert told["forecast"]["remaining"] == 1
    assert told["forecast"]["enough_history"] is False
    assert [row["card"] for row in told["finished"]] == ["PAY-1"]
    assert told["flow"][-1]["waiting"] == 1
    refused = client.get("/api/v1/boards/PAY/insights?days=soon")
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["days"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/boards/PAY/insights?at=yesterday", 422),
        ("/boards/PAY/insights/secrets.csv", 404),
        ("/boards/NOWHERE/insights", 404),
        ("/boards/PAY/insights?label=%00", 422),
        ("/boards/PAY/insights?at=2020-01-01", 200),
        ("/boards/PAY/insights?tz=Europe/Berlin&measure=lead&days=all", 200),
    ],
)
def test_a_bad_address_is_told_so(reader: tuple[Client, Board], path: str, status: int) -> None:
    client, board = reader
    make_card(board)
    assert client.get(path).status_code == status


def test_an_empty_board_has_a_page(reader: tuple[Client, Board]) -> None:
    client, _ = reader
    page = client.get("/boards/PAY/insights").content.decode()
    assert "Nothing is left to do." in page


def test_a_page_in_german_keeps_its_coordinates(reader: tuple[Client, Board], clock: Any) -> None:
    client, board = reader
    for _ in range(3):
        finish(make_card(board), cost_usd=0.5)
        clock.shift(hours(7))
    page = client.get("/boards/PAY/insights", headers={"accept-language": "de"}).content.decode()
    svg = page[page.index("<svg viewBox") : page.rindex("</svg>")]
    assert 'width="33,' not in svg
    assert "points=" in svg


def test_the_number_of_statements_does_not_grow(
    reader: tuple[Client, Board], django_assert_max_num_queries: Any
) -> None:
    client, board = reader
    finish(make_card(board))
    client.get("/boards/PAY/insights")
    make_card(board)
    with django_assert_max_num_queries(16) as few:
        client.get("/boards/PAY/insights")
    most = len(few)
    for n in range(8):
        finish(make_card(board, goal=make_goal(board), labels=[f"l{n}"]), f"worker-{n}")
    with django_assert_max_num_queries(most):
        client.get("/boards/PAY/insights")
