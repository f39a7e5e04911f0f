from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone

from boards.models import Attempt, Board, Card
from kernel.ids import uuid7


class Line(models.Model):
    """A stretch of a card's history. Line 1 needs no row; a rewind opens the next one.

    ``origin`` is the checkpoint it starts from, of this card or of the one it was forked from.
    What was recorded up to there stands on the line too, as inherited steps.
    """

    id = models.BigAutoField(primary_key=True)
    card = models.ForeignKey(Card, models.CASCADE, related_name="lines")
    number = models.PositiveIntegerField()
    parent = models.PositiveIntegerField()
    origin = models.ForeignKey("Checkpoint", models.RESTRICT, null=True, related_name="+")
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["card", "number"], name="line_number_per_card"),
            models.CheckConstraint(condition=Q(number__gte=2), name="line_number_from_two"),
        ]

    def __str__(self) -> str:
        return f"line {self.number}"


class StepQuerySet(models.QuerySet["Step"]):
    def on_line(self, card_id: UUID, line: int) -> StepQuerySet:
        """The steps that count on a line: one per key, the newest try."""
        return self.filter(card_id=card_id, line=line, superseded=False)


class Step(models.Model):
    """One try at a step of a card.

    At most one try per key counts on a line; earlier ones stay as ``superseded`` history. A
    try that succeeded is never superseded on its line, so its work is never done twice; nor is
    one that a workflow skipped.
    """

    class Status(models.TextChoices):
        STARTED = "started"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        SKIPPED = "skipped"

    id = models.BigAutoField(primary_key=True)
    card = models.ForeignKey(Card, models.CASCADE, related_name="steps")
    line = models.PositiveIntegerField(default=1)
    key = models.CharField(max_length=200)
    number = models.PositiveIntegerField()
    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="steps")
    kind = models.CharField(max_length=40, blank=True)
    title = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.STARTED)
    superseded = models.BooleanField(default=False)
    in_doubt = models.BooleanField(default=False)  # an earlier try never said how it ended
    inherited = models.BooleanField(default=False)  # recorded on the line this one starts from
    input = models.JSONField(null=True, blank=True)
    input_sha256 = models.CharField(max_length=64, blank=True)
    outcome_sha256 = models.CharField(max_length=64, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    model = models.CharField(max_length=100, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = StepQuerySet.as_manager()

    if TYPE_CHECKING:
        card_id: UUID
        attempt_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["card", "line", "key"],
                condition=Q(superseded=False),
                name="one_counting_try_per_step",
            ),
            models.UniqueConstraint(fields=["card", "number"], name="step_number_per_card"),
            models.CheckConstraint(
                condition=Q(status="started", finished_at=None)
                | (~Q(status="started") & Q(finished_at__isnull=False)),
                name="step_finished_iff_not_started",
            ),
            models.CheckConstraint(
                condition=~Q(status="succeeded", superseded=True),
                name="succeeded_step_never_superseded",
            ),
        ]
        indexes = [
            models.Index(fields=["attempt", "number"], name="step_of_attempt"),
            models.Index(
                fields=["card", "line", "number"],
                condition=Q(status="started", superseded=False),
                name="step_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def kept(self) -> CheckpointQuerySet:
        """Those whose files, artifacts and state one can still go back to."""
        return self.filter(dropped_at=None)


class Checkpoint(models.Model):
    """A recovery point of a card: what is done, what comes next, and the workspace. Immutable.

    ``digest`` covers the content and the parent's digest, so a changed history shows. The row
    is for good; what it refers to goes when the board's rules say so (``dropped_at``), and a
    large ``state`` with it (``state_bytes`` says how large it was).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    card = models.ForeignKey(Card, models.CASCADE, related_name="checkpoints")
    line = models.PositiveIntegerField(default=1)
    number = models.PositiveIntegerField()
    parent = models.ForeignKey("self", models.RESTRICT, null=True, related_name="children")
    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="checkpoints")
    after_step = models.PositiveIntegerField(default=0)  # newest step number at that moment
    key = models.CharField(max_length=200, blank=True)
    summary = models.TextField()
    next_step = models.TextField(blank=True)
    state = models.JSONField(null=True, blank=True)
    tests = models.JSONField(null=True, blank=True)
    workspace = models.JSONField(null=True, blank=True)
    artifacts = models.JSONField(default=list, blank=True)
    digest = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now, editable=False)
    tag = models.CharField(max_length=60, blank=True)  # a person's name for it: kept for good
    dropped_at = models.DateTimeField(null=True, blank=True, editable=False)
    released_at = models.DateTimeField(null=True, blank=True, editable=False)  # in the store, too
    state_bytes = models.PositiveIntegerField(null=True, blank=True, editable=False)

    objects = CheckpointQuerySet.as_manager()

    if TYPE_CHECKING:
        card_id: UUID
        attempt_id: UUID
        parent_id: UUID | None

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(dropped_at=None, released_at=None, state_bytes=None)
                | Q(dropped_at__isnull=False),
                name="checkpoint_released_once_dropped",
            ),
            models.UniqueConstraint(fields=["card", "number"], name="checkpoint_number_per_card"),
            models.UniqueConstraint(
                fields=["card", "line", "key"],
                condition=~Q(key=""),
                name="checkpoint_key_per_line",
            ),
            models.CheckConstraint(condition=Q(number__gte=1), name="checkpoint_number_from_one"),
        ]
        indexes = [
            models.Index(fields=["card", "line", "-number"], name="checkpoint_head"),
            models.Index(
                fields=["card"],
                condition=Q(dropped_at__isnull=False, released_at=None),
                name="checkpoint_to_release",
            ),
        ]

    def __str__(self) -> str:
        return f"C{self.number}"


class Artifact(models.Model):
    """A file kept by its content, once, however often it is stored."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.BigIntegerField()
    content_type = models.CharField(max_length=200, default="application/octet-stream")
    at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.sha256[:12]


class ArtifactLink(models.Model):
    """Why an artifact may be read: who uploaded it, or which card of which board holds it."""

    id = models.BigAutoField(primary_key=True)
    artifact = models.ForeignKey(Artifact, models.CASCADE, related_name="links")
    principal = models.CharField(max_length=120, blank=True)
    board = models.ForeignKey(Board, models.CASCADE, null=True, related_name="+")
    card = models.ForeignKey(Card, models.CASCADE, null=True, related_name="artifact_links")
    attempt = models.ForeignKey(Attempt, models.CASCADE, null=True, related_name="+")
    name = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(principal="") | Q(board__isnull=False),
                name="artifact_link_of_somebody",
            )
        ]

    def __str__(self) -> str:
        return self.name or str(self.artifact_id)


