"""Circuit breakers: a host, or what carries out some kind of step there, rests after failing.

    shut ── TRIP cards in a row fail for its sake ──> at rest ── rests_until ──> one probe
     ^                                                   ^                          │
     └──────────── it gets anywhere ─────────────────────┼──────────────────────────┤
                                                         └──── it fails as well ────┘

A row of ``Host`` is a breaker: of a host as a whole, or of the steps there that a word of
``boards.needs`` names, ``run`` or ``agent.cli=codex``. Such a row is there once a step of the word
failed so; only failures of the same kind count together, and any step of the word that gets
somewhere ends the count. Hosts of built-in workers go by their names; a worker on another host,
of which nothing is known but its name and its token, counts as a host of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from boards import needs
from boards.approaches import alike_by
from boards.faults import Fault
from boards.models import Attempt, Card
from checkpoints.models import Step
from events import log as events
from kernel.sql import insert_or_skip
from kernel.tx import transition
from workers.models import Host, Worker

log = logging.getLogger(__name__)

#: So many different cards in a row fail for the host's sake before it rests.
TRIP = 3
FIRST_REST = timedelta(minutes=1)
LONGEST_REST = timedelta(hours=1)
#: Within this time a probe has ended or its worker is gone.
PROBE = timedelta(minutes=10)
#: A worker on another host that was not heard of for so long is not coming back to its rests.
GONE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where breakers are: a host of built-in workers, or a worker on another host."""

    name: str
    worker: Worker | None = None

    @classmethod
    def of(cls, worker: Worker) -> Place:
        """Return the place that a worker on another host is."""
        return cls(f"@{worker.pk.hex}", worker)

    def row(self, word: str = "") -> str:
        """Return the name of the breaker for the word, of the place as a whole without one."""
        if not word:
            return self.name
        named = f"{self.name}/{word}"
        return named if len(named) <= 100 else f"{self.name}/{needs.kind_of(word)}"[:100]

    def rows(self) -> QuerySet[Host]:
        """Return its breakers."""
        return Host.objects.filter(Q(name=self.name) | Q(name__startswith=f"{self.name}/"))


def may_begin(host: Host) -> bool:
    """True if somebody may begin what the breaker is of. At the end of a rest that is so for
    one, the probe."""
    now = timezone.now()
    if not host.draining and host.rests_until is None:
        return True
    if host.draining or (host.rests_until is not None and host.rests_until > now):
        return False
    probe = Host.objects.filter(name=host.name, draining=False, rests_until=host.rests_until)
    return bool(probe.update(rests_until=now + PROBE, probe=None))


def give_back(names: Collection[str]) -> None:
    """Let another be the probe of the breakers."""
    probed = Host.objects.filter(name__in=names, rests_until__isnull=False, draining=False)
    probed.update(rests_until=timezone.now(), probe=None)


def learn(place: Place, attempt_id: UUID) -> set[str]:
    """Take note of what the attempt's end says of the place: whether it, or what carries out
    some steps there, kept the card from being worked on. Doing so again changes nothing.

    Returns the words that it says something of.
    """
    attempt = Attempt.objects.get(pk=attempt_id)
    ended = Step.objects.filter(attempt=attempt, status__in=["succeeded", "failed"])
    broken = {
        _word(step): (step.result or {}).get("because") or step.error or attempt.error
        for step in ended.filter(result__has_key="broken")
    }
    worked = {word for word in _troubled(place) if word not in broken and _worked(ended, word)}
    if attempt.status == Attempt.Status.FAILED and attempt.fault == Fault.INFRASTRUCTURE:
        if not broken:
            failed(place, attempt, attempt.error)
    elif attempt.status != Attempt.Status.CANCELLED:
        recover([place.row(), *(place.row(word) for word in worked)])
    for word, error in broken.items():
        failed(place, attempt, error, word)
    return {*worked, *broken}


def _troubled(place: Place) -> list[str]:
    rows = place.rows().exclude(name=place.name).exclude(failed_cards=[], rests=0)
    return [host.kind for host in rows]


