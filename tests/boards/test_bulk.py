from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from boards import cards, leases
from boards.models import Card, Membership
from events.models import Event
from kernel.access import Role
from kernel.errors import TransitionRefused
from tests.factories import claimed, make_board, make_card, make_goal, make_token, make_user, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    return make_board()


@pytest.fixture
def ann(board) -> Client:
    user, client = make_user(), Client()
    Membership.objects.create(board=board, user=user, role=Role.MEMBER)
    client.force_login(user)
    return client


def change(client: Client, wanted: list[Card | str], action: str, **fields: Any):
    names = [c.key if isinstance(c, Card) else c for c in wanted]
    headers = {"Idempotency-Key": fields.pop("key")} if "key" in fields else {}
    return client.post(
        "/api/v1/cards/bulk",
        {"cards": names, "action": action, **fields},
        content_type="application/json",
        headers=headers,
    )


def test_each_card_is_changed_for_itself(board, ann):
    fine, running = make_card(board), make_card(board)
    claimed(running)
    elsewhere = make_card()
    answer = change(ann, [fine, running, elsewhere, "NOWHERE-1"], "archive")
    assert answer.status_code == 200
    results = {r["card"]: r for r in answer.json()["results"]}
    assert (results[fine.key]["ok"], results[fine.key]["code"]) == (False, "transition_refused")
    assert "running" in results[running.key]["detail"]
    assert results[elsewhere.key]["code"] == results["NOWHERE-1"]["code"] == "not_found"
    answer = change(ann, [fine, running, elsewhere], "move", column="backlog")
    assert [r["ok"] for r in answer.json()["results"]] == [True, True, False]
    assert {now_is(c).state for c in (fine, running)} == {"backlog"}
    assert now_is(elsewhere).state == "waiting"


def test_labels_goal_and_priority(board, ann):
    goal = make_goal(board)
    one = make_card(board, labels=["api", "old"])
    two = make_card(board, labels=["ui"])
    changes = {
        "priority": 0,
        "goal": str(goal.pk),
        "add_labels": ["hot", "api"],
        "remove_labels": ["old"],
    }
    told = change(ann, [one, two], "edit", changes=changes).json()["results"]
    assert told[0]["was"] == {"priority": 3, "goal": None, "labels": ["api", "old"]}
    assert told[0]["version"] == now_is(one).version
    assert now_is(one).labels == ["api", "hot"]
    assert now_is(two).labels == ["ui", "hot", "api"]
    assert {(now_is(c).priority, now_is(c).goal_id) for c in (one, two)} == {(0, goal.pk)}
    (told,) = change(ann, [one], "edit", changes={"goal": None}).json()["results"]
    assert told["was"] == {"goal": str(goal.pk)}
    assert now_is(one).goal_id is None
    other = make_goal()
    (told,) = change(ann, [one], "edit", changes={"goal": str(other.pk)}).json()["results"]
    assert (told["ok"], told["code"]) == (False, "invalid")
    many = {"add_labels": [f"l{n}" for n in range(49)]}
    (told,) = change(ann, [one], "edit", changes=many).json()["results"]
    assert "at most 50 labels" in told["detail"]


def test_a_label_that_somebody_adds_meanwhile_stays(board, ann, monkeypatch):
    card = make_card(board, labels=["api"])
    edit, others = cards.edit, []

    def overtaken(pk, actor, changes, **how):
        if not others:
            others.append(edit(pk, "user:bob", {"labels": ["api", "theirs"]}))
        return edit(pk, actor, changes, **how)

    monkeypatch.setattr(cards, "edit", overtaken)
    change(ann, [card], "edit", changes={"add_labels": ["mine"]})
    assert now_is(card).labels == ["api", "theirs", "mine"]


def test_repeated_with_its_key_nothing_is_done_twice(board, ann):
    wanted = [make_card(board) for _ in range(3)]
    first = change(ann, wanted, "pause", key="k")
    count = Event.objects.count()
    again = change(ann, wanted, "pause", key="k")
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"
    assert Event.objects.count() == count
    assert change(ann, wanted, "cancel", key="k").json()["code"] == "idempotency_key_reused"
    assert {now_is(c).state for c in wanted} == {"waiting"}


