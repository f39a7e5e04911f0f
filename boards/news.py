"""What changes under a worker is told at its next call, whichever that is.

The statement that every accepted call begins with says whether there is anything to tell; only
then is it read. So calls under a goal that stays as it is pay for nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID

from boards.models import Attempt
from goals import amendments

_some: ContextVar[bool] = ContextVar("holdfast_news", default=False)


def forget() -> None:
    """Begin a call: nothing has been noticed in it yet."""
    _some.set(False)


def noticed(some: bool) -> None:
    """Take note of what the fence of a call says."""
    if some:
        _some.set(True)


def told(attempt_id: UUID) -> list[dict[str, Any]]:
    """Return what has changed since the attempt began, if this call noticed anything."""
    if not _some.get():
        return []
    row = Attempt.objects.filter(pk=attempt_id).values_list("card__goal_id", "started_at").first()
    return amendments.since(*row) if row and row[0] else []
