"""Whether the built-in workers of a host may begin anything: drained by a person, or at rest.

    open ── TRIP cards in a row fail for the host's sake ──> at rest ── rests_until ──> one probe
     ^                                                          ^                          │
     └───────────────── it gets anywhere ───────────────────────┼──────────────────────────┤
                                                                └──── it fails as well ────┘

    open ── drain ──> draining: what runs ends its step and hands over; nothing is begun

A host whose disk is full, or which can't reach the repositories, fails every card within a
second, and would work through a whole board like that. After TRIP different cards it rests, for
longer each time, then tries one card: a circuit breaker. Cards lose nothing by it, see
``boards.faults``; the log of the board, the Workers page and the admin say why it rests.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.db.models import Q, QuerySet
from django.utils import timezone

from boards.models import Attempt
from events import log as events
from kernel.errors import NotFound
from kernel.sql import insert_or_skip
from kernel.tx import transition
from workers.models import Host

log = logging.getLogger(__name__)

#: So many different cards in a row fail for the host's sake before it rests.
TRIP = 3
FIRST_REST = timedelta(minutes=1)
LONGEST_REST = timedelta(hours=1)
#: Within this time a probe has ended or its worker is gone.
PROBE = timedelta(minutes=10)
LOOK_SECONDS = 1.0

_looked: tuple[float, bool] = (float("-inf"), True)


def here() -> str:
    """Return what this host is called, as in the names of its workers."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"


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
    """Return the hosts whose workers begin nothing now."""
    return Host.objects.filter(Q(draining=True) | Q(rests_until__gt=timezone.now()))


def may_begin() -> bool:
    """True if this worker may claim now. At the end of a rest that is so for one, the probe."""
    now = timezone.now()
    host = Host.objects.filter(name=here()).first()
    if host is None or (not host.draining and host.rests_until is None):
        return True
    if host.draining or (host.rests_until is not None and host.rests_until > now):
        return False
    probe = Host.objects.filter(name=host.name, draining=False, rests_until=host.rests_until)
    return bool(probe.update(rests_until=now + PROBE))


def draining() -> bool:
    """True if what runs here is to be handed over at the next step."""
    return Host.objects.filter(name=here(), draining=True).exists()


def nothing_to_probe() -> None:
    """Let another worker be the probe: this one found no card."""
    Host.objects.filter(name=here(), rests_until__isnull=False, draining=False).update(
        rests_until=timezone.now()
    )


def worked() -> None:
    """Note that a card was worked on here: whatever was wrong with the host is over."""
    troubled = Host.objects.filter(name=here()).exclude(failed_cards=[], rests_until=None, rests=0)
    if troubled.update(failed_cards=[], rests_until=None, rests=0, why=""):
        log.info("this host works again")


def failed(attempt: Attempt, error: str) -> None:
    """Note that the host kept the card from being worked on; after TRIP of them it rests."""
    with transition():
        insert_or_skip(Host(name=here()))
        host = Host.objects.select_for_update(no_key=True).get(name=here())
        cards = [c for c in host.failed_cards if c != str(attempt.card_id)]
        host.failed_cards = [*cards, str(attempt.card_id)][-TRIP:]
        probing = host.rests_until is not None
        if probing or len(host.failed_cards) >= TRIP:
            rest = min(FIRST_REST * 2 ** min(host.rests, 10), LONGEST_REST)
            host.rests += 1
            host.rests_until = timezone.now() + rest
            host.why = error[:500]
            log.error("this host rests for %s: %d cards failed here: %s", rest, TRIP, error)
            events.record(
                "host.rested",
                board_id=attempt.board_id,
                subject_id=attempt.card_id,
                actor="system:breaker",
                host=host.name,
                seconds=int(rest.total_seconds()),
                error=error[:300],
            )
        host.save(update_fields=["failed_cards", "rests", "rests_until", "why"])


def drain(name: str, wanted: bool) -> Host:
    """Have the host's workers hand over what they hold and begin nothing, or let them again.

    Ends a rest as well. Raises NotFound.
    """
    changes: dict[str, Any] = {"draining": wanted}
    if not wanted:
        changes |= {"rests_until": None, "failed_cards": [], "rests": 0, "why": ""}
    if not Host.objects.filter(name=name).update(**changes):
        raise NotFound(f"No built-in worker has run on a host called {name}.")
    return Host.objects.get(name=name)


def quietly_open() -> bool:
    """``open_for_work`` for whoever can't do anything about a store that is away."""
    try:
        return open_for_work()
    except (DatabaseError, InterfaceError):
        return True
