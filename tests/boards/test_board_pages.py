"""What the pages and their fragments show, and that no amount of it costs more statements."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases
from boards.models import Board, Card, Column, Membership
from checkpoints import logs, steps
from kernel.access import Role
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    make_user,
)

pytestmark = pytest.mark.django_db
ANN = "user:ann"


@pytest.fixture
def page() -> Any:
    """Return a signed-in operator's browser."""
    client = Client()
    client.force_login(make_user(is_superuser=True))
    return client


def statements(page: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert page.get(path).status_code == 200
    return len(queries)


def keys_of(html: str) -> list[str]:
    return re.findall(r'class="card"[^>]* data-key="([^"]+)"', html)


def many(board: Board, each: int) -> None:
    """Fill every column, past the transitions: only reading is measured."""
    board.refresh_from_db(fields=["last_card_number"])
    rows = []
    states = {"in_progress": "waiting"}
    for column in board.columns.all():
        for n in range(each):
            number = board.last_card_number = board.last_card_number + 1
            rows.append(
                Card(
                    board=board,
                    number=number,
                    key=f"{board.key}-{number}",
                    column=column,
                    state=states.get(column.kind, column.kind),
                    rank=(n + 1000) * 2**20,
                    title=f"Card {number}",
                    labels=["data"],
                )
            )
    Card.objects.bulk_create(rows)
    board.save(update_fields=["last_card_number"])


def busy(board: Board, count: int) -> None:
    """Have ``count`` cards running and as many ask for an answer."""
    goal = make_goal(board)
    for n in range(count):
        attempt = claimed(make_card(board, goal=goal, title=f"Runs {n}"), worker=f"ada-{n}")
        make_step(attempt, f"s{n}")
        make_checkpoint(attempt)
        asking = claimed(make_card(board, goal=goal, title=f"Asks {n}"), worker=f"bob-{n}")
        leases.block(asking.pk, "unsure", question="Which way?", options=["Left", "Right"])


class TestTheBoard:
    def test_it_takes_at_most_twelve_statements_however_full_it_is(self, page: Client) -> None:
        board = make_board()
        busy(board, 1)
        few = statements(page, f"/boards/{board.key}")
        busy(board, 6)
        many(board, 60)
        assert statements(page, f"/boards/{board.key}") == few <= 12
        assert statements(page, f"/boards/{board.key}?q=card&show=needs") <= 12

    def test_it_shows_the_first_thirty_cards_of_every_column(self, page: Client) -> None:
        board = make_board()
        many(board, 40)
        html = page.get(f"/boards/{board.key}").content.decode()
        # Completed is folded up: it is long.
        assert len(keys_of(html)) == 4 * 30
        assert html.count("10 more") == 4

    def test_the_rest_of_a_column_follows_where_the_page_left_off(self, page: Client) -> None:
        board = make_board()
        many(board, 70)
        backlog = column_of(board, "backlog")
        html = page.get(f"/boards/{board.key}").content.decode()
        shown = keys_of(html)[:30]
        while len(shown) < 70:
            last = Card.objects.get(key=shown[-1])
            path = f"/boards/{board.key}/columns/{backlog.pk}?group=1&rank={last.rank}"
            assert statements(page, path) <= 12
            shown += keys_of(page.get(path).content.decode())
        assert shown == list(backlog.cards.order_by("rank").values_list("key", flat=True))

    def test_running_cards_stand_first_and_apart(self, page: Client) -> None:
        board = make_board()
        waiting, running = make_card(board, title="Waits"), make_card(board, title="Runs")
        claimed(running)
        html = page.get(f"/boards/{board.key}").content.decode()
        assert keys_of(html) == [running.key, waiting.key]
        assert html.index(running.key) < html.index(">Waiting</li>") < html.index(waiting.key)

    def test_running_cards_past_a_page_come_before_the_waiting_ones(self, page: Client) -> None:
        board = make_board()
        make_card(board, title="Waits")
        for n in range(31):
            claimed(make_card(board), worker=f"w{n}")
        html = page.get(f"/boards/{board.key}").content.decode()
        assert len(keys_of(html)) == 30
        last = Card.objects.get(key=keys_of(html)[-1])
        column = column_of(board, "in_progress")
        rest = f"/boards/{board.key}/columns/{column.pk}?group=0&rank={last.rank}"
        following = keys_of(page.get(rest).content.decode())
        assert len(following) == 2
        assert Card.objects.get(key=following[0]).state == "running"

    def test_a_silent_worker_is_called_stalled(self, page: Client) -> None:
        board = make_board()
        card = make_card(board)
        claimed(card, lease_seconds=60)
        with time_machine.travel(timezone.now() + dt.timedelta(seconds=50), tick=False):
            html = page.get(f"/boards/{board.key}?show=stalled").content.decode()
            assert keys_of(html) == [card.key]
            (warning,) = re.findall(r"<span>(No heartbeat.*)</span>", html)
            assert re.fullmatch(r"No heartbeat 50 s · lease (9\.\d|10) s", warning)
        assert keys_of(page.get(f"/boards/{board.key}?show=stalled").content.decode()) == []

    def test_every_filter_narrows_the_cards(self, page: Client) -> None:
        board = make_board()
        busy(board, 1)
        goal = make_goal(board, title="Other")
        review = make_card(board, kind="review", goal=goal, title="Look at this")
        shows = {"needs": 1, "running": 1, "review": 1, "stalled": 0, "nonsense": 3}
        for show, count in shows.items():
            html = page.get(f"/boards/{board.key}?show={show}").content.decode()
            assert len(keys_of(html)) == count, show
        for query in (f"goal={goal.pk}", "q=look+at", f"q={review.key}"):
            html = page.get(f"/boards/{board.key}?{query}").content.decode()
            assert keys_of(html) == [review.key], query
        assert page.get(f"/boards/{board.key}?q=%00&goal=%00&show=%00").status_code == 200

    def test_the_columns_somebody_folded_up_are_not_read(self, page: Client) -> None:
        board = make_board()
        card = make_card(board, kind="completed")
        assert card.key in page.get(f"/boards/{board.key}").content.decode()
        page.cookies["folded"] = str(column_of(board, "completed").pk)
        assert card.key not in page.get(f"/boards/{board.key}").content.decode()
        page.cookies["folded"] = "none"
        assert card.key in page.get(f"/boards/{board.key}").content.decode()

    def test_an_empty_column_says_what_puts_a_card_there(self, page: Client) -> None:
        html = page.get(f"/boards/{make_board().key}").content.decode()
        assert "the next free worker takes it" in html
        assert "Cards land here when a worker asks" in html

    def test_it_carries_no_description_or_workflow(self, page: Client) -> None:
        board = make_board()
        make_card(board, description="x" * 5000, workflow={"steps": [{"key": "a", "run": "zzz"}]})
        with CaptureQueriesContext(connection) as queries:
            page.get(f"/boards/{board.key}")
        assert not [q for q in queries if '"boards_card"."workflow"' in q["sql"]]


class TestWhoMaySee:
    def test_a_board_of_others_is_not_there(self) -> None:
        board, client = make_board(), Client()
        client.force_login(make_user())
        card = make_card(board)
        for path in (
            f"/boards/{board.key}",
            f"/boards/{board.key}/changes?ids={card.pk}",
            f"/boards/{board.key}/tapes",
            f"/boards/{board.key}/columns/{card.column_id}?rank=1",
            f"/cards/{card.key}",
        ):
            assert client.get(path).status_code == 404, path
            assert Client().get(path).status_code == 302, path

    def test_changes_show_no_card_of_another_board(self) -> None:
        board, client, user = make_board(), Client(), make_user()
        Membership.objects.create(board=board, user=user, role=Role.VIEWER)
        client.force_login(user)
        secret = make_card(make_board(), title="Secret")
        path = f"/boards/{board.key}/changes?said=1&ids={secret.pk}"
        told = client.get(path).json()
        assert told["cards"] == []
        assert told["gone"] == [str(secret.pk)]
        assert "said" not in told

    def test_the_only_board_is_home_and_several_are_listed(self) -> None:
        client, user = Client(), make_user()
        client.force_login(user)
        assert "No boards yet" in client.get("/").content.decode()
        first = make_board()
        Membership.objects.create(board=first, user=user, role=Role.VIEWER)
        assert client.get("/").headers["Location"] == f"/boards/{first.key}"
        second = make_board(name="Second")
        Membership.objects.create(board=second, user=user, role=Role.VIEWER)
        many(second, 3)
        html = client.get("/").content.decode()
        assert "3 need you" in html
        assert "3 of 15 done" in html


class TestChanges:
    def test_they_are_the_cards_as_they_are_and_the_counts(self, page: Client) -> None:
        board = make_board()
        card, other = make_card(board, title="One"), make_card(board, kind="review")
        gone = "01900000-0000-7000-8000-000000000000"
        told = page.get(f"/boards/{board.key}/changes?ids={card.pk},{gone},x").json()
        (fresh,) = told["cards"]
        assert fresh["id"] == str(card.pk)
        assert fresh["column"] == str(card.column_id)
        assert fresh["version"] == card.version
        assert 'href="/cards/' in fresh["html"]
        assert told["gone"] == [gone]
        assert told["counts"][str(other.column_id)] == 1
        assert told["attention"]["review"] == 1
        assert (told["done"], told["total"]) == (0, 2)

    def test_they_cost_the_same_for_any_number_of_cards(self, page: Client) -> None:
        board = make_board()
        many(board, 40)
        ids = [str(pk) for pk in board.cards.order_by("rank", "pk").values_list("pk", flat=True)]
        few, most = (f"/boards/{board.key}/changes?ids={','.join(ids[:n])}" for n in (41, 100))
        assert statements(page, few) == statements(page, most) <= 9

    def test_a_card_that_the_filter_leaves_out_counts_as_gone(self, page: Client) -> None:
        board = make_board()
        card = make_card(board)
        told = page.get(f"/boards/{board.key}/changes?show=review&ids={card.pk}").json()
        assert (told["cards"], told["gone"]) == ([], [str(card.pk)])

    def test_they_tell_who_changed_a_card_last(self, page: Client) -> None:
        board = make_board()
        card = make_card(board, kind="backlog")
        cards.move(card.pk, "user:ada", column_of(board, Column.Kind.REVIEW).pk)
        told = page.get(f"/boards/{board.key}/changes?said=1&ids={card.pk}").json()
        assert told["said"]["actor"] == "ada"
        assert told["said"]["did"] == "moved it from Backlog to Review"


class TestTheCard:
    def test_it_takes_the_same_statements_however_long_its_history(self, page: Client) -> None:
        card = make_card(goal=make_goal(board := make_board(), criteria=["It works"]), board=board)
        attempt = claimed(card)
        make_step(attempt, "first", checkpoint={"summary": "begun"})
        paths = [
            f"/cards/{card.key}?tab={tab}"
            for tab in ("steps", "checkpoints", "messages", "activity")
        ]
        before = [statements(page, path) for path in paths]
        for n in range(30):
            make_step(attempt, f"s{n}", checkpoint={"summary": f"after {n}"})
            cards.say(card.pk, ANN, f"note {n}")
        assert [statements(page, path) for path in paths] == before
        assert (
            max(before) <= 36
        )  # four compare two checkpoints, two find what was left behind, three
        # the race and the parts

    def test_a_workflow_is_shown_before_it_runs_and_what_is_left_of_it_while_it_does(
        self, page: Client
    ) -> None:
        workflow = {"steps": [{"key": "build", "run": "make"}, {"key": "test", "run": "pytest"}]}
        board = make_board(allow_commands=True)
        card = make_card(board, workflow=workflow)
        html = page.get(f"/cards/{card.key}").content.decode()
        assert html.count("To come") == 2
        attempt = claimed(card)
        steps.begin(attempt.pk, "build")
        html = page.get(f"/cards/{card.key}").content.decode()
        assert html.count("To come") == 1
        assert 'data-step="build"' in html

    def test_what_a_step_recorded_within_it_is_folded_below_it_and_skips_are_told(
        self, page: Client
    ) -> None:
        workflow = {
            "steps": [
                {"key": "fix", "run": "agent"},
                {"key": "beta", "run": "make beta", "if": "inputs.beta"},
                {"key": "ship", "needs": ["fix"], "if": "inputs.go == 'yes'", "run": "make ship"},
            ]
        }
        card = make_card(make_board(allow_commands=True), workflow=workflow)
        attempt = claimed(card)
        steps.begin(attempt.pk, "fix")
        for key in ("fix/1/turn-1", "fix/1/turn-2", "@agent/look"):
            make_step(attempt, key, checkpoint={"summary": f"after {key}"})
        html = page.get(f"/cards/{card.key}").content.decode()
        fold = html.split('<details class="within"', 1)[1].split("To come", 1)[0]
        assert fold.startswith(' id="w1" open>')
        assert "3 steps of fix" in fold
        assert all(f'data-step="{key}"' in fold for key in ("fix/1/turn-1", "@agent/look"))
        steps.finish(attempt.pk, "fix", "succeeded", checkpoint={"summary": "All of it is done."})
        steps.skip(attempt.pk, "beta", "Its condition does not hold: inputs.beta")
        html = page.get(f"/cards/{card.key}").content.decode()
        fold, rest = html.split('<details class="within"', 1)[1].split("All of it is done.", 1)
        assert fold.startswith(' id="w1">')
        assert "after @agent/look" in fold
        assert "skipped" in rest
        assert "Its condition does not hold: inputs.beta" in rest
        assert "after fix · if inputs.go == &#x27;yes&#x27;" in rest

    def test_its_attempts_are_drawn_with_their_checkpoints(self, page: Client) -> None:
        card = make_card(max_attempts=9)
        first = claimed(card, worker="swift")
        make_checkpoint(first)
        leases.expire(first.pk, actor="system:sweep")
        second = claimed(card, worker="wren")
        make_checkpoint(second)
        html = page.get(f"/cards/{card.key}").content.decode()
        assert 'aria-label="2 attempts; arrow keys walk"' in html
        assert 'aria-label="Attempt 1 swift lease lost"' in html
        assert 'aria-label="Attempt 2 wren running · step 0, went on from C1"' in html
        for label in (">C1<", ">C2<"):
            assert label in html

    def test_what_happened_is_told_in_words(self, page: Client) -> None:
        card = make_card()
        attempt = claimed(card)
        make_step(attempt, "test", checkpoint={"summary": "all pass"})
        logs.append(attempt.pk, [("test", "stdout", "one")])
        logs.append(attempt.pk, [("test", "stdout", "two")])
        cards.move(card.pk, ANN, column_of(card.board, "backlog").pk)
        html = page.get(f"/cards/{card.key}?tab=activity").content.decode()
        assert "finished step test and saved checkpoint C1" in html
        assert "moved it from In progress to Backlog, which ended attempt 1" in html
        assert html.count("wrote output in test") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/boards/{board}/columns/{column}?rank=x",
        "/boards/{board}/columns/{column}?rank=99999999999999999999",
        "/boards/{board}/columns/01900000-0000-7000-8000-000000000000?rank=1",
    ],
)
def test_a_place_that_can_not_be_is_refused(page: Client, path: str) -> None:
    board = make_board()
    column = column_of(board, "backlog").pk
    assert page.get(path.format(board=board.key, column=column)).status_code == 422
