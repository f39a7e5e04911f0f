"""What an address asks of the board: filters, order, lanes, the table, the archive, saved views."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases, saved, selectors
from boards.models import Board, Card, Column, Membership, SavedView
from boards.wanted import asked
from kernel.access import Role
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
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


def html(page: Client, path: str) -> str:
    answer = page.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def keys_of(text: str) -> list[str]:
    return re.findall(r'<(?:li class="card"|tr)[^>]* data-key="([^"]+)"', text)


def found(page: Client, board: Board, query: str) -> set[str]:
    return set(keys_of(html(page, f"/boards/{board.key}?{query}")))


def statements(page: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        html(page, path)
    return len(queries)


def many(board: Board, each: int, goals: list[Any]) -> None:
    """Fill every column, past the transitions: only reading is measured."""
    board.refresh_from_db(fields=["last_card_number"])
    rows, number = [], board.last_card_number
    for column in board.columns.all():
        for n in range(each):
            number += 1
            rows.append(
                Card(
                    board=board,
                    number=number,
                    key=f"{board.key}-{number}",
                    column=column,
                    state={"in_progress": "waiting"}.get(column.kind, column.kind),
                    rank=(n + 1000) * 2**20,
                    title=f"Card {number}",
                    goal=goals[n % len(goals)],
                    priority=n % 5,
                )
            )
    Card.objects.bulk_create(rows)
    Board.objects.filter(pk=board.pk).update(last_card_number=number)


class TestTheFilter:
    def test_every_word_is_looked_for_in_title_description_key_and_labels(
        self, page: Client
    ) -> None:
        board = make_board()
        both = make_card(board, title="Parse the ledger", description="Slowly, by hand")
        label = make_card(board, title="Ledger totals", labels=["Handmade"])
        key = make_card(board, title="Another thing").key
        make_card(board, title="Ledger alone")
        assert found(page, board, "q=ledger+hand") == {both.key, label.key}
        assert found(page, board, 'q="the+ledger"') == {both.key}
        assert found(page, board, f"q={key.lower()}") == {key}
        assert found(page, board, "q=100%25") == set()
        assert found(page, board, "q=_") == set()

    def test_tokens_name_what_they_are_about(self, page: Client) -> None:
        board = make_board()
        goal = make_goal(board, title="Webhook delivery")
        api = make_card(board, labels=["api"], goal=goal, priority=1)
        near = make_card(board, labels=["apis"], priority=4)
        taken = make_card(board, priority=1)
        claimed(taken, "ada")
        queries = {
            "label:api": {api.key},
            "LABEL:API": {api.key},
            "goal:webhook": {api.key},
            "worker:ada": {taken.key},
            "prio:1": {api.key, taken.key},
            "prio:none": {near.key},
            "is:running prio:high": {taken.key},
            "is:nonsense": {api.key, near.key, taken.key},
            "due:none label:apis": {near.key},
        }
        for q, keys in queries.items():
            assert found(page, board, "q=" + q.replace(" ", "+")) == keys, q

    def test_a_label_is_found_whatever_letters_it_has(self, page: Client) -> None:
        board = make_board()
        card = make_card(board, labels=["größe %", 'a"b'])
        make_card(board, labels=["grosse"])
        for label in ("größe %", 'a"b'):
            query = QueryDict(mutable=True)
            query["label"] = label
            assert found(page, board, query.urlencode()) == {card.key}

    def test_fields_narrow_by_priority_worker_due_date_and_trouble(self, page: Client) -> None:
        board = make_board()
        now = timezone.now()
        late = make_card(board, due_at=now - dt.timedelta(days=1), priority=0)
        soon = make_card(board, due_at=now + dt.timedelta(days=3), priority=1)
        far = make_card(board, due_at=now + dt.timedelta(days=30), priority=2)
        make_card(board, kind="completed", due_at=now - dt.timedelta(days=1), priority=4)
        make_checkpoint(claimed(far, "ada"), tests={"passed": 5, "failed": 1})
        assert found(page, board, "due=overdue") == {late.key}
        assert found(page, board, "due=week") == {late.key, soon.key}
        assert found(page, board, "prio=0,2") == {late.key, far.key}
        assert found(page, board, "prio=0,9,x") == {late.key}
        assert found(page, board, "worker=ADA") == {far.key}
        assert found(page, board, "show=failing") == found(page, board, "show=trouble") == {far.key}
        assert found(page, board, "show=long") == set()
        with time_machine.travel(now + dt.timedelta(minutes=61), tick=False):
            assert found(page, board, "show=long") == {far.key}

    def test_what_makes_no_sense_is_left_out_and_the_address_stays_readable(self) -> None:
        wanted = asked(
            QueryDict(
                "q=label:api&prio=1,7,0&sort=-cost&lanes=moon&show=x&due=y&goal=z&as=list&page=3"
            )
        )
        assert wanted.query == "q=label:api&prio=0,1&sort=-cost&as=list"
        assert not asked(QueryDict("sort=cost&lanes=goal"))
        assert asked(QueryDict("q=x"))

    @pytest.mark.parametrize(
        "query",
        [
            "q=%00",
            "q=" + '"' * 50,
            "q=" + "a:" * 300,
            "worker=%00&label=%ff",
            "prio=-1",
            "q=%25_\\",
        ],
    )
    def test_no_filter_breaks_the_page(self, page: Client, query: str) -> None:
        board = make_board()
        make_card(board)
        assert page.get(f"/boards/{board.key}?{query}").status_code == 200


class TestTheOrder:
    @pytest.mark.parametrize("sort", ["priority", "newest", "updated", "due", "age", "cost"])
    @pytest.mark.parametrize("turned", ["", "-"])
    def test_places_rise_and_pages_follow_each_other(
        self, page: Client, sort: str, turned: str
    ) -> None:
        board = make_board()
        many(board, 40, [None])
        backlog = column_of(board, "backlog")
        for n, card in enumerate(backlog.cards.all()):
            at = timezone.now() - dt.timedelta(seconds=n % 7)
            due = at if n % 3 else None
            Card.objects.filter(pk=card.pk).update(
                due_at=due, updated_at=at, state_since=at, fence=1
            )
        query, shown, places = f"sort={turned}{sort}", list[str](), list[list[int]]()
        text = html(page, f"/boards/{board.key}?{query}").split('data-kind="in_progress"')[0]
        while True:
            shown += keys_of(text)
            places += [json.loads(p) for p in re.findall(r'data-sort="(\[[^"]*)"', text)]
            if len(shown) >= 40 or "more-row" not in text:
                break
            place = json.dumps(places[-1])
            text = html(page, f"/boards/{board.key}/columns/{backlog.pk}?{query}&place={place}")
            assert keys_of(text)
        assert len(shown) == len(set(shown)) == 40
        assert places == sorted(places)

    def test_running_cards_stay_first_and_the_rest_is_sorted(self, page: Client) -> None:
        board = make_board()
        low, high = make_card(board, priority=4), make_card(board, priority=0)
        running = make_card(board, priority=3)
        claimed(running)
        shown = keys_of(html(page, f"/boards/{board.key}?sort=priority"))
        assert shown == [running.key, high.key, low.key]
        shown = keys_of(html(page, f"/boards/{board.key}?sort=-priority"))
        assert shown == [running.key, low.key, high.key]

    def test_cost_sorts_by_the_newest_attempt(self, page: Client) -> None:
        board = make_board()
        none = make_card(board)
        dear, cheap = make_card(board), make_card(board)
        for card, cost in ((cheap, "0.29"), (dear, "1.100001")):
            attempt = claimed(card)
            type(attempt).objects.filter(pk=attempt.pk).update(cost_usd=cost)
            leases.release(attempt.pk, "later")
        shown = keys_of(html(page, f"/boards/{board.key}?sort=cost"))
        assert shown == [dear.key, cheap.key, none.key]

    @pytest.mark.parametrize("place", ["[1]", "[1,2]", "[x]", f"[1,{2**62},3]", "[1,2,3,4]", "{}"])
    def test_a_place_of_another_order_is_refused_by_name(self, page: Client, place: str) -> None:
        board = make_board()
        backlog = column_of(board, "backlog")
        path = f"/boards/{board.key}/columns/{backlog.pk}?sort=due&place={place}"
        answer = page.get(path)
        assert answer.status_code == 422
        assert "place" in answer.content.decode()


class TestLanes:
    def test_a_card_stands_in_the_cell_of_its_goal_and_column(self, page: Client) -> None:
        board = make_board()
        goal = make_goal(board, title="Ship it")
        inside, outside = make_card(board, goal=goal), make_card(board, kind="backlog")
        text = html(page, f"/boards/{board.key}?lanes=goal")
        cells = {
            (lane, column): keys_of(body)
            for column, lane, body in re.findall(
                r'id="list-([0-9a-f-]{36})--([\w-]+)"(.*?)</ol>', text, re.DOTALL
            )
        }
        progress, backlog = column_of(board, "in_progress"), column_of(board, "backlog")
        assert cells[str(goal.pk), str(progress.pk)] == [inside.key]
        assert cells["none", str(backlog.pk)] == [outside.key]
        assert sum(map(len, cells.values())) == 2
        assert len(cells) == 2 * 5

    def test_workers_whose_names_no_id_holds_have_lanes_of_their_own(self, page: Client) -> None:
        board = make_board()
        names = ["ada b", "ada-b", "ada_b", "none", "ädä"]
        taken = {name: make_card(board) for name in names}
        for name, card in taken.items():
            claimed(card, name)
        lanes = {selectors.lane_name("worker", name) for name in names}
        assert len(lanes) == 5
        assert all(re.fullmatch(r"[\w-]+", lane, re.ASCII) for lane in lanes)
        text = html(page, f"/boards/{board.key}?lanes=worker")
        column = column_of(board, "in_progress").pk
        for name, card in taken.items():
            lane = selectors.lane_name("worker", name)
            assert f'id="col-{column}--{lane}"' in text
            path = f"/boards/{board.key}/columns/{column}?lanes=worker&lane={lane}"
            assert keys_of(html(page, path)) == [card.key]

    def test_a_cell_is_read_on_in_its_lane(self, page: Client) -> None:
        board = make_board()
        goals = [make_goal(board, title=f"Goal {n}") for n in range(2)]
        many(board, 50, goals)
        backlog = column_of(board, "backlog")
        lane = f"lanes=goal&lane={goals[1].pk}"
        shown: list[str] = []
        place = ""
        for _ in range(3):
            text = html(page, f"/boards/{board.key}/columns/{backlog.pk}?{lane}{place}")
            shown += keys_of(text)
            place = "&place=" + re.findall(r'data-sort="([^"]*)"', text)[-1]
        mine = backlog.cards.filter(goal=goals[1]).order_by("rank")
        assert shown == list(mine.values_list("key", flat=True))

    @pytest.mark.parametrize("lane", ["moon", "7", "none", "%00", "-1"])
    def test_no_lane_breaks_anything(self, page: Client, lane: str) -> None:
        board = make_board()
        make_card(board, kind="backlog", priority=2)
        column = column_of(board, "backlog").pk
        for lanes in ("goal", "worker", "priority", ""):
            path = f"/boards/{board.key}/columns/{column}?lanes={lanes}&lane={lane}"
            assert page.get(path).status_code == 200

    def test_changes_name_lane_place_and_counts(self, page: Client) -> None:
        board = make_board()
        goal = make_goal(board)
        card = make_card(board, goal=goal, priority=1)
        path = f"/boards/{board.key}/changes?ids={card.pk}&lanes=goal&sort=priority"
        told = page.get(path).json()
        assert told["cards"][0]["lane"] == str(goal.pk)
        assert told["cards"][0]["sort"] == [1, 1, card.number]
        assert told["lane_counts"] == {str(goal.pk): {str(card.column_id): 1}}
        plain = page.get(f"/boards/{board.key}/changes?ids={card.pk}").json()
        assert plain["cards"][0]["lane"] is None
        assert plain["cards"][0]["sort"] == [1, card.rank]

    def test_many_lanes_cost_no_more_statements_and_few_nodes(self, page: Client) -> None:
        board = make_board()
        for lanes in ("goal", "worker", "priority"):
            make_card(board)
            few = statements(page, f"/boards/{board.key}?lanes={lanes}")
            assert few <= 12
        goals = [make_goal(board, title=f"Goal {n}") for n in range(50)]
        many(board, 100, goals)
        for lanes in ("goal", "worker", "priority"):
            assert statements(page, f"/boards/{board.key}?lanes={lanes}") <= 13
        text = html(page, f"/boards/{board.key}?lanes=goal")
        assert text.count('class="lane') - text.count('class="lanes') >= 50
        assert len(re.findall(r"<[a-z]", text)) <= 6000
        assert "folded" in text

    def test_a_lane_that_somebody_folded_is_not_read(self, page: Client) -> None:
        board = make_board()
        goal = make_goal(board)
        make_card(board, goal=goal)
        page.cookies["folded_lanes"] = str(goal.pk)
        text = html(page, f"/boards/{board.key}?lanes=goal")
        assert not keys_of(text)
        assert "1 more" in text


class TestCards:
    def face(self, page: Client, card: Card) -> str:
        told = page.get(f"/boards/{card.board.key}/changes?ids={card.pk}").json()
        return str(told["cards"][0]["html"])

    def test_they_say_what_they_wait_for_what_is_due_and_what_is_ticked(self, page: Client) -> None:
        board = make_board()
        first, second = make_card(board), make_card(board)
        card = make_card(
            board,
            kind="backlog",
            depends_on=[first, second],
            description="- [x] one\n- [X] two\n- [ ] three",
            due_at=timezone.now() - dt.timedelta(days=2, hours=1),
        )
        shown = self.face(page, card)
        assert f"after {first.key} +1" in " ".join(shown.split())
        assert "Overdue 2 d" in shown
        assert "2/3" in shown
        cards.move(first.pk, ANN, column_of(board, "completed").pk)
        assert f"after {second.key}" in self.face(page, card)

    def test_failing_checks_come_before_what_is_fine(self, page: Client) -> None:
        card = make_card(review_required=True)
        attempt = claimed(card)
        workspace = {"commit": "a" * 40, "tree": "b" * 40, "base": "c" * 40, "skipped": []}
        workspace |= {"changed_files": 2, "additions": 128, "deletions": 9}
        make_checkpoint(attempt, tests={"passed": 5, "failed": 1}, workspace=workspace)
        assert "1 of 6 checks failing" in self.face(page, card)
        make_checkpoint(attempt, tests={"passed": 6, "failed": 0}, workspace=workspace)
        leases.complete(attempt.pk, "done")
        shown = self.face(page, card)
        assert "6/6 checks" in shown
        assert "failing" not in shown
        assert "+128" in shown
        assert "−9" in shown

    def test_a_long_question_is_cut_and_its_options_stay(self, page: Client) -> None:
        card = make_card()
        leases.block(claimed(card).pk, "unsure", question="Why? " * 500, options=["A", "ß"])
        shown = self.face(page, card)
        assert 'data-option="ß"' in shown
        assert len(shown) < 4000


class TestTheTable:
    def test_it_shows_the_same_cards_sorted_by_any_header(self, page: Client) -> None:
        board = make_board()
        low, high = make_card(board, priority=4), make_card(board, kind="backlog", priority=0)
        text = html(page, f"/boards/{board.key}?as=list&sort=priority")
        assert keys_of(text) == [high.key, low.key]
        assert 'aria-sort="ascending"' in text
        assert "sort=-priority" in text
        assert keys_of(html(page, f"/boards/{board.key}?as=list&prio=4")) == [low.key]

    @pytest.mark.parametrize("sort", ["", "priority", "-age", "cost", "-newest"])
    def test_it_is_read_on_to_the_end(self, page: Client, sort: str) -> None:
        board = make_board()
        many(board, 50, [None])
        query = f"as=list&sort={sort}"
        text, shown = html(page, f"/boards/{board.key}?{query}"), list[str]()
        for _ in range(3):
            shown += keys_of(text)
            place = re.findall(r'data-place="([^"]*)"', text)[-1]
            text = html(page, f"/boards/{board.key}/rows?{query}&place={place}")
        assert len(shown) == len(set(shown)) == 250
        assert not keys_of(text)

    def test_it_costs_the_same_for_any_number_of_cards(self, page: Client) -> None:
        board = make_board()
        make_card(board)
        few = statements(page, f"/boards/{board.key}?as=list")
        many(board, 60, [None])
        assert statements(page, f"/boards/{board.key}?as=list") <= few + 1


class TestTheArchive:
    def test_archived_cards_leave_the_board_and_come_back(self, page: Client) -> None:
        board = make_board()
        done = make_card(board, kind="completed")
        stays = make_card(board, kind="completed")
        cards.archive(done.pk, ANN)
        assert keys_of(html(page, f"/boards/{board.key}")) == [stays.key]
        told = page.get(f"/boards/{board.key}/changes").json()
        assert told["counts"] == {str(done.column_id): 1}
        assert told["total"] == 1
        text = html(page, f"/boards/{board.key}?archived=1")
        assert keys_of(text) == [done.key]
        assert f'data-restore="{done.pk}"' in text
        cards.unarchive(done.pk, ANN)
        assert keys_of(html(page, f"/boards/{board.key}?archived=1")) == []
        assert set(keys_of(html(page, f"/boards/{board.key}"))) == {done.key, stays.key}

    def test_the_limit_of_a_column_does_not_count_them(self) -> None:
        board = make_board()
        completed = column_of(board, "completed")
        Column.objects.filter(pk=completed.pk).update(wip_limit=1)
        cards.archive(make_card(board, kind="completed").pk, ANN)
        _, warnings = cards.move(make_card(board).pk, ANN, completed.pk)
        assert warnings == []


class TestSavedViews:
    @pytest.fixture
    def people(self) -> Any:
        board = make_board()
        clients = []
        for name, role in (("ann", Role.MEMBER), ("bob", Role.MEMBER), ("eve", Role.VIEWER)):
            user = make_user(name)
            Membership.objects.create(board=board, user=user, role=role)
            client = Client()
            client.force_login(user)
            clients.append(client)
        return board, *clients

    def test_they_are_kept_changed_shared_and_forgotten(self, people: Any) -> None:
        board, ann, bob, _ = people
        path = f"/api/v1/boards/{board.key}/views"
        body = {"name": "Mine", "query": "?show=needs&junk=1&prio=1,0"}
        made = ann.post(path, body, content_type="application/json")
        assert made.status_code == 201
        assert made.json()["query"] == "show=needs&prio=0,1"
        assert made.json()["owner"] == "ann"
        assert made.json()["shared"] is False
        assert [v["name"] for v in ann.get(path).json()["results"]] == ["Mine"]
        assert bob.get(path).json()["results"] == []
        one = f"{path}/{made.json()['id']}"
        assert bob.delete(one).status_code == 404
        assert ann.patch(one, {"shared": True}, content_type="application/json").json()["shared"]
        assert [v["name"] for v in bob.get(path).json()["results"]] == ["Mine"]
        refused = bob.patch(one, {"name": "His"}, content_type="application/json")
        assert refused.status_code == 403
        assert ann.delete(one).status_code == 204
        assert not SavedView.objects.exists()

    def test_a_name_is_taken_once_and_a_long_filter_is_refused(self, people: Any) -> None:
        board, ann, bob, _ = people
        path, kind = f"/api/v1/boards/{board.key}/views", "application/json"
        assert ann.post(path, {"name": "Mine"}, content_type=kind).status_code == 201
        for name, body in (
            ("name", {"name": "Mine"}),
            ("name", {"name": " "}),
            ("query", {"name": "Long", "query": "q=" + "%C3%A4" * 200}),
        ):
            refused = ann.post(path, body, content_type=kind)
            assert refused.status_code == 422
            assert name in refused.json()["errors"]
        assert bob.post(path, {"name": "Mine"}, content_type=kind).status_code == 201

    def test_who_may_only_look_keeps_views_but_shares_none(self, people: Any) -> None:
        board, _, _, eve = people
        path, kind = f"/api/v1/boards/{board.key}/views", "application/json"
        assert eve.post(path, {"name": "Own"}, content_type=kind).status_code == 201
        body = {"name": "All", "shared": True}
        assert eve.post(path, body, content_type=kind).status_code == 403

    def test_the_side_bar_counts_all_of_them_in_one_statement(self, people: Any) -> None:
        board, ann, bob, _ = people
        make_card(board, labels=["api"])
        leases.block(claimed(make_card(board, labels=["api"])).pk, "x", question="Which?")
        path = f"/boards/{board.key}/views"
        few = statements(ann, path)
        user = Membership.objects.get(board=board, user__username="ann").user
        for n in range(6):
            SavedView.objects.create(board=board, owner=user, name=f"V{n}", query="label=api")
        SavedView.objects.create(board=board, owner=user, name="S", query="", shared=True)
        assert statements(ann, path) == few
        text = html(ann, path)
        assert text.count('<span class="ct">2</span>') == 7
        assert re.search(r'Waiting on a person</span><span class="ct">1<', text)
        assert ">S</span>" in html(bob, path)
        assert "V0" not in html(bob, path)
        assert "data-view=" not in html(bob, path)

    def test_there_is_an_end_to_them(self, people: Any, monkeypatch: Any) -> None:
        board, ann, _, _ = people
        monkeypatch.setattr(saved, "MAX_VIEWS", 1)
        path, kind = f"/api/v1/boards/{board.key}/views", "application/json"
        assert ann.post(path, {"name": "One"}, content_type=kind).status_code == 201
        assert ann.post(path, {"name": "Two"}, content_type=kind).status_code == 409


def test_limits_are_drawn_as_near_reached_and_exceeded(page: Client) -> None:
    board = make_board()
    backlog = column_of(board, "backlog")
    drawn = []
    for limit in (4, 3, 2):
        Column.objects.filter(pk=backlog.pk).update(wip_limit=limit)
        while backlog.cards.count() < 3:
            make_card(board, kind="backlog")
        (css,) = re.findall(r'<div class="wip([^"]*)"><svg', html(page, f"/boards/{board.key}"))
        drawn.append(css.split())
    assert drawn == [["near"], ["at"], ["at", "over-limit"]]


def test_density_and_facts_follow_the_cookies_of_the_reader(page: Client) -> None:
    board = make_board()
    page.cookies["density"], page.cookies["facts"] = "compact", "labels_cost_nonsense"
    text = html(page, f"/boards/{board.key}")
    assert 'class="board compact no-labels no-cost"' in text


def test_any_column_folds_up_and_is_then_not_read(page: Client) -> None:
    board = make_board()
    card = make_card(board, kind="backlog")
    page.cookies["folded"] = str(card.column_id)
    text = html(page, f"/boards/{board.key}")
    assert not keys_of(text)
    assert f'class="col rail" id="col-{card.column_id}"' in text
