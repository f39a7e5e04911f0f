"""Reads environment variables, each once, from ``settings.py`` alone.

A variable that can't be used raises ImproperlyConfigured with one sentence that names it,
what it holds and what it may hold; an empty variable counts as unset.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def env_str(name: str, default: str = "") -> str:
    """Return the variable without surrounding blanks, or ``default``."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, default: bool) -> bool:
    """Return the switch ``name``: 1/true/yes/on or 0/false/no/off."""
    raw = env_str(name).lower()
    if not raw:
        return default
    if raw in _TRUE:
        return True
    if raw in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={raw} is not a switch; set it to 1 or 0.")


def env_int(name: str, default: int, *, low: int, high: int) -> int:
    """Return the whole number ``name``, which must lie in ``low``..``high``."""
    raw = env_str(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}={raw} is not a whole number; set it to {low}..{high}."
        ) from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name}={raw} is out of range; set it to {low}..{high}.")
    return value


def env_list(name: str) -> list[str]:
    """Return the comma-separated entries of ``name`` without the empty ones."""
    return [entry.strip() for entry in env_str(name).split(",") if entry.strip()]


def env_pairs(name: str) -> dict[str, str]:
    """Return a comma-separated list of NAME=value by name."""
    pairs: dict[str, str] = {}
    for item in env_list(name):
        key, found, value = (part.strip() for part in item.partition("="))
        if not (key and found and value):
            raise ImproperlyConfigured(f"{name} must be a list such as NAME=value,OTHER=value.")
        pairs[key] = value
    return pairs


def env_paths(name: str, default: list[Path]) -> list[tuple[Path, bool]]:
    """Return the folders that ``name`` lists, each with whether it may be written.

    ``/a,/b:ro`` are two, the second only to be read; ``none`` is no folder at all.
    """
    entries = env_list(name)
    if not entries:
        return [(path, True) for path in default]
    if [entry.lower() for entry in entries] == ["none"]:
        return []
    found = []
    for entry in entries:
        text = entry.removesuffix(":ro").removesuffix(":rw")
        path = Path(text).expanduser()
        if not path.is_absolute() or str(path) == "/":
            raise ImproperlyConfigured(
                f"{name} names {entry}; set it to folders that start with /, with commas between, "
                "each perhaps followed by :ro, or to none."
            )
        found.append((path, not entry.endswith(":ro")))
    return found


def env_choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Return ``name``, which must be one of ``allowed``."""
    raw = env_str(name, default)
    if raw not in allowed:
        raise ImproperlyConfigured(f"{name}={raw} is unknown; set it to {' or '.join(allowed)}.")
    return raw


def env_url(name: str, schemes: tuple[str, ...]) -> str:
    """Return the URL ``name``, which must have one of ``schemes`` and a host; or nothing."""
    raw = env_str(name)
    if not raw:
        return ""
    try:
        parts = urlsplit(raw)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ImproperlyConfigured(
            f"{name} is not a usable address; it must look like {schemes[0]}://host[:port]/…"
        )
    return raw


def database(url: str, sqlite_file: Path, sqlite_options: dict[str, Any]) -> dict[str, Any]:
    """Return the Django database for ``url``; without one, SQLite in ``sqlite_file``.

    Query parameters (``sslmode``, ``host`` for a socket folder …) go to the PostgreSQL driver.
    The URL may hold a password, so it appears in no error.
    """
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(sqlite_file),
            "OPTIONS": sqlite_options,
        }
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured("DATABASE_URL has a port that is not a number.") from None
    if parts.scheme == "sqlite" and parts.path.strip("/"):
        # sqlite:///relative.sqlite3 and sqlite:////absolute.sqlite3, as elsewhere.
        path = Path(unquote(parts.path[1:])).expanduser()
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path.absolute()),
            "OPTIONS": sqlite_options,
        }
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in {"postgres", "postgresql"} or not name:
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgresql://user:password@host:5432/name; "
            "leave it unset for SQLite in DATA_DIR."
        )
    # A stuck transaction elsewhere may cost a request, never the server: a lock wait ends
    # after as long as SQLite's does, and an abandoned transaction ends itself.
    options: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "holdfast",
        "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=60s",
    }
    options.update(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "OPTIONS": options,
    }
