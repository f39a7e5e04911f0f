"""Carries out a card's workflow under a lease, one slice at a time.

    claim ─> workspace at the head checkpoint ─> step, step, step … ─> complete
                                                  │     └─ failed ──> fail (retried, or blocked)
                                                  ├─ a person is asked ──> block
                                                  ├─ it or others wait, pause, shutdown ──> release
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
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from boards import attempt_tokens, choice, leases, workflows
from boards.faults import Fault
from boards.models import Attempt, Board, Card
from boards.workflows import Step, Workflow
from checkpoints import merging, recovery, salvaging, steps
from checkpoints.models import Step as StepRow
from checkpoints.snapshots import store_of
from checkpoints.workspaces import Workspace, WorkspaceError
from goals.models import Criterion
from kernel.errors import BudgetExceeded, Invalid, LeaseLost
from workers import executors, pauses, questions, telling
from workers.assignments import GRACE_SECONDS, Desk
from workers.carrying import Carrier, StepFailed
from workers.executors.contract import Ask, HandOver, trait
from workers.executors.shell import StillAlive, ensure_dead
from workers.redaction import Redactor, secrets_in
from workers.watch import Watch

log = logging.getLogger(__name__)

OTHERS_WAIT_SECONDS = 1.0  # a card that waits for less is about to be taken by an idle worker


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
            workflow = self._with_criteria(workflows.parse(self.card.workflow))
            self.total = len(workflow.steps)
            self._check_criteria(workflow)
            self._check_executors(workflow)
            self.desk.redactor = Redactor(self._secrets(workflow))
            carrier = Carrier(self.desk, workflow, self._has_room_for)
            self.desk.workspace = self._prepare()
            self._run_steps(carrier)
        except Invalid as error:
            return self._block(f"{error.detail} Mend the card's workflow, then retry the card.")
        except WorkspaceError as error:
            if error.retryable:
                return self._fail(error.problem, error.remedy, fault=Fault.INFRASTRUCTURE)
            return self._block(str(error))
        except StepFailed as failed:
            red = [(check, row) for check, row in failed.checks if check.criterion is not None]
            fault = Fault.RED_CHECKS if failed.checks else Fault.AGENT_ERROR
            return self._fail(failed.error, failed.lesson, red, fault)
        except HandOver as over:
            return self._release(over)
        except BudgetExceeded as spent:
            return self._release(HandOver("budget", spent.detail))
        except Ask as asking:
            return self._ask(asking)
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

    def _fail(
        self,
        error: str,
        lesson: str,
        red: Sequence[tuple[Step, StepRow]] = (),
        fault: str = Fault.AGENT_ERROR,
    ) -> Outcome:
        evidence = [telling.evidence(check, row) for check, row in red]
        self.desk.write(
            lambda: leases.fail(
                self.attempt.pk, error, lesson=lesson, fault=fault, evidence=evidence
            )
        )
        return Outcome.FAILED

    def _ask(self, asking: Ask) -> Outcome:
        """Block the card with the question, which is not put twice while it stands open."""
        question = self.desk.redactor.redact(asking.question)
        anew = not questions.stands_open(self.attempt, question)
        return self._block(question, question if anew else "", asking.options)

    def _block(self, reason: str, question: str = "", options: tuple[str, ...] = ()) -> Outcome:
        self.desk.write(
            lambda: leases.block(self.attempt.pk, reason, question=question, options=options)
        )
        return Outcome.BLOCKED

    def _release(self, over: HandOver) -> Outcome:
        summary = f"{self.done} of {self.total} steps are done. {over.because}"
        coming = f"Run step {telling.named(self.coming)}." if self.coming else ""
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

    def _with_criteria(self, workflow: Workflow) -> Workflow:
        """Return the workflow with a check for each criterion that has a command and no step.

        Only where a step is over when a model says so: nothing counts as done on its word. If
        such a step is the last and has no checks, it is told of red ones, else they come last.
        """
        goal = self.card.goal_id
        driven = [step for step in workflow.steps if _is_model_driven(step.kind)]
        if not driven or goal is None:
            return workflow
        shown = {step.criterion for step in workflow.steps}
        asked = Criterion.objects.filter(goal=goal, retired_at=None).exclude(check_command="")
        checks = [
            _check_of(criterion, workflow)
            for criterion in asked.order_by("number")
            if criterion.number not in shown
        ]
        if not checks:
            return workflow
        *others, last = workflow.steps
        if last is driven[-1] and not last.until:
            last = replace(last, until=tuple(check.key for check in checks))
        return replace(workflow, steps=(*others, last, *checks))

    def _check_executors(self, workflow: Workflow) -> None:
        """Pass if this host can carry every step out. Raises Invalid."""
        known = executors.known()
        for kind in dict.fromkeys(step.kind for step in workflow.steps):
            if kind in pauses.KINDS:
                continue
            why = known[kind].available() if kind in known else "no executor here knows them"
            if why is not None:
                raise Invalid(f"Steps of the kind {kind} can't be carried out here: {why}.")
        for step in () if self.board.allow_network else workflow.steps:
            if step.kind in known and trait(known[step.kind], "needs_network")(step.given):
                raise Invalid(
                    f"Step {step.key} needs the network, and the board {self.board.name} keeps "
                    "commands off it. An operator can allow it in the board's settings."
                )

    def _evidence(self, workflow: Workflow) -> list[dict[str, Any]]:
        """Return what the checks showed, whichever attempt ran them, what is red last."""
        checks = [step for step in workflow.steps if step.criterion is not None]
        keys = [step.key for step in checks]
        recorded = steps.recorded(self.card.pk, self.attempt.line, keys) if checks else {}
        shown = [
            telling.evidence(step, recorded[step.key])
            for step in checks
            if recorded[step.key].status != StepRow.Status.SKIPPED
        ]
        return sorted(shown, key=lambda entry: not entry["met"])

    # The workspace.

    def _secrets(self, workflow: Workflow) -> list[str]:
        own = [*_own_secrets(self.attempt), *secrets_in(workflow.env)]
        return own + [secret for step in workflow.steps for secret in secrets_in(step.env)]

    def _prepare(self) -> Workspace:
        self.watch.note = "Preparing the workspace"
        head = self._newest_workspace()
        start = None
        if head is None and self.board.defaults.get("start_from_parents"):
            start = merging.start_of(self.card)
        workspace = Workspace.prepare(
            Path(settings.WORKSPACES_DIR),
            store_of(self.board.pk),
            card_key=self.card.key,
            attempt_number=self.attempt.number,
            repository=self.board.repository,
            resume_commit=head or (start.commit if start else None),
            settle=_settled,
        )
        salvaging.record(self.card, workspace.store)
        if start is not None:
            self.livelog.note(f"It starts from what {' and '.join(start.parents)} ended with")
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

    def _run_steps(self, carrier: Carrier) -> None:
        while (move := carrier.coming()) is not None:
            self.coming = move.step
            self.done = carrier.done
            carrier.see_whether_to_go_on(move.step)
            self._see_whether_others_wait(carrier)
            carrier.carry_out(move)
        self.done, self.coming = carrier.done, None

    def _see_whether_others_wait(self, carrier: Carrier) -> None:
        """Pass unless this card had its turn and others want theirs. Raises HandOver."""
        elapsed = time.monotonic() - self.began
        if not carrier.fresh and elapsed >= settings.SLICE_SECONDS and self._others_wait():
            raise HandOver("slice", "Other cards wait for a worker, and this one had its turn.")

    def _has_room_for(self, step: Step) -> bool:
        """Return whether the step would end before django-q ends this task by force."""
        allowed: Any = settings.Q_CLUSTER["timeout"]
        elapsed = time.monotonic() - self.began
        return bool(elapsed + step.timeout_seconds + 2 * GRACE_SECONDS < allowed)

    def _others_wait(self) -> bool:
        now = timezone.now()
        return (
            choice.workable(Card.objects.ready(now), executors.capabilities())
            .filter(
                workflow__isnull=False,
                board__allow_commands=True,
                updated_at__lt=now - timedelta(seconds=OTHERS_WAIT_SECONDS),
            )
            .exists()
        )


def _is_model_driven(kind: str) -> bool:
    executor = executors.known().get(kind)
    driven = executor is not None and bool(trait(executor, "model_driven"))
    return driven or kind in ("agent", "llm")


def _check_of(criterion: Criterion, workflow: Workflow) -> Step:
    """Return a step that runs the criterion's own command."""
    key = f"criterion:{criterion.number}"
    while workflow.named(key):
        key += ":check"
    return Step(
        key=key,
        kind="check",
        given=criterion.check_command,
        title=criterion.text[: workflows.MAX_TITLE_CHARS],
        cwd=".",
        env=workflow.env,
        timeout_seconds=workflows.DEFAULT_TIMEOUT_SECONDS,
        retries=0,
        allow_failure=False,
        junit=None,
        artifacts=(),
        criterion=criterion.number,
    )


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
