"""Small helpers about what is said to the server."""

from __future__ import annotations

import traceback
from typing import Any

MAX_ERROR_CHARS = 8_000


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def sayable(text: str) -> str:
    """Return ``text`` without what the API refuses: NUL and halves of characters."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def described(error: BaseException) -> str:
    """Return what went wrong and where, for whoever comes next."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    where = f"\nat {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return sayable(said)[:MAX_ERROR_CHARS] + sayable(where)
