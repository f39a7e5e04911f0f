"""Who works here: workers register themselves by the name they claim under."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils import timezone

from boards import tokens
from boards.models import Attempt, Membership
from kernel.access import Role
from kernel.sql import insert_or_skip
from kernel.tx import transition
from workers.models import Worker

#: For so long after it was heard of a worker counts as here: remote ones ask every half minute.
OFFERED_FOR = timedelta(minutes=2)


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


def holder(attempt_id: UUID) -> Worker | None:
    """Return the worker that holds the attempt, if it claimed by a token."""
    attempt = Attempt.objects.filter(pk=attempt_id)
    names, ids = attempt.values("worker")[:1], attempt.values("token")[:1]
    return Worker.objects.filter(name=Subquery(names), token=Subquery(ids)).first()


def offered(capabilities: Collection[str]) -> dict[str, frozenset[UUID] | None]:
    """Return which of the capabilities other workers have just now, and on which boards.

    None stands for all boards. Only workers that carry workflows out count, while they work or
    were heard of within OFFERED_FOR, and none that is drained.
    """
    if not capabilities:
        return {}
    holding = Attempt.objects.live().filter(worker=OuterRef("name"), token=OuterRef("token"))
    now = timezone.now()
    here = Q(last_seen_at__gt=now - OFFERED_FOR) | Exists(holding)
    valid = Q(kind=Worker.Kind.BUILT_IN) | Q(token__in=tokens.live(now))
    workers = Worker.objects.filter(here, valid, draining=False)
    found: dict[str, set[UUID] | None] = {}
    for worker in workers.exclude(kind=Worker.Kind.AGENT).select_related("token"):
        able = set(capabilities) & set(worker.capabilities)
        boards = _boards_of(worker) if able else None
        for capability in able:
            so_far = found.get(capability, set())
            found[capability] = None if boards is None or so_far is None else so_far | boards
    return {name: None if of is None else frozenset(of) for name, of in found.items()}


def _boards_of(worker: Worker) -> set[UUID] | None:
    """Return the boards that the worker may work on, None for all."""
    if worker.token is None or worker.token.everywhere is not None:
        return None
    of = Membership.objects.filter(token=worker.token, role__gte=Role.MEMBER)
    return set(of.values_list("board_id", flat=True))


def still_here(beginnings: Collection[str]) -> None:
    """Note that the built-in workers whose names begin so are here now."""
    here = Q(name="")
    for beginning in beginnings:
        here |= Q(name__startswith=beginning)
    Worker.objects.filter(here, token=None).update(last_seen_at=timezone.now())


def forget_idle(name: str) -> None:
    """Drop a built-in worker that is gone and never held a card."""
    if not Attempt.objects.filter(worker=name, token=None).exists():
        Worker.objects.filter(name=name, token=None).delete()


def forget_built_in(unseen_for: timedelta) -> int:
    """Drop built-in workers that have not been seen for so long. Returns how many.

    Each process has a name of its own; what it did stays with its attempts.
    """
    horizon = timezone.now() - unseen_for
    return Worker.objects.filter(token=None, last_seen_at__lt=horizon).delete()[0]
