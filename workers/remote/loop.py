"""Claims cards and carries them out, so many at once, until it is told to end.

SIGTERM ──> nothing more is claimed; each card is handed over at its next step
SIGTERM again ──> what runs is ended, its step begins anew with whoever goes on
SIGKILL ──> the lease lapses, or the worker of the same name is back before that
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards import needs, workflows
from checkpoints import workspaces
from holdfast import Client, errors
from kernel.errors import LeaseLost
from workers import executors, pauses, turns
from workers.executors.contract import trait
from workers.remote.ledger import Api
from workers.terms import Host
from workers.turns import INFRASTRUCTURE, Outcome

log = logging.getLogger(__name__)

WAIT_SECONDS = 25.0
PAUSE_SECONDS = 5.0
#: How long cards are left to others when this host shows itself to be unable to do them.
UNFIT_SECONDS = 600.0


@dataclass(slots=True)
class Told:
    """What the worker was told of its end: ``drain`` by a first signal, ``stop`` by a second."""

    drain: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def stopping(self) -> bool:
        return self.stop.is_set()

    def draining(self) -> bool:
        return self.drain.is_set()


@dataclass(frozen=True, slots=True)
class Turn:
    """One card's turn here, which ends when the worker is told to, by its host or the server."""

    told: Told
    ledger: Api

    def stopping(self) -> bool:
        return self.told.stopping()

    def draining(self) -> bool:
        return self.told.draining() or self.ledger.drained

    def resting(self, kind: str, given: object) -> bool:
        return bool(needs.among({kind: given}, self.ledger.resting))

    def room_for(self, seconds: float) -> bool:
        """A card has this host as long as it needs it."""
        return True

    def turn_over(self) -> bool:
        return False


