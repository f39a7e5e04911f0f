"""Carries out a card's workflow under a lease, one slice at a time.

    claim ─> workspace at the head checkpoint ─> step, step, step … ─> complete
                                                  │     └─ failed ──> fail (retried, or blocked)
                                                  ├─ others wait, pause, shutdown ──> release
                                                  └─ lease lost ──> stop at once, write nothing

Each step is begun in one transaction and ended in another that holds its result and its
checkpoint. The files are snapshotted before that, so a checkpoint never names files that are
not there. A worker killed in between leaves a step begun and not ended: the next attempt says
that it is in doubt, puts the files back to the checkpoint and runs it again.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from boards import attempt_tokens, leases, workflows
from boards.models import Attempt, Board, Card
from boards.workflows import Step, Workflow
from checkpoints import recovery, salvaging, steps
from checkpoints.models import Step as StepRow
from checkpoints.snapshots import Snapshot, store_of
from checkpoints.workspaces import Workspace, WorkspaceError
from goals.models import Criterion
from kernel.errors import BudgetExceeded, Invalid, LeaseLost
from workers import executors, junit, products
from workers.assignments import GRACE_SECONDS, Assignment, Desk
from workers.executors.contract import Ask, Ending, HandOver
from workers.executors.shell import StillAlive, ensure_dead
from workers.redaction import MARK, Redactor, secrets_in
from workers.watch import Watch

log = logging.getLogger(__name__)

OTHERS_WAIT_SECONDS = 1.0  # a card that waits for less is about to be taken by an idle worker
LESSON_LINES = 15
LESSON_CHARS = 1500
EVIDENCE_CHARS = 2000


class Outcome(StrEnum):
    """How a slice ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    BLOCKED = "blocked"
    RELEASED = "released"
    LOST = "lost"


def run_slice(attempt: Attempt) -> Outcome:
    """Carry out the attempt's card until it is done, fails, or should make room for others.

    Whatever the outcome, no process of it is left and its lease is ended, except when it was
    lost before or the store stays away. Never raises LeaseLost.
    """
    watch = Watch(attempt)
    watch.start()
    try:
        return _Slice(attempt, watch).run()
    except LeaseLost:
        log.info("attempt %s of %s is over; nothing more is written", attempt.number, attempt.pk)
        return Outcome.LOST
    finally:
        watch.close()


