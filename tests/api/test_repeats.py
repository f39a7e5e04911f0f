"""A repeated POST gets the first answer again and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from boards.models import Attempt, Card
from checkpoints.models import Artifact
from tests.api.contract import Operation, operations
from tests.api.world import FOR_OPERATORS, FOR_PEOPLE, World, state_digest

KEYED = [o for o in operations() if "Idempotency-Key" in o.parameters]


def caller_of(world: World, operation: Operation) -> Any:
    if operation.id in FOR_OPERATORS:
        return world.root
    if operation.id in FOR_PEOPLE:
        return world.person
    return world.member


@pytest.mark.parametrize("operation", KEYED, ids=str)
def test_the_same_key_and_body_give_the_first_answer_and_no_second_effect(
    operation: Operation, world: World
) -> None:
    caller = caller_of(world, operation)
    first = world.call(caller, operation, key="k-1")
    before = state_digest()
    again = world.call(caller, operation, key="k-1")
    told = first.json
    if operation.id == "create_token":
        told = {**told, "token": None}  # its plaintext is told once
    assert (again.status, again.json) == (first.status, told)
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.headers.get("ETag") == first.headers.get("ETag")
    assert state_digest() == before


@pytest.mark.parametrize("operation", [o for o in KEYED if o.body is not None], ids=str)
def test_another_body_under_a_used_key_is_refused(operation: Operation, world: World) -> None:
    caller = caller_of(world, operation)
    body = world.example(operation.id)
    world.call(caller, operation, body, key="k-1")
    before = state_digest()
    plain = (
        "title",
        "name",
        "summary",
        "next_step",
        "text",
        "error",
        "reason",
        "note",
        "worker",
        "resolution",
        "message",
    )
    name = next((n for n in plain if n in body), "")
    changed = {**body, name: "something else"} if name else {}
    refused = world.call(caller, operation, changed, key="k-1")
    # An attempt that the first call ended hears about that first.
    over = operation.id in {f"{end}_attempt" for end in ("complete", "fail", "block", "release")}
    unreadable = operation.body is not None and not name and operation.id != "apply_plan"
    expected = {
        (True, False): (409, "lease_lost"),
        (False, True): (422, "invalid"),
    }.get((over, unreadable), (422, "idempotency_key_reused"))
    assert refused.refusal == expected
    assert state_digest() == before


def test_a_repeated_claim_gets_the_same_lease_token_which_is_not_kept(world: World) -> None:
    body = {"worker": "ada-7", "boards": ["HERE"]}
    first = world.member.post("/claims", body, key="claim-1")
    again = world.member.post("/claims", body, key="claim-1")
    assert again["lease"] == first["lease"]
    assert again["attempt"]["id"] == first["attempt"]["id"]
    assert again.headers["Idempotent-Replay"] == "true"
    assert Attempt.objects.filter(card__key=first["card"]["key"]).count() == 1
    token = again["lease"]["token"]
    beat = world.member.post(f"/attempts/{again['attempt']['id']}/heartbeat", lease=token)
    assert beat.status == 200
    other = world.member.post("/claims", {**body, "worker": "bob"}, key="claim-1")
    assert other.refusal == (422, "idempotency_key_reused")


def test_nothing_to_do_leaves_the_key_unused(world: World) -> None:
    waiting = world.here.cards["waiting"].key
    world.member.post(f"/cards/{waiting}/pause")
    body = {"worker": "ada-7", "boards": ["HERE"]}
    assert world.member.post("/claims", body, key="k").status == 204
    world.member.post(f"/cards/{waiting}/resume")
    assert world.member.post("/claims", body, key="k").status == 201


def test_a_refusal_leaves_the_key_unused(world: World) -> None:
    path = f"/cards/{world.here.cards['backlog'].key}/move"
    assert world.member.post(path, {"column": "nowhere"}, key="k").status == 422
    assert world.member.post(path, {"column": "review"}, key="k").status == 200


def test_a_key_is_one_principals_own(world: World) -> None:
    body = {"board": "HERE", "title": "One"}
    mine = world.member.post("/cards", body, key="k")
    theirs = world.operator.post("/cards", body, key="k")
    assert mine["key"] != theirs["key"]


def test_a_key_is_one_paths_own(world: World) -> None:
    body = {"text": "hello"}
    world.member.post(f"/cards/{world.here.cards['backlog'].key}/messages", body, key="k")
    other = world.member.post(f"/cards/{world.here.cards['waiting'].key}/messages", body, key="k")
    assert other.refusal == (422, "idempotency_key_reused")


def test_another_file_under_a_used_key_is_refused_and_not_kept(world: World) -> None:
    first = world.member("post", "/artifacts", b"one", key="k")
    again = world.member("post", "/artifacts", b"one", key="k")
    assert (first.status, again.status, again.json) == (201, 201, first.json)
    other = world.member("post", "/artifacts", b"two", key="k")
    assert other.refusal == (422, "idempotency_key_reused")
    assert not Artifact.objects.filter(size_bytes=3).exclude(pk=first["sha256"]).exists()


def test_an_upload_tells_nobody_what_others_have_uploaded(world: World) -> None:
    told = [
        caller("post", "/artifacts", b"ours", content_type=kind)
        for caller, kind in ((world.stranger, "text/x-secret"), (world.member, "text/plain"))
    ]
    assert [answer.status for answer in told] == [201, 201]
    assert told[1]["content_type"] == "text/plain"
    assert world.member("post", "/artifacts", b"ours", content_type="text/plain").status == 200


def test_the_same_body_with_its_members_in_another_order_is_the_same(world: World) -> None:
    one = world.member("post", "/cards", b'{"board": "HERE", "title": "x"}', key="k")
    two = world.member("post", "/cards", b'{ "title":"x","board":"HERE" }', key="k")
    assert one["key"] == two["key"]


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9", "a\tb"])
def test_a_key_that_cant_serve_is_refused(key: str, world: World) -> None:
    before = Card.objects.count()
    refused = world.member.post("/cards", {"board": "HERE", "title": "x"}, key=key)
    assert refused.refusal == (422, "invalid")
    assert Card.objects.count() == before
