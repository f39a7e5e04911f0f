"""The breakers of workers on other hosts. They know of their own card alone, so the server keeps
count for them, see ``workers.breakers``:

    claim      ─> what rests is left out; at the end of a rest one claim is the probe
    heartbeat  ─> what has come to rest meanwhile
    an end     ─> what it says of the worker
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone

from boards import needs
from boards.models import Attempt
from workers import breakers
from workers.breakers import Place
from workers.models import Host, Worker


@dataclass(frozen=True, slots=True)
class Rest:
    """What a worker begins nothing of for now: steps of the ``words``, or anything, ``whole``."""

    words: frozenset[str] = frozenset()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What a claim may have: nothing with steps of the words ``left``; with those of ``probed``
    it would be the probe, of the worker as a whole by an empty one."""

    left: frozenset[str] = frozenset()
    probed: tuple[Host, ...] = ()

    @property
    def none(self) -> bool:
        """True if it may have nothing at all."""
        return "" in self.left

    def taken(self, attempt: Attempt | None) -> None:
        """Note what the claim got, and let another be the probe of what is not in it."""
        words = [host.kind for host in self.probed]
        own: Collection[str] = ()
        if attempt is not None:
            own = {"", *needs.among(attempt.card.workflow, [word for word in words if word])}
        names = [host.name for host in self.probed if host.kind in own]
        if attempt is not None and names:
            Host.objects.filter(name__in=names).update(probe=attempt.pk)
        if others := [host.name for host in self.probed if host.kind not in own]:
            breakers.give_back(others)


def resting(name: str, token_id: UUID) -> Rest:
    """Return what the worker of that name begins nothing of now, without a lock."""
    rows = Host.objects.filter(worker__name=name, worker__token_id=token_id)
    words = {host.kind for host in rows.filter(rests_until__gt=timezone.now())}
    return Rest(frozenset(words - {""}), "" in words)


def begin(name: str, token_id: UUID) -> Turn:
    """Return what a claim of the worker may have, as the probe of what has rested for long
    enough."""
    rows = Host.objects.filter(worker__name=name, worker__token_id=token_id)
    at_rest = list(rows.filter(rests_until__isnull=False).order_by("name"))
    probed = tuple(host for host in at_rest if breakers.may_begin(host))
    return Turn(frozenset(host.kind for host in at_rest if host not in probed), probed)


def of(attempt: Attempt) -> Worker | None:
    """Return the worker on another host that holds the attempt, None if it is no such one."""
    kind = Worker.Kind.REMOTE
    return Worker.objects.filter(name=attempt.worker, token=attempt.token_id, kind=kind).first()


def heard(worker: Worker, attempt_id: UUID) -> list[str]:
    """Return the words for steps that the worker is not to begin in that attempt for now."""
    rows = Host.objects.filter(worker=worker, rests_until__gt=timezone.now())
    rows = rows.exclude(name=Place.of(worker).name)
    return sorted(host.kind for host in rows.exclude(probe=attempt_id))


def learn(attempt_id: UUID) -> None:
    """Take note of what the attempt's end says of the worker that held it, if that is on another
    host. Doing so again changes nothing."""
    attempt = Attempt.objects.get(pk=attempt_id)
    worker = of(attempt)
    if worker is None:
        return
    place = Place.of(worker)
    breakers.learn(place, attempt_id)
    left = Host.objects.filter(worker=worker, probe=attempt_id, rests_until__isnull=False)
    breakers.give_back(list(left.values_list("name", flat=True)))
