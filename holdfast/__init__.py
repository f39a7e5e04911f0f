"""The client of Holdfast: for workers written in Python, and for its command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.attempt import AsyncAttempt, Attempt
    from holdfast.client import AsyncClient, Client
    from holdfast.errors import (
        ApiError,
        Conflict,
        Error,
        Forbidden,
        Handover,
        LeaseLost,
        NotFound,
        Refused,
        StepFailed,
        Unauthorized,
        Unreachable,
    )
    from holdfast.steps import AsyncStep, Step, step

__all__ = [
    "ApiError",
    "AsyncAttempt",
    "AsyncClient",
    "AsyncStep",
    "Attempt",
    "Client",
    "Conflict",
    "Error",
    "Forbidden",
    "Handover",
    "LeaseLost",
    "NotFound",
    "Refused",
    "Step",
    "StepFailed",
    "Unauthorized",
    "Unreachable",
    "step",
]

# Each name is fetched from its module when it is first asked for: what only looks around, such as
# a hook that runs after every tool of an agent, need not load an HTTP library.
_HOMES = {
    "ApiError": "errors",
    "AsyncAttempt": "attempt",
    "AsyncClient": "client",
    "AsyncStep": "steps",
    "Attempt": "attempt",
    "Client": "client",
    "Conflict": "errors",
    "Error": "errors",
    "Forbidden": "errors",
    "Handover": "errors",
    "LeaseLost": "errors",
    "NotFound": "errors",
    "Refused": "errors",
    "Step": "steps",
    "StepFailed": "errors",
    "Unauthorized": "errors",
    "Unreachable": "errors",
    "step": "steps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"holdfast.{_HOMES[name]}"), name)
    return found
