"""The client of Holdfast: for workers written in Python, and for its command line."""

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

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "Error",
    "Forbidden",
    "Handover",
    "LeaseLost",
    "NotFound",
    "Refused",
    "StepFailed",
    "Unauthorized",
    "Unreachable",
]
