"""Where a card stands in its column.

Ranks are integers, unique per column by constraint, GAP apart at the ends. A card dropped
beside another goes STEP from the neighbour on the far side, so that many dropped at one place
do not halve what is left each time. When a place is used up the column is numbered anew, past
every rank in use, so that the constraint holds at every moment.

Ranks are given out under the column's lock, which comes after the locks of cards. Numbering
anew writes other people's cards, so it is done before any lock is held, see ``make_room``.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Max, Min, Q

from boards.models import Card, Column
from kernel import sql
from kernel.errors import Invalid

GAP = 2**32  # two million ends of it fit a browser's numbers, 2**53
STEP = 2**22
#: A place with less room than this is numbered anew before somebody needs the last of it.
TIGHT = 2**8


def lock(column_id: UUID) -> Column:
    """Return the column, its row locked until commit: ranks in it are given out one at a time.

    Raises Invalid when it has gone.
    """
    column = Column.objects.select_for_update(no_key=True).filter(pk=column_id).first()
    if column is None:
        raise Invalid.field("column", "was taken off the board; load it again.")
    return column


def locked(column: Column) -> Column:
    """Return the column, which this transaction has read, locked as ``lock`` does."""
    return lock(column.pk) if sql.locks_rows() else column


def bottom(column: Column) -> int:
    """Return a rank below every card of the column."""
    last = Card.objects.filter(column=column).aggregate(rank=Max("rank"))["rank"]
    return GAP if last is None else last + GAP


def top(column: Column) -> int:
    """Return a rank above every card of the column."""
    first = Card.objects.filter(column=column).aggregate(rank=Min("rank"))["rank"]
    return GAP if first is None else first - GAP


def make_room(column_id: UUID, card_id: UUID, *, before: Card | None, after: Card | None) -> None:
    """See to it that there is room for the card beside ``before`` or ``after``.

    Call it first in the transaction: where room is made, the column's cards and this one are
    locked, then the column.
    """
    if not sql.locks_rows():
        return  # ``beside`` makes it, alone as it is
    place = _place(column_id, card_id, before, after)
    if place is None or place[1] - place[0] >= TIGHT:
        return
    sql.lock(Card.objects.filter(Q(column_id=column_id) | Q(pk=card_id)).order_by("pk"))
    _renumber(lock(column_id))


def beside(column: Column, card: Card, *, before: Card | None, after: Card | None) -> int:
    """Return a rank for ``card`` right above ``before`` or right below ``after``.

    A neighbour that has left the column meanwhile is ignored; with none left it is the bottom.
    """
    place = _place(column.pk, card.pk, before, after)
    if place is not None and place[1] - place[0] < 2:
        # Used up since make_room looked, if it did. This may deadlock with somebody moving one
        # of these cards, and is then tried again; that takes a crowd at one place in a moment.
        _renumber(column)
        place = _place(column.pk, card.pk, before, after)
    if place is None:
        return bottom(column)
    low, high, above = place
    step = min(STEP, (high - low) // 2)
    return low + step if above else high - step


def _place(
    column_id: UUID, card_id: UUID, before: Card | None, after: Card | None
) -> tuple[int, int, bool] | None:
    """Return the ranks between which the card goes, and whether its anchor is the lower one."""
    others = Card.objects.filter(column_id=column_id).exclude(pk=card_id)
    for anchor, above in ((before, True), (after, False)):
        if anchor is None:
            continue
        here = others.filter(pk=anchor.pk).values_list("rank", flat=True).first()
        if here is None:
            continue
        if above:
            edge = others.filter(rank__lt=here).aggregate(rank=Max("rank"))["rank"]
            return (here - 2 * GAP if edge is None else edge), here, above
        edge = others.filter(rank__gt=here).aggregate(rank=Min("rank"))["rank"]
        return here, (here + 2 * GAP if edge is None else edge), above
    return None


def _renumber(column: Column) -> None:
    """Spread the column's cards GAP apart again, keeping their order."""
    cards = list(Card.objects.filter(column=column).order_by("rank", "id").only("pk", "rank"))
    if not cards:
        return
    above = cards[0].rank - len(cards) * GAP
    below = cards[-1].rank + GAP
    # On whichever side stays closer to zero, so that numbering anew never runs out of numbers.
    first = below if abs(below + len(cards) * GAP) <= abs(above) else above
    for n, card in enumerate(cards):
        card.rank = first + n * GAP
    Card.objects.bulk_update(cards, ["rank"], batch_size=200)
