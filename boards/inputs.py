"""What a workflow asks of whoever makes a card from it: named, typed, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel.errors import Invalid

MAX_INPUTS = 50
MAX_OPTIONS = 100
MAX_TEXT_CHARS = 20_000
MAX_HELP_CHARS = 500

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
TYPES = ("text", "number", "boolean", "choice")
_FIELDS = ("type", "required", "default", "help", "options")

Refuse = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that is asked. ``default`` is None where there is none."""

    name: str
    type: str = "text"
    required: bool = False
    default: Any = None
    help: str = ""
    options: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": self.type, "required": self.required}
        if self.default is not None:
            found["default"] = self.default
        if self.help:
            found["help"] = self.help
        if self.options:
            found["options"] = list(self.options)
        return found


def read(value: Any, refuse: Refuse) -> tuple[Input, ...]:
    """Return the inputs that a workflow declares, in order; says what is wrong by ``refuse``."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        refuse("", "must be an object of names and what each is, {'version': {'type': 'text'}}.")
        return ()
    if len(value) > MAX_INPUTS:
        refuse("", f"has {len(value)} inputs; {MAX_INPUTS} are allowed.")
        return ()
    found = [_one(name, spec, refuse) for name, spec in value.items()]
    return tuple(one for one in found if one is not None)


def _one(name: Any, spec: Any, refuse: Refuse) -> Input | None:
    shown = str(name)[:80]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        refuse(shown, "is no name; use up to 64 letters, digits, _ and -, a letter first.")
        return None
    spec = {} if spec is None else spec
    if not isinstance(spec, Mapping):
        refuse(name, "must be an object such as {'type': 'text', 'required': true}.")
        return None
    before: list[str] = []

    def wrong(where: str, sentence: str) -> None:
        before.append(where)
        refuse(f"{name}.{where}" if where else name, sentence)

    for field in spec:
        if field not in _FIELDS:
            wrong(str(field)[:80], f"is no field of an input; use {', '.join(_FIELDS)}.")
    kind = spec.get("type", "choice" if "options" in spec else "text")
    if kind not in TYPES:
        wrong("type", f"must be one of {', '.join(TYPES)}.")
    required = spec.get("required", False)
    if not isinstance(required, bool):
        wrong("required", "must be true or false, without quotes.")
    help_ = spec.get("help") or ""
    if not isinstance(help_, str) or len(help_) > MAX_HELP_CHARS:
        wrong("help", f"must be text of up to {MAX_HELP_CHARS} characters.")
    options = _options(kind, spec.get("options"), wrong)
    if before:
        return None
    one = Input(name, kind, required, None, help_, options)
    default = spec.get("default")
    if default is not None:
        default, problem = _fitting(one, default)
        if problem:
            wrong("default", problem)
            return None
    return Input(name, kind, required, default, help_, options)


def _options(kind: Any, value: Any, wrong: Refuse) -> tuple[str, ...]:
    if kind != "choice":
        if value is not None:
            wrong("options", "are for inputs of the type choice.")
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_OPTIONS:
        wrong("options", f"must be a list of 1 to {MAX_OPTIONS} texts.")
        return ()
    options: list[str] = []
    for n, option in enumerate(value):
        if not isinstance(option, str) or not option.strip() or len(option) > 200:
            wrong(f"options[{n}]", "must be text of up to 200 characters; put it in quotes.")
        elif option in options:
            wrong(f"options[{n}]", "stands there twice.")
        else:
            options.append(option)
    return tuple(options)


def checked(declared: Sequence[Input], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every declared input, defaults filled in.

    Raises Invalid whose ``errors`` name each that is missing, unknown or of another type.
    """
    errors: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    known = {one.name: one for one in declared}
    for name in given:
        if name not in known:
            there = ", ".join(known) or "none"
            errors[f"inputs.{name}"] = [f"is not asked for; there are: {there}."]
    for one in declared:
        value = given.get(one.name)
        if value is None or value == "":
            value = one.default
        if value is None:
            if one.required:
                errors[f"inputs.{one.name}"] = ["is needed."]
            elif one.type == "boolean":
                values[one.name] = False
            continue
        value, problem = _fitting(one, value)
        if problem:
            errors[f"inputs.{one.name}"] = [problem]
        else:
            values[one.name] = value
    if errors:
        place, sentences = next(iter(errors.items()))
        raise Invalid(f"{place} {sentences[0]}", errors=errors)
    return values


def _fitting(one: Input, value: Any) -> tuple[Any, str]:
    """Return the value as the input's type has it, and what is wrong with it, if anything."""
    if one.type == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false", "on", "off"):
            value = value.lower() in ("true", "on")
        return value, "" if isinstance(value, bool) else "must be true or false."
    if one.type == "number":
        return _number(value)
    if not isinstance(value, str):
        return value, "must be text."
    if one.type == "choice" and value not in one.options:
        return value, f"must be one of {', '.join(one.options)}."
    if len(value) > MAX_TEXT_CHARS:
        return value, f"is longer than {MAX_TEXT_CHARS} characters."
    return value, "contains a NUL character." if "\x00" in value else ""


def _number(value: Any) -> tuple[Any, str]:
    if isinstance(value, str):
        try:
            value = float(value) if not re.fullmatch(r"\s*[-+]?\d{1,18}\s*", value) else int(value)
        except ValueError:
            return value, "must be a number."
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value, "must be a number."
    return value, "" if abs(value) < 2**63 else "is too large a number."
