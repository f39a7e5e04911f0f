"""Who may do what: every operation of the document, for everybody who should not get through."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone

from boards import leases, tokens
from boards.models import Membership, Token
from kernel.access import Role
from tests.api.contract import Operation, operations, resolved
from tests.api.world import FOR_PEOPLE, Caller, World, state_digest, undone

# Others show that each operation works on PostgreSQL; who may use it is decided alike.
pytestmark = pytest.mark.once

ALL = operations()
IN_PATH = [o for o in ALL if "{" in o.path]
WRITES = [o for o in ALL if o.writes]
#: What a reader may do that is no reading: an artifact is the uploader's own until linked.
FOR_READERS = {"create_artifact"}


@pytest.fixture
def outsiders(world: World) -> dict[str, Caller]:
    """Return callers whose token opens nothing."""
    board = world.here.board.pk
    revoked = tokens.issue("revoked", roles={board: Role.OPERATOR})
    tokens.revoke(revoked.token.pk)
    expired = tokens.issue(
        "expired",
        roles={board: Role.OPERATOR},
        expires_at=timezone.now() - timedelta(seconds=1),
    )
    good = world.operator.token
    assert good is not None
    return {
        "nobody": Caller(),
        "empty": Caller(""),
        "unknown": Caller("holdfast_" + "a" * 38),
        "revoked": Caller(revoked.plaintext),
        "expired": Caller(expired.plaintext),
        "one character off": Caller(good[:-1] + ("a" if good[-1] != "a" else "b")),
        "upper case": Caller(good.upper()),
        "not ASCII": Caller("h\xe9ldfast_" + "a" * 38),
        "long": Caller("a" * 10_000),
        "a lease token": Caller(world.here.lease),
    }


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_nobody_without_a_good_token_reads_or_writes(
    operation: Operation, world: World, outsiders: dict[str, Caller]
) -> None:
    before = state_digest()
    for name, caller in outsiders.items():
        refused = world.call(caller, operation)
        assert refused.refusal == (401, "not_authenticated"), name
        assert refused.headers["WWW-Authenticate"].startswith("Bearer"), name
    assert state_digest() == before


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "bearer  ", "Token x", "\xff", "Digest"]
)
@pytest.mark.parametrize("operation", ALL, ids=str)
def test_a_header_that_is_no_bearer_token_opens_nothing(
    operation: Operation, header: str, world: World
) -> None:
    refused = world.call(Caller(), operation, Authorization=header)
    assert refused.refusal == (401, "not_authenticated")


@pytest.mark.parametrize("operation", WRITES, ids=str)
def test_a_viewer_changes_nothing(operation: Operation, world: World) -> None:
    if operation.id in FOR_READERS:
        return
    before = state_digest()
    # A viewer who got hold of the lease token is still a viewer.
    refused = world.call(world.viewer, operation)
    assert refused.refusal in {(403, "forbidden"), (404, "not_found")}, refused
    assert refused.status == 403 or operation.id == "revoke_token"
    assert state_digest() == before


@pytest.mark.parametrize(
    "operation", [o for o in ALL if o.method == "get" and not o.under_a_lease], ids=str
)
def test_a_viewer_reads_everything_on_its_board(operation: Operation, world: World) -> None:
    assert world.call(world.viewer, operation).status == 200


@pytest.mark.parametrize("operation", IN_PATH, ids=str)
def test_what_is_on_another_board_is_refused_like_what_never_was(
    operation: Operation, world: World
) -> None:
    before = state_digest()
    body = world.example(operation.id) if operation.writes else None
    lease: dict[str, Any] = {}
    if operation.under_a_lease:
        lease = {"lease": world.here.lease}
    hidden = world.stranger(operation.method, world.here.fill(operation), body, **lease)
    missing = world.stranger(operation.method, world.here.missing(operation), body, **lease)
    assert hidden.refusal == (404, "not_found"), hidden
    if operation.under_a_lease:
        # With a lease token that is not of this attempt, nothing tells the two apart either.
        lease = {"lease": world.there.lease}
        hidden = world.stranger(operation.method, world.here.fill(operation), body, **lease)
        missing = world.stranger(operation.method, world.here.missing(operation), body, **lease)
        bare = world.stranger(operation.method, world.here.fill(operation), body)
        assert bare.json == missing.json
    assert hidden.json == missing.json
    assert set(hidden.headers) == set(missing.headers)
    assert state_digest() == before


def test_a_body_that_names_hidden_things_is_refused_like_one_that_names_nothing(
    world: World,
) -> None:
    there, me = world.there, world.member
    card, goal = f"/cards/{world.here.cards['backlog'].key}", f"/goals/{world.here.goal.pk}"
    new = {"board": "HERE", "title": "x"}
    nothing = "0198c000-0000-7000-8000-000000000000"
    a_goal, a_card = str(there.goal.pk), there.cards["waiting"].key
    cases: list[tuple[str, dict[str, Any], str, Any, Any]] = [
        ("post /cards", {"title": "x"}, "board", "THERE", "NOWHERE"),
        ("post /cards", new, "goal", a_goal, nothing),
        ("post /cards", new, "depends_on", [a_card], ["NO-1"]),
        ("post /cards", new, "column", str(there.columns["backlog"].pk), nothing),
        (f"patch {card}", {}, "goal", a_goal, nothing),
        (f"patch {card}", {}, "depends_on", [a_card], ["NO-1"]),
        (f"post {card}/move", {"column": "review"}, "before", a_card, "NO-1"),
        (f"post {card}/move", {"column": "review"}, "after", a_card, "NO-1"),
        (f"post {card}/messages", {"text": "x"}, "answers", there.question.pk, 2**40),
        ("post /goals", {"title": "x"}, "board", "THERE", "NOWHERE"),
        ("post /goals", new, "parent", a_goal, nothing),
        (f"patch {goal}", {}, "parent", a_goal, nothing),
        (f"post {goal}/decisions", {"title": "x"}, "supersedes", str(there.decision.pk), nothing),
        ("post /claims", {"worker": "ada"}, "card", a_card, "NOWHERE-7"),
        ("post /claims", {"worker": "ada"}, "boards", ["THERE"], ["NOWHERE"]),
        ("post /claims", {"worker": "ada"}, "goal", a_goal, nothing),
    ]
    before = state_digest()
    for call, body, name, hidden, missing in cases:
        method, path = call.split()
        one = me(method, path, {**body, name: hidden})
        two = me(method, path, {**body, name: missing})
        assert one.status in (404, 422), (call, name, one)
        assert one.json == two.json, (call, name)
    for path in ("/cards", "/goals", "/events"):
        one, two = (me.get(f"{path}?board={key}") for key in ("THERE", "NOWHERE"))
        assert one.refusal == (404, "not_found")
        assert one.json == two.json, path
    assert state_digest() == before


def test_lists_hold_only_what_one_may_see(world: World) -> None:
    for path in ("/boards", "/cards", "/goals", "/workers"):
        here = {row["id"] for row in world.viewer.get(f"{path}?limit=200")["results"]}
        there = {row["id"] for row in world.stranger.get(f"{path}?limit=200")["results"]}
        everything = {row["id"] for row in world.root.get(f"{path}?limit=200")["results"]}
        assert here
        assert there
        assert not here & there
        assert here | there == everything


def test_a_search_finds_nothing_on_other_boards(world: World) -> None:
    secret = world.there.cards["waiting"]
    for query in (f"q={secret.key}", f"q={secret.title}", "label=x", f"goal={world.there.goal.pk}"):
        keys = [c["key"] for c in world.viewer.get(f"/cards?{query}")["results"]]
        assert not [k for k in keys if k.startswith("THERE")]


@pytest.mark.parametrize(
    ("name", "body", "codes"),
    [
        ("create_board", ..., {"member": 403, "operator": 403, "root": 201, "person": 201}),
        ("edit_board", ..., {"member": 403, "operator": 200, "root": 200, "person": 200}),
        ("create_token", ..., {"member": 403, "operator": 403, "root": 201, "person": 201}),
        ("revoke_token", None, {"member": 403, "operator": 204, "root": 204, "person": 204}),
        ("approve_card", None, {"member": 403, "operator": 403, "root": 403, "person": 200}),
        ("reject_card", ..., {"member": 403, "operator": 403, "root": 403, "person": 200}),
        ("merge_card", ..., {"member": 403, "operator": 403, "root": 403, "person": 200}),
        ("create_goal", ..., {"member": 403, "operator": 201, "root": 201, "person": 201}),
        ("edit_goal", ..., {"member": 403, "operator": 200, "root": 200, "person": 200}),
        ("say_criterion", ..., {"member": 403, "operator": 403, "root": 403, "person": 201}),
        ("claim_card", ..., {"member": 201, "operator": 201, "root": 201, "person": 403}),
    ],
)
def test_some_things_are_for_some(
    name: str, body: Any, codes: dict[str, int], world: World
) -> None:
    operation = next(o for o in ALL if o.id == name)
    for who, status in codes.items():
        with undone():
            answer = world.call(getattr(world, who), operation, body)
            assert answer.status == status, (who, answer)


def test_commands_are_allowed_by_an_operator_of_the_installation_alone(world: World) -> None:
    for caller in (world.operator, world.person):
        refused = caller.patch("/boards/HERE", {"allow_commands": True})
        assert refused.refusal == (403, "forbidden")
    assert world.root.patch("/boards/HERE", {"allow_commands": True})["allow_commands"] is True
    body = {"key": "MINE", "name": "Mine", "allow_commands": True}
    assert world.person.post("/boards", body).refusal == (403, "forbidden")


def test_a_token_made_here_is_for_here_and_not_above_its_maker(world: World) -> None:
    made = world.person.post("/tokens", {"name": "t", "board": "HERE", "role": "operator"})
    caller = Caller(made["token"])
    assert [(b["key"], b["role"]) for b in caller.get("/me")["boards"]] == [("HERE", "operator")]
    refused = world.person.post("/tokens", {"name": "t", "board": "THERE", "role": "viewer"})
    assert refused.refusal == (404, "not_found")


def test_a_revoked_or_expired_token_is_out_from_that_moment_on(world: World) -> None:
    caller = world.operator
    assert caller.get("/me").status == 200
    with time_machine.travel(timezone.now() + timedelta(days=2), tick=False):
        assert caller.get("/me").refusal == (401, "not_authenticated")
    world.root.delete(f"/tokens/{world.here.token_id}")
    assert world.member.get("/me").refusal == (401, "not_authenticated")
    beat = world.member.post(f"/attempts/{world.here.attempt.pk}/heartbeat", lease=world.here.lease)
    assert beat.refusal == (401, "not_authenticated")


def test_a_token_of_an_owner_who_left_opens_nothing(world: World) -> None:
    ann = get_user_model().objects.get(username="ann")
    theirs = tokens.issue("anns", owner=ann, roles={world.here.board.pk: Role.MEMBER})
    caller = Caller(theirs.plaintext)
    assert caller.get("/me").status == 200
    ann.is_active = False
    ann.save()
    assert caller.get("/me").refusal == (401, "not_authenticated")
    assert world.person.get("/me").refusal == (401, "not_authenticated")


def test_who_loses_the_role_loses_the_right_at_once(world: World) -> None:
    Membership.objects.filter(token_id=world.here.token_id).update(role=Role.VIEWER)
    beat = world.member.post(f"/attempts/{world.here.attempt.pk}/heartbeat", lease=world.here.lease)
    assert beat.refusal == (403, "forbidden")
    Membership.objects.filter(token_id=world.here.token_id).delete()
    beat = world.member.post(f"/attempts/{world.here.attempt.pk}/heartbeat", lease=world.here.lease)
    assert beat.refusal == (404, "not_found")
    assert world.member.get("/cards")["results"] == []


@pytest.mark.parametrize("operation", WRITES, ids=str)
def test_a_session_without_its_csrf_token_changes_nothing(
    operation: Operation, world: World
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.get(username="ann"))
    before = state_digest()
    body = world.example(operation.id)
    caller = Caller()
    caller.client = client
    refused = world.call(caller, operation, body)
    assert refused.refusal == (403, "forbidden")
    assert "CSRF" in refused["detail"]
    assert state_digest() == before


def test_reading_by_session_needs_no_csrf_token(world: World) -> None:
    assert world.person.get("/cards").status == 200


def test_a_bad_token_is_not_rescued_by_a_good_session(world: World) -> None:
    assert world.person.get("/me", Authorization="Bearer nonsense" * 3).status == 401


READ_ONLY = [
    "id", "key", "number", "state", "fence", "line", "version", "attempt", "counts", "owner",
    "created_by", "created_at", "updated_at", "failures", "rank", "unmet_dependencies",
    "archived_at", "worker", "token", "lease_expires_at", "steps_done", "role", "everywhere",
    "is_superuser", "card", "attempt_id", "board_id", "digest", "actor", "met", "in_doubt",
    "superseded", "briefing", "status", "paused", "kind",
]  # fmt: skip


@pytest.mark.parametrize("operation", [o for o in WRITES if o.body is not None], ids=str)
def test_what_the_machine_keeps_can_not_be_set(operation: Operation, world: World) -> None:
    assert operation.body is not None
    taken = set(resolved(operation.body)["properties"])
    caller = world.member if operation.under_a_lease else world.root
    before = state_digest()
    for name in READ_ONLY:
        if name in taken:
            continue
        body = {**world.example(operation.id), name: 7}
        if operation.id in FOR_PEOPLE:
            caller = world.person
        if operation.id == "claim_card":
            caller = world.member
        refused = world.call(caller, operation, body)
        assert refused.refusal == (422, "invalid"), (name, refused)
        assert name in refused["errors"]
    assert state_digest() == before


def test_a_worker_neither_ends_anothers_attempt_nor_passes_for_it(world: World) -> None:
    """The lease token, not the worker's name, is what a call is known by."""
    other = leases.claim("ada", card_id=world.here.cards["waiting"].pk)
    assert other is not None
    refused = world.member.post(
        f"/attempts/{other.pk}/complete", {"summary": "mine"}, lease=world.here.lease
    )
    assert refused.refusal == (409, "lease_lost")


def test_no_plaintext_token_is_kept_anywhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:

    caplog.set_level("DEBUG")
    made = world.person.post("/tokens", {"name": "ci", "board": "HERE", "role": "member"})
    caller = Caller(made["token"])
    claim = caller.post("/claims", {"worker": "w", "boards": ["HERE"]}, key="k")
    lease = claim["lease"]["token"]
    path = f"/attempts/{claim['attempt']['id']}"
    caller.post(f"{path}/steps", {"key": "a"}, lease=lease, key="k2")
    caller.post(f"{path}/steps", {"nope": 1}, lease=lease)
    caller.post(f"{path}/complete", {"summary": "done"}, lease=lease, key="k3")
    caller.get("/me", Authorization=f"Bearer {made['token']}x")
    secrets = [made["token"], lease, world.here.lease, world.member.token or "?"]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows = repr(cursor.fetchall())
            assert not [s for s in secrets if s in rows], table
    assert not [s for s in secrets if s in caplog.text]
    kept = Token.objects.get(pk=made["id"])
    assert made["token"].endswith(kept.hint)
    assert len(kept.hint) <= 4
