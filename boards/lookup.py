"""Finding what a request names, as far as the principal may see it."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from boards.models import Attempt, Board, Card, Column, Token
from goals.models import Goal
from kernel.access import Principal, Role, hidden
from kernel.errors import Invalid, NotFound

_CARD_KEY = re.compile(r"[A-Z][A-Z0-9]{1,9}-[1-9][0-9]{0,8}")


def as_uuid(text: Any) -> UUID | None:
    """Return the UUID that ``text`` spells, or None."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(str(text)) if len(str(text)) in (32, 36) else None
    except ValueError:
        return None


def board(principal: Principal, name: Any, role: Role = Role.VIEWER) -> Board:
    """Return the board with this id or key. Raises NotFound or Forbidden."""
    pk = as_uuid(name)
    boards = Board.objects.filter(pk=pk) if pk else Board.objects.filter(key=str(name).upper())
    found = boards.first() if _plain(name) else None
    if found is None or principal.scope is not None:
        raise hidden("board")
    principal.require(found.pk, role, "board")
    return found


def card(principal: Principal, name: Any, role: Role = Role.VIEWER) -> Card:
    """Return the card with this id or key, its board, column and goal loaded."""
    pk, key = as_uuid(name), str(name).upper()
    cards = Card.objects.select_related("board", "column", "goal")
    if pk is not None:
        found = cards.filter(pk=pk).first()
    elif _CARD_KEY.fullmatch(key):
        found = cards.filter(key=key).first()
    else:
        found = None
    if found is None or not principal.sees_of_its_board(card=found.pk):
        raise hidden("card")
    principal.require(found.board_id, role, "card")
    return found


def goal(principal: Principal, name: Any, role: Role = Role.VIEWER) -> Goal:
    """Return the goal with this id. Raises NotFound or Forbidden."""
    pk = as_uuid(name)
    found = Goal.objects.filter(pk=pk).first() if pk else None
    if found is None or not principal.sees_of_its_board(goal=found.pk):
        raise hidden("goal")
    principal.require(found.board_id, role, "goal")
    return found


def attempt(principal: Principal, name: Any, role: Role = Role.MEMBER) -> Attempt:
    """Return the attempt with this id. Raises NotFound or Forbidden."""
    pk = as_uuid(name)
    found = Attempt.objects.filter(pk=pk).first() if pk else None
    if found is None or not principal.sees_of_its_board(attempt=found.pk):
        raise hidden("attempt")
    principal.require(found.board_id, role, "attempt")
    return found


def token(principal: Principal, pk: UUID) -> Token:
    """Return the token if the principal may revoke it. Raises NotFound or Forbidden.

    That takes an operator of each of its boards, and one of every board where it opens them all.
    """
    found = Token.objects.filter(pk=pk).first()
    if found is None:
        raise hidden("token")
    if principal.everywhere != Role.OPERATOR:
        boards = list(found.memberships.values_list("board_id", flat=True))
        if not boards or found.everywhere is not None:
            raise hidden("token")
        for board_id in boards:
            principal.require(board_id, Role.OPERATOR, "token")
    return found


def column(of: Board, name: Any, field: str = "column") -> Column:
    """Return the board's column with this id, name or kind. Raises Invalid naming ``field``."""
    pk = as_uuid(name)
    wanted = str(name).strip().casefold()
    for candidate in of.columns.order_by("position"):
        if candidate.pk == pk or wanted in (candidate.name.casefold(), candidate.kind):
            return candidate
    raise Invalid.field(field, "is no column of this board by id, name or kind.")


def named(principal: Principal, of: Board, name: Any, field: str) -> Card:
    """Return a card of the board that a body names. Raises Invalid naming ``field``."""
    try:
        found = card(principal, name)
    except NotFound:
        found = None
    if found is None or found.board_id != of.pk:
        raise Invalid.field(field, "names no card of this board by id or key.")
    return found


def _plain(name: Any) -> bool:
    return "\x00" not in str(name) and len(str(name)) <= 64
