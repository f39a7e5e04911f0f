from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Entry(models.Model):
    """A row of some other table as it is found by its words. Written by triggers alone.

    ``ref`` names the row: the letter of its kind and its key. ``tags`` are what a search is
    narrowed by, one word each. The index over ``title``, ``body`` and ``tags`` is beside the
    table, see ``keeping``.
    """

    class Kind(models.TextChoices):
        CARD = "card", _("Card")
        ATTEMPT = "attempt", _("Attempt")
        STEP = "step", _("Step")
        CHECKPOINT = "checkpoint", _("Checkpoint")
        MESSAGE = "message", _("Message")
        DECISION = "decision", _("Decision")
        DISCOVERY = "discovery", _("Discovery")

    id = models.BigAutoField(primary_key=True)
    ref = models.CharField(max_length=40, unique=True)
    kind = models.CharField(max_length=16, choices=Kind)
    board_id = models.UUIDField()
    goal_id = models.UUIDField(null=True)
    card_id = models.UUIDField(null=True)
    #: Of a step, checkpoint or attempt on its card; of a message its id.
    number = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=200)
    title = models.TextField()
    body = models.TextField()
    tags = models.TextField()
    at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.title[:60]}"


class Pending(models.Model):
    """A row that was written and is not found yet. Written by triggers, taken off by the sweep.

    Indexing a step where it is recorded would make recording it half as dear again.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=36)

    class Meta:
        verbose_name_plural = "pending"

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Filled(models.Model):
    """How far what was there before the triggers has been taken into the index, by kind.

    ``definition`` is the digest of what is indexed how: another one begins it anew.
    """

    kind = models.CharField(max_length=16, primary_key=True, choices=Entry.Kind)
    definition = models.CharField(max_length=64)
    upto = models.CharField(max_length=40, blank=True)
    done = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "filled"

    def __str__(self) -> str:
        return f"{self.kind}: {'all' if self.done else self.upto or 'nothing yet'}"
