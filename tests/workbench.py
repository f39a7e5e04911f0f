"""A board whose cards are carried out in the test's own process, and what came of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from django.conf import settings
from django.db import connection

import holdfast
from boards import cards, leases, tokens, workflows
from boards.models import Attempt, Board, Card, Column
from checkpoints.models import LogChunk
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
from kernel.access import SYSTEM, Role
from workers import executors, runner, stopping
from workers.assignments import Assignment, Desk
from workers.database import Database
from workers.remote.host import host_for
from workers.remote.loop import Told, Worker
from workers.runner import Outcome
from workers.watch import Watch

log = logging.getLogger(__name__)


def keep_files_in(folder: Path, settings: Any) -> None:
    """Have the store's files below the folder, and nobody called for cards."""
    settings.DATA_DIR = folder / "data"
    settings.WORKSPACES_DIR = settings.DATA_DIR / "workspaces"
    settings.SNAPSHOTS_DIR = settings.DATA_DIR / "snapshots"
    settings.DATA_DIR.mkdir()
    settings.DISPATCH = False


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
        attempt = self.claim(card, lease_seconds)
        outcome = runner.run_slice(attempt)
        card.refresh_from_db()
        if outcome == Outcome.FAILED:
            attempt.refresh_from_db()
            log.warning("%s failed: %s\n%s", card.key, attempt.error, attempt.lesson)
        return outcome

    def start(self, card: Card, lease_seconds: int = 60) -> Slice:
        return Slice(self.claim(card, lease_seconds))

    def stop(self) -> AbstractContextManager[Any]:
        """Have whoever works here told to end at once."""
        return mock.patch.object(stopping, "asked", return_value=True)

    def mark(self, name: str) -> str:
        """Return a command that leaves one more line in the side effects of that name."""
        return f"echo x >> {self.effects / name}"

    def has(self, name: str, count: int) -> bool:
        return self.count(name) == count

    def count(self, name: str) -> int:
        path = self.effects / name
        return len(path.read_text().splitlines()) if path.exists() else 0


class Afar(Bench):
    """A bench whose cards are carried out as on another host: with an address and a token."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        super().__init__(tmp_path)
        self.url = url
        issued = tokens.issue("afar", roles={self.board.pk: Role.MEMBER})
        self.token = issued.plaintext
        self.told = Told()
        self._clients: list[holdfast.Client] = []

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def worker(self, name: str = "afar", lease_seconds: int = 60) -> Worker:
        """Return a worker of a host with that name."""
        folder = self.tmp_path / name
        folder.mkdir(exist_ok=True)
        environ = {"WORKFLOWS_DIR": settings.WORKFLOWS_DIR}
        self._clients.append(client := holdfast.Client(self.url, self.token))
        host = host_for(self.url, self.token, folder, environ)
        worker = Worker(client, host, folder, name=name, lease_seconds=lease_seconds)
        worker.told = self.told
        return worker

    def take(self, card: Card, lease_seconds: int = 60) -> tuple[Attempt, Callable[[], Outcome]]:
        """Claim the card; return the attempt and what carries it out."""
        Card.objects.filter(pk=card.pk).update(not_before=None)
        worker = self.worker(lease_seconds=lease_seconds)
        granted = worker.claim(card=card.key)
        assert granted is not None
        attempt = Attempt.objects.get(pk=granted["attempt"]["id"])
        return attempt, lambda: worker.carry_out(granted)

    def run(self, card: Card, lease_seconds: int = 60) -> Outcome:
        outcome = self.take(card, lease_seconds)[1]()
        card.refresh_from_db()
        return outcome

    def start(self, card: Card, lease_seconds: int = 60) -> Slice:
        return Slice(*self.take(card, lease_seconds))

    @contextmanager
    def stop(self) -> Iterator[None]:
        self.told.stop.set()
        yield
        self.told.stop.clear()


class Seat:
    """An attempt at a card whose first step is carried out without a runner around it."""

    def __init__(self, bench: Bench, wanted: Any) -> None:
        self.card = bench.card(wanted)
        self.attempt = bench.claim(self.card)
        ledger = Database(self.attempt)
        self.watch = Watch(ledger, runner.Slice())
        self.desk = Desk(ledger, self.watch)
        self.desk.workspace = Workspace.prepare(
            Path(settings.WORKSPACES_DIR),
            store_of(bench.board.pk),
            card_key=self.card.key,
            attempt_number=self.attempt.number,
            repository="",
            resume_commit=None,
            settle=lambda _: True,
        )

    def assignment(self) -> Assignment:
        todo = workflows.parse(self.desk.mandate.workflow).steps[0]
        scopes = [f"{todo.key}/1"]
        return Assignment(self.desk, todo, scopes=scopes, in_doubt=False, done=0, total=1)

    def close(self) -> None:
        self.desk.files.close()


class Slice:
    """A slice under way in another thread, as in a worker of its own."""

    def __init__(self, attempt: Attempt, carry_out: Callable[[], Outcome] | None = None) -> None:
        self.attempt = attempt
        self.outcome: Outcome | None = None
        self._carry_out = carry_out or (lambda: runner.run_slice(attempt))
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._carry_out()
        finally:
            connection.close()

    def result(self) -> Outcome | None:
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.outcome


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def logged(card: Card) -> str:
    chunks = LogChunk.objects.filter(attempt__card=card).order_by("id")
    return "".join(chunks.values_list("text", flat=True))


def trees(card: Card) -> list[Path]:
    return list((Path(settings.WORKSPACES_DIR) / card.key).glob("*/tree"))
