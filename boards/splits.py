"""Cards whose work was handed to parts, and how those stand. ``checkpoints.joining`` joins them."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from boards import cards
from boards.models import Attempt, Card, Dependency, Split


def under_way(card: Card) -> Split | None:
    """Return the split whose parts are yet to be joined, if there is one."""
    return Split.objects.filter(card=card, joined_at=None).first()


def give_up(card: Card) -> None:
    """Let the locked card wait for its parts no longer; they stay cards of their own."""
    made = under_way(card)
    if made is None:
        return
    made.joined_at = timezone.now()
    made.save(update_fields=["joined_at"])
    Dependency.objects.filter(card=card, depends_on__part_of=made).delete()
    cards.depend(card, [d.depends_on for d in card.dependencies.select_related("depends_on")])


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it stands; ``outcome`` is what its last attempt said when it was done."""

    card: Card
    outcome: str
    joins: bool  # False where the split card no longer waits for it


def parts_of(made: Split) -> list[Part]:
    """Return the parts in the order in which they were made."""
    found = list(made.parts.select_related("column").order_by("number"))
    ended = Attempt.objects.filter(card__in=found, status=Attempt.Status.SUCCEEDED)
    outcomes = dict(ended.order_by("number").values_list("card_id", "outcome"))
    waited = Dependency.objects.filter(card=made.card_id, depends_on__in=found)
    joins = set(waited.values_list("depends_on_id", flat=True))
    return [Part(part, outcomes.get(part.pk, ""), part.pk in joins) for part in found]


def newest(card: Card) -> Split | None:
    """Return the card's newest split, joined or not."""
    return card.splits.order_by("-pk").first()
