"""Who is asking, and what they may do on which board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from uuid import UUID

from kernel.errors import Forbidden, NotFound


def hidden(what: str) -> NotFound:
    """Return the one refusal for what is not there and for what may not be seen."""
    return NotFound(f"There is no such {what}, or you may not see it.")


class Role(IntEnum):
    """What a principal may do on a board; each role includes the ones below it."""

    VIEWER = 1  # read
    MEMBER = 2  # claim, write, move, comment
    OPERATOR = 3  # settings, tokens, commands

    @property
    def label(self) -> str:
        """The role as the API spells it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Scope:
    """All that a principal of the kind ``attempt`` may see of its board."""

    attempt: UUID
    card: UUID
    goal: UUID | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are. ``kind`` is ``user``, ``token``, ``attempt`` or ``system``.

    ``everywhere`` is a role held on every board; ``boards`` adds roles on single ones. With a
    ``scope`` the role counts for what is named there alone. ``key`` is stable and unique among
    principals; ``actor`` is how the log names them.
    """

    kind: str
    id: str
    name: str
    boards: Mapping[UUID, Role] = field(default_factory=dict)
    everywhere: Role | None = None
    scope: Scope | None = None

    # Django and DRF ask these of whatever sits in ``request.user``.
    is_authenticated = True
    is_active = True

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def actor(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def is_person(self) -> bool:
        """True for a signed-in human; a token never is, whoever made it."""
        return self.kind == "user"

    def role_on(self, board_id: UUID) -> Role | None:
        """Return the highest role on that board, or None when the board is invisible."""
        own = self.boards.get(board_id)
        if own is None or self.everywhere is None:
            return own or self.everywhere
        return max(own, self.everywhere)

    def require(self, board_id: UUID, role: Role, what: str = "thing here") -> None:
        """Pass only with ``role`` on the board. Raises NotFound if invisible, else Forbidden.

        ``what`` was asked for: what is hidden is refused in the same words as what never was.
        """
        held = self.role_on(board_id)
        if held is None:
            raise hidden(what)
        if held < role:
            raise Forbidden(
                f"This needs the role {role.label} on the board; you are {held.label}. "
                "Ask an operator of the board."
            )

    def visible(self) -> frozenset[UUID] | None:
        """Return the boards this principal sees whole; None means every board."""
        if self.scope is not None:
            return frozenset()
        return None if self.everywhere is not None else frozenset(self.boards)

    def may_work_on(self) -> frozenset[UUID] | None:
        """Return the boards this principal is a member of; None means every board.

        Raises Forbidden for one that may only look on.
        """
        if self.everywhere is not None and self.everywhere >= Role.MEMBER:
            return None
        boards = frozenset(b for b, role in self.boards.items() if role >= Role.MEMBER)
        if not boards:
            raise Forbidden("This needs the role member on a board; ask an operator of yours.")
        return boards

    def sees_of_its_board(self, **named: UUID) -> bool:
        """Return whether this ``attempt``, ``card`` or ``goal`` of a visible board is visible."""
        if self.scope is None:
            return True
        return all(getattr(self.scope, what) == pk for what, pk in named.items())


SYSTEM = Principal(kind="system", id="holdfast", name="holdfast", everywhere=Role.OPERATOR)
