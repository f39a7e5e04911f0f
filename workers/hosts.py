"""Whether the built-in workers of this host may begin anything: drained by a person, or at rest.

    open ── drain ──> draining: what runs ends its step and hands over; nothing is begun

A host whose disk is full, or which can't reach the repositories, fails every card within a
second, and would work through a whole board like that. After some different cards it rests, for
longer each time, then tries one card, see ``workers.breakers``. Cards lose nothing by it, see
``boards.faults``; the log of the board, the Workers page and the admin say why it rests.

Each kind of step, and each agent, has such a breaker of its own on each host: an agent's program
that can't be started keeps no command from being run. While it rests no card with such a step is
begun.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Collection
from uuid import UUID

from django.db import DatabaseError, InterfaceError
from django.db.models import Q, QuerySet
from django.utils import timezone

from boards import needs
from kernel.errors import NotFound
from kernel.sql import insert_or_skip
from kernel.tx import transition
from workers import breakers
from workers.breakers import Place
from workers.models import Host, Worker

LOOK_SECONDS = 1.0

_looked: tuple[float, bool] = (float("-inf"), True)
_resting: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
#: The words for steps that this process is the probe of.
_probing: set[str] = set()


def here() -> str:
    """Return what this host is called, as in the names of its workers."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"


def place() -> Place:
    """Return where the breakers of this host are."""
    return Place(here())


def seen() -> None:
    """Note that built-in workers run on this host."""
    with transition():
        insert_or_skip(Host(name=here()))
        Host.objects.filter(name=here()).update(seen_at=timezone.now())


def open_for_work() -> bool:
    """True if a worker here may look for a card; asked often, read once a second."""
    global _looked
    at, was = _looked
    if time.monotonic() - at < LOOK_SECONDS:
        return was
    _looked = time.monotonic(), not shut().filter(name=here()).exists()
    return _looked[1]


def shut() -> QuerySet[Host]:
    """Return the hosts, and kinds of steps on hosts, that begin nothing now."""
    shut = Host.objects.filter(Q(draining=True) | Q(rests_until__gt=timezone.now()))
    return shut.select_related("worker")


def may_begin() -> bool:
    """True if this worker may claim now. At the end of a rest that is so for one, the probe."""
    host = Host.objects.filter(name=here()).first()
    return host is None or breakers.may_begin(host)


def kinds_to_leave() -> frozenset[str]:
    """Return the words for steps that this worker is not to claim cards with.

    At the end of a rest one worker, the probe, may have cards with them.
    """
    rows = list(place().rows().exclude(name=here()))
    _probing.clear()
    left = {host.kind for host in rows if not breakers.may_begin(host)}
    _probing.update(h.kind for h in rows if h.rests_until is not None and h.kind not in left)
    return frozenset(left)


def resting(kind: str, given: object) -> bool:
    """True if a step of that kind, told that, may not be begun here; read once a second."""
    global _resting
    at, words = _resting
    if time.monotonic() - at >= LOOK_SECONDS:
        words = frozenset(host.kind for host in shut().filter(name__startswith=f"{here()}/"))
        _resting = time.monotonic(), words
    return bool(needs.among({kind: given}, words - _probing))


def draining() -> bool:
    """True if what runs here is to be handed over at the next step."""
    return Host.objects.filter(name=here(), draining=True).exists()


def nothing_to_probe() -> None:
    """Let another worker be the probe: this one found no card."""
    breakers.give_back({here(), *map(place().row, _probing)})
    _probing.clear()


def probe_only(words: Collection[str]) -> None:
    """Let another worker be the probe of all steps but those of the words."""
    if others := _probing - set(words):
        breakers.give_back({*map(place().row, others)})
        _probing.intersection_update(words)


def probing() -> frozenset[str]:
    """Return the words for steps that this process is the probe of."""
    return frozenset(_probing)


def learn(attempt_id: UUID) -> None:
    """Take note of what the end of an attempt here says of this host."""
    _probing.difference_update(breakers.learn(place(), attempt_id))
    probe_only(())


def drain(name: str, wanted: bool) -> Host:
    """Have the host's workers hand over what they hold and begin nothing, or let them again.

    The latter ends its rests as well, those of kinds of steps there, too. Of a worker on another
    host any of its breakers will do. Raises NotFound.
    """
    host = Host.objects.filter(name=name).select_related("worker").first()
    if host is None:
        raise NotFound(f"No built-in worker has run on a host called {name}.")
    if host.worker is not None:
        Worker.objects.filter(pk=host.worker.pk).update(draining=wanted)
    else:
        Host.objects.filter(name=name).update(draining=wanted)
    if not wanted:
        let_work(Place.of(host.worker) if host.worker else Place(name))
    return Host.objects.get(name=name)


def let_work(place: Place) -> None:
    """End all rests there."""
    breakers.recover([host.name for host in place.rows()])


def quietly_open() -> bool:
    """``open_for_work`` for whoever can't do anything about a store that is away."""
    try:
        return open_for_work()
    except (DatabaseError, InterfaceError):
        return True
