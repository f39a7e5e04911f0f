"""Whatever is put into whichever JSON field: 4xx, nothing stored, and the lists still work."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import partial
from itertools import accumulate
from typing import Any

import pytest
from django.db import connection, transaction

from tests.api.contract import Operation, Path, operations, places, replaced
from tests.api.world import FOR_PEOPLE, Answer, World, state_digest, undone

TAKES_JSON = [o for o in operations() if o.body is not None]
#: Where what an operation stores is listed, unless with the cards.
LIST_OF = {
    "create_board": "/boards",
    "edit_board": "/boards",
    "create_goal": "/goals",
    "edit_goal": "/goals",
    "claim_card": "/workers",
    "append_log": "/events?board=HERE&limit=200",
    "begin_step": "/events?board=HERE&limit=200",
}
MARK = "@@here@@"

#: Raw JSON that no field may take, whatever its type.
POISON = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "1e400": b"1e400",
    "2^70": str(2**70).encode(),
    "5000 digits": b"9" * 5000,
    "NUL": rb'"a\u0000b"',
    "half a pair": rb'"\ud800"',
    "the halves the wrong way round": rb'"\udc00\ud800"',
    "65 levels": b"[" * 65 + b"]" * 65,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'"\xff\xfe"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a raw control character": b'"a\x01b"',
    "a million characters": b'"' + b"x" * 1_000_001 + b'"',
    "NUL in a name": rb'{"a\u0000": 1}',
    "half a pair in a name": rb'{"\ud83d": 1}',
    "nothing": b"",
    "two values": b"1 2",
    "a comment": b"/**/1",
}
#: Values that are good JSON but of a type or size that few fields take.
ODD: list[Any] = [
    None,
    True,
    -1,
    2**31,
    2**63 - 1,
    1.5,
    1e308,
    "",
    " \t\n",
    "nan",
    "x" * 250_000,
    "\u202e\u200b\ufeff\x7f\x85\u2028\U0001f600",
    "'; DROP TABLE boards_card; --",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "00000000-0000-0000-0000-000000000000",
    [],
    [[None]],
    ["x"] * 1001,
    {},
    {"": None, "$ne": 1, "__proto__": {"id": 1}},
]


def named(schema: dict[str, Any]) -> set[str]:
    return set(re.findall(r"schemas/(\w+)Request", json.dumps(schema)))


def fields() -> dict[Operation, list[Path]]:
    """Return each operation's places, those in a contract that several share only once.

    So it is with fields side by side that have the same contract, such as the ways to be told
    of each kind of notice.
    """
    found: dict[Operation, list[Path]] = {}
    seen: set[str] = set()
    for operation in sorted(TAKES_JSON, key=lambda o: len(list(places(o.body or {})))):
        inside: list[Path] = []
        alike: set[tuple[Path, str]] = set()
        seen |= named(operation.body or {})
        for at, schema in places(operation.body or {}):
            contract = (at[:-1], json.dumps(schema, sort_keys=True))
            if len(at) > 1 and contract in alike:
                inside.append(at)
            alike.add(contract)
            if any(at[: len(shared)] == shared for shared in inside):
                continue
            found.setdefault(operation, []).append(at)
            if refs := named(schema):
                if refs <= seen:
                    inside.append(at)
                seen |= refs
    return found


FIELDS = fields()
#: Each field meets one value in so many, the next field the next ones, and another store others
#: again; ``ALL_VALUES=1`` puts every value into every field.
EVERY = 1 if os.environ.get("ALL_VALUES") else 3


def some(values: Iterable[Any], nth: int) -> list[Any]:
    """Return the values for the ``nth`` field of all."""
    return list(values)[(nth + (connection.vendor == "postgresql")) % EVERY :: EVERY]


#: How many fields come before those of an operation.
BEFORE = dict(zip(FIELDS, accumulate(map(len, FIELDS.values()), initial=0), strict=False))


def sent(world: World, operation: Operation, raw: bytes) -> Answer:
    caller = world.person if operation.id in FOR_PEOPLE else world.root
    if operation.under_a_lease or operation.id == "claim_card":
        caller = world.member
    return world.call(caller, operation, raw)


def poisoned(example: Any, at: Path, poison: bytes) -> bytes:
    return json.dumps(replaced(example, at, MARK)).encode().replace(b'"%s"' % MARK.encode(), poison)


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_poison_in_any_field_is_refused_and_nothing_is_stored(
    operation: Operation, world: World
) -> None:
    example = world.example(operation.id)
    before = state_digest()
    assert operation.body is not None
    first = next(at for at, _ in places(operation.body))
    for nth, at in enumerate(FIELDS.get(operation, [first]), BEFORE.get(operation, 0)):
        for name, poison in POISON.items() if at == first else some(POISON.items(), nth):
            if name == "nothing" and isinstance(at[-1], int):
                continue  # an empty list is in order
            if len(poison) > 10_000 and at != first:
                continue  # the parser refuses it before any field is looked at
            answer = sent(world, operation, poisoned(example, at, poison))
            assert 400 <= answer.status < 500, (at, name, answer)
        assert state_digest() == before, f"{at} stored something"


@pytest.mark.parametrize("operation", FIELDS, ids=str)
def test_an_odd_value_in_any_field_is_taken_or_refused_but_never_our_fault(
    operation: Operation, world: World
) -> None:
    example = world.example(operation.id)
    before = state_digest()
    for nth, at in enumerate(FIELDS[operation], BEFORE[operation]):
        for value in some(ODD, nth):
            raw = json.dumps(replaced(example, at, value)).encode()
            with transaction.atomic():
                answer = sent(world, operation, raw)
                if answer.status < 400:
                    assert world.root.get(LIST_OF.get(operation.id, "/cards?limit=5")).status == 200
                    transaction.set_rollback(True)
        assert state_digest() == before, f"a refused {at} stored something"


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_a_body_that_is_no_object_is_malformed(operation: Operation, world: World) -> None:
    before = state_digest()
    for raw in (
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"true",
        b"{",
        b'{"a"}',
        b"\xef\xbb\xbf{}",
        b"{}x",
    ):
        assert sent(world, operation, raw).refusal == (400, "malformed"), raw
    assert state_digest() == before


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_an_unknown_field_is_refused_by_name(operation: Operation, world: World) -> None:
    example = world.example(operation.id)
    before = state_digest()
    assert operation.body is not None
    objects: list[Path] = [()]
    objects += [at for at, s in places(operation.body) if "$ref" in json.dumps(s)]
    for at in objects:
        where = example
        for step in at:
            where = where[step]
        if not isinstance(where, dict):
            continue
        refused = sent(world, operation, json.dumps(replaced(example, (*at, "fancy"), 1)).encode())
        assert refused.refusal == (422, "invalid"), at
        assert any(name.endswith("fancy") for name in refused["errors"]), refused
    assert state_digest() == before


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_a_name_sent_twice_counts_once(operation: Operation, world: World) -> None:
    example = world.example(operation.id)
    raw = json.dumps(example).encode()
    name = next(iter(example))
    twice = raw[:-1] + b', "%s": {"x": [1]}}' % name.encode()
    assert sent(world, operation, twice).status < 500


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_other_media_types_are_refused(operation: Operation, world: World) -> None:
    before = state_digest()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "text/json",
        "nonsense",
    ):
        caller = world.member if operation.under_a_lease else world.root
        refused = world.call(caller, operation, b"a=b", content_type=kind)
        assert refused.status in (403, 415), (kind, refused)
    assert state_digest() == before


HOSTILE_SEGMENTS = [
    "%00",
    "%ED%A0%80",
    "%FF",
    "..",
    "%2e%2e%2f",
    "a" * 3000,
    "%0a",
    "'",
    "%C2%B2",
    "-1",
]


@pytest.mark.parametrize("operation", [o for o in operations() if "{" in o.path], ids=str)
def test_hostile_names_in_the_path_name_nothing(operation: Operation, world: World) -> None:
    before = state_digest()
    names = [n for n in operation.path.split("/") if n.startswith("{")]
    for blank in names:
        for segment in HOSTILE_SEGMENTS:
            filled = world.here.fill(operation).partition("?")[0].split("/")
            filled[operation.path.removeprefix("/api/v1").split("/").index(blank)] = segment
            caller = world.member if operation.under_a_lease else world.root
            options = {"lease": world.here.lease} if operation.under_a_lease else {}
            body = world.example(operation.id) if operation.writes else None
            answer = caller(operation.method, "/".join(filled), body, **options)
            assert 400 <= answer.status < 500, (segment, answer)
    assert state_digest() == before


@pytest.mark.parametrize("operation", [o for o in operations() if o.query], ids=str)
def test_hostile_queries_are_answered_or_refused(operation: Operation, world: World) -> None:
    path = world.here.fill(operation).partition("?")[0]
    read: Any = world.viewer.get
    if operation.under_a_lease:
        read = partial(world.member.get, lease=world.here.lease)
    for name in operation.query:
        for value in [*HOSTILE_SEGMENTS, "", "%22", "%25", "1e9", "9" * 40, "null", "[]", "true"]:
            base = "board=HERE&" if operation.id == "list_events" and name != "board" else ""
            answer = read(f"{path}?{base}{name}={value}")
            assert answer.status in (200, 404, 422), (name, value, answer)


@pytest.mark.parametrize(
    "header",
    ["If-Match", "If-None-Match", "Idempotency-Key", "Lease-Token", "Digest", "Accept",
     "Authorization", "Last-Event-ID", "X-Forwarded-For", "Content-Language", "Range"],
)  # fmt: skip
def test_hostile_headers_are_answered_or_refused(header: str, world: World) -> None:
    values = [
        "",
        "\xff",
        "\xb2",
        "x" * 5000,
        '"',
        "\ud83d".encode("utf-8", "replace").decode(),
        "0" * 99,
    ]
    for value in values:
        for operation in operations():
            if operation.id in {
                "get_card",
                "edit_card",
                "create_artifact",
                "heartbeat",
                "list_events",
            }:
                with undone():
                    options = {} if header == "Lease-Token" else {"lease": world.here.lease}
                    answer = world.member(
                        operation.method,
                        world.here.fill(operation),
                        {"title": "x"}
                        if operation.id == "edit_card"
                        else world.example(operation.id),
                        **(options if operation.under_a_lease else {}),
                        **{header.replace("-", "_"): value},
                    )
                    assert answer.status < 500
