"""What a worker hands an executor: one step of one attempt, and what goes with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

from boards.workflows import Step
from checkpoints import secretsearch
from checkpoints.git import GitFailed
from checkpoints.snapshots import Snapshot
from checkpoints.workspaces import Workspace
from workers import confinement, outputs
from workers.executors.contract import (
    Cancellable,
    Entry,
    HandOver,
    OnOutput,
    OnText,
    Usage,
)
from workers.executors.shell import Command, Confined, Execution, Result, environment
from workers.ledger import Ledger, Row, Status
from workers.livelog import FLUSH_SECONDS, LiveLog
from workers.outputs import Outputs
from workers.redaction import Redactor
from workers.watch import Watch

T = TypeVar("T")

GRACE_SECONDS = 2.0  # for a command to end by itself when it must; a shutdown has ten seconds
OUTAGE_SECONDS = 600.0  # how long a result waits for a store that is away
OUTPUT = "holdfast-output"
OUTPUT_CAP_CHARS = 8 * 1024 * 1024


class Desk:
    """What all assignments of one attempt share: its ledger, its files, its log, its watch."""

    def __init__(self, ledger: Ledger, watch: Watch) -> None:
        self.ledger, self.watch = ledger, watch
        self.mandate, self.terms, self.host = ledger.mandate, ledger.terms, ledger.host
        self.livelog = LiveLog(ledger)
        self.redactor = Redactor([])
        self.workspace: Workspace | None = None
        self.confined: Confined | None = None  # what held the newest command

    @property
    def files(self) -> Workspace:
        """The workspace, once it is prepared."""
        assert self.workspace is not None
        return self.workspace

    def write(self, call: Callable[[], T]) -> T:
        """Make a write that may be repeated; it waits out an outage. Raises LeaseLost."""
        self.watch.check()
        return self.ledger.patiently(call, OUTAGE_SECONDS)

    def snapshot(self, summary: str) -> Snapshot:
        """Keep the files as they are now, where every worker can have them. Raises
        WorkspaceError, and LeaseLost."""
        before = self.files.head
        taken = self.files.snapshot(f"{self.mandate.card}: {summary}")
        self._tell_of_secrets(before, taken.commit)
        return self.write(lambda: self.ledger.sent(taken))

    def _tell_of_secrets(self, before: str, now: str) -> None:
        """Say in the log which files hold a secret of the board from now on."""
        with suppress(GitFailed):
            spills = secretsearch.found(self.files.store, before, now, self.terms.secrets)
            if spills:
                self.livelog.note(f"{secretsearch.told(spills)}, and would take it along")


class Assignment:
    """One step as an executor is handed it, see ``contract.Assignment``.

    ``scopes`` are the keys below which each round has its journal, this one's last. Every try
    at a step has journals of its own, for each begins from the same files.
    """

    def __init__(
        self,
        desk: Desk,
        step: Step,
        *,
        scopes: Sequence[str],
        in_doubt: bool,
        done: int,
        total: int,
        feedback: str = "",
        previous: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._desk = desk
        self.key, self.title, self.given = step.key, step.title, step.given
        self.timeout_seconds: float = step.timeout_seconds
        self.folder, self.home, self.tmp = desk.files.folder, desk.files.home, desk.files.tmp
        self.tree: Path = desk.files.tree / step.cwd
        self.card, self.attempt = desk.mandate.card, desk.mandate.attempt
        self.host = desk.host
        self.url, self.token = desk.host.url, desk.mandate.program_token
        self.in_doubt = in_doubt
        self.round, self.feedback = len(scopes), feedback
        self.previous: Mapping[str, Any] = previous or {}
        self._output = desk.files.tmp / OUTPUT
        self.env: Mapping[str, str] = environment(
            home=self.home,
            tmp=self.tmp,
            extra={
                # A workspace without a repository is not part of one that it happens to stand in.
                "GIT_CEILING_DIRECTORIES": str(self.folder),
                **desk.terms.secrets,
                **step.env,
                "HOLDFAST_URL": self.url,
                "HOLDFAST_CARD": self.card,
                "HOLDFAST_ATTEMPT": self.attempt,
                "HOLDFAST_STEP": step.key,
                "HOLDFAST_IDEMPOTENCY_KEY": self._idempotency_key(),
                "HOLDFAST_OUTPUT": str(self._output),
                **self._told_of_round(),
                **(variables or {}),
            },
            also=desk.host.env,
        )
        self.journal = Journal(desk, scopes, done=done, total=total)
        self._output.unlink(missing_ok=True)

    def _told_of_round(self) -> dict[str, str]:
        """Return how commands hear of the round, with the feedback in a file."""
        told = {"HOLDFAST_ROUND": str(self.round)}
        if self.feedback:
            file = self.tmp / "holdfast-feedback"
            file.write_text(self.feedback)
            told["HOLDFAST_FEEDBACK"] = str(file)
        return told

    def outputs(self) -> Outputs:
        """Return what the step's commands wrote into ``$HOLDFAST_OUTPUT``."""
        return outputs.read(self._output, self._desk.redactor.redact)

    def briefing(self, max_tokens: int = 4000) -> str:
        """Return what a worker is told of the card, and keep it with the attempt."""
        return self._desk.write(lambda: self._desk.ledger.briefing(max_tokens))

    def process(
        self,
        run: str,
        *,
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
        on_text: OnText | None = None,
        tick_seconds: float | None = None,
        opening: str | None = None,
        timeout_seconds: float | None = None,
        cap_chars: int | None = None,
    ) -> Result:
        """Run a command in the tree to its end, see ``contract.Assignment.process``."""
        desk = self._desk

        def take(batch: Sequence[tuple[str, str]]) -> None:
            desk.livelog.take(batch)
            if on_output is not None:
                on_output(batch)

        execution = Execution(
            Command(
                run=run,
                cwd=self.tree,
                folder=self.folder,
                env=self.env if env is None else env,
                timeout_seconds=timeout_seconds or self.timeout_seconds,
                grace_seconds=GRACE_SECONDS,
                limits=confinement.limits(desk.host, desk.terms),
                view=confinement.view(desk.host, desk.terms, desk.files),
                reach=confinement.reach(desk.host),
                sandbox=desk.host.sandbox,
                opening=opening,
            ),
            take,
            on_text=on_text,
            tick_seconds=tick_seconds,
            new_filter=desk.redactor.stream,
            flush_seconds=FLUSH_SECONDS,
            flush_chars=OUTPUT_CAP_CHARS,  # by time alone
            cap_chars=cap_chars or confinement.output_chars(desk.terms) or OUTPUT_CAP_CHARS,
        )
        with desk.watch.guarding(execution):
            result = execution.run()
        desk.confined = result.confined
        desk.watch.check()
        return result

    def guarding(self, work: Cancellable) -> AbstractContextManager[None]:
        """Have ``work`` cancelled should the lease be lost, or this worker stop, within."""
        return self._desk.watch.guarding(work)

    def redacted(self, value: Any) -> Any:
        """Return the JSON with every secret that is known here struck out."""
        return self._desk.redactor.redacted(value)

    def hide(self, secret: str) -> None:
        """Count the text among the secrets from now on."""
        self._desk.redactor = self._desk.redactor.knowing(secret)

    def files_are_as_recorded(self) -> bool:
        """Return whether the files are those of the newest snapshot, but for what is ignored."""
        return self._desk.files.is_as_recorded()

    def agents_word(self) -> dict[str, Any] | None:
        """Return what a program of this attempt said last of its end."""
        return self._desk.ledger.last_word()

    def say(self, stream: str, text: str) -> None:
        """Append to the live log, secrets struck out."""
        self._desk.livelog.take([(stream, self._desk.redactor.redact(text))])

    def note(self, sentence: str) -> None:
        """Append a sentence of the worker's own to the live log."""
        self._desk.livelog.note(self._desk.redactor.redact(sentence))

    def progress(self, note: str) -> None:
        """Say what goes on; the next heartbeat tells it."""
        self._desk.watch.note = note[:500]

    def ask(
        self, question: str, options: Sequence[str] = (), *, key: str = "", **terms: Any
    ) -> str:
        """Return a person's answer, or raise Ask, see ``contract.Assignment.ask``."""
        return self._desk.ledger.answer(
            self.journal.key_of(key) if key else self.key,
            self._desk.redactor.redact(question),
            options,
            same_words=not key,
            **terms,
        ).text

    def check(self) -> None:
        """Pass if work should go on. Raises HandOver, or LeaseLost."""
        watch = self._desk.watch
        watch.check()
        if watch.stopping:
            raise HandOver("shutdown", "The worker was stopped.")
        if watch.paused:
            raise HandOver("paused", "The card was paused.")

    def make_room(self) -> None:
        """Pass unless others wait and this card had its turn. Raises HandOver."""
        if self._desk.watch.shift.turn_over():
            raise HandOver("slice", "Other cards wait for a worker, and this one had its turn.")

    def _idempotency_key(self) -> str:
        """Return what is the same for every try at the step, for services that ask for it."""
        mandate = self._desk.mandate
        parts = f"{mandate.card_id}:{mandate.line}:{self.key}"
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


