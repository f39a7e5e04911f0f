"""A part of JSON Schema: enough for the arguments of tools and for an answer's form.

What is not in it is refused when a workflow is read, rather than not checked later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.executors.contract import Refuse

MAX_DEPTH = 8
MAX_PROPERTIES = 100
MAX_PROBLEMS = 10

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum")
_ABOUT = ("title", "description")
_KNOWN = (
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    *_COUNTS,
    *_BOUNDS,
    *_ABOUT,
)


def check(schema: Any, refuse: Refuse, place: str = "", depth: int = 1) -> bool:
    """Return whether this is a schema of the part known here; refuse it place by place."""
    refused = False

    def say(where: str, sentence: str) -> None:
        nonlocal refused
        refused = True
        refuse(f"{place}.{where}" if place and where else place or where, sentence)

    if not isinstance(schema, Mapping):
        say("", "must be a JSON schema, such as {type: object, properties: {…}}.")
        return False
    if depth > MAX_DEPTH:
        say("", f"nests deeper than {MAX_DEPTH} levels.")
        return False
    for name in schema:
        if name not in _KNOWN:
            say(str(name)[:100], f"is not checked here; use {', '.join(_KNOWN)}.")
    kinds = schema.get("type")
    named = kinds if isinstance(kinds, list) else [kinds]
    if not named or not all(isinstance(kind, str) and kind in _TYPES for kind in named):
        say("type", f"must be one of {', '.join(_TYPES)}, or a list of them.")
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping) or len(properties) > MAX_PROPERTIES:
        say("properties", f"must be an object of up to {MAX_PROPERTIES} schemas by name.")
        properties = {}
    for name, inner in properties.items():
        where = f"{place}.properties.{name}" if place else f"properties.{name}"
        refused |= not check(inner, refuse, where, depth + 1)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(name in properties for name in required):
        say("required", "must be a list of names that stand in properties.")
    if not isinstance(schema.get("additionalProperties", False), bool):
        say("additionalProperties", "must be true or false.")
    if "items" in schema:
        where = f"{place}.items" if place else "items"
        refused |= not check(schema["items"], refuse, where, depth + 1)
    if not isinstance(schema.get("enum", [None]), list) or schema.get("enum") == []:
        say("enum", "must be a list of the values that are allowed.")
    for name in _COUNTS:
        if name in schema and not _is_whole(schema[name], 0):
            say(name, "must be a whole number.")
    for name in _BOUNDS:
        if name in schema and not _is(schema[name], "number"):
            say(name, "must be a number.")
    for name in _ABOUT:
        if not isinstance(schema.get(name, ""), str):
            say(name, "must be text.")
    return not refused


def problems(schema: Mapping[str, Any], value: Any, place: str = "") -> list[str]:
    """Return what is wrong with the value, in sentences; nothing if it is as described."""
    return _problems(schema, value, place)[:MAX_PROBLEMS]


def _problems(schema: Mapping[str, Any], value: Any, place: str) -> list[str]:
    here = place or "it"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        return [f"{here} must be of the type {' or '.join(kinds)}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{here} must be one of {', '.join(map(repr, schema['enum']))}"]
    found: list[str] = []
    if isinstance(value, str | list):
        short, long = ("minLength", "maxLength") if isinstance(value, str) else _COUNTS[2:]
        what = "characters" if isinstance(value, str) else "items"
        if len(value) < schema.get(short, 0):
            found.append(f"{here} must have at least {schema[short]} {what}")
        if len(value) > schema.get(long, len(value)):
            found.append(f"{here} must have at most {schema[long]} {what}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            found.append(f"{here} must be at least {schema['minimum']}")
        if value > schema.get("maximum", value):
            found.append(f"{here} must be at most {schema['maximum']}")
    if isinstance(value, list) and "items" in schema:
        for n, item in enumerate(value):
            found += _problems(schema["items"], item, f"{place}[{n}]")
    if isinstance(value, dict):
        found += _object_problems(schema, value, place)
    return found


def _object_problems(schema: Mapping[str, Any], value: Mapping[str, Any], place: str) -> list[str]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    inside = f"{place}." if place else ""
    required = schema.get("required", [])
    found = [f"{inside}{name} is missing" for name in required if name not in value]
    for name, item in value.items():
        if name in properties:
            found += _problems(properties[name], item, f"{inside}{name}")
        elif not schema.get("additionalProperties", not properties):
            found.append(f"{inside}{name} is unknown; there are {', '.join(properties)}")
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