class _StepFailed(Exception):
    """A step failed for good: the attempt is over."""

    def __init__(self, error: str, lesson: str) -> None:
        super().__init__(error)
        self.error, self.lesson = error, lesson


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a step ended, after how many tries and how long, and the report it wrote."""

    ending: Ending
    tries: int
    seconds: float
    report: junit.Report | None


class _Slice:
    """One worker's turn at one card."""

    def __init__(self, attempt: Attempt, watch: Watch) -> None:
        self.attempt, self.watch = attempt, watch
        self.card = Card.objects.select_related("board").get(pk=attempt.card_id)
        self.board: Board = self.card.board
        self.desk = Desk(attempt, self.card, watch)
        self.livelog = self.desk.livelog
        self.began = time.monotonic()
        self.done = self.total = 0
        self.coming: Step | None = None

    def run(self) -> Outcome:
        try:
            if not self.board.allow_commands:
                return self._block(
                    f"Commands are off for the board {self.board.name}. An operator can allow "
                    "them in the board's settings; then retry the card."
                )
            workflow = workflows.parse(self.card.workflow)
            self._check_criteria(workflow)
            self._check_executors(workflow)
            self.desk.workspace = self._prepare(workflow)
            self._run_steps(workflow)
        except Invalid as error:
            return self._block(f"{error.detail} Mend the card's workflow, then retry the card.")
        except WorkspaceError as error:
            if error.retryable:
                return self._fail(error.problem, error.remedy)
            return self._block(str(error))
        except _StepFailed as failed:
            return self._fail(failed.error, failed.lesson)
        except HandOver as over:
            return self._release(over)
        except BudgetExceeded as spent:
            return self._release(HandOver("budget", spent.detail))
        except Ask as asking:
            return self._block(asking.question, asking.question, asking.options)
        finally:
            if self.desk.workspace is not None:
                if self.coming is not None:
                    salvaging.leave(self.desk.workspace, self.card)
                # Before the lease ends: the next attempt takes the folder over.
                self.desk.workspace.close()
        return self._complete(workflow)

    # What ends the attempt. Each may be repeated, so each may wait out an outage.

    def _complete(self, workflow: Workflow) -> Outcome:
        summary = f"All {self.total} steps of the workflow are done."
        result = {"steps": self.total}
        evidence = self._evidence(workflow)
        self.desk.write(
            lambda: leases.complete(self.attempt.pk, summary, result=result, evidence=evidence)
        )
        return Outcome.COMPLETED

    def _fail(self, error: str, lesson: str) -> Outcome:
        self.desk.write(lambda: leases.fail(self.attempt.pk, error, lesson=lesson))
        return Outcome.FAILED

    def _block(self, reason: str, question: str = "", options: tuple[str, ...] = ()) -> Outcome:
        self.desk.write(
            lambda: leases.block(self.attempt.pk, reason, question=question, options=options)
        )
        return Outcome.BLOCKED

    def _release(self, over: HandOver) -> Outcome:
        summary = f"{self.done} of {self.total} steps are done. {over.because}"
        coming = f"Run step {_named(self.coming)}." if self.coming else ""
        self.desk.write(
            lambda: leases.release(
                self.attempt.pk,
                summary,
                coming,
                reason=over.reason,
                retry_after_seconds=over.retry_after_seconds,
            )
        )
        return Outcome.RELEASED

    # The goal's criteria that steps are checks of.

    def _check_criteria(self, workflow: Workflow) -> None:
        """Pass if the goal has every criterion that a step names. Raises Invalid."""
        goal = self.card.goal_id
        there = Criterion.objects.filter(goal=goal, retired_at=None) if goal else None
        numbers = set(there.values_list("number", flat=True)) if there is not None else set()
        for n, step in enumerate(workflow.steps):
            if step.criterion is not None and step.criterion not in numbers:
                lacks = "its goal has none of that number" if goal else "the card has no goal"
                raise Invalid(
                    f"steps[{n}].criterion: step {step.key} checks criterion {step.criterion},"
                    f" but {lacks}."
                )

    def _check_executors(self, workflow: Workflow) -> None:
        """Pass if this host can carry every step out. Raises Invalid."""
        known = executors.known()
        for kind in dict.fromkeys(step.kind for step in workflow.steps):
            why = known[kind].available() if kind in known else "no executor here knows them"
            if why is not None:
                raise Invalid(f"Steps of the kind {kind} can't be carried out here: {why}.")

    def _evidence(self, workflow: Workflow) -> list[dict[str, Any]]:
        """Return what the checks showed, whichever attempt ran them."""
        checks = [step for step in workflow.steps if step.criterion is not None]
        recorded = steps.recorded(self.card.pk, self.attempt.line) if checks else {}
        return [_shown(step, recorded[step.key]) for step in checks]

    # The workspace.

    def _prepare(self, workflow: Workflow) -> Workspace:
        self.watch.note = "Preparing the workspace"
        self.desk.redactor = Redactor(
            [*_own_secrets(self.attempt), *secrets_in(workflow.env)]
            + [secret for step in workflow.steps for secret in secrets_in(step.env)]
        )
        head = self._newest_workspace()
        workspace = Workspace.prepare(
            Path(settings.WORKSPACES_DIR),
            store_of(self.board.pk),
            card_key=self.card.key,
            attempt_number=self.attempt.number,
            repository=self.board.repository,
            resume_commit=head,
            settle=_settled,
        )
        salvaging.record(self.card, workspace.store)
        if workspace.discarded is not None:
            self.livelog.note(
                "The files are back at the last checkpoint; what an earlier attempt left "
                f"unfinished is kept as {workspace.discarded[:12]}"
            )
        self.watch.check()
        return workspace

    def _newest_workspace(self) -> str | None:
        """Return the snapshot that the line goes on from, or None for a first start."""
        head = recovery.head(self.card.pk, self.attempt.line)
        while head is not None and not (head.workspace or {}).get("commit"):
            head = head.parent  # a checkpoint of a worker that keeps no snapshots
        return str((head.workspace or {})["commit"]) if head is not None else None

    # The steps.

    def _run_steps(self, workflow: Workflow) -> None:
        recorded = steps.recorded(self.card.pk, self.attempt.line)
        open_steps = [step for step in workflow.steps if not _is_over(recorded.get(step.key))]
        self.total = len(workflow.steps)
        self.done = self.total - len(open_steps)
        for n, step in enumerate(open_steps):
            self.coming = step
            following = open_steps[n + 1] if n + 1 < len(open_steps) else None
            self._see_whether_to_go_on(step, first=n == 0)
            self._run_step(step, following)
            self.done += 1
        self.coming = None

    def _see_whether_to_go_on(self, step: Step, *, first: bool) -> None:
        """Pass if this worker should begin the step now. Raises HandOver or LeaseLost."""
        self.watch.check()
        if self.watch.stopping:
            raise HandOver("shutdown", "The worker was stopped.")
        if self.watch.paused:
            raise HandOver("paused", "The card was paused.")
        if first:
            return
        elapsed = time.monotonic() - self.began
        if not self._has_room_for(step):
            raise HandOver("slice", "The worker's turn is over.")
        if elapsed >= settings.SLICE_SECONDS and self._others_wait():
            raise HandOver("slice", "Other cards wait for a worker, and this one had its turn.")

    def _has_room_for(self, step: Step) -> bool:
        """Return whether the step would end before django-q ends this task by force."""
        allowed: Any = settings.Q_CLUSTER["timeout"]
        elapsed = time.monotonic() - self.began
        return bool(elapsed + step.timeout_seconds + 2 * GRACE_SECONDS < allowed)

    def _others_wait(self) -> bool:
        now = timezone.now()
        return (
            leases.workable(Card.objects.ready(now), executors.capabilities())
            .filter(
                workflow__isnull=False,
                board__allow_commands=True,
                updated_at__lt=now - timedelta(seconds=OTHERS_WAIT_SECONDS),
            )
            .exists()
        )

    def _run_step(self, step: Step, following: Step | None) -> None:
        """Run the step and record how it ended. Raises _StepFailed if that ends the attempt."""
        self.watch.note = f"Step {self.done + 1} of {self.total}: {step.title or step.key}"[:500]
        self.watch.percent = 100 * self.done // self.total
        self.livelog.step_key = step.key
        begun = self.desk.write(
            lambda: steps.begin(
                self.attempt.pk,
                step.key,
                title=step.title,
                kind=step.kind,
                input=self._shown_input(step),
            )
        )
        if begun.replay and _is_over(begun.step):
            return
        if begun.step.in_doubt:
            self.livelog.note(
                "An earlier attempt began this step and never said how it ended; it runs again"
            )
        ended = self._run_tries(step, in_doubt=begun.step.in_doubt)
        self.livelog.finish()
        self.watch.check()
        if self.watch.stopping and not ended.ending.succeeded:
            # Not the step's fault: it stays begun, and the next attempt runs it again.
            raise HandOver("shutdown", "The worker was stopped.")
        self._record(step, following, ended)

    def _run_tries(self, step: Step, *, in_doubt: bool) -> _Ended:
        """Have the step carried out until it succeeds or its retries are used up."""
        executor = executors.known()[step.kind]
        failed = steps.failures(self.card.pk, self.attempt.line, step.key)
        began = time.monotonic()
        for number in range(1, step.retries + 2):
            if number > 1:
                self.livelog.note(f"Try {number} of {step.retries + 1}, from the same files")
                self.desk.files.put_back()
            report = products.Report(self.desk.files.tree, step.junit)
            ending = executor.carry_out(
                Assignment(
                    self.desk,
                    step,
                    turn=failed + number,
                    in_doubt=in_doubt and number == 1,
                    done=self.done,
                    total=self.total,
                )
            )
            self.watch.check()
            if ending.succeeded or not ending.again:
                break
            if self.watch.stopping or not self._has_room_for(step):
                break
        seconds = round(time.monotonic() - began, 3)
        return _Ended(ending, number, seconds, report.read())

    def _shown_input(self, step: Step) -> dict[str, Any]:
        shown = step.as_input()
        hidden = set(secrets_in(step.env))
        shown["env"] = {k: MARK if v in hidden else v for k, v in step.env.items()}
        shown[step.kind] = self.desk.redactor.redacted(step.given)
        return shown

    def _record(self, step: Step, following: Step | None, ended: _Ended) -> None:
        """Record the step's end, with a checkpoint unless the failure ends the attempt."""
        ending, read = ended.ending, ended.report
        tests = read.tests if read else None
        if tests:
            tests["failing"] = [self.desk.redactor.redact(name) for name in tests["failing"]]
        kept = products.keep(self.desk.files.tree, step.artifacts)
        snapshot = self.desk.snapshot(f"after {step.key}")
        counts = ending.succeeded or step.allow_failure
        problems = [*kept.problems]
        if read and read.reason:
            problems.append(read.reason)
        detail: dict[str, Any] = {
            "duration_seconds": ended.seconds,
            **ending.detail,
            "tries": ended.tries,
            "tests": tests,
            "artifacts": kept.artifacts,
            "problems": problems,
            "workspace": snapshot.as_json(),
        }
        if ending.outputs:
            detail["outputs"] = dict(ending.outputs)
        if not ending.succeeded and step.allow_failure:
            detail["allowed_failure"] = True
        sentence = _sentence(step, ending, tests)
        checkpoint = (
            self._checkpoint(sentence, following, tests, snapshot, kept) if counts else None
        )
        self.desk.write(
            lambda: steps.finish(
                self.attempt.pk,
                step.key,
                "succeeded" if ending.succeeded else "failed",
                result=detail,
                error="" if ending.succeeded else sentence,
                usage=ending.usage.as_json() if ending.usage else None,
                checkpoint=checkpoint,
            )
        )
        if not counts:
            raise _StepFailed(sentence, _lesson(ending, sentence, tests))

    def _checkpoint(
        self,
        sentence: str,
        following: Step | None,
        tests: dict[str, Any] | None,
        snapshot: Snapshot,
        kept: products.Kept,
    ) -> dict[str, Any]:
        return {
            "summary": sentence,
            "next_step": f"Run step {_named(following)}."
            if following
            else "All steps are done; complete the card.",
            "state": {"steps_done": self.done + 1, "steps_total": self.total},
            "tests": tests,
            "workspace": snapshot.as_json(),
            "artifacts": [{"name": a["name"], "sha256": a["sha256"]} for a in kept.artifacts],
        }