class LogChunk(models.Model):
    """A piece of live output, in the order it arrived.

    A line is of one step and one stream; it ends at a line feed, where another step or stream
    breaks in, or when it is too long. ``line`` and ``step_line`` are the lines, of all the
    attempt printed and of what the step did, in which the piece begins, so that any line is
    found without counting. They never fall from one piece to the next.
    """

    id = models.BigAutoField(primary_key=True)
    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="log_chunks")
    step_key = models.CharField(max_length=200, blank=True)
    stream = models.CharField(max_length=16)
    text = models.TextField()
    line = models.PositiveIntegerField(default=1)
    step_line = models.PositiveIntegerField(default=1)
    breaks = models.PositiveIntegerField(default=0)  # line feeds in the text
    open_chars = models.PositiveIntegerField(default=0)  # of the line left unfinished; 0: none
    style = models.CharField(max_length=100, blank=True)  # that is on before it, see terminal.py
    style_after = models.CharField(max_length=100, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["attempt", "line", "id"], name="log_by_line"),
            models.Index(fields=["attempt", "step_key", "step_line", "id"], name="log_by_step"),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Salvage(models.Model):
    """What an attempt still held when it ended: kept beside it, on no line until it is adopted.

    ``commit`` names the snapshot where a built-in worker's folder was kept by itself; it is
    empty where the attempt's worker told of it.
    """

    id = models.BigAutoField(primary_key=True)
    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="salvages")
    summary = models.TextField()
    workspace = models.JSONField(null=True, blank=True)
    artifacts = models.JSONField(default=list, blank=True)
    commit = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)
    adopted_as = models.ForeignKey(
        Checkpoint, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    adopted_by = models.CharField(max_length=200, blank=True)
    adopted_at = models.DateTimeField(null=True, blank=True)

    if TYPE_CHECKING:
        attempt_id: UUID
        adopted_as_id: UUID | None

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "commit"],
                condition=~Q(commit=""),
                name="salvaged_once_per_commit",
            )
        ]

    def __str__(self) -> str:
        return self.summary[:80]


class Keeping(models.Model):
    """What a board keeps of its checkpoints' contents, and what everything of it takes up.

    A content stays while either rule asks for it; without any rule all stay.
    """

    board = models.OneToOneField(Board, models.CASCADE, primary_key=True, related_name="+")
    keep_last = models.PositiveIntegerField(null=True, blank=True)  # of each card
    keep_days = models.PositiveIntegerField(null=True, blank=True)
    snapshots_bytes = models.BigIntegerField(default=0, editable=False)
    artifacts_bytes = models.BigIntegerField(default=0, editable=False)
    logs_bytes = models.BigIntegerField(default=0, editable=False)
    events_bytes = models.BigIntegerField(default=0, editable=False)
    workspaces_bytes = models.BigIntegerField(default=0, editable=False)
    measured_at = models.DateTimeField(null=True, blank=True, editable=False)
    collected_at = models.DateTimeField(null=True, blank=True, editable=False)

    if TYPE_CHECKING:
        board_id: UUID

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(keep_last=None) | Q(keep_last__gte=1), name="keeping_at_least_one"
            )
        ]

    def __str__(self) -> str:
        return "everything" if self.keeps_all else "by rule"

    @property
    def keeps_all(self) -> bool:
        return self.keep_last is None and self.keep_days is None


class Brought(models.Model):
    """A bundle that was brought to a board, and the cards that were made of it."""

    id = models.BigAutoField(primary_key=True)
    board = models.ForeignKey(Board, models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64)
    cards = models.JSONField(default=dict)  # new keys by the ones they had
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "bundles brought"
        constraints = [
            models.UniqueConstraint(fields=["board", "sha256"], name="bundle_brought_once")
        ]

    def __str__(self) -> str:
        return self.sha256[:12]


class Merge(models.Model):
    """A card's files as they went into a branch of the board's repository."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    card = models.ForeignKey(Card, models.CASCADE, related_name="merges")
    checkpoint = models.ForeignKey(Checkpoint, models.CASCADE, related_name="merges")
    strategy = models.CharField(max_length=16)
    branch = models.CharField(max_length=250)  # the card's own
    into = models.CharField(max_length=250, blank=True)  # empty: only the card's own was made
    commit = models.CharField(max_length=64)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["card", "checkpoint", "into", "commit"], name="merge_recorded_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.commit[:12]} into {self.into or self.branch}"


class Briefing(models.Model):
    """The exact text some attempt was given, kept by its content."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    markdown = models.TextField()
    tokens = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.sha256[:12]
