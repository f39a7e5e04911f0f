"""What a JSON value may contain before it may be stored.

Checked once for every body, whichever door it came through: SQLite stores a lone surrogate
and then fails every read of the list it is in; PostgreSQL refuses NUL; 2**70 fits neither.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from kernel.errors import Invalid, Malformed

MAX_DEPTH = 64
MAX_STRING_CHARS = 1_000_000
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)


def whole_number(text: str, digits: int = 9) -> int | None:
    """Return the number that ``text`` spells in plain digits, None for any other or longer text.

    ``int`` alone also takes signs, spaces, underscores and the digits of every script, and a
    megabyte of them.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


# A string, whole or unfinished, or one bracket; nothing inside a string counts as nesting.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def load_json(raw: bytes) -> Any:
    """Return the JSON value in ``raw``.

    Raises Malformed when it is no JSON (NaN and Infinity are none, RFC 8259) and Invalid,
    naming the path, when it holds something that can't be stored.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise Malformed("The body starts with a byte order mark; send plain UTF-8 JSON.")
    _check_nesting(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8; encode it as UTF-8 JSON.") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_int)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Malformed(f"The body is not JSON: {error}") from None
    check_json(value)
    return value


def check_json(value: Any, path: str = "") -> None:
    """Pass only if ``value`` can be stored. Raises Invalid naming the first offending path."""
    stack: list[tuple[Any, str, int]] = [(value, path, 0)]
    while stack:
        item, where, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise Invalid.field(where or "body", f"nests deeper than {MAX_DEPTH} levels.")
        if isinstance(item, str):
            _check_text(item, where)
        elif isinstance(item, bool) or item is None:
            continue
        elif isinstance(item, int):
            if not MIN_INTEGER <= item <= MAX_INTEGER:
                raise Invalid.field(where or "body", "is an integer past 64 bits; send a string.")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise Invalid.field(where or "body", "is not a finite number.")
        elif isinstance(item, dict):
            for key, child in item.items():
                _check_text(key, where)
                stack.append((child, f"{where}.{key}" if where else key, depth + 1))
        elif isinstance(item, list):
            stack.extend((child, f"{where}[{n}]", depth + 1) for n, child in enumerate(item))
        else:
            raise Invalid.field(where or "body", "is not a JSON value.")


def check_text(text: str, name: str) -> str:
    """Return ``text`` if it can be stored. Raises Invalid naming ``name``."""
    _check_text(text, name)
    return text


def _check_text(text: str, where: str) -> None:
    if len(text) > MAX_STRING_CHARS:
        raise Invalid.field(
            where[:200] or "body",
            f"is longer than {MAX_STRING_CHARS} characters; upload it as an artifact.",
        )
    if "\x00" in text:
        raise Invalid.field(_safe(where), "contains a NUL character; remove it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid.field(
            _safe(where), "contains half of a surrogate pair; send whole characters."
        ) from None


def _safe(where: str) -> str:
    return where.replace("\x00", "").encode("utf-8", "replace").decode()[:200] or "body"


def _check_nesting(raw: bytes) -> None:
    """Refuse deep nesting before the parser's own recursion is spent on it."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _STRUCTURE.finditer(raw):
        first = token.group()[0]
        if first in (0x5B, 0x7B):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif first in (0x5D, 0x7D):
            depth -= 1


def _too_deep() -> Invalid:
    return Invalid.field("body", f"nests deeper than {MAX_DEPTH} levels.")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _parse_int(digits: str) -> int:
    # Python refuses very long digit strings itself; shorter ones get the clear answer.
    if len(digits) > 20:
        raise Invalid.field("body", "has an integer past 64 bits; send a string.")
    return int(digits)
