"""A race as whoever watches it sees it: all racers side by side, in a few statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from django.db.models import DurationField, ExpressionWrapper, F, Max, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from boards.models import Attempt, Card, Race, Racer


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts at one card used together."""

    cost_usd: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    checkpoint: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one racer stands. ``approach`` is what its attempt says, else what was declared."""

    racer: Racer
    latest: Attempt | None
    spent: Spent

    @property
    def card(self) -> Card:
        return self.racer.card

    @property
    def number(self) -> int:
        return self.racer.number

    @property
    def approach(self) -> str:
        own = self.latest.approach if self.latest else ""
        return own or self.racer.approach

    @property
    def score(self) -> float | None:
        return self.racer.score

    @property
    def problem(self) -> str:
        return self.racer.problem

    @property
    def lost(self) -> str:
        return self.racer.lost

    @property
    def seconds(self) -> float:
        return self.spent.seconds

    @property
    def checkpoint(self) -> int | None:
        return self.spent.checkpoint


@dataclass(frozen=True, slots=True)
class Field:
    """A race and all who run it."""

    race: Race
    racers: list[Standing]


def near(card: Card) -> Field | None:
    """Return the race that the card runs in, else the newest that began at it, if any."""
    race_id = card.race_id
    if race_id is None:
        begun = Race.objects.filter(source=card).order_by("-started_at", "-pk")
        race_id = begun.values_list("pk", flat=True).first()
    return of_race(race_id) if race_id is not None else None


def of_race(race_id: UUID) -> Field:
    """Return the race with its racers, in the order in which they were made."""
    race = Race.objects.select_related("source", "winner").get(pk=race_id)
    racers = Racer.objects.filter(card__race=race).select_related("card__column")
    found = list(racers.order_by("number"))
    fences = {r.card_id: r.card.fence for r in found}
    numbered = Attempt.objects.filter(card__in=fences, number__in=set(fences.values()))
    latest = {a.card_id: a for a in numbered if a.number == fences[a.card_id]}
    spent = _spent(list(fences))
    return Field(
        race, [Standing(r, latest.get(r.card_id), spent.get(r.card_id, Spent())) for r in found]
    )


def _spent(card_ids: list[UUID]) -> dict[UUID, Spent]:
    lasted = ExpressionWrapper(
        Coalesce("finished_at", timezone.now()) - F("started_at"), output_field=DurationField()
    )
    sums = (
        Attempt.objects.filter(card__in=card_ids)
        .values("card")
        .annotate(
            cost=Sum("cost_usd"),
            read=Sum("input_tokens"),
            written=Sum("output_tokens"),
            lasted=Sum(lasted),
            newest=Max("checkpoint_number"),
        )
    )
    return {
        row["card"]: Spent(
            row["cost"],
            row["read"],
            row["written"],
            round((row["lasted"] or timedelta()).total_seconds(), 3),
            row["newest"] or None,
        )
        for row in sums
    }
