"""A request contract as JSON Schema (draft 2020-12), for a tool's ``inputSchema``."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from events.endpoint import JSONObject


def schema_of(contract: serializers.Serializer[Any]) -> dict[str, Any]:
    """Return the schema of an object that the contract accepts."""
    properties = {name: _field(field) for name, field in contract.fields.items()}
    required = [name for name, field in contract.fields.items() if field.required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    return schema


def _field(field: serializers.Field[Any, Any, Any, Any]) -> dict[str, Any]:
    schema = _shape(field)
    if field.help_text:
        schema["description"] = str(field.help_text)
    return schema


def _shape(field: serializers.Field[Any, Any, Any, Any]) -> dict[str, Any]:
    if isinstance(field, serializers.ListSerializer):
        return {"type": "array", "items": schema_of(field.child)}  # type: ignore[arg-type]
    if isinstance(field, serializers.Serializer):
        return schema_of(field)
    if isinstance(field, serializers.ListField):
        items = _field(field.child) if field.child is not None else {}
        return {"type": "array", "items": items}
    if isinstance(field, serializers.ChoiceField):
        return {"type": "string", "enum": list(field.choices)}
    if isinstance(field, serializers.BooleanField):
        return {"type": "boolean"}
    if isinstance(field, serializers.IntegerField):
        return _bounded({"type": "integer"}, field)
    if isinstance(field, serializers.DecimalField | serializers.FloatField):
        return _bounded({"type": "number"}, field)
    if isinstance(field, JSONObject | serializers.DictField):
        return {"type": "object"}
    if isinstance(field, serializers.JSONField):
        return {}
    schema: dict[str, Any] = {"type": "string"}
    if isinstance(field, serializers.UUIDField):
        schema["format"] = "uuid"
    elif getattr(field, "max_length", None):
        schema["maxLength"] = field.max_length  # type: ignore[attr-defined]
    return schema


def _bounded(schema: dict[str, Any], field: Any) -> dict[str, Any]:
    for bound, name in (("min_value", "minimum"), ("max_value", "maximum")):
        value = getattr(field, bound, None)
        if value is not None:
            schema[name] = float(value) if schema["type"] == "number" else int(value)
    return schema
