"""Reads the OpenAPI document: which operations there are and which fields their bodies have.

Tests that must hold for *every* endpoint take their list from here, so that a new endpoint is
covered the day it is added.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

Schema = dict[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Operation:
    """One method on one path of the document."""

    id: str
    method: str
    path: str
    parameters: tuple[str, ...]
    query: tuple[str, ...]
    body: Schema | None = field(hash=False, compare=False, default=None)
    answers: dict[str, Schema | None] = field(hash=False, compare=False, default_factory=dict)

    @property
    def under_a_lease(self) -> bool:
        return "Lease-Token" in self.parameters

    @property
    def writes(self) -> bool:
        return self.method != "get"

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


@cache
def document() -> Schema:
    """Return the OpenAPI document as a client would read it."""
    generated = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return json.loads(json.dumps(generated, default=str))  # type: ignore[no-any-return]


@cache
def operations() -> tuple[Operation, ...]:
    """Return every operation of the document."""
    found = []
    for path, methods in document()["paths"].items():
        for method, about in methods.items():
            given = about.get("parameters", [])
            bodies = about.get("requestBody", {}).get("content", {})
            found.append(
                Operation(
                    id=about["operationId"],
                    method=method,
                    path=path,
                    parameters=tuple(p["name"] for p in given),
                    query=tuple(p["name"] for p in given if p["in"] == "query"),
                    body=bodies.get("application/json", {}).get("schema"),
                    answers={
                        status: answer.get("content", {}).get("application/json", {}).get("schema")
                        for status, answer in about["responses"].items()
                    },
                )
            )
    return tuple(found)


def operation(name: str) -> Operation:
    """Return the operation with this id."""
    return next(o for o in operations() if o.id == name)


def resolved(schema: Schema) -> Schema:
    """Return the schema that a reference, or a nullable one, stands for."""
    while True:
        if "$ref" in schema:
            schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            continue
        options = [s for s in schema.get("oneOf", ()) if s.get("type") != "null"]
        named = [s for s in options if "NullEnum" not in s.get("$ref", "")]
        if len(named) == 1:
            schema = named[0]
            continue
        return schema


def places(schema: Schema, at: Path = ()) -> Iterator[tuple[Path, Schema]]:
    """Yield every place in a body where a JSON value may stand, the first item of lists too."""
    schema = resolved(schema)
    for name, inner in schema.get("properties", {}).items():
        yield (*at, name), inner
        yield from places(inner, (*at, name))
    if "items" in schema:
        yield (*at, 0), schema["items"]
        yield from places(schema["items"], (*at, 0))


def replaced(body: Any, at: Path, value: Any) -> Any:
    """Return a copy of ``body`` with ``value`` put at ``at``, containers made on the way."""
    made = copy.deepcopy(body)
    where = made
    for step, following in pairwise(at):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            if not where:
                where.append(empty)
        elif not isinstance(where.get(step), type(empty)):
            where[step] = empty
        where = where[step]
    if isinstance(at[-1], int) and not where:
        where.append(value)
    else:
        where[at[-1]] = value
    return made


def faults(schema: Schema, answer: Any) -> list[str]:
    """Return where an answer is not what the document says it is."""
    whole = {**schema, "components": document()["components"]}
    return [
        f"{error.json_path}: {error.message[:200]}"
        for error in Draft202012Validator(whole).iter_errors(answer)
    ]
