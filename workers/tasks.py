"""What django-q calls. It carries nudges; which card runs, and who runs it, is the claim's word."""

from __future__ import annotations

import contextlib
import logging
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from boards import choice, dispatch, leases, needs
from boards.faults import Fault
from boards.models import Attempt, Board, Card
from kernel.errors import LeaseLost, NotClaimable, NotFound
from kernel.tx import transition
from workers import checking, executors, hosts, presence, registry, runner, stopping
from workers.models import Worker

log = logging.getLogger(__name__)


def work(card_id: str) -> str:
    """Carry out the card for one slice if it is to be had, and say in a word what came of it.

    A nudge is a hint: it may come twice, late or for nothing, and names a card only because
    something has to be said. Which card it is decides the claim, among all of them, so that
    boards and goals get their shares. Whatever goes wrong is recorded on the card, never in the
    queue.
    """
    if stopping.asked():
        return "stopping"
    card = Card.objects.select_related("board").filter(pk=UUID(card_id)).first()
    if card is None or not card.needs_built_in_worker:
        return "no such work"
    if not hosts.may_begin():
        return "at rest"
    name = show_up()
    try:
        attempt = leases.claim(
            name,
            # Where commands are off the card is taken all the same: to be told so.
            card_id=None if card.board.allow_commands else card.pk,
            ours=True,
            capabilities=executors.capabilities(),
            lacks=[*_lacks(), choice.Lack(hosts.kinds_to_leave())],
            lease_seconds=settings.LEASE_SECONDS,
        )
    except (NotClaimable, NotFound):
        hosts.nothing_to_probe()
        return "not claimable"
    if attempt is None:
        hosts.nothing_to_probe()
        return "not claimable"
    card = attempt.card
    hosts.probe_only(needs.among(card.workflow, hosts.probing()))
    log.info("%s: attempt %d begins", card.key, attempt.number)
    try:
        return _carry_out(attempt)
    finally:
        _call_the_next(attempt.board_id)


def show_up() -> str:
    """Register this process as a built-in worker that is here now; return its name."""
    name = presence.enter()
    registry.seen(
        name, token_id=None, capabilities=executors.capabilities(), kind=Worker.Kind.BUILT_IN
    )
    return name


def check_goal(run_id: str) -> str:
    """Carry out a run of a goal's checks if it is to be had; a nudge is a hint here, too."""
    return checking.check(UUID(run_id))


def _carry_out(attempt: Attempt) -> str:
    card = attempt.card
    try:
        outcome: str = runner.run_slice(attempt)
    except (DatabaseError, InterfaceError):
        # The store stayed away. What is recorded is safe; the lease lapses, the sweep sees it.
        log.exception("%s: attempt %d could not be ended", card.key, attempt.number)
        return "store away"
    except Exception as error:
        log.exception("%s: attempt %d met a fault of the worker", card.key, attempt.number)
        _give_up(attempt, error)
        _learn(attempt)
        return "fault"
    log.info("%s: attempt %d %s", card.key, attempt.number, outcome)
    _learn(attempt)
    return outcome


def _lacks() -> list[choice.Lack]:
    """Return what this host leaves to others: what it can't carry out and they can.

    What nobody can, it takes all the same, to say so.
    """
    lacking = executors.lacking()
    others = registry.offered(frozenset[str]().union(*lacking.values()))
    return [
        choice.Lack(frozenset([word]), others[capability])
        for word, capabilities in lacking.items()
        for capability in capabilities & others.keys()
    ]


def _learn(attempt: Attempt) -> None:
    """Say whether it was the host, or what carries out some steps there, that kept the card from
    being worked on."""
    with contextlib.suppress(DatabaseError, InterfaceError):
        hosts.learn(attempt.pk)


def _call_the_next(board_id: UUID) -> None:
    """Nudge for a card that had to wait until this place was free: its own nudge is used up."""
    try:
        board = choice.ruled(Board.objects.filter(pk=board_id)).first()
        if board is None or not choice.capped(board):
            return
        waiting = choice.ours(Card.objects.filter(board_id=board_id)).ready(timezone.now())
        able = choice.workable(waiting, executors.capabilities())
        room = choice.room_without_lock(frozenset([board_id]))
        card = room.for_waiting(able).in_claim_order().first()
        if card is not None:
            with transition():
                dispatch.nudge(card)
    except (DatabaseError, InterfaceError):
        log.warning("the store is away; the sweep will call the next card")


def _give_up(attempt: Attempt, error: Exception) -> None:
    """Fail the attempt for a fault of ours, so that it is seen, and bounded by max_attempts."""
    try:
        leases.fail(
            attempt.pk,
            f"The built-in worker met a fault of its own: {type(error).__name__}: {error}"[:2000],
            fault=Fault.INFRASTRUCTURE,
        )
    except (LeaseLost, DatabaseError, InterfaceError):
        log.exception("attempt %s could not be failed either", attempt.pk)
