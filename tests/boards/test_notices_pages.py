"""The inbox without a browser: whose it is, what it costs, what it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import leases
from boards.models import Board, Card, Membership
from boards.notices import raising
from boards.notices.models import Notice
from events import webhooks
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_token, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


@pytest.fixture
def bea(board: Board) -> Any:
    user = make_user("bea")
    Membership.objects.create(board=board, user=user, role=Role.OPERATOR)
    return user


@pytest.fixture
def client(bea: Any) -> Client:
    client = Client()
    client.force_login(bea)
    return client


def asked(board: Board, question: str = "Which way?") -> Card:
    card = make_card(board)
    leases.block(claimed(card).pk, "unsure", question=question, options=["Left"])
    return card


def send(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.patch(f"/api/v1{path}", body, content_type="application/json")


@pytest.mark.parametrize("path", ["/inbox", "/inbox/count?after=x", "/inbox/settings"])
def test_a_page_costs_the_same_however_much_there_is(
    client: Client, board: Board, path: str
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    asked(board)
    raising.tick()
    few = statements()
    for _ in range(15):
        asked(make_board())
        asked(board)
    raising.tick()
    assert statements() == few <= 14


def test_nobody_sees_anothers_inbox(client: Client, board: Board) -> None:
    other = make_user("ann")
    Membership.objects.create(board=board, user=other, role=Role.MEMBER)
    asked(board)
    raising.tick()
    theirs = Notice.objects.get(user=other)
    assert send(client, f"/inbox/{theirs.pk}", {"done": True}).status_code == 404
    assert len(client.get("/api/v1/inbox").json()["results"]) == 1


def test_who_leaves_a_board_sees_nothing_of_it_any_more(
    client: Client, board: Board, bea: Any
) -> None:
    asked(board, "The secret?")
    raising.tick()
    Membership.objects.filter(user=bea).delete()
    assert "The secret?" not in client.get("/inbox").content.decode()
    assert client.get("/inbox/count").json() == {"count": 0}
    assert client.get("/api/v1/inbox?all=1").json()["results"] == []


def test_a_notice_is_done_and_undone_and_put_off(client: Client, board: Board, bea: Any) -> None:
    asked(board)
    raising.tick()
    path = f"/inbox/{Notice.objects.get(user=bea).pk}"

    def count() -> int:
        return int(client.get("/inbox/count").json()["count"])

    assert count() == 1
    assert send(client, path, {"done": True}).json()["done_at"]
    assert count() == 0
    assert send(client, path, {"done": False}).json()["done_at"] is None
    assert count() == 1
    later = (timezone.now() + timedelta(hours=1)).isoformat()
    send(client, path, {"snoozed_until_at": later})
    assert count() == 0
    past = (timezone.now() - timedelta(hours=1)).isoformat()
    refused = send(client, path, {"snoozed_until_at": past})
    assert refused.status_code == 422
    assert "snoozed_until_at" in refused.json()["errors"]


def test_a_token_sees_each_thing_that_waits_once(board: Board, bea: Any) -> None:
    Membership.objects.create(board=board, user=make_user("ann"), role=Role.MEMBER)
    card = asked(board)
    asked(make_board())
    raising.tick()
    token = make_token(roles={board.pk: Role.VIEWER})
    found = Client().get("/api/v1/inbox", headers={"Authorization": f"Bearer {token}"}).json()
    assert [row["card"] for row in found["results"]] == [card.key]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"quiet_from": "22:00"}, "quiet_to"),
        ({"quiet_from": "22:00", "quiet_to": "22:00"}, "quiet_to"),
        ({"kinds": {"question": ["pigeon"]}}, "kinds"),
        ({"kinds": {"lunch": []}}, "kinds"),
        ({"boards": ["NOWHERE"]}, "boards"),
        ({"email": "not an address"}, "email"),
        ({"digest_at": "25:00"}, "digest_at"),
    ],
)
def test_a_rule_that_can_not_be_is_refused_by_name(
    client: Client, body: dict[str, Any], name: str
) -> None:
    refused = send(client, "/me/notifications", body)
    assert refused.status_code == 422
    assert [field for field in refused.json()["errors"] if field.startswith(name)]


def test_rules_changed_elsewhere_are_not_overwritten(client: Client) -> None:
    first = send(client, "/me/notifications", {"scope": "mine"}).json()
    send(client, "/me/notifications", {"scope": "all"})
    stale = client.patch(
        "/api/v1/me/notifications",
        {"scope": "chosen"},
        content_type="application/json",
        headers={"If-Match": f'"{first["version"]}"'},
    )
    assert stale.status_code == 412
    assert stale.json()["current"]["scope"] == "all"


def test_a_webhooks_secret_is_told_once_and_its_address_to_operators(
    client: Client, board: Board
) -> None:
    made = client.post(
        "/api/v1/boards/PAY/webhooks",
        {"url": "https://hooks.example.org/s3cret"},
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    ).json()
    assert made["secret"].startswith("whsec_")
    assert "secret" not in client.get("/api/v1/boards/PAY/webhooks").json()["results"][0]
    viewer = make_token(roles={board.pk: Role.VIEWER})
    seen = Client().get(
        "/api/v1/boards/PAY/webhooks", headers={"Authorization": f"Bearer {viewer}"}
    )
    assert seen.json()["results"][0]["url"] == "https://hooks.example.org/…"
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM events_receipt")
        assert made["secret"] not in str(cursor.fetchall())


def test_only_operators_see_the_page_of_webhooks(client: Client, board: Board) -> None:
    webhooks.create(board.pk, "user:ann", url="https://hooks.example.org/in")
    assert b"hooks.example.org" in client.get("/boards/PAY/webhooks").content
    Membership.objects.update(role=Role.MEMBER)
    assert client.get("/boards/PAY/webhooks").status_code == 403
    assert client.get(f"/boards/{make_board().key}/webhooks").status_code == 404
