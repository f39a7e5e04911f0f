"""Content digests: the same value gives the same digest on every machine."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any


def canonical(value: Any) -> bytes:
    """Return ``value`` as JSON with sorted keys and no spare space, in UTF-8.

    A value that went through a store gives the same bytes. PostgreSQL keeps JSON numbers as
    decimals: 1e22 comes back as an integer and -0.0 as 0.0, so that is how they are written.
    """
    text = _dump(value)
    if "e+" in text or "-0.0" in text:  # seldom, and perhaps only within a string
        text = _dump(_settled(value))
    return text.encode("utf-8")


def _dump(value: Any) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _settled(value: Any) -> Any:
    if isinstance(value, float):
        if value == 0:
            return 0.0
        # The digits as written, not the binary fraction's own: so does the store.
        return int(Decimal(repr(value))) if "e+" in repr(value) else value
    if isinstance(value, dict):
        return {key: _settled(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(child) for child in value]
    return value


def sha256(*parts: bytes) -> str:
    """Return the hexadecimal SHA-256 of the parts joined by NUL."""
    return hashlib.sha256(b"\x00".join(parts)).hexdigest()