def test_cut_off_half_way_it_goes_on_with_the_rest(board, ann, monkeypatch):
    wanted = [make_card(board) for _ in range(3)]
    pause, done = cards.pause, []

    def dying(pk, actor):
        if len(done) == 2:
            raise SystemExit
        done.append(pk)
        return pause(pk, actor)

    monkeypatch.setattr(cards, "pause", dying)
    with pytest.raises(SystemExit):
        change(ann, wanted, "pause", key="k")
    monkeypatch.setattr(cards, "pause", pause)
    answer = change(ann, wanted, "pause", key="k")
    assert [r["ok"] for r in answer.json()["results"]] == [True] * 3
    assert Event.objects.filter(kind="card.paused").count() == 3


def test_who_may_only_look_changes_nothing(board):
    card = make_card(board)
    token = make_token(roles={board.pk: Role.VIEWER})
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert change(client, [card], "cancel").status_code == 403
    assert change(client, [make_card()], "cancel").status_code == 404
    both = make_board()
    token = make_token(roles={board.pk: Role.VIEWER, both.pk: Role.MEMBER})
    client = Client(headers={"Authorization": f"Bearer {token}"})
    mine = make_card(both)
    told, done = change(client, [card, mine], "cancel").json()["results"]
    assert (told["ok"], told["code"], done["ok"]) == (False, "forbidden", True)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"cards": []}, "cards"),
        ({"cards": ["A-1"] * 201}, "cards"),
        ({"action": "explode"}, "action"),
        ({"action": "move"}, "column"),
        ({"action": "edit"}, "changes"),
        ({"action": "edit", "changes": {"title": "x"}}, "changes"),
        ({"action": "edit", "changes": {"priority": 9}}, "changes"),
    ],
)
def test_bad_input_is_named(board, ann, fields, name):
    body = {"cards": [make_card(board).key], "action": "pause", **fields}
    answer = ann.post("/api/v1/cards/bulk", body, content_type="application/json")
    assert answer.status_code == 422
    assert any(field.startswith(name) for field in answer.json()["errors"])


def test_a_card_costs_the_same_in_a_crowd(board, ann):
    def statements(count: int) -> int:
        wanted = [make_card(board) for _ in range(count)]
        with CaptureQueriesContext(connection) as sent:
            change(ann, wanted, "edit", changes={"priority": 1})
        return len(sent)

    few, many = statements(2), statements(12)
    assert (many - few) / 10 <= 14


class TestArchive:
    def test_it_leaves_the_board_and_comes_back(self, board, ann):
        card = make_card(board, kind="backlog")
        archived = cards.archive(card.pk, "user:ann")
        assert archived.archived_at is not None
        assert cards.archive(card.pk, "user:ann").version == archived.version
        listed = ann.get("/api/v1/cards", {"board": board.key}).json()["results"]
        assert listed == []
        with pytest.raises(TransitionRefused, match="restore it first"):
            cards.move(card.pk, "user:ann", card.column_id)
        assert cards.unarchive(card.pk, "user:ann").archived_at is None
        kinds = Event.objects.filter(subject_id=card.pk).order_by("seq")
        assert [e.kind for e in kinds][-2:] == ["card.archived", "card.restored"]

    def test_nothing_that_is_under_way_is_put_away(self, board):
        running = claimed(make_card(board)).card
        waiting = make_card(board)
        for card in (running, waiting):
            with pytest.raises(TransitionRefused, match="finish or cancel it"):
                cards.archive(card.pk, "user:ann")
        leases.complete(running.attempts.get().pk, "done")
        cards.archive(running.pk, "user:ann")

    def test_no_worker_pulls_it_from_the_backlog(self, board):
        board.pull = "auto"
        board.save()
        card = make_card(board, kind="backlog")
        cards.archive(card.pk, "user:ann")
        assert leases.claim("ada", boards=frozenset([board.pk])) is None
        with pytest.raises(TransitionRefused):
            cards.retry(card.pk, "user:ann")
