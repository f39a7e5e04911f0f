"""The document says what the contract promises, and nothing that is not so."""

from __future__ import annotations

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.api.contract import document, operations
from tests.api.world import World

LIST = {"limit", "cursor"}
PROMISED = {
    "/boards": {"get", "post"},
    "/boards/{board}": {"get", "patch"},
    "/goals": {"get", "post"},
    "/goals/{goal}": {"get", "patch"},
    "/goals/{goal}/decisions": {"get", "post"},
    "/goals/{goal}/discoveries": {"get", "post"},
    "/cards": {"get", "post"},
    "/cards/{card}": {"get", "patch", "delete"},
    "/cards/{card}/move": {"post"},
    "/cards/{card}/briefing": {"get"},
    "/cards/{card}/attempts": {"get"},
    "/cards/{card}/attempts/{number}/briefing": {"get"},
    "/cards/{card}/steps": {"get"},
    "/cards/{card}/checkpoints": {"get"},
    "/cards/{card}/checkpoints/{number}": {"get"},
    "/cards/{card}/messages": {"get", "post"},
    "/boards/{board}/secrets": {"get"},
    "/boards/{board}/secrets/{secret}": {"put", "delete"},
    "/cards/{card}/approve": {"post"},
    "/cards/{card}/reject": {"post"},
    "/cards/{card}/pause": {"post"},
    "/cards/{card}/resume": {"post"},
    "/cards/{card}/cancel": {"post"},
    "/cards/{card}/retry": {"post"},
    "/artifacts": {"post"},
    "/artifacts/{sha256}": {"get"},
    "/workers": {"get"},
    "/workers/{worker}": {"get"},
    "/events": {"get"},
    "/me": {"get"},
    "/claims": {"post"},
    "/attempts/{attempt}": {"patch"},
    "/attempts/{attempt}/heartbeat": {"post"},
    "/attempts/{attempt}/steps": {"get", "post"},
    "/attempts/{attempt}/steps/{key}/finish": {"post"},
    "/attempts/{attempt}/checkpoints": {"post"},
    "/attempts/{attempt}/log": {"post"},
    "/attempts/{attempt}/decisions": {"post"},
    "/attempts/{attempt}/discoveries": {"post"},
    "/attempts/{attempt}/cards": {"post"},
    "/attempts/{attempt}/complete": {"post"},
    "/attempts/{attempt}/fail": {"post"},
    "/attempts/{attempt}/block": {"post"},
    "/attempts/{attempt}/release": {"post"},
    "/attempts/{attempt}/salvage": {"post"},
    "/attempts/{attempt}/terms": {"get"},
    "/attempts/{attempt}/answers": {"post"},
    "/attempts/{attempt}/briefing": {"post"},
    "/attempts/{attempt}/start": {"post"},
    "/attempts/{attempt}/workspace": {"post"},
}


def test_the_document_is_valid_openapi_3_1_made_without_a_warning() -> None:
    GENERATOR_STATS.reset()
    made = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    validate_schema(made)
    assert document()["openapi"].startswith("3.1")
    assert not GENERATOR_STATS, "; ".join(map(str, GENERATOR_STATS._warn_cache))


@pytest.mark.parametrize(("path", "methods"), PROMISED.items(), ids=PROMISED)
def test_every_endpoint_of_the_contract_is_there(path: str, methods: set[str]) -> None:
    assert methods <= set(document()["paths"].get(f"/api/v1{path}", {}))


def test_every_list_takes_a_limit_and_a_cursor_and_gives_the_next_one() -> None:
    for operation in operations():
        schema = operation.answers.get("200") or {}
        if "List" not in schema.get("$ref", "") or operation.id == "list_events":
            continue
        assert set(operation.query) >= LIST, operation
        listed = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert {"results", "next"} <= set(listed["properties"])


def test_every_post_takes_an_idempotency_key() -> None:
    keyless = {
        o.id for o in operations() if o.method == "post" and "Idempotency-Key" not in o.parameters
    }
    assert keyless == set()


def test_every_call_under_an_attempt_takes_the_lease_token() -> None:
    for operation in operations():
        assert operation.under_a_lease == operation.path.startswith("/api/v1/attempts/"), operation


def test_every_operation_announces_its_refusals() -> None:
    for path, methods in document()["paths"].items():
        for method, about in methods.items():
            refused = about["responses"]["default"]["content"]
            assert set(refused) == {"application/problem+json"}, (method, path)


def test_operations_have_names_one_can_call_a_function() -> None:
    names = [o.id for o in operations()]
    assert len(names) == len(set(names))
    assert not [n for n in names if n.endswith(("_create", "_retrieve", "_partial_update"))]


def test_the_document_and_its_page_are_for_those_who_may_come_in(world: World) -> None:
    for page in ("/openapi.json", "/docs"):
        assert world.member.client.get(f"/api/v1{page}").status_code in (401, 403)
        assert world.person.client.get(f"/api/v1{page}").status_code == 200
