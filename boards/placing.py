"""Where a card stands: its state, column and rank, and what waits for it.

Locks come in the order that ``boards.leases`` gives: the card, those that wait for it, the column.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F
from django.dispatch import Signal
from django.utils import timezone

from boards import dispatch, ranks
from boards.models import Attempt, AttemptQuerySet, Card, Column, Dependency
from events import log
from goals import checks
from kernel.errors import Invalid, LeaseLost

Status = Attempt.Status
State = Card.State
#: Sent with the locked ``card``, in the transaction that takes it back from where it was as good
#: as done: what its last attempt did is to be done again.
reopened = Signal()
#: Sent with the locked ``card``, its ``question`` and the ``answer``, in the transaction that keeps
#: it, before the card goes on: an answer may do something.
answered = Signal()


def place(card: Card, state: State) -> None:
    """Put a locked card into ``state``, in a column of the kind that goes with it.

    It stays where it stands if that column is of the kind, else goes to the end of the
    board's first one (the top, for finished cards: the newest is what people look for).
    """
    here = card.column
    if here.kind == Card.KIND_OF[state]:
        enter(card, here, state, card.rank)
        return
    first = (
        Column.objects.filter(board_id=card.board_id, kind=Card.KIND_OF[state])
        .order_by("position")
        .first()
    )
    if first is None:
        raise Invalid.field("columns", f"the board has no column of kind {Card.KIND_OF[state]}.")
    dependents = lock_dependents(card, state)
    column = ranks.locked(first)
    finished = state in (State.COMPLETED, State.CANCELLED)
    rank = ranks.top(column) if finished else ranks.bottom(column)
    enter(card, column, state, rank, dependents)


def enter(
    card: Card, column: Column, state: State, rank: int, dependents: Collection[UUID] = ()
) -> None:
    """Write the card's place and keep the counts of ``dependents``, see ``lock_dependents``."""
    was_completed = card.state == State.COMPLETED
    was_done = card.state in (State.REVIEW, State.COMPLETED)
    enter_state(card, state, timezone.now())
    card.column = column
    card.rank = rank
    card.save(
        update_fields=[
            "state",
            "state_since",
            "column",
            "rank",
            "version",
            "updated_at",
            "failures",
            "not_before",
            "blocked_reason",
            "paused",
        ]
    )
    tell_dependents(dependents, 1 if was_completed else -1)
    if was_done and state in (State.BACKLOG, State.WAITING, State.BLOCKED):
        reopened.send(Card, card=card)
    newly_done = state == State.COMPLETED and not was_completed
    if newly_done and card.goal_id and (card.board.allow_commands or card.board.allow_network):
        checks.card_completed(card.goal_id, card.pk)


def enter_state(card: Card, state: State, now: datetime) -> None:
    if card.state != state:
        card.state = state
        card.state_since = now
    card.version += 1
    card.updated_at = now


def lock_dependents(card: Card, state: State) -> list[UUID]:
    """Lock the cards whose count changes when the locked ``card`` enters ``state``; return them.

    Before the column, like every card: somebody else may hold one of them and wait for it.
    Whoever adds or takes away a dependency on ``card`` has its lock too, so none is missed.
    """
    if (card.state == State.COMPLETED) == (state == State.COMPLETED):
        return []
    waiting = Dependency.objects.filter(depends_on=card).values("card")
    rows = Card.objects.filter(pk__in=waiting).order_by("pk").select_for_update(no_key=True)
    return list(rows.values_list("pk", flat=True))


def tell_dependents(dependents: Collection[UUID], change: int) -> None:
    """Count one unmet dependency more or less on each of these locked cards.

    A relative update: two parents completing at once each take off their own one.
    """
    if not dependents:
        return
    Card.objects.filter(pk__in=dependents).update(
        unmet_dependencies=F("unmet_dependencies") + change
    )
    if change < 0:
        freed = Card.objects.filter(
            pk__in=dependents, unmet_dependencies=0, state=State.WAITING, workflow__isnull=False
        )
        for waiting in freed:
            dispatch.nudge(waiting)


def note(card: Card, kind: str, actor: str, /, **data: Any) -> None:
    """Record an event about a card, with what boards and pages of goals need to follow along."""
    log.record(
        kind, board_id=card.board_id, subject_id=card.pk, actor=actor, **(standing(card) | data)
    )


def standing(card: Card) -> dict[str, Any]:
    """Return what every event says about its card."""
    return {
        "card": card.key,
        "column": str(card.column_id),
        "state": card.state,
        "rank": card.rank,
        "version": card.version,
        **({"goal": str(card.goal_id)} if card.goal_id else {}),
    }


def revoke(card: Card, *, reason: str) -> Attempt | None:
    """End the live attempt of a locked card because a person decided so; None if there is none.

    The caller adds it up with ``bounds.charge``, once it has placed the card.
    """
    attempt = card.attempts.filter(status=Status.RUNNING).first()
    if attempt is None:
        return None
    end(Attempt.objects.held(attempt.pk), attempt, Status.CANCELLED, reason=reason)
    return attempt


def end(guard: AttemptQuerySet, attempt: Attempt, status: Status, **fields: Any) -> None:
    """Move the one attempt that ``guard`` admits. Raises LeaseLost if it admits none."""
    now = timezone.now()
    changed: dict[str, Any] = {"status": status, "finished_at": now, **fields}
    if not guard.update(**changed):
        raise LeaseLost(f"Attempt {attempt.pk} is over or was replaced. Stop working on it.")
    for name, value in changed.items():
        setattr(attempt, name, value)