def _word(step: Step) -> str:
    """Return the word of the steps that can't be carried out, as the broken one says."""
    said = str((step.result or {}).get("broken"))
    return said if needs.is_word(said) and needs.is_of(said, step.input) else step.kind


def _worked(ended: QuerySet[Step], word: str) -> bool:
    """True if a step of the word came to an end that says that such steps work."""
    kind = needs.kind_of(word)
    rows = ended.filter(kind=kind).exclude(result__has_key="broken")
    if word == kind:
        return rows.exists()
    return any(needs.is_of(word, given) for given in rows.values_list("input", flat=True))


def failed(place: Place, attempt: Attempt, error: str, word: str = "") -> None:
    """Note that the place, or what carries out steps of the word there, kept the card from being
    worked on; after TRIP of them it rests."""
    name = place.row(word)
    with transition():
        insert_or_skip(Host(name=name, worker=place.worker))
        host = Host.objects.select_for_update(no_key=True).get(name=name)
        probing = host.rests_until is not None
        if probing and place.worker is not None and host.probe != attempt.pk:
            return  # it began before the rest, or this is told again
        if not probing:
            same = not word or alike_by(host.why) == alike_by(error[:500])
            cards = [c for c in host.failed_cards if same and c != str(attempt.card_id)]
            host.failed_cards = [*cards, str(attempt.card_id)][-TRIP:]
        host.why = error[:500]
        if probing or len(host.failed_cards) >= TRIP:
            rest = min(FIRST_REST * 2 ** min(host.rests, 10), LONGEST_REST)
            host.rests += 1
            host.rests_until, host.probe = timezone.now() + rest, None
            log.error("%s rests for %s: %d cards failed there: %s", host, rest, TRIP, error)
            said = {"seconds": int(rest.total_seconds()), "error": error[:300]}
            since = timezone.now().isoformat(timespec="seconds")
            _tell(host, "rested", rests=host.rests, since=since, **said)
        host.save(update_fields=["failed_cards", "rests", "rests_until", "probe", "why"])


def recover(names: Collection[str]) -> None:
    """End the rests and the counts of these breakers, and say so where it was said that they
    rest."""
    troubled = Host.objects.filter(name__in=names)
    for host in troubled.exclude(failed_cards=[], rests_until=None, rests=0):
        _end(host.name, "recovered")


def forget_gone() -> None:
    """End the rests of workers on other hosts that were not heard of for GONE."""
    live = Attempt.objects.live().filter(
        worker=OuterRef("worker__name"), token=OuterRef("worker__token")
    )
    lost = Host.objects.filter(worker__last_seen_at__lt=timezone.now() - GONE)
    for host in lost.exclude(failed_cards=[], rests=0).exclude(Exists(live)):
        _end(host.name, "forgotten")


def _end(name: str, how: str) -> None:
    with transition():
        host = Host.objects.select_for_update(no_key=True).filter(name=name).first()
        if host is None:
            return
        if host.rests:
            log.info("%s %s", host, "works again" if how == "recovered" else "is gone")
            _tell(host, how)
        host.failed_cards, host.rests_until, host.rests, host.why = [], None, 0, ""
        host.probe = None
        host.save(update_fields=["failed_cards", "rests", "rests_until", "probe", "why"])


def _tell(host: Host, what: str, **data: Any) -> None:
    """Record it on every board of the cards that the host failed; in one order, as log numbers
    are locked."""
    told: dict[UUID, UUID] = {}
    cards: Iterable[tuple[UUID, UUID]] = (
        Card.objects.filter(pk__in=host.failed_cards)
        .order_by("board_id", "pk")
        .values_list("board_id", "pk")
    )
    for board_id, pk in cards:
        told[board_id] = pk
    noun = "executor" if host.kind else "host"
    said = {"steps": host.steps} if host.kind else {}
    if host.worker_id is not None:
        said["worker"] = str(host.worker_id)
    for board_id, pk in told.items():
        events.record(
            f"{noun}.{what}",
            board_id=board_id,
            subject_id=pk,
            actor="system:breaker",
            host=host.host,
            **said,
            **data,
        )
