"""Setting and removing a board's secrets, and opening them for its commands.

Values go in and come out for commands alone: whatever lists secrets leaves them sealed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.utils import timezone

from boards.models import Board
from boards.secrets import sealing
from boards.secrets.models import Secret
from boards.secrets.names import check_name
from events import log
from kernel import sql
from kernel.access import hidden
from kernel.errors import Invalid, TransitionRefused
from kernel.tx import transition

logger = logging.getLogger(__name__)

MAX_SECRETS = 100
MAX_VALUE_BYTES = 32 * 1024
MAX_BOARD_BYTES = 512 * 1024
#: Fewer can't be told from ordinary words in what commands print, see ``workers.redaction``.
MIN_LETTERS = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """A board's secrets for its commands; ``closed`` are names of those that don't open."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    closed: tuple[str, ...] = ()


def of_board(board_id: UUID) -> QuerySet[Secret]:
    """The board's secrets by name, their values left where they are."""
    return Secret.objects.filter(board_id=board_id).defer("sealed").order_by("name")


def put(board_id: UUID, actor: str, name: str, value: str) -> tuple[Secret, bool]:
    """Return the secret, set to the value, and whether it is a new one.

    Raises Invalid naming ``name`` or ``value``, and TransitionRefused where the board has as
    many or as much as it may.
    """
    size = _checked(name, value)
    sealed = sealing.seal(board_id, name, value)
    with transition():
        # One after the other, or two would fill the last place.
        sql.lock(Board.objects.filter(pk=board_id))
        others = Secret.objects.filter(board_id=board_id).exclude(name=name)
        if others.count() >= MAX_SECRETS:
            raise TransitionRefused(f"The board has {MAX_SECRETS} secrets; remove one first.")
        if (others.aggregate(all=Sum("size_bytes"))["all"] or 0) + size > MAX_BOARD_BYTES:
            raise TransitionRefused(
                f"The board's secrets would be larger than {MAX_BOARD_BYTES // 1024} KiB together; "
                "remove one first."
            )
        secret, new = Secret.objects.update_or_create(
            board_id=board_id,
            name=name,
            defaults={
                "sealed": sealed,
                "sealed_under": sealing.key_name(),
                "size_bytes": size,
                "set_by": actor[:200],
                "set_at": timezone.now(),
            },
        )
        _note(board_id, actor, name, "secret.set")
    return secret, new


def remove(board_id: UUID, actor: str, name: str) -> None:
    """Forget the secret. Raises NotFound where the board has none of that name."""
    with transition():
        gone, _ = Secret.objects.filter(board_id=board_id, name=name).delete()
        if not gone:
            raise hidden("secret")
        _note(board_id, actor, name, "secret.removed")


def opened(board_id: UUID) -> Opened:
    """Return the board's secrets as its commands get them. For nobody else."""
    values: dict[str, str] = {}
    closed: list[str] = []
    kept = Secret.objects.filter(board_id=board_id).order_by("name")
    for name, sealed in kept.values_list("name", "sealed"):
        try:
            values[name] = sealing.opened(board_id, name, sealed)
        except sealing.Closed:
            closed.append(name)
    return Opened(values, tuple(closed))


def reseal() -> int:
    """Seal under the key of today what an earlier one sealed; return how many were.

    What does not open stays as it is. Safe to run anywhere, while secrets are set and used.
    """
    if not Secret.objects.exists():
        return 0
    done, today = 0, sealing.key_name()
    for secret in Secret.objects.exclude(sealed_under=today).order_by("pk"):
        try:
            value = sealing.opened(secret.board_id, secret.name, secret.sealed)
        except sealing.Closed:
            continue
        # Only if nobody has set it meanwhile.
        done += Secret.objects.filter(pk=secret.pk, sealed=secret.sealed).update(
            sealed=sealing.seal(secret.board_id, secret.name, value), sealed_under=today
        )
    return done


def _checked(name: str, value: str) -> int:
    """Return the size of the value in bytes. Raises Invalid if it or the name can't be used."""
    check_name(name)
    if "\x00" in value:
        raise Invalid.field("value", "contains a NUL character, which no variable can hold.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Invalid.field("value", "is no text that can be encoded in UTF-8.") from None
    if size > MAX_VALUE_BYTES:
        raise Invalid.field(
            "value",
            f"is larger than {MAX_VALUE_BYTES // 1024} KiB; keep the large part elsewhere, and "
            "what opens it here.",
        )
    if len("".join(value.split())) < MIN_LETTERS:
        raise Invalid.field(
            "value",
            f"has fewer than {MIN_LETTERS} characters besides white space: it could not be kept "
            "out of logs. Use a longer one.",
        )
    return size


def _note(board_id: UUID, actor: str, name: str, kind: str) -> None:
    log.record(kind, board_id=board_id, subject_id=board_id, actor=actor, name=name)
