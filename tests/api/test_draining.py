"""A worker is taken out of service by an operator of every board that it works on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from boards import members, tokens
from boards.models import Board
from kernel.access import Role
from tests.api.world import Caller, World
from workers import hosts, registry
from workers.models import Host, Worker

BUILT_IN = "builtin-far.example-7-0a1b"


def beat(world: World) -> str:
    at = f"/attempts/{world.here.attempt.pk}/heartbeat"
    return str(world.member.post(at, {}, lease=world.here.lease)["directive"])


def test_a_drained_worker_is_told_to_stop_and_claims_nothing(world: World) -> None:
    assert beat(world) == "continue"
    told = world.operator.post("/workers/ada/drain").json
    assert told == {"worker": "ada", "host": None, "draining": True}
    assert world.operator.post("/workers/ada/drain").json == told
    assert world.viewer.get("/workers/ada")["draining"] is True
    assert beat(world) == "stop"
    asked = {"worker": "ada", "card": world.here.cards["waiting"].key}
    refused = world.member.post("/claims", asked)
    assert refused.refusal == (409, "not_claimable")
    assert "holdfast worker undrain ada" in refused["detail"]
    assert world.there.cards["waiting"].attempts.count() == 0

    assert world.operator.post("/workers/ada/undrain")["draining"] is False
    assert beat(world) == "continue"
    assert world.member.post("/claims", asked).status == 201


def test_it_takes_an_operator_of_every_board_that_the_worker_works_on(world: World) -> None:
    token = Worker.objects.get(name="ada").token_id
    elsewhere = Board.objects.exclude(pk=world.here.board.pk).first()
    assert elsewhere is not None
    members.grant(elsewhere.pk, "user:ann", Role.MEMBER, token_id=token)
    assert world.operator.post("/workers/ada/drain").refusal == (403, "forbidden")
    both = {world.here.board.pk: Role.OPERATOR, elsewhere.pk: Role.OPERATOR}
    assert (
        Caller(tokens.issue("both", roles=both).plaintext).post("/workers/ada/drain").status == 200
    )


def test_a_built_in_worker_goes_with_its_host(world: World) -> None:
    registry.seen(BUILT_IN, token_id=None, kind=Worker.Kind.BUILT_IN)
    Host.objects.create(name="far.example")
    assert world.operator.post(f"/workers/{BUILT_IN}/drain").refusal == (403, "forbidden")
    assert world.operator.post("/workers/far.example/drain").refusal == (404, "not_found")
    told = world.root.post(f"/workers/{BUILT_IN}/drain").json
    assert told == {"worker": None, "host": "far.example", "draining": True}
    assert world.viewer.get(f"/workers/{BUILT_IN}")["draining"] is True
    assert hosts.shut().get().name == "far.example"
    assert world.root.post("/workers/far.example/undrain")["host"] == "far.example"
    assert not hosts.shut().exists()
    assert world.root.post("/workers/nowhere/drain").refusal == (404, "not_found")


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
def test_the_page_has_a_button_for_who_may(world: World, role: Role) -> None:
    registry.seen(BUILT_IN, token_id=None, kind=Worker.Kind.BUILT_IN)
    Host.objects.create(name="far.example")
    board, person = world.here.board, get_user_model().objects.create_user("bea")
    members.grant(board.pk, "user:ann", role, user_id=person.pk)
    page = Client()
    page.force_login(person)
    at, drain = f"/boards/{board.key}/workers", f"/boards/{board.key}/drain"
    may = role == Role.OPERATOR
    assert page.get(at).content.decode().count('value="drain"') == may
    answer = page.post(drain, {"worker": "ada", "wanted": "drain"})
    assert answer.status_code == (302 if may else 403)
    assert Worker.objects.get(name="ada").draining is may
    assert page.get(at).content.decode().count('value="undrain"') == may
    assert page.post(drain, {"worker": BUILT_IN, "wanted": "drain"}).status_code == 403
    assert page.post(drain, {"host": "far.example", "wanted": "drain"}).status_code == 403
    assert page.post(drain, {"worker": "nobody", "wanted": "drain"}).status_code == 404
    page.post(drain, {"worker": "ada", "wanted": "undrain"})
    assert not Worker.objects.get(name="ada").draining


def test_what_a_host_does_not_begin_for_now_is_told_of_its_workers(world: World) -> None:
    registry.seen(BUILT_IN, token_id=None, kind=Worker.Kind.BUILT_IN)
    until = timezone.now() + timedelta(minutes=1)
    rests = {"rests_until": until, "rests": 1, "why": "No interpreter."}
    Host.objects.create(name="far.example/agent", **rests)
    worker = world.viewer.get(f"/workers/{BUILT_IN}")
    assert worker["draining"] is False
    assert [(rest["kind"], rest["why"]) for rest in worker["rests"]] == [
        ("agent", "No interpreter.")
    ]
    assert world.viewer.get("/workers/ada")["rests"] == []