class Worker:
    """One worker of this host, with a number of hands."""

    def __init__(
        self,
        client: Client,
        host: Host,
        folder: Path,
        *,
        name: str,
        boards: Sequence[str] = (),
        capabilities: Sequence[str] = (),
        lease_seconds: int = 60,
    ) -> None:
        self.client, self.host, self.folder = client, host, folder
        self.name, self.boards = name, list(boards)
        self.capabilities = sorted({*executors.capabilities(), *capabilities})
        self.lease_seconds = lease_seconds
        self.told = Told()
        self._unfit: dict[str, float] = {}  # boards
        self._lacks: dict[str, float] = {}  # what showed itself to be missing here
        self._lock = threading.Lock()
        register_kinds()

    def work(self, slots: int) -> None:
        """Carry out cards, ``slots`` at once, until told to end."""
        hands = [threading.Thread(target=self._go, name=f"slot-{n + 1}") for n in range(slots)]
        for hand in hands:
            hand.start()
        for hand in hands:
            # In pieces, so that signals are heard meanwhile.
            while hand.is_alive():
                hand.join(0.5)

    def once(self, wait_seconds: float = 0.0) -> Outcome | None:
        """Carry out one card; return how that ended, None if there was nothing to do."""
        granted = self.claim(wait_seconds)
        return self.carry_out(granted) if granted else None

    def _go(self) -> None:
        while not self.told.draining():
            try:
                if self.once(WAIT_SECONDS) is None:
                    self.told.drain.wait(0.2)
            except errors.Unreachable as error:
                log.warning("%s", error)
                self.told.drain.wait(PAUSE_SECONDS)
            except errors.ApiError as error:
                log.error("the server refuses this worker: %s", error)
                self.told.drain.wait(6 * PAUSE_SECONDS)
            except Exception:
                log.exception("a slot stumbled")
                self.told.drain.wait(PAUSE_SECONDS)

    def claim(self, wait_seconds: float = 0.0, card: str = "") -> dict[str, Any] | None:
        """Claim a card, the one of that key if told; return the grant, None if there is none."""
        lacks, without = self._lacking()
        body = {
            "worker": self.name,
            "workflows": True,
            "capabilities": [can for can in self.capabilities if can not in without],
            "kinds": [*pauses.KINDS, *executors.known()],
            "lacks": lacks,
            "lease_seconds": self.lease_seconds,
            "wait_seconds": wait_seconds,
            **({"card": card} if card else self._scope()),
        }
        granted: dict[str, Any] | None = self.client.post(
            "/claims", body, wait_seconds=wait_seconds
        )
        return granted

    def _lacking(self) -> tuple[list[str], set[str]]:
        """Return what this host can't do now, and the capabilities that it hasn't for that."""
        now = time.monotonic()
        with self._lock:
            self._lacks = {word: until for word, until in self._lacks.items() if until > now}
            words = {*executors.lacking(), *self._lacks}
        without: set[str] = set()
        for word in words - set(executors.lacking()):
            kind = executors.known().get(word.partition(".")[0])
            if kind is not None:
                whole = {word: kind.capabilities} if word == kind.kind else {}
                variants = {of: [can] for of, can in trait(kind, "variants").items()}
                without.update({**variants, **whole}.get(word, ()))
        return sorted(words), without

    def _scope(self) -> dict[str, Any]:
        """Return the boards to claim from: those wanted, but for those that others must do."""
        now = time.monotonic()
        with self._lock:
            self._unfit = {board: until for board, until in self._unfit.items() if until > now}
            unfit = set(self._unfit)
        if not unfit:
            return {"boards": self.boards} if self.boards else {}
        known = {board["key"]: board["id"] for board in self.client.pages("/boards")}
        wanted = self.boards or list(known)
        left = [key for key in wanted if known.get(key, key) not in unfit and key not in unfit]
        if not left:
            raise errors.Unreachable("No board is left that this host can work on.", status=0)
        return {"boards": left}

    def carry_out(self, granted: dict[str, Any]) -> Outcome:
        """Carry out the card of a claim, and see that its attempt is ended."""
        key = granted["card"]["key"]
        log.info("%s: attempt %d begins", key, granted["attempt"]["number"])
        try:
            ledger = Api(self.client, granted, self.host, self.folder)
        except LeaseLost:
            return Outcome.LOST
        try:
            outcome = turns.take(ledger, Turn(self.told, ledger))
        except errors.Unreachable:
            # What is recorded is safe; the lease lapses.
            log.exception("%s: the attempt could not be ended", key)
            return Outcome.LOST
        except Exception as error:
            log.exception("%s: the attempt met a fault of the worker", key)
            said = f"The worker met a fault of its own: {type(error).__name__}: {error}"[:2000]
            with suppress(LeaseLost, errors.Error):
                ledger.fail(said, fault=INFRASTRUCTURE)
            outcome = Outcome.FAILED
        self._learn(ledger, outcome)
        log.info("%s: attempt %d %s", key, granted["attempt"]["number"], outcome)
        return outcome

    def _learn(self, ledger: Api, outcome: Outcome) -> None:
        """Take note of what the card's end says of this host."""
        mandate = ledger.mandate
        if ledger.lacks and needs.among(mandate.workflow, {ledger.lacks}):
            with self._lock:
                self._lacks[ledger.lacks] = time.monotonic() + UNFIT_SECONDS
            log.warning("cards with %s are left to others for now", ledger.lacks)
        elif ledger.unfit:
            with self._lock:
                self._unfit[ledger.board_id] = time.monotonic() + UNFIT_SECONDS
            log.warning("cards of the board %s are left to others for now", ledger.terms.board)
        if outcome == Outcome.COMPLETED:
            workspaces.prune(self.host.workspaces, ledger.store(), mandate.card)


def register_kinds() -> None:
    """Let workflows have every kind of step that is known here."""
    for kind, read in pauses.KINDS.items():
        workflows.register(kind, read)
    for kind, executor in executors.known().items():
        workflows.register(kind, executor.read)
