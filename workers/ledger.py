"""What a worker writes down of its attempt, and what it reads there, wherever that is kept.

Everything that carries a card out speaks to a ``Ledger`` and knows no store. There are two: the
database, for the built-in workers (``workers.database``), and the API, for workers on hosts that
have nothing but an address and a token (``workers.remote``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import IO, Any, Protocol, TypeVar

from checkpoints.snapshots import Snapshot, SnapshotStore
from checkpoints.workspaces import Workspace
from workers.executors.contract import Usage
from workers.terms import Host, Terms

T = TypeVar("T")


class Status(StrEnum):
    """How a step stands."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class By(Protocol):
    """The attempt that a step is of."""

    @property
    def number(self) -> int: ...


class Row(Protocol):
    """A step as it is on record."""

    @property
    def key(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def in_doubt(self) -> bool: ...
    @property
    def input(self) -> Any: ...
    @property
    def result(self) -> Any: ...
    @property
    def error(self) -> str: ...
    @property
    def attempt(self) -> By: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """How a step stands after it was begun: with ``replay`` it has its result, don't run it."""

    step: Row
    replay: bool


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: the text, an option in its own spelling, and the reason given for it."""

    text: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion of the card's goal; ``command`` is what checks it, if anything does."""

    number: int
    text: str
    command: str


@dataclass(frozen=True, slots=True)
class Score:
    """What a finisher of a race scored: a number, or in words why there is none."""

    value: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Mandate:
    """One attempt at a card, as whoever carries it out needs to know it.

    ``program_token`` opens the server for programs of this attempt, while it lasts. ``criteria``
    are the goal's, None where the card has no goal. ``score`` is the command that scores the
    files, where the card runs in a race that is scored.
    """

    attempt: str
    number: int
    line: int
    lease_seconds: int
    program_token: str
    card: str
    card_id: str
    title: str = ""
    labels: tuple[str, ...] = ()
    workflow: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    criteria: tuple[Criterion, ...] | None = None
    score: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """The snapshot that an attempt begins from, None for what the repository holds.

    ``parents`` are the cards whose files it was made of, where it was.
    """

    commit: str | None = None
    parents: tuple[str, ...] = ()


class Ledger(Protocol):
    """One attempt's record. Every write is fenced: it raises LeaseLost once the attempt is over.

    While the store is away a call raises one of ``away``; ``patiently`` waits for it.
    """

    mandate: Mandate
    terms: Terms
    host: Host
    away: tuple[type[Exception], ...]
    beat_seconds: float  # between two renewals, however long the lease
    #: Whether a card that this host can't do waits for a person; else another host may take it.
    last_resort: bool

    def patiently(self, call: Callable[[], T], seconds: float) -> T:
        """Return ``call()``, tried again while the store is away. It must bear repetition."""
        ...

    def rest(self) -> None:
        """Let go of what this thread holds of the store."""
        ...

    # The lease.

    def renew(self, note: str | None, percent: int | None) -> bool:
        """Say that the attempt lives; return whether it should be handed over."""
        ...

    def look(self) -> bool:
        """Return whether it should be handed over, without a word. Raises LeaseLost, too."""
        ...

    # Steps.

    def recorded(self, keys: Collection[str]) -> dict[str, Row]:
        """Return those of the steps that are on record, by key, in order."""
        ...

    def below(self, prefix: str) -> list[Row]:
        """Return the steps on record whose keys begin so, in order."""
        ...

    def failures(self, key: str) -> int:
        """Return how many tries at the step failed, those within one attempt included."""
        ...

    def began_at(self, key: str) -> datetime:
        """Return when the step was first begun."""
        ...

    def begin(
        self,
        key: str,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        continues: bool = False,
    ) -> Begun: ...

    def finish(
        self,
        key: str,
        status: str,
        *,
        result: Any = None,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> Row: ...

    def record(
        self,
        key: str,
        status: str,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        result: Any = None,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Row: ...

    def skip(self, key: str, because: str, *, title: str = "", kind: str = "") -> Row: ...

    # What else is kept of the work.

    def log(self, pieces: Sequence[tuple[str, str, str]]) -> None:
        """Append (step, stream, text) to the live output."""
        ...

    def keep_file(self, file: IO[bytes], content_type: str) -> tuple[str, int]:
        """Keep a file's content; return its SHA-256 and its length."""
        ...

    def propose(self, key: str, title: str, description: str) -> str:
        """Add a card to the goal, once for each key of a step; return its key. Raises Refused."""
        ...

    # What people and programs say.

    def briefing(self, max_tokens: int) -> str:
        """Return what a worker is told of the card, kept with the attempt."""
        ...

    def last_word(self) -> dict[str, Any] | None:
        """Return what a program of this attempt said last of its end."""
        ...

    def answer(
        self, key: str, question: str, options: Sequence[str], *, same_words: bool, **terms: Any
    ) -> Said:
        """Return what a person answered to the step of that key. Raises Ask while nobody did.

        The ``terms`` are those of ``contract.Ask``.
        """
        ...

    def stands_open(self, question: str) -> bool:
        """Return whether that question stands on the card, unanswered."""
        ...

    # Files.

    def store(self) -> SnapshotStore:
        """Return where this host keeps snapshots of the board's workspaces."""
        ...

    def start(self) -> Start:
        """Return what the attempt begins from; the snapshot is in ``store`` then."""
        ...

    def sent(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot once every worker can begin from it."""
        ...

    def found(self, store: SnapshotStore) -> None:
        """Tell of what earlier attempts left in folders here. Never raises."""
        ...

    def leave(self, workspace: Workspace) -> None:
        """Keep what this attempt leaves there and no checkpoint holds. Never raises."""
        ...

    # What ends the attempt. Saying it again changes nothing.

    def complete(
        self,
        summary: str,
        *,
        result: Any,
        evidence: Sequence[Mapping[str, Any]],
        score: Score | None = None,
    ) -> None: ...

    def fail(
        self,
        error: str,
        *,
        lesson: str = "",
        fault: str = "",
        evidence: Sequence[Mapping[str, Any]] = (),
    ) -> None: ...

    def block(
        self, reason: str, *, question: str = "", options: Sequence[str] = (), **terms: Any
    ) -> None: ...

    def release(
        self,
        summary: str,
        next_step: str,
        *,
        reason: str,
        retry_after_seconds: int,
        lacks: str = "",
    ) -> None:
        """Give the card back; ``lacks`` is what this host would have needed."""
        ...


class Shift(Protocol):
    """How long whoever works here goes on with a card."""

    def stopping(self) -> bool:
        """Return whether this worker is to end, at once."""
        ...

    def draining(self) -> bool:
        """Return whether cards are to be handed over at their next step."""
        ...

    def resting(self, kind: str, given: object) -> bool:
        """Return whether a step of that kind, told that, is not to be begun here for now."""
        ...

    def room_for(self, seconds: float) -> bool:
        """Return whether a step that may take so long can be begun in this turn."""
        ...

    def turn_over(self) -> bool:
        """Return whether this card had its turn, and others wait for theirs."""
        ...