def _is_over(row: StepRow | None) -> bool:
    """Return whether the step's result stands: it succeeded, or failed as it may."""
    if row is None:
        return False
    if row.status == StepRow.Status.SUCCEEDED:
        return True
    allowed = isinstance(row.result, dict) and row.result.get("allowed_failure") is True
    return row.status == StepRow.Status.FAILED and allowed


def _shown(step: Step, row: StepRow) -> dict[str, Any]:
    """Return a check's outcome as evidence: how it ended and the end of what it printed."""
    result = row.result if isinstance(row.result, dict) else {}
    took = result.get("duration_seconds")
    how = "passed" if row.status == StepRow.Status.SUCCEEDED else "failed"
    said = f"`{row.input['run']}` {how}" if isinstance(row.input, dict) else f"{step.key} {how}"
    detail = f"{said} in {took} s (step {step.key}, attempt {row.attempt.number})."
    tail = str((result.get("output") or {}).get("tail") or "").strip()[-EVIDENCE_CHARS:]
    return {
        "criterion": step.criterion,
        "met": row.status == StepRow.Status.SUCCEEDED,
        "detail": f"{detail}\n\n{tail}" if tail else detail,
    }


def _settled(folder: Path) -> bool:
    """End what still runs in an earlier attempt's folder; return whether nothing does."""
    try:
        ended = ensure_dead(folder)
    except StillAlive as error:
        log.warning("%s", error)
        return False
    if ended:
        log.info("ended %d process(es) that an earlier attempt left in %s", ended, folder)
    return True


