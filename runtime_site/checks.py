"""Combinations of settings that must not run, as system checks with ids."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

LOOPBACK = {"127.0.0.1", "localhost", "::1"}

# https://sqlite.org/wal.html, "the WAL-reset bug": from 3.7.0, fixed in these and from 3.51.3 on.
_WAL_RESET_FIXED = (3, 51, 3)
_WAL_RESET_BACKPORTS = {(3, 44): 6, (3, 50): 7}


def sqlite_can_lose_a_wal(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite may, rarely, corrupt a WAL file that is reset while it is read."""
    patch = _WAL_RESET_BACKPORTS.get(version[:2])
    if patch is not None and version[2] >= patch:
        return False
    return version < _WAL_RESET_FIXED


@register("runtime_site")
def exposed(**_: Any) -> list[CheckMessage]:
    """Beyond loopback nothing may run that only a developer's own machine can afford."""
    found: list[CheckMessage] = []
    if settings.HOST in LOOPBACK:
        return found
    if settings.DEBUG:
        found.append(
            Error(
                f"DEBUG=1 would show source and settings to whoever reaches HOST={settings.HOST}.",
                hint="Unset DEBUG, or set HOST=127.0.0.1.",
                id="runtime_site.E001",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Error(
                f"ALLOWED_HOSTS=* would take any Host header on HOST={settings.HOST}.",
                hint="List the names people use, separated by commas.",
                id="runtime_site.E002",
            )
        )
    return found


@register("runtime_site")
def keys_and_clocks(**_: Any) -> list[CheckMessage]:
    """A key that can be guessed, or clocks that contradict each other, are refused."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < 32 or len(set(settings.SECRET_KEY)) < 8:
        found.append(
            Error(
                "SECRET_KEY is too short or too uniform to sign leases and sessions with.",
                hint="Unset it (one is made and kept in DATA_DIR) or use 50 random characters.",
                id="runtime_site.E003",
            )
        )
    if settings.Q_CLUSTER["retry"] <= settings.Q_CLUSTER["timeout"]:
        found.append(
            Error(
                "The queue would deliver a nudge again while it still runs.",
                hint="Q_CLUSTER['retry'] must exceed Q_CLUSTER['timeout'].",
                id="runtime_site.E004",
            )
        )
    if settings.Q_CLUSTER["timeout"] <= settings.STEP_TIMEOUT_MAX:
        found.append(
            Error(
                "The queue would end a command before its own time limit does.",
                hint="Q_CLUSTER['timeout'] must exceed STEP_TIMEOUT_MAX.",
                id="runtime_site.E005",
            )
        )
    return found


@register("runtime_site")
def store(**_: Any) -> list[CheckMessage]:
    """SQLite versions with the WAL-reset bug are reported."""
    if not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return []
    if sqlite_can_lose_a_wal(sqlite3.sqlite_version_info[:3]):
        return [
            Warning(
                f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug, which can, rarely, "
                "corrupt a busy database file.",
                hint="Use a Python linked to SQLite 3.51.3 or newer, or PostgreSQL.",
                id="runtime_site.W001",
            )
        ]
    return []