class Journal:
    """Steps within a step, recorded below its key, see ``contract.Journal``."""

    def __init__(self, desk: Desk, scopes: Sequence[str], *, done: int, total: int) -> None:
        self._desk, self._scopes = desk, scopes
        self._scope = scopes[-1]
        self._state = {"steps_done": done, "steps_total": total}

    def key_of(self, key: str) -> str:
        """Return the key under which the store has the piece of work."""
        return f"{self._scope}/{key}"

    def recorded(self, round: int | None = None) -> dict[str, Entry]:
        """Return what this and earlier attempts recorded in it, in order."""
        scope = self._scope if round is None else self._scopes[round - 1]
        below = self._desk.ledger.below(f"{scope}/")
        cut = len(scope) + 1
        return {row.key[cut:]: _entry(row.key[cut:], row) for row in below}

    def begin(
        self,
        key: str,
        title: str = "",
        kind: str = "",
        input: Any = None,
        *,
        continues: bool = False,
    ) -> Entry:
        """Say that the piece of work begins; the entry tells whether to do it."""
        begun = self._desk.write(
            lambda: self._desk.ledger.begin(
                f"{self._scope}/{key}",
                title=title[:300],
                kind=kind,
                input=input,
                continues=continues,
            )
        )
        return _entry(key, begun.step)

    def finish(
        self,
        key: str,
        result: Any = None,
        *,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: str = "",
        next_step: str = "",
        decisions: Sequence[Mapping[str, Any]] = (),
        discoveries: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record how it ended, with the files as they are now if a checkpoint is asked for."""
        saved = self._checkpoint(checkpoint, next_step, decisions, discoveries)
        self._desk.write(
            lambda: self._desk.ledger.finish(
                f"{self._scope}/{key}",
                "failed" if error else "succeeded",
                result=result,
                error=error,
                usage=usage,
                checkpoint=saved,
            )
        )

    def record(
        self,
        key: str,
        result: Any = None,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: str = "",
        next_step: str = "",
        decisions: Sequence[Mapping[str, Any]] = (),
        discoveries: Sequence[Mapping[str, Any]] = (),
        seconds: float = 0.0,
    ) -> None:
        """Begin and finish at once, in one transaction."""
        saved = self._checkpoint(checkpoint, next_step, decisions, discoveries)
        self._desk.write(
            lambda: self._desk.ledger.record(
                f"{self._scope}/{key}",
                "failed" if error else "succeeded",
                title=title[:300],
                kind=kind,
                input=input,
                result=result,
                error=error,
                usage=usage,
                checkpoint=saved,
                seconds=seconds,
            )
        )

    def propose(self, key: str, title: str, description: str = "") -> str:
        """Add a card to the same goal and record it under the key, in one transaction."""
        full = f"{self._scope}/{key}"
        return self._desk.write(lambda: self._desk.ledger.propose(full, title[:300], description))

    def rest(self) -> None:
        """Let go of what this thread holds of the store."""
        self._desk.ledger.rest()

    def _checkpoint(
        self,
        summary: str,
        next_step: str,
        decisions: Sequence[Mapping[str, Any]],
        discoveries: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any] | None:
        if not summary:
            return None
        snapshot = self._desk.snapshot(summary[:200])
        return {
            "summary": summary,
            "next_step": next_step,
            "state": self._state,
            "workspace": snapshot.as_json(),
            "decisions": list(decisions),
            "discoveries": list(discoveries),
        }


def _entry(key: str, row: Row) -> Entry:
    return Entry(
        key,
        replay=row.status == Status.SUCCEEDED,
        in_doubt=row.in_doubt,
        result=row.result,
        error=row.error,
    )
