"""What a program says with its attempt's own token, the board's secrets struck out.

A program that a worker started has the secrets, and a model among them may repeat one where it
means to help: in a decision, a discovery, a step's result. What comes in by any other token is
kept as it was sent: no other is told a secret, but for those of workers, who strike out
themselves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

from boards.secrets import keeping
from boards.secrets.models import Secret
from kernel.access import Principal
from workers.redaction import Redactor


def struck_out(principal: Principal, value: Any) -> Any:
    """Return what the principal sent as it may be kept."""
    if principal.scope is None:
        return value
    (board_id,) = principal.boards
    kept = Secret.objects.filter(board_id=board_id).order_by("name")
    marks = tuple(kept.values_list("name", "set_at"))
    return _redactor(board_id, marks).redacted(value) if marks else value


@lru_cache(maxsize=8)
def _redactor(board_id: UUID, marks: tuple[Any, ...]) -> Redactor:
    """Return what finds the board's secrets as they were last set; making it takes a while."""
    return Redactor(keeping.opened(board_id).values.values())
