"""The ledger of a built-in worker's attempt: this server's own database. See ``ledger``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from boards import attempt_tokens, leases, races
from boards.models import Attempt, Board, Card
from boards.secrets import keeping
from checkpoints import artifacts, briefing, logs, merging, recovery, salvaging, steps
from checkpoints.models import Step
from checkpoints.snapshots import Snapshot, SnapshotStore
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
from goals.criteria import standing
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from workers import proposals, questions, saying
from workers.executors.contract import Usage
from workers.ledger import Begun, Criterion, Mandate, Row, Said, Score, Start
from workers.patience import patiently
from workers.redaction import secrets_in
from workers.terms import Host, Terms

T = TypeVar("T")

#: Folders of the installation that no command sees, wherever they are.
STORES = ("DATA_DIR", "ARTIFACTS_DIR", "SNAPSHOTS_DIR", "WORKSPACES_DIR")
#: What a checkout may have beside the code: settings, an address with a password in it, and
#: what tools look for in the folders above a workspace, which by default is kept in there.
OWN_FILES = (".env", ".git", "pyproject.toml")


class Database:
    """One attempt's record in the database."""

    away: tuple[type[Exception], ...] = (DatabaseError, InterfaceError)
    beat_seconds = float("inf")
    last_resort = True

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.card = Card.objects.select_related("board").get(pk=attempt.card_id)
        self.mandate = mandate(attempt, self.card)
        self.terms = terms(self.card.board)
        self.host = host(leases.token_of(attempt.pk, attempt.board_id))

    def patiently(self, call: Callable[[], T], seconds: float) -> T:
        return patiently(call, seconds)

    def rest(self) -> None:
        connection.close()

    def renew(self, note: str | None, percent: int | None) -> bool:
        beat = leases.heartbeat(self.attempt.pk, note=note, percent=percent)
        return beat.directive in ("pause", "stop")

    def look(self) -> bool:
        rows = Attempt.objects.filter(pk=self.attempt.pk).values_list("status", "card__paused")
        status, paused = rows.first() or (None, False)
        if status != Attempt.Status.RUNNING:
            raise LeaseLost("the attempt is over")
        return bool(paused)

    # Steps.

    def recorded(self, keys: Collection[str]) -> dict[str, Row]:
        return dict(steps.recorded(self.card.pk, self.attempt.line, keys))

    def below(self, prefix: str) -> list[Row]:
        return list(steps.recorded_below(self.card.pk, self.attempt.line, prefix))

    def failures(self, key: str) -> int:
        return steps.failures(self.card.pk, self.attempt.line, key)

    def began_at(self, key: str) -> datetime:
        tries = Step.objects.filter(card_id=self.card.pk, line=self.attempt.line, key=key)
        return tries.order_by("number").values_list("started_at", flat=True)[0]

    def begin(
        self,
        key: str,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        continues: bool = False,
    ) -> Begun:
        begun = steps.begin(
            self.attempt.pk, key, title=title, kind=kind, input=input, continues=continues
        )
        return Begun(begun.step, begun.replay)

    def finish(self, key: str, status: str, *, usage: Usage | None = None, **said: Any) -> Row:
        spent = usage.as_json() if usage else None
        return steps.finish(self.attempt.pk, key, status, usage=spent, **said).step

    def record(self, key: str, status: str, *, usage: Usage | None = None, **said: Any) -> Row:
        spent = usage.as_json() if usage else None
        return steps.record(self.attempt.pk, key, status, usage=spent, **said).step

    def skip(self, key: str, because: str, *, title: str = "", kind: str = "") -> Row:
        return steps.skip(self.attempt.pk, key, because, title=title, kind=kind).step

    # What else is kept of the work.

    def log(self, pieces: Sequence[tuple[str, str, str]]) -> None:
        logs.append(self.attempt.pk, pieces)

    def keep_file(self, file: IO[bytes], content_type: str) -> tuple[str, int]:
        kept = artifacts.store_file(
            cast(BinaryIO, file), content_type=content_type, principal=SYSTEM.key
        )
        return kept.sha256, kept.size_bytes

    def propose(self, key: str, title: str, description: str) -> str:
        return proposals.propose(self.attempt.pk, key, title=title, description=description)

    # What people and programs say.

    def briefing(self, max_tokens: int) -> str:
        self.card.refresh_from_db()
        built = briefing.build(self.card, max_tokens=max_tokens)
        briefing.store(self.attempt.pk, built)
        return built.markdown

    def last_word(self) -> dict[str, Any] | None:
        return saying.last_word(self.attempt.pk)

    def answer(
        self, key: str, question: str, options: Sequence[str], *, same_words: bool, **terms: Any
    ) -> Said:
        return questions.answer(
            self.attempt, key, question, options, same_words=same_words, **terms
        )

    def stands_open(self, question: str) -> bool:
        return questions.stands_open(self.attempt, question)

    # Files.

    def store(self) -> SnapshotStore:
        return store_of(self.card.board_id)

    def start(self) -> Start:
        return start_of(self.card, self.attempt.line)

    def sent(self, snapshot: Snapshot) -> Snapshot:
        return snapshot

    def found(self, store: SnapshotStore) -> None:
        salvaging.record(self.card, store)

    def leave(self, workspace: Workspace) -> None:
        salvaging.leave(workspace, self.card)

    # What ends the attempt.

    def complete(
        self,
        summary: str,
        *,
        result: Any,
        evidence: Sequence[Mapping[str, Any]],
        score: Score | None = None,
    ) -> None:
        scored = races.Score(score.value, score.problem) if score else None
        leases.complete(self.attempt.pk, summary, result=result, evidence=evidence, score=scored)

    def fail(
        self,
        error: str,
        *,
        lesson: str = "",
        fault: str = "",
        evidence: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        leases.fail(self.attempt.pk, error, lesson=lesson, fault=fault, evidence=evidence)

    def block(
        self, reason: str, *, question: str = "", options: Sequence[str] = (), **terms: Any
    ) -> None:
        leases.block(self.attempt.pk, reason, question=question, options=options, **terms)

    def release(
        self,
        summary: str,
        next_step: str,
        *,
        reason: str,
        retry_after_seconds: int,
        lacks: str = "",
    ) -> None:
        leases.release(
            self.attempt.pk,
            summary,
            next_step,
            reason=reason,
            retry_after_seconds=retry_after_seconds,
        )


def mandate(attempt: Attempt, card: Card) -> Mandate:
    """Return what the attempt is to carry out."""
    criteria = None
    if card.goal_id is not None:
        rows = standing(card.goal_id)
        criteria = tuple(Criterion(c.number, c.text, c.check_command) for c in rows)
    race = races.under_way(card)
    return Mandate(
        attempt=str(attempt.pk),
        number=attempt.number,
        line=attempt.line,
        lease_seconds=attempt.lease_seconds,
        program_token=attempt_tokens.token_of(attempt.pk),
        card=card.key,
        card_id=str(card.pk),
        title=card.title,
        labels=tuple(card.labels),
        workflow=card.workflow,
        inputs=card.inputs if isinstance(card.inputs, dict) else {},
        criteria=criteria,
        score=race.score if race else "",
    )


def terms(board: Board) -> Terms:
    """Return what the board says of the work on its cards."""
    told = keeping.opened(board.pk) if board.allow_commands else keeping.Opened()
    return Terms(
        board=board.name,
        repository=board.repository,
        commands=board.allow_commands,
        network=board.allow_network,
        memory_mb=board.defaults.get("memory_mb"),
        processes=board.defaults.get("processes"),
        output_mb=board.defaults.get("output_mb"),
        keep_ignored=tuple(board.defaults.get("keep_ignored") or ()),
        secrets=told.values,
        closed=told.closed,
    )


def host(*secrets: str) -> Host:
    """Return what this installation's settings say; no log shows its secrets, nor these."""
    return Host(
        url=settings.BASE_URL,
        workspaces=Path(settings.WORKSPACES_DIR),
        sandbox=settings.COMMAND_SANDBOX,
        env=tuple(settings.COMMAND_ENV),
        paths=tuple(settings.COMMAND_PATHS),
        memory_mb=settings.COMMAND_MEMORY_MB,
        processes=settings.COMMAND_PROCESSES,
        file_mb=settings.COMMAND_FILE_MB,
        max_artifact_bytes=settings.MAX_ARTIFACT_BYTES,
        workflows_dir=settings.WORKFLOWS_DIR,
        model_keys=settings.MODEL_KEYS,
        model_endpoints=tuple(settings.MODEL_ENDPOINTS),
        readable=(settings.BASE_DIR,),  # for the command line: it may be installed from there
        hidden=(
            *(Path(getattr(settings, name)) for name in STORES),
            *(settings.BASE_DIR / name for name in OWN_FILES),
        ),
        secrets=(*secrets, *_own_secrets()),
    )


def start_of(card: Card, line: int) -> Start:
    """Return what an attempt on the card's line begins from. Raises WorkspaceError."""
    head = recovery.head(card.pk, line)
    while head is not None and not (head.workspace or {}).get("commit"):
        head = head.parent  # a checkpoint of a worker that keeps no snapshots
    if head is not None:
        return Start(str((head.workspace or {})["commit"]))
    joined = merging.start_of(card) if card.board.defaults.get("start_from_parents") else None
    return Start(joined.commit, joined.parents) if joined else Start()


def _own_secrets() -> list[str]:
    """Return what this server must never see in a log."""
    found = [
        str(settings.SECRET_KEY),
        *settings.SECRET_KEY_FALLBACKS,
        str(settings.BOOTSTRAP_TOKEN),
        *secrets_in({name: os.environ.get(name, "") for name in settings.COMMAND_ENV}),
    ]
    found.append(str(settings.DATABASES["default"].get("PASSWORD") or ""))
    found.append(urlsplit(settings.REDIS_URL).password or "")
    return [secret for secret in found if secret]
