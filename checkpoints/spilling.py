"""Whether a card's files may go out: they may hold a secret of the board, see ``secretsearch``."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

from boards.secrets import keeping
from boards.secrets.models import Secret
from checkpoints.git import GitFailed
from checkpoints.secretsearch import Spill, found, told
from checkpoints.stores import store_of
from kernel.errors import DomainError


class SecretInFiles(DomainError):
    """Files hold secrets of the board; ``extra['files']`` names which. Nothing was done."""

    code = "secret_in_files"
    title = "A secret in the files"


def of_card(board_id: UUID, base: str, commit: str) -> tuple[Spill, ...]:
    """Return what the board's secrets are in, of the files changed between two snapshots.

    Searched once for the same files and secrets. What is not in this host's snapshots, and a
    secret that does not open, is not searched.
    """
    kept = Secret.objects.filter(board_id=board_id).order_by("name")
    marks = tuple(kept.values_list("name", "set_at"))
    if not marks or base == commit:
        return ()
    try:
        return _of_card(board_id, base, commit, marks)
    except GitFailed:
        return ()  # and not remembered: it may be here later


@lru_cache(maxsize=256)
def _of_card(board_id: UUID, base: str, commit: str, marks: Any) -> tuple[Spill, ...]:
    return found(store_of(board_id), base, commit, keeping.opened(board_id).values)


def check(board_id: UUID, base: str, commit: str) -> None:
    """Pass if the changed files hold none of the board's secrets. Raises SecretInFiles."""
    refuse(
        of_card(board_id, base, commit),
        "Send the card back to have it taken out, and change the secret if others saw it; or say "
        "that the files may go out as they are.",
    )


def refuse(spills: Collection[Spill], remedy: str) -> None:
    """Pass if there are none. Raises SecretInFiles, which ends with the remedy."""
    if spills:
        raise SecretInFiles(
            f"{told(spills)}. {remedy}",
            extra={"files": [{"path": s.path, "secret": s.secret} for s in spills]},
        )
