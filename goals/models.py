from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import goals.search.models  # noqa: F401 — so that Django knows them
from kernel.ids import uuid7


class GoalQuerySet(models.QuerySet["Goal"]):
    def on_boards(self, boards: frozenset[UUID] | None) -> GoalQuerySet:
        return self if boards is None else self.filter(board_id__in=boards)


class Goal(models.Model):
    """Intent, constraints and acceptance criteria. Outlives every attempt at it.

    ``board_id`` is a plain id: boards sit above goals and may import them, not the reverse.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        ACHIEVED = "achieved", _("Achieved")
        ABANDONED = "abandoned", _("Abandoned")

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
    #: What workers propose becomes a plan that a person reviews; see ``boards.planning``.
    plans_first = models.BooleanField(default=False)
    #: Its cards complete, and it is achieved, only with evidence; see ``goals.criteria``.
    evidence_required = models.BooleanField(default=False)
    #: It is achieved by itself once its criteria are shown to be met; else people are asked.
    achieves_itself = models.BooleanField(default=False)
    check_every_seconds = models.PositiveIntegerField(null=True, blank=True)
    check_due_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: Since when every criterion is met, as far as somebody was told.
    met_at = models.DateTimeField(null=True, blank=True, editable=False)
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
            models.CheckConstraint(
                condition=Q(check_every_seconds=None) | Q(check_every_seconds__gte=60),
                name="goal_checked_each_minute_at_most",
            ),
        ]
        indexes = [
            models.Index(
                fields=["board_id"],
                condition=Q(max_running__isnull=False) | Q(share__gt=1),
                name="goal_with_rules",
            ),
            models.Index(
                fields=["check_due_at"],
                condition=Q(check_due_at__isnull=False),
                name="goal_check_due",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class Criterion(models.Model):
    """One acceptance criterion of a goal, and whether it is met.

    At most one of ``check_command``, ``probe``, ``tests`` and ``by_person`` says how that is
    found out; without any, whoever works on the goal says so.
    """

    class Kind(models.TextChoices):
        TOLD = "told"  # by whoever works on the goal
        COMMAND = "command"
        HTTP = "http"
        TESTS = "tests"
        PERSON = "person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    goal = models.ForeignKey(Goal, models.CASCADE, related_name="criteria")
    number = models.PositiveSmallIntegerField()
    text = models.TextField()
    check_command = models.TextField(blank=True)
    #: ``{"url", "status", "text", "timeout_seconds"}``
    probe = models.JSONField(null=True, blank=True)
    tests = models.CharField(max_length=1000, blank=True)  # which, for the board's test command
    by_person = models.BooleanField(default=False)
    #: Since when it is as it is: evidence from before shows something else.
    changed_at = models.DateTimeField(default=timezone.now, editable=False)
    met = models.BooleanField(null=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    #: The number of the one whose text this is another wording of.
    replaces = models.PositiveSmallIntegerField(null=True, blank=True)

    if TYPE_CHECKING:
        goal_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["goal", "number"], name="criterion_number_per_goal")
        ]
        verbose_name_plural = "criteria"

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def kind(self) -> Criterion.Kind:
        """How it is found out whether it is met."""
        if self.check_command:
            return self.Kind.COMMAND
        if self.probe:
            return self.Kind.HTTP
        if self.tests:
            return self.Kind.TESTS
        return self.Kind.PERSON if self.by_person else self.Kind.TOLD

    @property
    def checks_itself(self) -> bool:
        """True if a run of the goal's checks says whether it is met."""
        return self.kind in (self.Kind.COMMAND, self.Kind.HTTP, self.Kind.TESTS)


