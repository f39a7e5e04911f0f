"""A plan of cards towards a goal, which a person reviews before anything is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from goals.models import Discovery
from kernel.ids import uuid7


class Plan(models.Model):
    """Items that become cards once they are accepted; see ``drafts`` for what an item is."""

    class Status(models.TextChoices):
        OPEN = "open"
        APPLIED = "applied"
        DISCARDED = "discarded"

    class Source(models.TextChoices):
        PERSON = "person"
        MARKDOWN = "markdown"
        AGENT = "agent"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey("boards.Board", models.CASCADE, related_name="+")
    goal = models.ForeignKey("goals.Goal", models.CASCADE, related_name="plans")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=Status, default=Status.OPEN)
    source = models.CharField(max_length=8, choices=Source, default=Source.PERSON)
    note = models.TextField(blank=True)
    items = models.JSONField(default=list)
    #: The card whose workers propose it, where they do.
    card = models.ForeignKey(
        "boards.Card", models.SET_NULL, null=True, blank=True, related_name="plans"
    )
    version = models.PositiveIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_by = models.CharField(max_length=200, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    #: What became of each card: ``{"card", "ref", "title", "did", "why"}``.
    outcome = models.JSONField(default=list, blank=True)

    if TYPE_CHECKING:
        board_id: UUID
        goal_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["goal", "number"], name="plan_number_per_goal"),
            models.UniqueConstraint(
                fields=["card"],
                condition=Q(status="open", card__isnull=False),
                name="one_open_plan_per_card",
            ),
            models.CheckConstraint(
                condition=Q(status="open", closed_at=None)
                | Q(status__in=["applied", "discarded"], closed_at__isnull=False),
                name="plan_closed_iff_dated",
            ),
        ]

    def __str__(self) -> str:
        return f"plan {self.number}"


def unplanned() -> QuerySet[Discovery]:
    """Return the new requirements that stand open and are younger than every plan of their goal
    that was applied."""
    later = Plan.objects.filter(
        goal=OuterRef("goal"), status=Plan.Status.APPLIED, created_at__gte=OuterRef("at")
    )
    wanted = Discovery.objects.filter(
        kind=Discovery.Kind.NEW_REQUIREMENT, status=Discovery.Status.OPEN, goal__isnull=False
    )
    return wanted.filter(~Exists(later))
