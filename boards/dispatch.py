"""Wakes built-in workers. Only a nudge: which card runs is decided by the claim."""

from __future__ import annotations

from django.conf import settings
from django_q.tasks import async_task

from boards.models import Card

#: What a nudge calls, by name: workers are above this app and are not imported from here.
WORK = "workers.tasks.work"


def nudge(card: Card) -> None:
    """Ask a built-in worker to look at ``card``, when this transaction commits.

    The queue is a table of the same database, so the nudge commits or rolls back with the
    change that made the card claimable. Cards without a workflow wait for an agent.
    """
    if settings.DISPATCH and card.needs_built_in_worker:
        async_task(WORK, str(card.pk))
