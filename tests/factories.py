"""The smallest valid rows. A test names only the fields it is about."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser

from boards import cards, leases, tokens
from boards.models import Attempt, Board, Card, Column
from checkpoints import recovery, steps
from checkpoints.models import Checkpoint, Step
from goals import memory
from goals.models import Goal
from kernel.access import SYSTEM, Role

_numbers = itertools.count(1)


def make_user(name: str | None = None, **fields: Any) -> AbstractBaseUser:
    """Return a person who can't sign in until given a password."""
    return get_user_model().objects.create_user(name or f"person-{next(_numbers)}", **fields)


def make_board(**fields: Any) -> Board:
    """Return a board with the usual five columns."""
    fields.setdefault("key", f"B{next(_numbers)}")
    fields.setdefault("name", "Payments")
    return cards.create_board(SYSTEM, **fields)


def column_of(board: Board, kind: str) -> Column:
    """Return the board's first column of the kind."""
    return board.columns.filter(kind=kind).order_by("position")[0]


def make_goal(
    board: Board | None = None, *, criteria: Iterable[str | dict[str, str]] = (), **fields: Any
) -> Goal:
    """Return an active goal; ``criteria`` are their texts, or texts with a check."""
    fields.setdefault("title", "Ship it")
    board_id = (board or make_board()).pk
    wanted = [{"text": c} if isinstance(c, str) else c for c in criteria]
    return memory.create(board_id, "user:ann", criteria=wanted, **fields)


def make_card(board: Board | None = None, *, kind: str = "in_progress", **fields: Any) -> Card:
    """Return a card in the board's first column of ``kind``: in progress, so claimable."""
    board = board or make_board()
    fields.setdefault("title", "Write the parser")
    fields.setdefault("column", column_of(board, kind))
    return cards.create(board, fields.pop("actor", "user:ann"), **fields)


def claimed(card: Card | None = None, worker: str = "ada", **options: Any) -> Attempt:
    """Return a live attempt at the card, or at a new one."""
    card = card or make_card()
    attempt = leases.claim(worker, card_id=card.pk, **options)
    assert attempt is not None
    return attempt


def make_step(attempt: Attempt, key: str = "test", **fields: Any) -> Step:
    """Return a step that this attempt recorded as succeeded."""
    return steps.record(attempt.pk, key, fields.pop("status", "succeeded"), **fields).step


def make_checkpoint(attempt: Attempt, **content: Any) -> Checkpoint:
    """Return a checkpoint saved by the attempt."""
    content.setdefault("summary", "half way")
    return recovery.save(attempt.pk, content)[0]


def make_token(name: str = "ci", roles: Mapping[UUID, Role] | None = None, **fields: Any) -> str:
    """Return the plaintext of a new token."""
    return tokens.issue(name, roles=roles, **fields).plaintext


def now_is(row: Any) -> Any:
    """Return the row as the store has it now."""
    return type(row).objects.get(pk=row.pk)
