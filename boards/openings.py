"""What a claim would find, read without a lock: to wait for a card costs next to nothing.

A claim that waits says what it would take as a ``Want``. Whoever keeps the waiting looks for
all of them at once and calls as many as there are cards, each for a card that it could take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.utils import timezone

from boards import choice, needs
from boards.models import Attempt, Board, Card, CardQuerySet, Column

#: So many openings are shown at most to those who want the same.
MOST = 200


@dataclass(frozen=True, slots=True)
class Want:
    """What a claim would take: a card of these boards (None: of any) that suits the worker."""

    boards: frozenset[UUID] | None = None
    capabilities: frozenset[str] = frozenset()
    goal_id: UUID | None = None
    workflows: bool = False  # only what workers carry out by themselves, see ``choice.ours``
    lacks: frozenset[str] = frozenset()

    #: One opening is for one who waits.
    shared: ClassVar[bool] = False

    @staticmethod
    def look(wants: Mapping[Want, int]) -> dict[Want, list[UUID]]:
        """Return the cards that each want would find now, the best first: for each at most as
        many as its number says."""
        now = timezone.now()
        boards = _together(want.boards for want in wants)
        lapsed = _lapsed(boards, now)
        automatic = _automatic(boards)
        ready = Card.objects.visible_to(boards).ready(now).exists()
        if not (lapsed or automatic or ready):
            return {}
        room = choice.room_without_lock(boards)
        found = {}
        for want, count in wants.items():
            most = min(count, MOST)
            scope = Card.objects.visible_to(want.boards)
            scope = choice.ours(scope) if want.workflows else scope
            cards = room.for_waiting(want._workable(scope.ready(now)))
            openings = want._of(cards, most) if ready else []
            if len(openings) < most and automatic:
                pulled = choice.pullable(scope.filter(board__in=automatic), now)
                pulled = room.within(want._workable(pulled))
                openings += want._of(pulled, most)
            openings += [card.pk for card in lapsed if want._suits(card)]
            if openings:
                found[want] = openings[:most]
        return found

    def _workable(self, cards: CardQuerySet) -> CardQuerySet:
        return choice.workable(cards, self.capabilities, (choice.Lack(self.lacks),))

    def _of(self, cards: CardQuerySet, most: int) -> list[UUID]:
        if self.goal_id is not None:
            cards = cards.filter(goal_id=self.goal_id)
        return list(cards.in_claim_order().values_list("pk", flat=True)[:most])

    def _suits(self, card: Card) -> bool:
        return (
            (self.boards is None or card.board_id in self.boards)
            and (self.goal_id is None or card.goal_id == self.goal_id)
            and self.capabilities.issuperset(card.requires)
            and (not self.workflows or card.workflow is not None)
            and not needs.among(card.workflow, self.lacks)
        )


def would_find(want: Want) -> bool:
    """True when a claim that wants this may find something now."""
    return bool(Want.look({want: 1}))


def _together(boards: Iterable[frozenset[UUID] | None]) -> frozenset[UUID] | None:
    every: set[UUID] = set()
    for some in boards:
        if some is None:
            return None
        every |= some
    return frozenset(every)


def _lapsed(boards: frozenset[UUID] | None, now: datetime) -> list[Card]:
    """Cards whose worker is gone: a claim ends the attempt and may take the card."""
    attempts = Attempt.objects.lapsed(now).select_related("card").order_by("lease_expires_at")
    if boards is not None:
        attempts = attempts.filter(board_id__in=boards)
    return [attempt.card for attempt in attempts[:MOST]]


def _automatic(boards: frozenset[UUID] | None) -> list[Board]:
    """Boards from whose backlog a worker may pull now."""
    pulling = Board.objects.visible_to(boards).filter(pull=Board.Pull.AUTO, archived_at=None)
    return [board for board in pulling if _has_room(board)]


def _has_room(board: Board) -> bool:
    columns = board.columns.filter(kind=Column.Kind.IN_PROGRESS)
    return any(c.wip_limit is None or c.cards.count() < c.wip_limit for c in columns)
