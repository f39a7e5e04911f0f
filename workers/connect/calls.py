"""Which tokens open a board, and what came of each: read for the page, a few statements in all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from boards.models import Attempt, Board, Membership, Token
from kernel.access import Principal, Role
from workers.models import Worker

TOKENS_SHOWN = 50

#: What the newest attempt of a token says about the last call, by its status.
_DID = {
    Attempt.Status.RUNNING: "claimed",
    Attempt.Status.SUCCEEDED: "completed",
    Attempt.Status.FAILED: "failed at",
    Attempt.Status.EXPIRED: "lost its lease on",
    Attempt.Status.RELEASED: "handed over",
    Attempt.Status.CANCELLED: "was taken off",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A token as the page lists it. ``role`` is the one that it has on this board."""

    token: Token
    role: Role
    worker: str
    did: str
    card: str
    called_at: datetime | None
    may_revoke: bool

    @property
    def revocable(self) -> bool:
        """True where the reader may revoke it and that changes something."""
        return self.may_revoke and self.state == "live"

    @property
    def state(self) -> str:
        """``live``, ``revoked`` or ``expired``."""
        if self.token.revoked_at is not None:
            return "revoked"
        ended = self.token.expires_at is not None and self.token.expires_at <= timezone.now()
        return "expired" if ended else "live"


def keys(board: Board, reader: Principal) -> list[Key]:
    """Return the tokens of the board, the newest first, as far as the reader may see them.

    A token of every board is shown to operators of every board alone.
    """
    everywhere = reader.everywhere == Role.OPERATOR
    member = Membership.objects.filter(token=OuterRef("pk"), board=board)
    opens = Q(memberships__board=board)
    if everywhere:
        opens |= Q(everywhere__isnull=False)
    newest = Attempt.objects.filter(token=OuterRef("pk"), board=board).order_by(
        "-started_at", "-id"
    )
    worker = Worker.objects.filter(token=OuterRef("pk")).order_by("-last_seen_at")
    rows = list(
        Token.objects.filter(opens)
        .distinct()
        .prefetch_related("memberships")
        .annotate(
            role_here=Subquery(member.values("role")[:1]),
            attempt_here=Subquery(newest.values("pk")[:1]),
            worker_here=Subquery(worker.values("name")[:1]),
            worker_seen_at=Subquery(worker.values("last_seen_at")[:1]),
        )
        .order_by("-created_at", "pk")[:TOKENS_SHOWN]
    )
    wanted = [row.attempt_here for row in rows if row.attempt_here]
    attempts = Attempt.objects.select_related("card").in_bulk(wanted)
    return [
        _key(row, attempts.get(row.attempt_here), everywhere or _on_all_boards(reader, row))
        for row in rows
    ]


def _on_all_boards(reader: Principal, row: Token) -> bool:
    """True if the reader is an operator of each board that the token opens."""
    roles = (reader.role_on(m.board_id) for m in row.memberships.all())
    return all(role == Role.OPERATOR for role in roles)


def _key(row: Token, attempt: Attempt | None, may_revoke: bool) -> Key:
    role = max(r for r in (row.role_here, row.everywhere) if r is not None)  # type: ignore[attr-defined]
    times = [row.last_used_at, row.worker_seen_at]  # type: ignore[attr-defined]
    if attempt is not None:
        times.append(attempt.last_seen_at)
    return Key(
        token=row,
        role=Role(role),
        worker=attempt.worker if attempt is not None else row.worker_here or "",  # type: ignore[attr-defined]
        did=_DID[Attempt.Status(attempt.status)] if attempt is not None else "",
        card=attempt.card.key if attempt is not None else "",
        # A use of the token is written down once a minute; its attempt knows better.
        called_at=max((at for at in times if at is not None), default=None),
        may_revoke=may_revoke,
    )


def find(listed: list[Key], token_id: UUID | None) -> Key | None:
    """Return the listed token with this id, or None."""
    return next((key for key in listed if key.token.pk == token_id), None)
