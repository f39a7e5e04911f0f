"""Who works here: workers register themselves by the name they claim under."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from kernel.sql import insert_or_skip
from kernel.tx import transition
from workers.models import Worker


def seen(
    name: str,
    *,
    token_id: UUID | None,
    capabilities: Collection[str] = (),
    kind: str = Worker.Kind.AGENT,
) -> None:
    """Note that the worker was here now, registering it on first sight."""
    wanted = sorted(set(capabilities))
    known = Worker.objects.filter(Q(token=None) if token_id is None else Q(token_id=token_id))
    known = known.filter(name=name)
    with transition():
        if known.update(last_seen_at=timezone.now(), capabilities=wanted):
            return
        worker = Worker(name=name, token_id=token_id, kind=kind, capabilities=wanted)
        # Two first claims at once: the second finds the row of the first.
        if not insert_or_skip(worker):
            known.update(last_seen_at=timezone.now(), capabilities=wanted)


def forget_built_in(unseen_for: timedelta) -> int:
    """Drop built-in workers that have not been seen for so long. Returns how many.

    Each process has a name of its own; what it did stays with its attempts.
    """
    horizon = timezone.now() - unseen_for
    return Worker.objects.filter(token=None, last_seen_at__lt=horizon).delete()[0]
