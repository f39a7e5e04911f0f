"""What the exit status says, so that a script can tell one trouble from another."""

from __future__ import annotations

from enum import IntEnum

from holdfast.errors import (
    Conflict,
    Error,
    Forbidden,
    LeaseLost,
    NotFound,
    Refused,
    Unauthorized,
    Unreachable,
)


class Exit(IntEnum):
    """The exit statuses; docs/cli.md explains them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOTHING = 3
    REFUSED = 4
    LEASE_LOST = 5
    UNREACHABLE = 6
    NOT_ALLOWED = 7
    NOT_FOUND = 8
    COMMAND_FAILED = 9
    IN_DOUBT = 10
    ASKED_TO_STOP = 11
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


#: The first that fits counts: a lost lease is a conflict, too.
_BY_ERROR: tuple[tuple[type[Error] | tuple[type[Error], ...], Exit], ...] = (
    (LeaseLost, Exit.LEASE_LOST),
    (Unreachable, Exit.UNREACHABLE),
    ((Unauthorized, Forbidden), Exit.NOT_ALLOWED),
    (NotFound, Exit.NOT_FOUND),
    ((Conflict, Refused), Exit.REFUSED),
)


def status_of(error: Error) -> Exit:
    """Return the exit status that stands for ``error``."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), Exit.ERROR)
