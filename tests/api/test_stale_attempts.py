"""A superseded attempt hears ``lease_lost`` on every worker endpoint and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import time_machine

from boards import cards, leases
from tests.api.contract import Operation, operations, places, replaced
from tests.api.world import World, state_digest

UNDER_A_LEASE = [
    o for o in operations() if o.under_a_lease and o.writes and o.id != "salvage_attempt"
]
READS = [o for o in operations() if o.under_a_lease and not o.writes]
#: An attempt that ended itself hears its own end again, see ``leases``.
OWN_END = {"complete_attempt"}


def replaced_by_another(world: World) -> None:
    with time_machine.travel("2099-01-01", tick=False):
        taken = leases.claim("bob", card_id=world.here.cards["running"].pk)
    assert taken is not None


def expired(world: World) -> None:
    leases.expire(world.here.attempt.pk, actor="system:sweep")


def revoked_by_a_person(world: World) -> None:
    cards.move(world.here.cards["running"].pk, "user:ann", world.here.columns["backlog"].pk)


def cancelled_by_a_person(world: World) -> None:
    cards.cancel(world.here.cards["running"].pk, "user:ann")


def completed_by_itself(world: World) -> None:
    leases.complete(world.here.attempt.pk, "done")


ENDS = [
    replaced_by_another,
    expired,
    revoked_by_a_person,
    cancelled_by_a_person,
    completed_by_itself,
]


def bodies(world: World, operation: Operation, end: Any) -> list[bytes]:
    """Return a valid, an empty, wrong and some hostile bodies: all of these over all the ends."""
    valid = world.example(operation.id)
    assert operation.body is not None
    first = next(at for at, _ in places(operation.body))
    wrong: list[Any] = [{}, {**valid, "fancy": 1}, replaced(valid, first, [[]]), [], None]
    hostile = [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a": NaN}',
        rb'{"a": "\ud800"}',
        rb'{"a": "\u0000"}',
        b'{"a": %d}' % 2**70,
        b"\xff\xfe",
        b'"' + b"x" * 1_100_000 + b'"',
    ]
    some = hostile[ENDS.index(end) :: len(ENDS)]
    return [json.dumps(valid).encode(), *(json.dumps(w).encode() for w in wrong), *some]


def test_there_are_endpoints_to_look_at() -> None:
    assert len(UNDER_A_LEASE) >= 13
    assert len(READS) >= 2


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("operation", UNDER_A_LEASE, ids=str)
def test_whatever_it_sends_it_hears_lease_lost_and_nothing_changes(
    operation: Operation, end: Any, world: World
) -> None:
    end(world)
    before = state_digest()
    for raw in bodies(world, operation, end):
        answer = world.call(world.member, operation, raw)
        if end is completed_by_itself and operation.id in OWN_END and answer.status == 200:
            continue  # the same end again
        assert answer.refusal == (409, "lease_lost"), (raw[:60], answer)
        fresh = world.call(world.member, operation, raw, key="fresh")
        assert fresh.refusal == (409, "lease_lost")
    assert world.call(world.member, operation, b"a=b", content_type="text/plain").refusal == (
        409,
        "lease_lost",
    )
    assert state_digest() == before


@pytest.mark.parametrize("end", ENDS)
def test_it_reads_nothing_more_under_its_lease(end: Any, world: World) -> None:
    for operation in READS:
        assert world.call(world.member, operation).status == 200, operation
    end(world)
    for operation in READS:
        assert world.call(world.member, operation).refusal == (409, "lease_lost"), operation


@pytest.mark.parametrize("end", ENDS)
def test_what_it_still_holds_may_be_salvaged_beside_the_card(end: Any, world: World) -> None:
    end(world)
    card = world.viewer.get(f"/cards/{world.here.cards['running'].key}").json
    attempts = world.viewer.get(f"/cards/{card['key']}/attempts").json
    operation = next(o for o in operations() if o.id == "salvage_attempt")
    assert world.call(world.member, operation).status == 201
    assert world.viewer.get(f"/cards/{card['key']}").json == card
    assert world.viewer.get(f"/cards/{card['key']}/attempts").json == attempts
    assert world.call(world.member, operation, {"fancy": 1}).refusal == (422, "invalid")


@pytest.mark.parametrize("operation", UNDER_A_LEASE, ids=str)
def test_an_answer_given_while_it_held_comes_again_after(
    operation: Operation, world: World
) -> None:
    if operation.method != "post":
        return
    first = world.call(world.member, operation, key="k")
    assert 200 <= first.status < 300
    if first.json.get("attempt", {}) and operation.id in {"complete_attempt", "fail_attempt"}:
        return
    leases.expire(world.here.attempt.pk, actor="system:sweep")
    before = state_digest()
    again = world.call(world.member, operation, key="k")
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json == first.json
    assert state_digest() == before


@pytest.mark.parametrize("operation", UNDER_A_LEASE, ids=str)
def test_another_attempts_token_opens_nothing(operation: Operation, world: World) -> None:
    before = state_digest()
    refused = world.call(world.member, operation, lease=world.there.lease)
    assert refused.refusal == (409, "lease_lost")
    bare = world.member(operation.method, world.here.fill(operation), world.example(operation.id))
    assert bare.refusal == (400, "malformed")
    assert state_digest() == before
