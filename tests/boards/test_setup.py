"""Boards from templates, who works on them, and what is imported into them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from boards import setup
from boards.models import Board, Card, Column, Membership
from events.models import Event
from goals.models import Goal
from kernel.access import Role
from tests.factories import make_board, make_card, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def page() -> Client:
    """Return a signed-in operator's browser."""
    client = Client()
    client.force_login(make_user("boss", is_superuser=True))
    return client


def call(page: Client, method: str, path: str, body: Any = None) -> Any:
    return page.generic(method, f"/api/v1{path}", json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("name", list(setup.TEMPLATES))
@pytest.mark.parametrize("commands", [True, False])
def test_a_template_makes_what_it_promises(
    page: Client, name: str, commands: bool, settings: Any
) -> None:
    settings.ALLOW_COMMANDS = commands
    body = {"key": "NEW", "name": "New", "template": name}
    assert call(page, "POST", "/boards", body).status_code == 201
    board, template = Board.objects.get(key="NEW"), setup.TEMPLATES[name]
    assert {c.kind for c in board.columns.all()} == set(Column.Kind)
    assert board.cards.count() == len(template.cards)
    workflows = [c for c in board.cards.all() if c.workflow]
    assert len(workflows) == (sum(bool(c.run) for c in template.cards) if commands else 0)
    goal = Goal.objects.filter(board_id=board.pk).first()
    assert (goal is None) == (not template.goal)
    if goal:
        assert goal.criteria.count() == len(template.criteria)
        assert not board.cards.exclude(goal=goal).exists()
    assert page.get("/boards/NEW").status_code == 200


def test_a_refused_board_leaves_nothing(page: Client) -> None:
    make_board(key="NEW")
    answer = call(page, "POST", "/boards", {"key": "NEW", "name": "x", "template": "bugs"})
    assert answer.status_code == 422
    assert "key" in answer.json()["errors"]
    assert Board.objects.count() == 1
    assert not Card.objects.exists()
    answer = call(page, "POST", "/boards", {"key": "NU", "name": "x", "template": "nothing"})
    assert answer.status_code == 422
    assert "template" in answer.json()["errors"]


def test_people_are_taken_in_changed_and_shown_out(page: Client) -> None:
    board, ann = make_board(), make_user("ann")
    path = f"/boards/{board.key}/members"
    first = call(page, "POST", path, {"user": "ann"}).json()
    again = call(page, "POST", path, {"user": "ann", "role": "operator"}).json()
    assert first["id"] == again["id"]
    assert again["role"] == "operator"
    assert call(page, "GET", path).json()["results"] == [again]
    nobody = call(page, "POST", path, {"user": "nobody"})
    assert nobody.status_code == 422
    assert "user" in nobody.json()["errors"]
    other = make_board()
    assert call(page, "DELETE", f"/boards/{other.key}/members/{first['id']}").status_code == 404
    call(page, "POST", path, {"user": make_user("bob").username, "role": "operator"})
    assert call(page, "DELETE", f"{path}/{first['id']}").status_code == 204
    assert not Membership.objects.filter(user=ann).exists()
    kinds = Event.objects.filter(board_id=board.pk).values_list("kind", flat=True)
    assert {"member.added", "member.changed", "member.removed"} <= set(kinds)


def test_a_board_keeps_an_operator(page: Client) -> None:
    board, ann, bob = make_board(), make_user("ann"), make_user("bob")
    path = f"/boards/{board.key}/members"
    first = call(page, "POST", path, {"user": ann.username, "role": "operator"}).json()
    for refused in (
        call(page, "DELETE", f"{path}/{first['id']}"),
        call(page, "POST", path, {"user": "ann", "role": "member"}),
    ):
        assert refused.status_code == 409
        assert refused.json()["code"] == "transition_refused"
        assert "without an operator" in refused.json()["detail"]
    assert Membership.objects.get(user=ann).role == Role.OPERATOR
    call(page, "POST", path, {"user": bob.username, "role": "operator"})
    assert call(page, "POST", path, {"user": "ann", "role": "member"}).status_code == 200
    # Somebody who can't sign in operates nothing.
    ann.is_active = False
    ann.save()
    Membership.objects.filter(user=ann).update(role=Role.OPERATOR)
    second = Membership.objects.get(user=bob)
    assert call(page, "DELETE", f"{path}/{second.pk}").status_code == 409


def test_a_boards_tokens_are_listed_without_their_secret(page: Client) -> None:
    board = make_board()
    made = call(page, "POST", "/tokens", {"board": board.key, "name": "ci"}).json()
    answer = call(page, "GET", f"/boards/{board.key}/tokens")
    assert made["token"] not in answer.content.decode()
    assert [t["hint"] for t in answer.json()["results"]] == [made["token"][-4:]]
    assert call(page, "DELETE", f"/tokens/{made['id']}").status_code == 204
    assert call(page, "GET", f"/boards/{board.key}/tokens").json()["results"] == []


def test_an_archived_board_is_on_no_list_and_comes_back(page: Client) -> None:
    board, other = make_board(name="Away"), make_board(name="Stays")
    assert call(page, "PATCH", f"/boards/{board.key}", {"archived": True}).json()["archived_at"]
    assert "Away" not in page.get("/?all").content.decode()
    assert "Stays" in page.get("/?all").content.decode(), other
    assert call(page, "PATCH", f"/boards/{board.key}", {"archived": False}).status_code == 200
    assert "Away" in page.get("/?all").content.decode()


def test_settings_are_shown_to_all_and_changed_by_operators() -> None:
    board, viewer = make_board(), make_user()
    Membership.objects.create(board=board, user=viewer, role=Role.VIEWER)
    client = Client()
    client.force_login(viewer)
    html = client.get(f"/boards/{board.key}/settings").content.decode()
    assert "Only operators" in html
    assert "data-token-form" not in html
    assert client.get(f"/boards/{board.key}/import").status_code == 403
    assert client.get(f"/boards/{make_board().key}/settings").status_code == 404


PLAN = "# Ship it\n- [ ] Write the parser\n  - [x] Agree on the grammar\n- [ ] Test it\n"
ISSUES = json.dumps([{"number": 7, "title": "Crash", "state": "open", "labels": [{"name": "P1"}]}])
TASK = "---\nid: task-{n}\ntitle: Task {n}\nstatus: To Do\ndependencies: [{needs}]\n---\nDo it.\n"
TABLE = 'key,title,priority,labels,depends_on\nA,First,high,"x,y",\nB,Second,,,A\n'
SEMICOLONS = "title;status\nEins;done\nZwei;\n"


@pytest.mark.parametrize(
    ("files", "format", "titles"),
    [
        ({"plan.md": PLAN}, "markdown", {"Write the parser", "Agree on the grammar", "Test it"}),
        ({"issues.json": ISSUES}, "github", {"Crash"}),
        (
            {
                "backlog/tasks/task-1.md": TASK.format(n=1, needs=""),
                "backlog/tasks/task-2.md": TASK.format(n=2, needs="task-1"),
            },
            "backlog",
            {"Task 1", "Task 2"},
        ),
        ({"cards.csv": TABLE}, "csv", {"First", "Second"}),
        ({"karten.csv": SEMICOLONS}, "csv", {"Eins", "Zwei"}),
    ],
)
def test_an_import_shows_then_makes_and_finds_itself_again(
    page: Client, files: dict[str, str], format: str, titles: set[str]
) -> None:
    board = make_board()
    path = f"/boards/{board.key}/import"
    body = {"files": [{"name": name, "text": text} for name, text in files.items()]}
    shown = call(page, "POST", path, {**body, "dry_run": True}).json()
    assert shown["format"] == format
    assert {card["title"] for card in shown["cards"]} == titles
    assert not Card.objects.exists()
    assert not Goal.objects.exists()
    made = call(page, "POST", path, body).json()
    assert all(card["key"] and not card["there"] for card in made["cards"])
    again = call(page, "POST", path, body).json()
    assert all(card["there"] for card in again["cards"])
    assert set(board.cards.values_list("title", flat=True)) == titles
    needs = {card["ref"]: card["depends_on"] for card in made["cards"]}
    for card in board.cards.all():
        kept = {d.inputs["source"] for d in card.depends_on.all()}
        assert kept == set(needs[card.inputs["source"]])


@pytest.mark.parametrize(
    "files",
    [
        [],
        [{"name": "x.md", "text": "no checklist"}],
        [{"name": "../../etc/passwd", "text": "{"}],
        [{"name": "a.csv", "text": "a,b\n1,2\n"}],
        [{"name": "x", "text": "- [ ] a\n" * 2 + "\n".join(f"- [ ] c{n}" for n in range(600))}],
        [{"name": "x.json", "text": '{"format": "holdfast", "cards": 7}'}],
    ],
)
def test_what_cannot_be_read_is_refused_in_words(page: Client, files: list[Any]) -> None:
    board = make_board()
    answer = call(page, "POST", f"/boards/{board.key}/import", {"files": files})
    assert answer.status_code == 422, answer.content
    assert "files" in answer.json()["errors"]
    assert "/tmp" not in answer.content.decode()
    assert not Card.objects.exists()


def test_a_plan_with_problems_is_made_only_when_told_to(page: Client) -> None:
    board = make_board()
    text = "title,depends_on\nOne,nowhere\nTwo,\n"
    body = {"files": [{"name": "a.csv", "text": text}]}
    path = f"/boards/{board.key}/import"
    assert call(page, "POST", path, body).status_code == 422
    assert not board.cards.exists()
    assert call(page, "POST", path, {**body, "keep_going": True}).status_code == 200
    assert board.cards.count() == 2


def test_a_boards_export_comes_back_as_it_was(page: Client) -> None:
    board = make_board()
    first = make_card(board, title="First", kind="backlog")
    cards = [
        {"id": str(first.pk), "key": "X-1", "title": "First", "kind": "completed", "priority": 1},
        {"id": "2", "key": "X-2", "title": "Second", "kind": "review", "depends_on": ["X-1"]},
    ]
    text = json.dumps({"format": "holdfast", "version": 1, "cards": cards, "goals": []})
    body = {"files": [{"name": "X.json", "text": text}]}
    answer = call(page, "POST", f"/boards/{board.key}/import", body)
    assert answer.status_code == 200, answer.content
    made = board.cards.get(title="Second")
    assert made.column.kind == "review"
    assert [d.title for d in made.depends_on.all()] == ["First"]
