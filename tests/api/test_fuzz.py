"""Bodies made from the document itself: whatever fits it, or nearly does, is never our fault."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.contract import Operation, Schema, operations, resolved
from tests.api.test_hostile_input import sent
from tests.api.world import World, undone

TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
INSTANTS = st.datetimes().map(lambda at: f"{at.isoformat()}Z")


def fitting(schema: Schema) -> st.SearchStrategy[Any]:
    """Return values that the document says are in order."""
    schema = resolved(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    made = [_of_kind(kind, schema) for kind in kinds]
    return st.one_of(made) if made else JSON


def _of_kind(kind: str, schema: Schema) -> st.SearchStrategy[Any]:
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low, high = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)
        return st.integers(int(low), int(high))
    if kind == "number":
        return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False)
    if kind == "array":
        return st.lists(fitting(schema.get("items", {})), max_size=3)
    if kind == "object":
        needed = set(schema.get("required", ()))
        properties = {name: fitting(inner) for name, inner in schema.get("properties", {}).items()}
        return st.fixed_dictionaries(
            {name: made for name, made in properties.items() if name in needed},
            optional={name: made for name, made in properties.items() if name not in needed},
        )
    if schema.get("format") == "uuid":
        return st.uuids().map(str)
    if schema.get("format") == "date-time":
        return INSTANTS
    if schema.get("pattern"):
        return st.from_regex(schema["pattern"], fullmatch=True) | TEXT
    return TEXT


def near(schema: Schema) -> st.SearchStrategy[Any]:
    """Return bodies of which one member may be anything at all."""
    names = sorted(resolved(schema)["properties"])
    return st.builds(
        lambda body, name, value, spoil: {**body, name: value} if spoil else body,
        fitting(schema),
        st.sampled_from(names),
        JSON,
        st.booleans(),
    )


@pytest.mark.parametrize("operation", [o for o in operations() if o.body is not None], ids=str)
def test_no_body_is_answered_with_a_fault_of_ours(operation: Operation, world: World) -> None:
    """On top of the example, so that what it names is there and the call gets far."""
    assert operation.body is not None
    example = world.example(operation.id)

    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(body=near(operation.body), whole=st.booleans())
    def holds(body: dict[str, Any], whole: bool) -> None:
        sent_body = body if whole else {**example, **body}
        if "wait_seconds" in sent_body:
            sent_body["wait_seconds"] = 0
        with undone():
            sent(world, operation, json.dumps(sent_body).encode())

    holds()


@pytest.mark.parametrize("operation", [o for o in operations() if o.query], ids=str)
def test_no_query_is_answered_with_a_fault_of_ours(operation: Operation, world: World) -> None:
    path = world.here.fill(operation).partition("?")[0]
    words = st.sampled_from(["HERE", "1", "50", "backlog", str(world.here.goal.pk)]) | TEXT

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(query=st.dictionaries(st.sampled_from(operation.query), words, max_size=4))
    def holds(query: dict[str, str]) -> None:
        query.pop("wait_seconds", None)
        asked = f"{path}?{urlencode(query)}"
        if operation.under_a_lease:
            answer = world.member.get(asked, lease=world.here.lease)
        else:
            answer = world.viewer.get(asked)
        assert answer.status in (200, 404, 422)

    holds()
