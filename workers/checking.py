"""Carries out the runs of goals' checks, in a clean clone of what is in the main branch.

    begin ─> checkout ─> criterion, criterion, … ─> which change broke what was met? ─> finish
                             │                            └─ a check per merge, halving
                             └─ red, and was met: once more, from clean files, before it counts

What each showed is recorded at once, so whoever goes on with a run that was cut off does the rest.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django_q.models import OrmQ

from boards import workflows
from boards.models import Board, Card
from checkpoints import artifacts, checkouts
from checkpoints.checkouts import Checkout
from checkpoints.models import ArtifactLink, Merge
from checkpoints.workspaces import WorkspaceError
from events import outgoing
from goals import checks
from goals.models import CheckRun, Criterion, Regression
from kernel.addresses import credentials_in
from kernel.errors import DomainError, LeaseLost
from workers import confinement, database, executors, hosts, presence, stopping
from workers.executors.contract import Assignment, Ending
from workers.executors.shell import Command, Execution, Result, StillAlive, ensure_dead, environment
from workers.redaction import Redactor

log = logging.getLogger(__name__)

KIND = "check"
GRACE_SECONDS = 2.0
TICK_SECONDS = 5.0
OUTPUT_CHARS = 4 * 1024 * 1024
DETAIL_CHARS = 2000
#: Changes that a regression is looked for among; each halving takes one run of the check.
SUSPECTS_AT_MOST, TRIALS_AT_MOST = 256, 10
NUDGE_AFTER_SECONDS = 2.0


class _Stopped(Exception):
    """This worker must give the run back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check showed, in a sentence, with all that it printed."""

    met: bool
    said: str
    output: str = ""

    @property
    def detail(self) -> str:
        tail = self.output.strip()[-DETAIL_CHARS:]
        return f"{self.said}\n\n{tail}" if tail else self.said


def check(run_id: UUID) -> str:
    """Carry the run out if it is to be had, and say in a word what came of it."""
    if stopping.asked() or hosts.draining():
        return "at rest"
    run = checks.begin(run_id, presence.enter())
    if run is None:
        return "not to be had"
    try:
        _Checker(run).work()
    except LeaseLost:
        return "lost"
    except _Stopped:
        checks.release(run)
        return "released"
    except (DatabaseError, InterfaceError):
        log.exception("the store is away; the run lapses, and the sweep calls for it again")
        return "store away"
    except (WorkspaceError, DomainError) as error:
        checks.give_up(run, str(error).strip())
        return "failed"
    except Exception as error:
        log.exception("the checks of goal %s met a fault of the worker", run.goal_id)
        checks.give_up(run, f"The worker met a fault of its own: {type(error).__name__}: {error}")
        return "fault"
    return "done"


def tick() -> None:
    """Have runs made that are due, and call for those whose nudge or worker was lost."""
    checks.schedule()
    if settings.DISPATCH and not OrmQ.objects.exists():
        for run in checks.waiting(NUDGE_AFTER_SECONDS):
            checks.nudge(run)


class _Checker:
    """One worker's turn at one run."""

    def __init__(self, run: CheckRun) -> None:
        self.run = run
        self.board = Board.objects.get(pk=run.goal.board_id)
        self.terms, self.host = database.terms(self.board), database.host()
        opens = credentials_in(self.board.repository)
        self.redactor = Redactor([*self.host.secrets, *self.terms.secrets.values(), *opens])
        self.began = time.monotonic()
        self.counts = {True: 0, False: 0}
        self.problems: list[str] = []

    def work(self) -> None:
        """Check what is to be checked, and end the run."""
        wanted = checks.to_run(self.run)
        for criterion in wanted:
            if criterion.probe:
                self._probe(criterion)
        commands = [c for c in wanted if not c.probe]
        commit = ""
        for regression in checks.searching(self.run):
            if regression.criterion.probe:  # no commit is known to have changed what it answers
                checks.conclude(self.run, regression, is_found=False)
        why = self._why_no_commands()
        if commands and why:
            self.problems.append(why)
        if not why and (commands or checks.searching(self.run)):
            root = Path(self.host.workspaces)
            with checkouts.checkout(
                root, self.run.goal_id, self.board.repository, _settled
            ) as files:
                commit = files.commit
                if self._is_news(files):
                    for criterion in commands:
                        self._command(files, criterion, commit)
                for regression in checks.searching(self.run):
                    self._search(files, regression)
        shown = sum(self.counts.values())
        if self.problems and not shown:
            checks.give_up(self.run, " ".join(dict.fromkeys(self.problems)))
            return
        checks.finish(self.run, self._said(), commit=commit)

    def _said(self) -> str:
        met, unmet = self.counts[True], self.counts[False]
        if not met + unmet:
            return "Nothing new is in the repository."
        told = [f"{n} {words}" for n, words in ((met, "met"), (unmet, "not met")) if n]
        return " ".join([f"{', '.join(told)}.", *dict.fromkeys(self.problems)])

    def _why_no_commands(self) -> str:
        if not self.board.allow_commands:
            return f"Commands are off for the board {self.board.name}; an operator can allow them."
        if not self.board.repository.strip():
            return "The board has no repository to check in."
        if self.terms.closed:
            return self.terms.why_closed
        return ""

    def _is_news(self, files: Checkout) -> bool:
        """True unless a completed card brought nothing into the branch: what it did elsewhere,
        its own checks have shown."""
        if self.run.why != CheckRun.Why.COMPLETED:
            return True
        earlier = self.run.goal.check_runs.filter(status=CheckRun.Status.DONE).exclude(commit="")
        last = earlier.order_by("-pk").values_list("commit", flat=True).first()
        if last is not None:
            return last != files.commit
        card = Card.objects.filter(pk=self.run.card_id) if self.run.card_id else Card.objects.none()
        made = card.values_list("created_at", flat=True).first()
        at = files.git.line("log", "-1", "--format=%ct", files.commit, cwd=files.tree)
        return made is None or datetime.fromtimestamp(int(at), UTC) >= made.replace(microsecond=0)

    # One criterion.

    def _probe(self, criterion: Criterion) -> None:
        if not self.board.allow_network:
            self.problems.append(
                f"The board {self.board.name} keeps off the network; an operator can allow it."
            )
            return
        outcome = probed(criterion.probe or {})
        if criterion.met and not outcome.met:
            outcome = probed(criterion.probe or {})
        self._show(criterion, outcome)

    def _command(self, files: Checkout, criterion: Criterion, commit: str) -> None:
        command = self._command_of(criterion)
        if not command:
            return
        outcome = self._ran(files, command, commit)
        if criterion.met and not outcome.met:
            again = self._ran(files, command, commit)
            if again.met:
                again = Outcome(True, f"{again.said} It failed once before.", again.output)
            outcome = again
        self._show(criterion, outcome, commit)

    def _command_of(self, criterion: Criterion) -> str:
        if criterion.check_command:
            return criterion.check_command
        command = str(self.board.defaults.get("test_command") or "").strip()
        if not command:
            self.problems.append("The board's defaults have no test_command to run tests with.")
            return ""
        return " ".join([command, *map(shlex.quote, criterion.tests.split())])

    def _show(self, criterion: Criterion, outcome: Outcome, commit: str = "") -> None:
        kept = self._kept(self.redactor.redact(outcome.output))
        self.counts[outcome.met] += 1
        checks.show(
            self.run,
            criterion,
            met=outcome.met,
            detail=self.redactor.redact(outcome.detail),
            artifact=kept,
            commit=commit,
        )

    def _kept(self, output: str) -> str:
        """Keep what was printed for whoever sees the board; return its digest."""
        if not output:
            return ""
        artifact, _ = artifacts.store(
            [output.encode()], content_type="text/plain; charset=utf-8", principal="system:checks"
        )
        ArtifactLink.objects.get_or_create(
            artifact=artifact, board=self.board, card=None, attempt=None, name="check output"
        )
        return artifact.pk

    def _ran(self, files: Checkout, command: str, commit: str) -> Outcome:
        timeout = float(workflows.DEFAULT_TIMEOUT_SECONDS)
        self._see_that_there_is_room(timeout)
        files.put_at(commit)
        assigned = _Assigned(self, files, command, timeout)
        ending: Ending = executors.known()[KIND].carry_out(cast(Assignment, assigned))
        if stopping.asked() and not ending.succeeded:
            raise _Stopped
        said = f"`{command[:300]}` {ending.how} at {commit[:12]}."
        return Outcome(ending.succeeded, said, assigned.output)

    def _see_that_there_is_room(self, timeout: float) -> None:
        """Pass if a check would end before django-q ends this task by force. Raises _Stopped."""
        elapsed = time.monotonic() - self.began
        allowed: Any = settings.Q_CLUSTER["timeout"]
        begun = sum(self.counts.values()) > 0
        if stopping.asked() or (begun and elapsed + timeout + 5 * GRACE_SECONDS > allowed):
            raise _Stopped

    # Which change did it.

    def _search(self, files: Checkout, found: Regression) -> None:
        """Halve the changes since it was last met until one is left."""
        criterion = found.criterion
        if found.good and not found.suspects:
            commits, left_out = files.since(found.good, found.bad, SUSPECTS_AT_MOST)
            checks.suspect(found, self._suspects(commits), left_out)
        command = self._command_of(criterion)
        while command and found.low < found.high and len(found.trials) < TRIALS_AT_MOST:
            middle = (found.low + found.high) // 2
            commit = str(found.suspects[middle]["commit"])
            outcome = self._ran(files, command, commit)
            trial = {
                "commit": commit,
                "met": outcome.met,
                "said": self.redactor.redact(outcome.said),
                "artifact": self._kept(outcome.output),
            }
            checks.tried(self.run, found, middle, trial)
        alone = bool(found.suspects) and found.low == found.high
        is_found = alone and not (found.left_out and found.low == 0)
        checks.conclude(self.run, found, is_found=is_found)

    def _suspects(self, commits: Sequence[checkouts.Commit]) -> list[dict[str, str]]:
        merges = Merge.objects.filter(
            card__board=self.board, commit__in=[c.sha for c in commits]
        ).values_list("commit", "card__key")
        merged = dict(merges)
        keys = {c.card for c in commits if c.card}
        there = set(
            Card.objects.filter(board=self.board, key__in=keys).values_list("key", flat=True)
        )
        return [
            {
                "commit": c.sha,
                "subject": c.subject,
                "author": c.author,
                "card": merged.get(c.sha) or (c.card if c.card in there else ""),
            }
            for c in commits
        ]


