"""Who may do what on a board: users and tokens, each with one role."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import QuerySet

from boards.models import Membership
from events import log
from kernel.access import Role
from kernel.errors import Invalid, NotFound, TransitionRefused
from kernel.tx import transition


def grant(
    board_id: UUID,
    actor: str,
    role: Role,
    *,
    user_id: int | None = None,
    token_id: UUID | None = None,
) -> Membership:
    """Return the membership: the user or token has ``role`` on the board, and no other one.

    Raises TransitionRefused where the board would be left without an operator.
    """
    if (user_id is None) == (token_id is None):
        raise Invalid.field("user", "name either a user or a token.")
    who: dict[str, Any] = {"user_id": user_id, "token_id": token_id}
    with transition():
        if role < Role.OPERATOR:
            _keep_an_operator(board_id, **who)
        member, new = Membership.objects.update_or_create(
            board_id=board_id, **who, defaults={"role": role}
        )
        _note(member, "member.added" if new else "member.changed", actor)
    return member


def remove(membership_id: int, actor: str) -> None:
    """Take the membership away. Raises NotFound if it is gone already.

    Raises TransitionRefused where the board would be left without an operator.
    """
    with transition():
        member = Membership.objects.filter(pk=membership_id).first()
        if member is None:
            raise NotFound("There is no such membership.")
        _keep_an_operator(member.board_id, pk=member.pk)
        _note(member, "member.removed", actor)
        member.delete()


def of_board(board_id: UUID, membership_id: int) -> Membership:
    """Return the person's membership of this board. Raises NotFound."""
    people = Membership.objects.filter(board_id=board_id, user__isnull=False)
    found = people.filter(pk=membership_id).first()
    if found is None:
        raise NotFound("There is no such member of the board.")
    return found


def people_of(board_id: UUID) -> QuerySet[Membership]:
    """Return the board's memberships of people."""
    found = Membership.objects.filter(board_id=board_id, user__isnull=False)
    return found.select_related("user")


def tokens_of(board_id: UUID) -> QuerySet[Membership]:
    """Return the board's memberships of tokens that are not revoked."""
    found = Membership.objects.filter(board_id=board_id, token__isnull=False)
    return found.filter(token__revoked_at=None).select_related("token")


def others(board_id: UUID) -> list[str]:
    """Return names of people who could become members of the board."""
    people = get_user_model().objects.filter(is_active=True)
    people = people.exclude(memberships__board=board_id).order_by("username")
    return list(people.values_list("username", flat=True)[:500])


def person(name: str) -> Any:
    """Return the active account of this name. Raises Invalid naming ``user``."""
    found = get_user_model().objects.filter(username=name, is_active=True).first()
    if found is None:
        raise Invalid.field("user", "is nobody's name here; make the account first.")
    return found


def _keep_an_operator(board_id: UUID, **who: Any) -> None:
    """Pass if the board has another person as operator, or this is none. Call in a transition.

    The operators' rows are locked until commit, so two of them can't take away each other.
    """
    people = Membership.objects.filter(
        board_id=board_id, role=Role.OPERATOR, user__is_active=True
    ).select_for_update(of=("self",), no_key=True)
    operators = list(people.order_by("pk"))
    going = Membership.objects.filter(board_id=board_id, **who).values_list("pk", flat=True)
    if operators and all(one.pk in set(going) for one in operators):
        raise TransitionRefused(
            "The board would be left without an operator; make somebody else one first."
        )


def _note(member: Membership, kind: str, actor: str) -> None:
    log.record(
        kind,
        board_id=member.board_id,
        subject_id=member.board_id,
        actor=actor,
        user=member.user_id,
        token=member.token_id,
        role=Role(member.role).label,
    )
