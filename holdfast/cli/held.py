"""The attempt that the commands of a script speak for, handed on in the environment."""

from __future__ import annotations

import os
import shlex
from typing import Any
from uuid import UUID

import click

import holdfast
from holdfast import Attempt
from holdfast.protocol import JSON
from holdfast.texts import given

ATTEMPT, LEASE, CARD = "HOLDFAST_ATTEMPT", "HOLDFAST_LEASE", "HOLDFAST_CARD"


def held(client: holdfast.Client) -> Attempt:
    """Return the attempt that HOLDFAST_ATTEMPT and HOLDFAST_LEASE name. Raises UsageError."""
    attempt, lease = os.environ.get(ATTEMPT, ""), os.environ.get(LEASE, "")
    if not attempt or not lease:
        raise click.UsageError(
            f"There is no attempt here: {ATTEMPT} and {LEASE} are not set. Claim a card with"
            ' `eval "$(holdfast claim --shell)" || exit`, or run this under `holdfast work`.'
        )
    try:
        UUID(attempt)
    except ValueError:
        raise click.UsageError(f"{ATTEMPT} is no id of an attempt. Claim a card anew.") from None
    # What only a claim tells is not known here, and none of the calls need it.
    return Attempt(
        client,
        {
            "attempt": {"id": attempt, "number": 0},
            "lease": {"token": lease, "ttl_seconds": 60},
            "card": {"key": os.environ.get(CARD, "")},
            "goal": None,
            "resume": {"checkpoint": None, "in_doubt": []},
            "briefing": {"markdown": ""},
        },
    )


def environment(attempt: Attempt) -> dict[str, str]:
    """Return what a command needs in its environment to speak for ``attempt``."""
    return {ATTEMPT: attempt.id, LEASE: attempt.lease_token, CARD: str(attempt.card["key"])}


def exports(attempt: Attempt) -> str:
    """Return lines for a POSIX shell that make it speak for ``attempt``."""
    pairs = environment(attempt).items()
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in pairs)


def refusal(status: int) -> str:
    """Return lines for a POSIX shell after which it speaks for none, and ``$?`` is ``status``."""
    return f"unset {ATTEMPT} {LEASE} {CARD}\n(exit {status})"


def told(attempt: Attempt, path: str, *, patience: float | None = None, **fields: Any) -> JSON:
    """Say something under the lease; return the answer."""
    body = given(**fields)
    return attempt.client._run(attempt.under_lease("POST", path, body, patience=patience))
