"""What can go wrong. Every message is a sentence and, where there is one, the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Error(Exception):
    """Base of everything that this package raises on purpose."""


class ApiError(Error):
    """The server refused a request. Nothing was changed by it.

    ``code`` is stable and for programs, ``detail`` is a sentence for people, ``errors`` maps
    fields to sentences, and ``problem`` is the whole problem document.
    """

    def __init__(self, detail: str, *, status: int = 0, problem: Mapping[str, Any] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.problem: dict[str, Any] = dict(problem or {})

    @property
    def code(self) -> str:
        return str(self.problem.get("code", ""))

    @property
    def errors(self) -> dict[str, Sequence[str]]:
        return dict(self.problem.get("errors") or {})


class Unauthorized(ApiError):
    """401: there is no valid token."""


class Forbidden(ApiError):
    """403: the token may not do this."""


class NotFound(ApiError):
    """404: there is no such thing, or the token may not see it."""


class Conflict(ApiError):
    """409 or 412: the thing is not in the state that the request needs."""


class LeaseLost(Conflict):
    """The attempt is over: somebody else has the card, or a person took it away. Stop."""


class Refused(ApiError):
    """400, 413, 415 or 422: the input breaks a rule; the same request will never be taken."""


class Unreachable(ApiError):
    """There was no answer, or only 502, 503 or 504, for as long as ``patience`` lasts."""


class Handover(Error):
    """Raised at the next step, when the worker was asked to pause or stop; leaving the ``with``
    block of the attempt then releases the card. ``reason`` is ``pause``, ``stop`` or ``signal``.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class StepFailed(Error):
    """This attempt has already recorded the step as failed; a later attempt may try it again."""