class _Assigned:
    """A check as its executor is handed it: a command in the clone."""

    def __init__(self, of: _Checker, files: Checkout, command: str, timeout: float) -> None:
        self._of, self._files = of, files
        self.given, self.timeout_seconds = command, timeout
        self.output = ""

    def process(self, run: str, **_more: Any) -> Result:
        of, files = self._of, self._files

        renewed = float("-inf")

        def take(batch: Sequence[tuple[str, str]]) -> None:
            self.output += "".join(text for _, text in batch)

        def alive(_line: Any, _stream: str, _text: str) -> None:
            nonlocal renewed
            if time.monotonic() - renewed >= TICK_SECONDS:
                checks.renew(of.run)
                renewed = time.monotonic()
            if stopping.asked():
                raise _Stopped

        execution = Execution(
            Command(
                run=run,
                cwd=files.tree,
                folder=files.folder,
                env=environment(
                    home=files.home,
                    tmp=files.tmp,
                    extra={**of.terms.secrets, "HOLDFAST_URL": of.host.url},
                    also=of.host.env,
                ),
                timeout_seconds=self.timeout_seconds,
                grace_seconds=GRACE_SECONDS,
                limits=confinement.limits(of.host, of.terms),
                view=confinement.view(of.host, of.terms, files),
                reach=None,
                sandbox=of.host.sandbox,
            ),
            take,
            on_text=alive,
            tick_seconds=TICK_SECONDS / 5,
            new_filter=of.redactor.stream,
            cap_chars=OUTPUT_CHARS,
        )
        return execution.run()


def probed(probe: dict[str, Any]) -> Outcome:
    """Return whether the address answers as it should."""
    url, wanted, text = probe["url"], probe["status"], probe["text"]
    answer = outgoing.get(
        url, seconds=probe["timeout_seconds"], private=settings.ALLOW_PRIVATE_PROBES
    )
    took = f"in {answer.milliseconds} ms"
    if answer.code is None:
        return Outcome(False, f"GET {url} got no answer: {answer.error}")
    if answer.code != wanted:
        said = f"GET {url} answered {answer.code}, not {wanted}, {took}."
        return Outcome(False, said, answer.text)
    if text and text not in answer.text:
        said = f"GET {url} answered {answer.code} {took} without “{text}”."
        return Outcome(False, said, answer.text)
    return Outcome(True, f"GET {url} answered {answer.code} {took}.", answer.text)


def _settled(folder: Path) -> bool:
    try:
        ensure_dead(folder)
    except StillAlive as error:
        log.warning("%s", error)
        return False
    return True
