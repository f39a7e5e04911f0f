from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Secret(models.Model):
    """A value that the commands of one board get as the variable ``name``.

    Only its sealed form is kept, see ``sealing``; ``sealed_under`` names the key that did it.
    """

    board = models.ForeignKey("boards.Board", models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=100)
    sealed = models.TextField(editable=False)
    sealed_under = models.CharField(max_length=16, editable=False)
    size_bytes = models.PositiveIntegerField(editable=False)
    set_by = models.CharField(max_length=200, editable=False)
    set_at = models.DateTimeField(default=timezone.now, editable=False)

    if TYPE_CHECKING:
        board_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["board", "name"], name="one_secret_per_name"),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[A-Za-z_][A-Za-z0-9_]*$"), name="secret_name_shape"
            ),
        ]

    def __str__(self) -> str:
        return self.name