class Evidence(models.Model):
    """What shows that a criterion is met, or that it is not. Append-only."""

    id = models.BigAutoField(primary_key=True)
    criterion = models.ForeignKey(Criterion, models.CASCADE, related_name="evidence")
    met = models.BooleanField()
    detail = models.TextField(blank=True)
    artifact = models.CharField(max_length=64, blank=True)
    card_id = models.UUIDField(null=True)
    attempt_id = models.UUIDField(null=True)
    #: Where the attempt was: the number of its newest checkpoint, and the step that showed it.
    checkpoint = models.PositiveIntegerField(null=True)
    step = models.CharField(max_length=200, blank=True)
    #: The run of the goal's checks that it is from, and the commit that ran on.
    check_run = models.ForeignKey(
        "CheckRun", models.SET_NULL, null=True, related_name="evidence", db_index=False
    )
    commit = models.CharField(max_length=64, blank=True)
    confirmed_at = models.DateTimeField(null=True)  # when a run last showed the same again
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    if TYPE_CHECKING:
        criterion_id: UUID
        check_run_id: UUID | None

    class Meta:
        verbose_name_plural = "evidence"
        constraints = [
            # Whoever goes on with a run that was cut off does no criterion of it again.
            models.UniqueConstraint(
                fields=["check_run", "criterion"],
                condition=Q(check_run__isnull=False),
                name="evidence_once_per_run",
            )
        ]
        indexes = [models.Index(fields=["criterion", "id"], name="evidence_of_criterion")]

    def __str__(self) -> str:
        return f"{'met' if self.met else 'not met'}: {self.detail[:60]}"


