from __future__ import annotations

from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from kernel.ids import uuid7


class GoalQuerySet(models.QuerySet["Goal"]):
    def on_boards(self, boards: frozenset[UUID] | None) -> GoalQuerySet:
        return self if boards is None else self.filter(board_id__in=boards)


class Goal(models.Model):
    """Intent, constraints and acceptance criteria. Outlives every attempt at it.

    ``board_id`` is a plain id: boards sit above goals and may import them, not the reverse.
    """

    class Status(models.TextChoices):
        ACTIVE = "active"
        ACHIEVED = "achieved"
        ABANDONED = "abandoned"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board_id = models.UUIDField(db_index=True)
    parent = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="children"
    )
    title = models.CharField(max_length=300)
    intent = models.TextField(blank=True)
    constraints = models.JSONField(default=list, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    budgets = models.JSONField(default=dict, blank=True)
    over = models.CharField(max_length=300, blank=True, editable=False)  # see boards.bounds
    share = models.PositiveSmallIntegerField(default=1)  # its weight, see boards.choice
    max_running = models.PositiveIntegerField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = GoalQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["active", "achieved", "abandoned"]),
                name="goal_status_known",
            ),
            models.CheckConstraint(condition=~Q(id=models.F("parent")), name="goal_not_its_parent"),
            models.CheckConstraint(condition=Q(share__gte=1), name="goal_share_positive"),
        ]
        indexes = [
            models.Index(
                fields=["board_id"],
                condition=Q(max_running__isnull=False) | Q(share__gt=1),
                name="goal_with_rules",
            )
        ]

    def __str__(self) -> str:
        return self.title


class Criterion(models.Model):
    """One acceptance criterion of a goal, and whether it is met."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    goal = models.ForeignKey(Goal, models.CASCADE, related_name="criteria")
    number = models.PositiveSmallIntegerField()
    text = models.TextField()
    check_command = models.TextField(blank=True)
    met = models.BooleanField(null=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["goal", "number"], name="criterion_number_per_goal")
        ]
        verbose_name_plural = "criteria"

    def __str__(self) -> str:
        return self.text[:80]


class Evidence(models.Model):
    """What shows that a criterion is met, or that it is not. Append-only."""

    id = models.BigAutoField(primary_key=True)
    criterion = models.ForeignKey(Criterion, models.CASCADE, related_name="evidence")
    met = models.BooleanField()
    detail = models.TextField(blank=True)
    artifact = models.CharField(max_length=64, blank=True)
    card_id = models.UUIDField(null=True)
    attempt_id = models.UUIDField(null=True)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "evidence"
        indexes = [models.Index(fields=["criterion", "id"], name="evidence_of_criterion")]

    def __str__(self) -> str:
        return f"{'met' if self.met else 'not met'}: {self.detail[:60]}"


class Amendment(models.Model):
    """A change to what an active goal asks for; what it asked before stays readable."""

    id = models.BigAutoField(primary_key=True)
    goal = models.ForeignKey(Goal, models.CASCADE, related_name="amendments")
    number = models.PositiveIntegerField()
    before = models.JSONField()
    after = models.JSONField()
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["goal", "number"], name="amendment_number_per_goal")
        ]

    def __str__(self) -> str:
        return f"amendment {self.number}"


class Memory(models.Model):
    """What every kind of goal memory shares: where it came from.

    ``goal`` is empty for a card without one; the memory then belongs to the card.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board_id = models.UUIDField()
    card_id = models.UUIDField(null=True)
    attempt_id = models.UUIDField(null=True)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)
    pinned = models.BooleanField(default=False)  # every briefing tells it before others

    class Meta:
        abstract = True


class Decision(Memory):
    """An architectural decision. In force until another one supersedes it."""

    goal = models.ForeignKey(Goal, models.CASCADE, null=True, related_name="decisions")
    title = models.CharField(max_length=300)
    rationale = models.TextField(blank=True)
    alternatives = models.JSONField(default=list, blank=True)
    superseded_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="supersedes"
    )

    class Meta:
        indexes = [
            models.Index(fields=["goal", "at"], name="decision_of_goal"),
            models.Index(fields=["card_id", "at"], name="decision_of_card"),
            models.Index(
                fields=["goal", "at"],
                condition=Q(superseded_by=None),
                name="decision_in_force",
            ),
            models.Index(
                fields=["goal", "at"],
                condition=Q(pinned=True, superseded_by=None),
                name="pinned_decision",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class Discovery(Memory):
    """Something learnt on the way. Open until somebody resolves it."""

    class Kind(models.TextChoices):
        FAILING_TEST = "failing_test"
        ARCHITECTURE_ISSUE = "architecture_issue"
        NEW_REQUIREMENT = "new_requirement"
        DEAD_END = "dead_end"
        FACT = "fact"

    class Severity(models.TextChoices):
        LOW = "low"
        MEDIUM = "medium"
        HIGH = "high"
        CRITICAL = "critical"

    class Status(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"

    goal = models.ForeignKey(Goal, models.CASCADE, null=True, related_name="discoveries")
    kind = models.CharField(max_length=32, choices=Kind)
    title = models.CharField(max_length=300)
    detail = models.TextField(blank=True)
    severity = models.CharField(max_length=16, choices=Severity, default=Severity.MEDIUM)
    status = models.CharField(max_length=16, choices=Status, default=Status.OPEN)
    resolution = models.TextField(blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "discoveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(status="open", resolved_at=None)
                | Q(status="resolved", resolved_at__isnull=False),
                name="discovery_resolved_iff_dated",
            )
        ]
        indexes = [
            # SQLite takes the partial ones only where they begin with as many columns.
            models.Index(fields=["goal", "status", "at"], name="discovery_of_goal"),
            models.Index(fields=["card_id", "at"], name="discovery_of_card"),
            models.Index(
                fields=["goal", "status", "at"],
                condition=Q(status="open", kind="dead_end"),
                name="dead_end_of_goal",
            ),
            models.Index(
                fields=["goal", "status", "at"],
                condition=Q(status="open", severity__in=["high", "critical"]),
                name="severe_of_goal",
            ),
            models.Index(
                fields=["goal", "status", "at"],
                condition=Q(pinned=True, status="open"),
                name="pinned_discovery",
            ),
        ]

    def __str__(self) -> str:
        return self.title
