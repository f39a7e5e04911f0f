from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from boards.models import Token
from kernel.ids import uuid7


class Worker(models.Model):
    """Somebody who claims cards, by the name it gave itself. One token may serve many."""

    class Kind(models.TextChoices):
        AGENT = "agent"
        BUILT_IN = "built_in"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    token = models.ForeignKey(Token, models.CASCADE, null=True, blank=True, related_name="workers")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.AGENT)
    capabilities = models.JSONField(default=list, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now, editable=False)
    last_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["token", "name"],
                condition=Q(token__isnull=False),
                name="worker_name_per_token",
            ),
            models.UniqueConstraint(
                fields=["name"], condition=Q(token=None), name="built_in_worker_name"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Host(models.Model):
    """A host with built-in workers, and whether they may begin something; see ``workers.hosts``."""

    name = models.CharField(max_length=100, primary_key=True)
    draining = models.BooleanField(default=False)
    #: The last cards, each another one, that the host itself kept from being worked on.
    failed_cards = models.JSONField(default=list, blank=True, editable=False)
    rests_until = models.DateTimeField(null=True, blank=True, editable=False)
    rests = models.PositiveSmallIntegerField(default=0, editable=False)  # one after the other
    why = models.CharField(max_length=500, blank=True, editable=False)
    seen_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class Pulse(models.Model):
    """When a part of the runtime last showed that it lives."""

    name = models.CharField(max_length=100, primary_key=True)
    beat_at = models.DateTimeField(default=timezone.now)
    detail = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.name
