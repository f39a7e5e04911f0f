"""What kind of failure ended an attempt, and what follows: how long the card waits, and whether
the failure counts as one of the card's.

What the world did to a card says nothing about the card: such failures wait longer and longer,
and count only once there were many in a row. So a service that is away for an hour blocks no
card, and a card that can never be fetched is shown to a person all the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from django.db import models

#: So many failures that are not the card's may follow each other before they count.
UNCOUNTED = 5


class Fault(models.TextChoices):
    TRANSIENT = "transient", "Transient: the same again may work"
    RATE_LIMITED = "rate_limited", "A service wants less to be asked"
    INFRASTRUCTURE = "infrastructure", "The host, a repository or the network"
    AGENT_ERROR = "agent_error", "The worker went wrong"
    RED_CHECKS = "red_checks", "The checks found fault with the work"


@dataclass(frozen=True, slots=True)
class Terms:
    """The first wait, the longest one, and whether the failure is the card's own."""

    first_seconds: float
    longest_seconds: float
    counts: bool


_TERMS = {
    Fault.TRANSIENT: Terms(2, 300, counts=True),
    Fault.RATE_LIMITED: Terms(60, 1800, counts=False),
    Fault.INFRASTRUCTURE: Terms(15, 900, counts=False),
    Fault.AGENT_ERROR: Terms(5, 600, counts=True),
    # What is to be done next is known: sooner is better.
    Fault.RED_CHECKS: Terms(2, 60, counts=True),
}


def counts(fault: str, in_a_row: int) -> bool:
    """True if the failure, the ``in_a_row``-th of its kind, is one of the card's."""
    return terms(fault).counts or in_a_row > UNCOUNTED


def backoff(fault: str, in_a_row: int) -> timedelta:
    """Return how long to wait after so many of these in a row: doubling, jittered, bounded."""
    on = terms(fault)
    seconds = min(on.longest_seconds, on.first_seconds * 2 ** min(in_a_row - 1, 10))
    return timedelta(seconds=seconds * random.uniform(0.6, 1.0))


def terms(fault: str) -> Terms:
    """Return what holds for the kind of failure; where it was not said, an agent's error."""
    return _TERMS[Fault(fault or Fault.AGENT_ERROR)]