def _named(step: Step | None) -> str:
    if step is None:
        return ""
    return f"{step.key} ({step.title})" if step.title else step.key


def _sentence(step: Step, ending: Ending, tests: dict[str, Any] | None) -> str:
    """Return how the step ended, and what its worker says of it."""
    how = ending.how
    if not ending.succeeded and step.allow_failure:
        how += ", as it may"
    counted = ""
    if tests:
        counted = (
            f": {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
        )
    sentence = f"Step {_named(step)} {how}{counted}."
    return f"{sentence} {ending.summary}" if ending.summary else sentence


def _lesson(ending: Ending, sentence: str, tests: dict[str, Any] | None) -> str:
    """Return what the next attempt should know: which step failed, and its last words."""
    lines = ending.last_words.rstrip().splitlines()[-LESSON_LINES:]
    last = "\n".join(lines)[-LESSON_CHARS:]
    failing = ", ".join((tests or {}).get("failing", [])[:10])
    parts = [sentence]
    if failing:
        parts.append(f"Failing: {failing}.")
    parts.append(f"Its last output:\n{last}" if last else "It printed nothing.")
    return "\n".join(parts)


def _own_secrets(attempt: Attempt) -> list[str]:
    """Return what this server must never see in a log."""
    found = [
        str(settings.SECRET_KEY),
        str(settings.BOOTSTRAP_TOKEN),
        leases.token_of(attempt.pk, attempt.board_id),
        attempt_tokens.token_of(attempt.pk),
        *secrets_in({name: os.environ.get(name, "") for name in settings.COMMAND_ENV}),
    ]
    found.append(str(settings.DATABASES["default"].get("PASSWORD") or ""))
    found.append(urlsplit(settings.REDIS_URL).password or "")
    return [secret for secret in found if secret]
