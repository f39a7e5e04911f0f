from __future__ import annotations

from uuid import UUID

from django.db import models
from django.utils import timezone


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
