from __future__ import annotations

from uuid import UUID

from django.db import models
from django.utils import timezone

from kernel.ids import uuid7


class Stream(models.Model):
    """The counter behind a board's event numbers, where the store has concurrent writers.

    A counter row, not a database sequence: its lock is held until commit, so numbers are
    given in commit order and without a gap. On SQLite the single writer gives both.
    """

    board_id = models.UUIDField(primary_key=True)
    last_seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.board_id} at {self.last_seq}"


class EventQuerySet(models.QuerySet["Event"]):
    def of_board(self, board_id: UUID) -> EventQuerySet:
        return self.filter(board_id=board_id)

    def after(self, seq: int) -> EventQuerySet:
        return self.filter(seq__gt=seq).order_by("seq")


class Event(models.Model):
    """One fact, written in the transaction that made it true. Append-only.

    Refers to other rows by id, never by foreign key: the log outlives its subjects and
    this app imports no other.
    """

    id = models.BigAutoField(primary_key=True)
    board_id = models.UUIDField()
    seq = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now, editable=False)
    kind = models.CharField(max_length=64)  # "card.claimed": noun.past_participle
    actor = models.CharField(max_length=200)
    subject_id = models.UUIDField()
    data = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["board_id", "seq"], name="event_seq_per_board"),
            models.CheckConstraint(condition=models.Q(seq__gte=1), name="event_seq_from_one"),
        ]
        indexes = [models.Index(fields=["subject_id", "seq"], name="event_of_subject")]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class Receipt(models.Model):
    """A remembered answer to a request that carried an idempotency key.

    Commits with the effect it answers for, so either both are there or neither.
    """

    id = models.BigAutoField(primary_key=True)
    principal = models.CharField(max_length=120)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    body = models.JSONField(null=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["principal", "key"], name="one_receipt_per_key")
        ]

    def __str__(self) -> str:
        return f"{self.principal} {self.key}"


class Webhook(models.Model):
    """An address that is told of events: a board's, in order, or notices for one person.

    The secret is derived, see ``webhooks.secret_of``. ``cursor`` is the number of the last
    event that was delivered, given up or passed over; ``taken_*`` is the lease of whoever
    delivers at the moment.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board_id = models.UUIDField(null=True, blank=True)
    user_id = models.BigIntegerField(null=True, blank=True)
    url = models.CharField(max_length=1000)
    kinds = models.JSONField(default=list, blank=True)  # "card.*", "attempt.failed"; none: all
    active = models.BooleanField(default=True)
    why_off = models.CharField(max_length=200, blank=True)
    secret_number = models.PositiveIntegerField(default=1)
    cursor = models.BigIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0)  # at the event after the cursor
    failures = models.PositiveIntegerField(default=0)  # in a row
    failing_since = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    taken_until = models.DateTimeField(null=True, blank=True)
    taken_by = models.UUIDField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(board_id=None, user_id__isnull=False)
                | models.Q(board_id__isnull=False, user_id=None),
                name="webhook_of_board_or_person",
            )
        ]
        indexes = [models.Index(fields=["board_id"], name="webhook_of_board")]

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """What was sent, or is to be sent, to a webhook and what came of it.

    Rows for a board's events are written when they are tried. Tests, repeats and notices are
    ``queued``: they are sent besides, whether or not the event before them got through.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"  # given up

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    message_id = models.CharField(max_length=80)  # what the receiver tells repeats by
    seq = models.BigIntegerField(null=True, blank=True)
    kind = models.CharField(max_length=64)
    body = models.TextField(blank=True)  # where it is no event of the log
    queued = models.BooleanField(default=False)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    tries = models.PositiveIntegerField(default=0)
    code = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    answer = models.CharField(max_length=500, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    due_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["webhook", "seq"],
                condition=models.Q(queued=False),
                name="one_delivery_per_event",
            )
        ]
        indexes = [
            models.Index(fields=["webhook", "-id"], name="delivery_of_webhook"),
            models.Index(
                fields=["due_at"],
                condition=models.Q(queued=True, state="waiting"),
                name="delivery_queued",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"
