from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

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
        REMOTE = "remote"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    token = models.ForeignKey(Token, models.CASCADE, null=True, blank=True, related_name="workers")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.AGENT)
    capabilities = models.JSONField(default=list, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now, editable=False)
    last_seen_at = models.DateTimeField(default=timezone.now)
    draining = models.BooleanField(default=False)  # of built-in workers their host says it
    rests: Sequence[Host] = ()  # what of its host is at rest, see ``draining.mark``

    if TYPE_CHECKING:
        token_id: UUID | None

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
    """A host with built-in workers, or some steps there, HOST/WORD, and whether they may begin
    something; see ``workers.hosts`` and ``workers.breakers``.

    A ``worker`` on another host is one by itself; ``name`` then begins with ``@`` and its id.
    """

    name = models.CharField(max_length=100, primary_key=True)
    worker = models.ForeignKey(
        Worker, models.CASCADE, null=True, blank=True, editable=False, related_name="breakers"
    )
    draining = models.BooleanField(default=False)
    #: The last cards, each another one, that the host itself kept from being worked on.
    failed_cards = models.JSONField(default=list, blank=True, editable=False)
    rests_until = models.DateTimeField(null=True, blank=True, editable=False)
    rests = models.PositiveSmallIntegerField(default=0, editable=False)  # one after the other
    #: The attempt that tries whether it works again, of a worker on another host.
    probe = models.UUIDField(null=True, blank=True, editable=False)
    why = models.CharField(max_length=500, blank=True, editable=False)
    seen_at = models.DateTimeField(default=timezone.now, editable=False)

    if TYPE_CHECKING:
        worker_id: UUID | None

    def __str__(self) -> str:
        return f"{self.host}/{self.kind}" if self.kind else self.host

    @property
    def host(self) -> str:
        """The name of the host itself, or of the worker there."""
        return self.worker.name if self.worker is not None else self.name.partition("/")[0]

    @property
    def kind(self) -> str:
        """The word for the steps that it is about, empty for the host as a whole."""
        return self.name.partition("/")[2]

    @property
    def steps(self) -> str:
        """The steps that it is about as people say it: ``agent codex``."""
        kind, _, said = self.kind.partition(".")
        return f"{kind} {said.partition('=')[2]}".strip()


class Pulse(models.Model):
    """When a part of the runtime last showed that it lives."""

    name = models.CharField(max_length=100, primary_key=True)
    beat_at = models.DateTimeField(default=timezone.now)
    detail = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.name
