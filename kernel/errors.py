"""The one error family that crosses app borders.

Each class fixes a ``code`` and an HTTP ``status`` that are part of the public API; the
message is one sentence for a person and, where there is one, the next step to take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self


class DomainError(Exception):
    """A request the domain refuses. Nothing was changed.

    ``errors`` maps field paths to sentences; ``extra`` adds members to the problem
    document; ``retry_after_seconds`` becomes a ``Retry-After`` header. What is wrong with a
    request is always said by field: ``about`` is the one where ``errors`` names none.
    """

    code = "refused"
    status = 409
    title = "Refused"
    about = "body"

    def __init__(
        self,
        detail: str,
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if not errors and self.status in (400, 422):
            errors = {self.about: [detail]}
        self.errors = dict(errors or {})
        self.extra = dict(extra or {})
        self.retry_after_seconds = retry_after_seconds

    @classmethod
    def field(cls, name: str, sentence: str) -> Self:
        """Return the error for one field."""
        return cls(f"{name}: {sentence}", errors={name: [sentence]})


class Malformed(DomainError):
    """The request could not be read at all."""

    code = "malformed"
    status = 400
    title = "Malformed request"


class Invalid(DomainError):
    """Well-formed input that a rule refuses; ``errors`` names the fields."""

    code = "invalid"
    status = 422
    title = "Invalid input"


class NotFound(DomainError):
    """There is no such thing, or the principal may not know that there is."""

    code = "not_found"
    status = 404
    title = "Not found"


class Forbidden(DomainError):
    """The principal sees the thing but may not do this to it."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class Stale(DomainError):
    """The caller edited a version that is no longer current; ``extra['current']`` is."""

    code = "stale_version"
    status = 412
    title = "Changed by someone else"


class LeaseLost(DomainError):
    """The attempt is over: expired, cancelled, replaced or already finished. Stop working."""

    code = "lease_lost"
    title = "Lease lost"


class TransitionRefused(DomainError):
    """The row is not in a state this transition starts from."""

    code = "transition_refused"
    title = "Not possible in this state"


class NotClaimable(DomainError):
    """The named card can't be taken now."""

    code = "not_claimable"
    title = "Not claimable"


class StepConflict(DomainError):
    """The step already has another recorded result; the first one stands."""

    code = "step_conflict"
    title = "Step already finished"


class KeyReused(DomainError):
    """An idempotency key came back with another request."""

    code = "idempotency_key_reused"
    status = 422
    title = "Idempotency key reused"
    about = "Idempotency-Key"


class KeyBusy(DomainError):
    """The first request with this idempotency key is still running."""

    code = "idempotency_key_busy"
    title = "First request still running"


class BudgetExceeded(DomainError):
    """A bound set for this card, goal or board would be broken."""

    code = "budget_exceeded"
    status = 422
    title = "Budget exceeded"


class DeadEnd(DomainError):
    """An earlier approach that failed looks like this one; ``extra['similar_failed']`` has it."""

    code = "dead_end"
    title = "Looks like a dead end"


class EvidenceMissing(DomainError):
    """The goal asks for evidence, and there is none; ``extra['criteria']`` lack it."""

    code = "evidence_missing"
    status = 422
    title = "Evidence missing"


class Contradiction(DomainError):
    """Decisions in force are about the same thing; ``extra['in_force']`` has them."""

    code = "decision_in_force"
    title = "A decision is in force"
