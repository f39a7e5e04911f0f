"""Secrets of boards over REST: set by operators, read by nobody, told to workers that may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boards import leases, tokens
from boards.models import Board, Card
from boards.secrets import keeping
from events.models import Event, Receipt
from kernel.access import Role
from tests.api.world import Caller, World

pytestmark = pytest.mark.django_db

VALUE = "correct horse battery staple"
PATH = "/boards/HERE/secrets"


def test_an_operator_sets_lists_and_removes_and_no_answer_has_the_value(world: World) -> None:
    said = [
        world.operator("put", f"{PATH}/API_KEY", {"value": VALUE}, key="once"),
        world.operator("put", f"{PATH}/API_KEY", {"value": VALUE[::-1]}),
        world.operator.get(PATH),
        world.viewer.get(PATH),
        world.member.get("/boards/HERE"),
        world.operator.delete(f"{PATH}/API_KEY"),
        world.operator.delete(f"{PATH}/API_KEY"),
    ]
    assert [answer.status for answer in said] == [201, 200, 200, 200, 200, 204, 404]
    assert [s["name"] for s in said[2]["results"]] == ["API_KEY", "DEPLOY_KEY"]
    assert said[2]["results"][0]["set_by"] == "token:operator"
    assert set(said[0].json) == {"name", "set_by", "set_at"}
    told = b"".join(answer.raw for answer in said)
    rows = json.dumps([*Event.objects.values(), *Receipt.objects.values()], default=str)
    for value in (VALUE, VALUE[::-1], "the key of HERE"):
        assert value.encode() not in told
        assert value not in rows


@pytest.mark.parametrize("caller", ["viewer", "member"])
def test_who_is_no_operator_sets_and_removes_nothing(world: World, caller: str) -> None:
    asking: Caller = getattr(world, caller)
    assert asking("put", f"{PATH}/API_KEY", {"value": VALUE}).refusal == (403, "forbidden")
    assert asking.delete(f"{PATH}/DEPLOY_KEY").refusal == (403, "forbidden")
    hidden = "/boards/THERE/secrets"
    assert asking.get(hidden).status == 404
    assert world.operator("put", f"{hidden}/API_KEY", {"value": VALUE}).status == 404
    assert world.operator.delete(f"{hidden}/DEPLOY_KEY").status == 404
    assert keeping.of_board(world.here.board.pk).count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "value"),
        ({"value": None}, "value"),
        ({"value": ""}, "value"),
        ({"value": 12345678}, "value"),
        ({"value": ["correct horse"]}, "value"),
        ({"value": {"correct": "horse"}}, "value"),
        ({"value": "correct\x00horse"}, "value"),
        ({"value": "ho rs e"}, "value"),
        ({"value": "correct horse " * 3000}, "value"),
        ({"value": "€" * 11_000}, "value"),  # few characters, many bytes
        ({"value": VALUE, "board": "THERE"}, "board"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_without_being_repeated(
    world: World, body: Any, field: str
) -> None:
    refused = world.operator("put", f"{PATH}/API_KEY", body)
    assert refused.refusal == (422, "invalid")
    assert field in refused["errors"]
    assert b"horse" not in refused.raw
    assert keeping.of_board(world.here.board.pk).count() == 1


@pytest.mark.parametrize("raw", [b'{"value": "correct horse', b'"correct horse"', b"\xff\xfehorse"])
def test_what_is_no_json_is_refused_without_being_repeated(world: World, raw: bytes) -> None:
    refused = world.operator("put", f"{PATH}/API_KEY", raw)
    assert refused.status in (400, 422)
    assert b"horse" not in refused.raw


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "1ST", "A%20B", "A%0A", "%C3%84", "A.B"])
def test_a_name_that_cannot_be_is_refused(world: World, name: str) -> None:
    refused = world.operator("put", f"{PATH}/{name}", {"value": VALUE})
    assert refused.refusal == (422, "invalid")
    assert list(refused["errors"]) == ["name"]


def test_white_space_and_line_ends_of_a_value_are_kept(world: World) -> None:
    value = "  -----BEGIN KEY-----\r\nabcdefgh\n-----END KEY-----\n"
    world.operator("put", f"{PATH}/PEM", {"value": value})
    assert keeping.opened(world.here.board.pk).values["PEM"] == value


# ── workers elsewhere ──


@pytest.fixture
def card(world: World) -> Card:
    """A running card with a workflow, on a board with a secret and a password."""
    Board.objects.filter(pk=world.here.board.pk).update(
        allow_commands=True, repository="https://bot:hunter2@example.org/a.git"
    )
    workflow = {"steps": [{"key": "a", "run": "true"}]}
    Card.objects.filter(pk=world.here.cards["waiting"].pk).update(workflow=workflow)
    return world.here.cards["waiting"]


def terms(world: World, card: Card, *, carries: bool, role: Role = Role.MEMBER) -> Any:
    board = world.here.board
    issued = tokens.issue("host", roles={board.pk: role}, carries_secrets=carries)
    attempt = leases.claim("host-1", card_id=card.pk, token_id=issued.token.pk)
    assert attempt is not None
    lease = leases.token_of(attempt.pk, board.pk)
    answer = Caller(issued.plaintext).get(f"/attempts/{attempt.pk}/terms", lease=lease)
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json


def test_a_token_that_carries_secrets_is_told_those_of_its_attempts_board(
    world: World, card: Card
) -> None:
    told = terms(world, card, carries=True)
    assert told["secrets"] == {"DEPLOY_KEY": "the key of HERE"}
    assert told["withheld"] == told["closed"] == []
    assert told["repository"] == "https://bot:hunter2@example.org/a.git"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
def test_any_other_token_is_told_only_that_there_are_some(
    world: World, card: Card, role: Role
) -> None:
    told = terms(world, card, carries=False, role=role)
    assert told["secrets"] == {}
    assert told["withheld"] == ["the password of its repository", "DEPLOY_KEY"]
    assert told["repository"] == "https://example.org/a.git"


def test_who_holds_a_card_without_a_workflow_is_told_no_secrets(world: World, card: Card) -> None:
    Card.objects.filter(pk=card.pk).update(workflow=None)
    told = terms(world, card, carries=True)
    assert (told["secrets"], told["withheld"]) == ({}, [])
    assert told["repository"] == "https://example.org/a.git"


def test_nor_is_anybody_where_commands_are_off(world: World, card: Card) -> None:
    Board.objects.filter(pk=world.here.board.pk).update(allow_commands=False)
    told = terms(world, card, carries=True)
    assert (told["secrets"], told["withheld"]) == ({}, [])


def test_another_token_gets_none_with_the_lease_of_one_that_may(world: World, card: Card) -> None:
    board = world.here.board
    host = tokens.issue("host", roles={board.pk: Role.MEMBER}, carries_secrets=True)
    thief = tokens.issue("thief", roles={board.pk: Role.MEMBER}, carries_secrets=True)
    attempt = leases.claim("host-1", card_id=card.pk, token_id=host.token.pk)
    assert attempt is not None
    lease = leases.token_of(attempt.pk, board.pk)
    path = f"/attempts/{attempt.pk}/terms"
    assert Caller(thief.plaintext).get(path, lease=lease)["secrets"] == {}
    assert world.root.get(path, lease=lease)["secrets"] == {}
    assert Caller(host.plaintext).get(path, lease=lease)["secrets"] != {}


def test_only_a_token_made_for_it_carries_secrets(world: World) -> None:
    body = {"name": "host", "board": "HERE"}
    assert world.person.post("/tokens", body)["carries_secrets"] is False
    made = world.person.post("/tokens", {**body, "carries_secrets": True})
    assert made["carries_secrets"] is True
    listed = {
        t["id"]: t["carries_secrets"] for t in world.viewer.get("/boards/HERE/tokens")["results"]
    }
    assert listed[made["id"]] is True
    assert sum(listed.values()) == 1


def test_a_repository_is_shown_with_its_password_to_operators_alone(
    world: World, card: Card
) -> None:
    assert "hunter2" in world.operator.get("/boards/HERE")["repository"]
    for caller in (world.viewer, world.member):
        for path in ("/boards/HERE", "/boards"):
            answer = caller.get(path)
            assert b"hunter2" not in answer.raw
            assert b"https://example.org/a.git" in answer.raw
