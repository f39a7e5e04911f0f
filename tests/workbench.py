"""A board whose cards are carried out in the test's own process, and what came of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from boards import cards, leases, workflows
from boards.models import Attempt, Board, Card, Column
from checkpoints.models import LogChunk
from checkpoints.snapshots import store_of
from checkpoints.workspaces import Workspace
from kernel.access import SYSTEM
from workers import executors, runner
from workers.assignments import Assignment, Desk
from workers.runner import Outcome
from workers.watch import Watch


class Bench:
    """A board that may run commands, a place for side effects, and a worker's hands."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.effects = tmp_path / "effects"
        self.effects.mkdir()
        self.board = cards.create_board(SYSTEM, key="PAY", name="Payments")
        Board.objects.filter(pk=self.board.pk).update(allow_commands=True, allow_network=True)
        self.board.refresh_from_db()
        self.in_progress = self.board.columns.get(kind=Column.Kind.IN_PROGRESS)

    def card(self, *wanted: Any, board: Board | None = None, **fields: Any) -> Card:
        """Make a card in progress. A step is a dict, or its command alone."""
        todo = [
            {"key": f"step{n}", "run": step} if isinstance(step, str) else step
            for n, step in enumerate(wanted, 1)
        ]
        fields.setdefault("workflow", {"steps": todo})
        return cards.create(
            board or self.board, SYSTEM.actor, title="work", column=self.in_progress, **fields
        )

    def claim(self, card: Card, lease_seconds: int = 60) -> Attempt:
        Card.objects.filter(pk=card.pk).update(not_before=None)
        attempt = leases.claim(
            "builtin-test",
            card_id=card.pk,
            capabilities=executors.capabilities(),
            lease_seconds=lease_seconds,
        )
        assert attempt is not None
        return attempt

    def run(self, card: Card, lease_seconds: int = 60) -> Outcome:
        outcome = runner.run_slice(self.claim(card, lease_seconds))
        card.refresh_from_db()
        return outcome

    def start(self, card: Card, lease_seconds: int = 60) -> Slice:
        return Slice(self.claim(card, lease_seconds))

    def mark(self, name: str) -> str:
        """Return a command that leaves one more line in the side effects of that name."""
        return f"echo x >> {self.effects / name}"

    def has(self, name: str, count: int) -> bool:
        return self.count(name) == count

    def count(self, name: str) -> int:
        path = self.effects / name
        return len(path.read_text().splitlines()) if path.exists() else 0


class Seat:
    """An attempt at a card whose first step is carried out without a runner around it."""

    def __init__(self, bench: Bench, wanted: Any) -> None:
        self.card = bench.card(wanted)
        self.attempt = bench.claim(self.card)
        self.watch = Watch(self.attempt)
        card = Card.objects.select_related("board").get(pk=self.card.pk)
        self.desk = Desk(self.attempt, card, self.watch)
        self.desk.workspace = Workspace.prepare(
            Path(settings.WORKSPACES_DIR),
            store_of(bench.board.pk),
            card_key=card.key,
            attempt_number=self.attempt.number,
            repository="",
            resume_commit=None,
            settle=lambda _: True,
        )

    def assignment(self) -> Assignment:
        todo = workflows.parse(self.desk.card.workflow).steps[0]
        scopes = [f"{todo.key}/1"]
        return Assignment(self.desk, todo, scopes=scopes, in_doubt=False, done=0, total=1)

    def close(self) -> None:
        self.desk.files.close()


class Slice:
    """A slice under way in another thread, as in a worker of its own."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = runner.run_slice(self.attempt)
        finally:
            connection.close()

    def result(self) -> Outcome | None:
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.outcome


def wait_for(what: Callable[[], Any], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def logged(card: Card) -> str:
    chunks = LogChunk.objects.filter(attempt__card=card).order_by("id")
    return "".join(chunks.values_list("text", flat=True))


def trees(card: Card) -> list[Path]:
    return list((Path(settings.WORKSPACES_DIR) / card.key).glob("*/tree"))