class CheckRun(models.Model):
    """One run of the checks of a goal's criteria, in a clean clone of the board's repository."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"  # it could not be run; ``error`` says why

    class Why(models.TextChoices):
        ASKED = "asked"
        COMPLETED = "completed"  # a card of the goal
        SCHEDULED = "scheduled"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    goal = models.ForeignKey(Goal, models.CASCADE, related_name="check_runs")
    status = models.CharField(max_length=8, choices=Status, default=Status.QUEUED)
    why = models.CharField(max_length=12, choices=Why, default=Why.ASKED)
    actor = models.CharField(max_length=200)
    card_id = models.UUIDField(null=True)  # the one that was completed
    commit = models.CharField(max_length=64, blank=True)
    again = models.BooleanField(default=False)  # somebody asked while it ran
    worker = models.CharField(max_length=200, blank=True)
    taken = models.PositiveIntegerField(default=0)  # how often; fences whoever had it before
    lapses = models.PositiveSmallIntegerField(default=0)  # workers that stopped answering
    lease_expires_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)
    said = models.CharField(max_length=300, blank=True)  # what came of it, in one sentence
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True)

    if TYPE_CHECKING:
        goal_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["goal"],
                condition=Q(status__in=["queued", "running"]),
                name="one_live_check_run_per_goal",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running"], ended_at=None)
                | Q(status__in=["done", "failed"], ended_at__isnull=False),
                name="check_run_ended_iff_dated",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(status__in=["queued", "running"]),
                name="live_check_run",
            )
        ]

    def __str__(self) -> str:
        return f"{self.status} checks of {self.goal_id}"


class Regression(models.Model):
    """A criterion that was shown to be met and is no longer: which change did it.

    ``suspects`` are the commits since it was last met, oldest first, each with the card that
    it came from; the change is among those from ``low`` on and before ``high``.
    """

    class Status(models.TextChoices):
        SEARCHING = "searching"
        FOUND = "found"
        LISTED = "listed"  # only the suspects are known

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    criterion = models.ForeignKey(Criterion, models.CASCADE, related_name="regressions")
    check_run = models.ForeignKey(CheckRun, models.CASCADE, related_name="regressions")
    status = models.CharField(max_length=12, choices=Status, default=Status.SEARCHING)
    good = models.CharField(max_length=64, blank=True)
    bad = models.CharField(max_length=64, blank=True)
    suspects = models.JSONField(default=list)
    left_out = models.PositiveIntegerField(default=0)  # suspects too many to list
    low = models.PositiveIntegerField(default=0)
    high = models.PositiveIntegerField(default=0)
    trials = models.JSONField(default=list)  # {"commit", "met", "said", "artifact"}
    at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.status} regression of {self.criterion_id}"

    @property
    def culprit(self) -> dict[str, Any] | None:
        """The change that did it, if it was found."""
        if self.status != self.Status.FOUND or not self.suspects:
            return None
        return dict(self.suspects[self.low])


class Amendment(models.Model):
    """A change to what an active goal asks for; what it asked before stays readable.

    It holds until it is withdrawn, which restores what it changed.
    """

    id = models.BigAutoField(primary_key=True)
    goal = models.ForeignKey(Goal, models.CASCADE, related_name="amendments")
    number = models.PositiveIntegerField()
    before = models.JSONField()
    after = models.JSONField()
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.CharField(max_length=200, blank=True)
    withdrawn_because = models.TextField(blank=True)

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
    title = models.CharField(max_length=300)  # what is chosen
    context = models.TextField(blank=True)
    rationale = models.TextField(blank=True)
    alternatives = models.JSONField(default=list, blank=True)
    consequences = models.TextField(blank=True)
    files = models.JSONField(default=list, blank=True)  # the paths that it is about
    differs = models.TextField(blank=True)  # why it can stand beside those that it resembles
    checkpoint_id = models.UUIDField(null=True)  # the one that it was saved with
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
                condition=Q(superseded_by=None) & ~Q(files=[]),
                name="decision_on_files",
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
    """Something learnt on the way. Open until somebody resolves it, or a card is made of it.

    The same thing learnt again is the same discovery, ``seen`` once more. A dead end may say
    what it ``rests_on``; where that changes it is ``revived``: perhaps worth another try.
    """

    class Kind(models.TextChoices):
        FAILING_TEST = "failing_test", _("failing test")
        ARCHITECTURE_ISSUE = "architecture_issue", _("architecture issue")
        NEW_REQUIREMENT = "new_requirement", _("new requirement")
        DEAD_END = "dead_end", _("dead end")
        FACT = "fact", _("fact")

    class Severity(models.TextChoices):
        LOW = "low", _("low severity")
        MEDIUM = "medium", _("medium severity")
        HIGH = "high", _("high severity")
        CRITICAL = "critical", _("critical")

    class Status(models.TextChoices):
        OPEN = "open", _("open")
        PROPOSED = "proposed", _("a card sees to it")
        REVIVED = "revived", _("may be worth another try")  # what it rested on has changed
        RESOLVED = "resolved", _("resolved")
        WONT_DO = "wont_do", _("won't be done")

    goal = models.ForeignKey(Goal, models.CASCADE, null=True, related_name="discoveries")
    kind = models.CharField(max_length=32, choices=Kind)
    title = models.CharField(max_length=300)
    detail = models.TextField(blank=True)
    severity = models.CharField(max_length=16, choices=Severity, default=Severity.MEDIUM)
    status = models.CharField(max_length=16, choices=Status, default=Status.OPEN)
    resolution = models.TextField(blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    seen = models.PositiveIntegerField(default=1)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    #: The same for what is the same thing, see ``goals.discoveries``.
    signature = models.CharField(max_length=64, blank=True, editable=False)
    #: Where a checkpoint's test results opened it, the test; one that passes closes it.
    test = models.CharField(max_length=500, blank=True)
    proposed_card_id = models.UUIDField(null=True)
    #: ``{"requirement": text, "environment": {name: value}}``
    rests_on = models.JSONField(default=dict, blank=True)
    #: What a fact says of the environment, ``{name: value}``: a version, a lock file's digest.
    environment = models.JSONField(default=dict, blank=True)
    revived_because = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "discoveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["open", "proposed", "revived"], resolved_at=None)
                | Q(status__in=["resolved", "wont_do"], resolved_at__isnull=False),
                name="discovery_resolved_iff_dated",
            )
        ]
        indexes = [
            models.Index(
                fields=["signature"],
                condition=Q(status__in=["open", "proposed", "revived"]) & ~Q(signature=""),
                name="discovery_again",
            ),
            models.Index(
                fields=["proposed_card_id"],
                condition=Q(status="proposed"),
                name="discovery_of_card_proposed",
            ),
            models.Index(
                fields=["card_id"],
                condition=Q(status__in=["open", "proposed"]) & ~Q(test=""),
                name="failing_test_of_card",
            ),
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
