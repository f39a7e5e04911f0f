"""How the parts of the runtime show that they live."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from workers.models import Pulse


def beat(name: str, **detail: Any) -> None:
    """Record that the part ``name`` lives now; ``detail`` is JSON about it."""
    Pulse.objects.bulk_create(
        [Pulse(name=name, beat_at=timezone.now(), detail=detail)],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["beat_at", "detail"],
    )


def age(name: str) -> timedelta | None:
    """Return how long ago the part last showed itself, or None if it never did."""
    at = Pulse.objects.filter(name=name).values_list("beat_at", flat=True).first()
    return None if at is None else timezone.now() - at


def youngest(prefix: str) -> timedelta | None:
    """Return how long ago any part whose name starts with ``prefix`` last showed itself."""
    at = (
        Pulse.objects.filter(name__startswith=prefix)
        .order_by("-beat_at")
        .values_list("beat_at", flat=True)
        .first()
    )
    return None if at is None else timezone.now() - at


def forget(name: str) -> None:
    """Drop the part that ended by itself, so that it doesn't count as missing."""
    Pulse.objects.filter(name=name).delete()


def drop_older_than(age: timedelta) -> int:
    """Drop parts that have been silent for ``age`` and return how many."""
    return Pulse.objects.filter(beat_at__lt=timezone.now() - age).delete()[0]
