"""The client of Holdfast: for workers written in Python, and for its command line."""

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
