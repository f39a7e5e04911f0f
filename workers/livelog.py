"""Live output of an attempt on its way into the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from workers.executors.shell.output import NOTE
from workers.ledger import Ledger

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25  # a write for each line would keep SQLite busy with nothing else
FINISH_SECONDS = 60.0


class LiveLog:
    """Appends what commands print, fenced: every call may raise LeaseLost.

    While the store is away the output waits in memory, which the executor's cap bounds.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[str, str, str]] = []
        self.step_key = ""

    def take(self, batch: Sequence[tuple[str, str]]) -> None:
        """Append a batch of ``(stream, text)``; the executor brings one every FLUSH_SECONDS."""
        self._waiting += [(self.step_key, stream, text) for stream, text in batch]
        try:
            self._append()
        except self._ledger.away as error:
            log.warning("live output waits: %s", str(error).partition("\n")[0])
            self._ledger.rest()

    def note(self, sentence: str) -> None:
        """Append a line of our own, between the output."""
        self.take([(NOTE, f"[{sentence}]\n")])

    def finish(self) -> None:
        """Append what still waits. Output that the store won't take is lost, not the step."""
        if self._waiting:
            try:
                self._ledger.patiently(self._append, FINISH_SECONDS)
            except self._ledger.away:
                log.warning("%d pieces of live output were lost", len(self._waiting))
                self._waiting.clear()

    def _append(self) -> None:
        if self._waiting:
            self._ledger.log(self._waiting)
            self._waiting = []
