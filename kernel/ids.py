"""Identifiers that appear in URLs and event payloads."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a time-ordered UUID (RFC 9562, section 5.7).

    The order is a convenience for indexes, never a promise: compare ``Attempt.number``,
    ``Checkpoint.number`` or ``Event.seq`` instead.
    """
    return uuid_utils.compat.uuid7()
