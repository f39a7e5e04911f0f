"""Carries out a card's workflow under a lease, one turn at a time.

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
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from boards import workflows
from boards.workflows import Step, Workflow
from checkpoints.workspaces import CantClone, Workspace, WorkspaceError
from kernel.addresses import credentials_in
from kernel.errors import BudgetExceeded, EvidenceMissing, Invalid, LeaseLost
from workers import executors, pauses, scoring, telling
from workers.assignments import Desk
from workers.carrying import Carrier, StepFailed
from workers.executors.contract import Ask, HandOver, trait
from workers.executors.shell import StillAlive, ensure_dead
from workers.ledger import Criterion, Ledger, Row, Score, Shift, Status
from workers.redaction import Redactor, secrets_in
from workers.watch import Watch

log = logging.getLogger(__name__)

#: What kinds of failure there are for a workflow, as ``boards.faults`` has them.
INFRASTRUCTURE, RED_CHECKS, AGENT_ERROR = "infrastructure", "red_checks", "agent_error"


class Outcome(StrEnum):
    """How a turn ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    BLOCKED = "blocked"
    RELEASED = "released"
    LOST = "lost"


def take(ledger: Ledger, shift: Shift) -> Outcome:
    """Carry out the attempt's card until it is done, fails, or should make room for others.

    Whatever the outcome, no process of it is left and its lease is ended, except when it was
    lost before or the store stays away. Never raises LeaseLost.
    """
    watch = Watch(ledger, shift)
    watch.start()
    try:
        return Turn(ledger, watch).run()
    except LeaseLost:
        mandate = ledger.mandate
        log.info("attempt %s of %s is over; nothing more is written", mandate.number, mandate.card)
        return Outcome.LOST
    finally:
        watch.close()


class Turn:
    """One worker's turn at one card."""

    def __init__(self, ledger: Ledger, watch: Watch) -> None:
        self.ledger, self.watch = ledger, watch
        self.mandate, self.terms = ledger.mandate, ledger.terms
        self.desk = Desk(ledger, watch)
        self.livelog = self.desk.livelog
        self.done = self.total = 0
        self.coming: Step | None = None

    def run(self) -> Outcome:
        try:
            end = self._carried_out()
        finally:
            if self.desk.workspace is not None:
                if self.coming is not None:
                    self.ledger.leave(self.desk.workspace)
                # Before the lease ends: the next attempt takes the folder over.
                self.desk.workspace.close()
        return end()

    def _carried_out(self) -> Callable[[], Outcome]:
        """Do what can be done in this turn, and return what then ends the attempt."""
        try:
            if not self.terms.commands:
                return partial(
                    self._block,
                    f"Commands are off for the board {self.terms.board}. An operator can allow "
                    "them in the board's settings; then retry the card.",
                )
            if self.terms.withheld:
                raise HandOver("unfit", self.terms.why_withheld)
            if self.terms.closed:
                return partial(self._block, f"{self.terms.why_closed} Then retry the card.")
            workflow = self._with_criteria(self._parsed())
            self.total = len(workflow.steps)
            self._check_criteria(workflow)
            self._check_executors(workflow)
            self.desk.redactor = Redactor(self._secrets(workflow))
            carrier = Carrier(self.desk, workflow)
            self.desk.workspace = self._prepare()
            self._run_steps(carrier)
            score = None
            workflow = carrier.workflow
            self.total = len(workflow.steps)
            if (scoring_step := scoring.step(self.mandate, workflow)) is not None:
                carrier.see_whether_to_go_on(scoring_step)
                score = scoring.score(self.desk, scoring_step, self.total)
        except Invalid as error:
            mend = "Mend the card's workflow, then retry the card."
            return partial(self._block, f"{error.detail} {mend}")
        except WorkspaceError as error:
            if isinstance(error, CantClone) and not self.ledger.last_resort:
                return partial(self._release, HandOver("unfit", error.problem))
            if error.retryable:
                return partial(self._fail, error.problem, error.remedy, fault=INFRASTRUCTURE)
            return partial(self._block, str(error))
        except StepFailed as failed:
            red = [(check, row) for check, row in failed.checks if check.criterion is not None]
            fault = RED_CHECKS if failed.checks else AGENT_ERROR
            if failed.broken:
                fault = INFRASTRUCTURE
            return partial(self._fail, failed.error, failed.lesson, red, fault)
        except HandOver as over:
            return partial(self._release, over)
        except BudgetExceeded as spent:
            return partial(self._release, HandOver("budget", spent.detail))
        except Ask as asking:
            return partial(self._ask, asking)
        return partial(self._complete, workflow, score)

    def _parsed(self) -> Workflow:
        try:
            return workflows.parse(self.mandate.workflow)
        except Invalid as error:
            if self.ledger.last_resort:
                raise
            # The server took it, so it is this host that lacks something.
            raise HandOver("unfit", error.detail) from None

    # What ends the attempt. Each may be repeated, so each may wait out an outage.

    def _complete(self, workflow: Workflow, score: Score | None) -> Outcome:
        summary = telling.done(workflow.steps, self.desk.write(lambda: self._recorded(workflow)))
        result = {"steps": self.total}
        evidence = self._evidence(workflow)
        try:
            self.desk.write(
                lambda: self.ledger.complete(summary, result=result, evidence=evidence, score=score)
            )
        except EvidenceMissing as missing:
            return self._block(
                f"{missing.detail} Give a step of the workflow the criterion it checks, then retry "
                "the card."
            )
        return Outcome.COMPLETED

    def _recorded(self, workflow: Workflow) -> dict[str, Row]:
        return self.ledger.recorded([step.key for step in workflow.steps])

    def _fail(
        self,
        error: str,
        lesson: str,
        red: Sequence[tuple[Step, Row]] = (),
        fault: str = AGENT_ERROR,
    ) -> Outcome:
        evidence = [telling.evidence(check, row) for check, row in red]
        self.desk.write(
            lambda: self.ledger.fail(error, lesson=lesson, fault=fault, evidence=evidence)
        )
        return Outcome.FAILED

    def _ask(self, asking: Ask) -> Outcome:
        """Block the card with the question, which is not put twice while it stands open."""
        question = self.desk.redactor.redact(asking.question)
        if self.desk.write(lambda: self.ledger.stands_open(question)):
            return self._block(question)
        terms = self.desk.redactor.redacted(asking.terms)
        return self._block(question, question=question, options=asking.options, **terms)

    def _block(self, reason: str, **asked: Any) -> Outcome:
        self.desk.write(lambda: self.ledger.block(reason, **asked))
        return Outcome.BLOCKED

    def _release(self, over: HandOver) -> Outcome:
        summary = f"{self.done} of {self.total} steps are done. {over.because}"
        coming = f"Run step {telling.named(self.coming)}." if self.coming else ""
        self.desk.write(
            lambda: self.ledger.release(
                summary,
                coming,
                reason=over.reason,
                retry_after_seconds=over.retry_after_seconds,
                lacks=over.lacks,
            )
        )
        return Outcome.RELEASED

    # The goal's criteria that steps are checks of.

    def _check_criteria(self, workflow: Workflow) -> None:
        """Pass if the goal has every criterion that a step names. Raises Invalid."""
        goal = self.mandate.criteria
        numbers = {criterion.number for criterion in goal or ()}
        for n, step in enumerate(workflow.steps):
            if step.criterion is not None and step.criterion not in numbers:
                lacks = "the card has no goal"
                if goal is not None:
                    lacks = "its goal has none of that number"
                raise Invalid(
                    f"steps[{n}].criterion: step {step.key} checks criterion {step.criterion},"
                    f" but {lacks}."
                )

    def _with_criteria(self, workflow: Workflow) -> Workflow:
        """Return the workflow with a check for each criterion that has a command and no step.

        Only where a step is over when a model says so: nothing counts as done on its word. If
        such a step is the last and has no checks, it is told of red ones, else they come last.
        """
        driven = [step for step in workflow.steps if _is_model_driven(step.kind)]
        if not driven:
            return workflow
        shown = {step.criterion for step in workflow.steps}
        checks = [
            _check_of(criterion, workflow)
            for criterion in self.mandate.criteria or ()
            if criterion.command and criterion.number not in shown
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
            if why is not None and not self.ledger.last_resort:
                said = f"Steps of the kind {kind} can't be done there: {why}."
                raise HandOver("unfit", said, lacks=kind)
            if why is not None:
                raise Invalid(f"Steps of the kind {kind} can't be carried out here: {why}.")
        for step in () if self.terms.network else workflow.steps:
            if step.kind in known and trait(known[step.kind], "needs_network")(step.given):
                raise Invalid(
                    f"Step {step.key} needs the network, and the board {self.terms.board} keeps "
                    "commands off it. An operator can allow it in the board's settings."
                )

    def _evidence(self, workflow: Workflow) -> list[dict[str, Any]]:
        """Return what the checks showed, whichever attempt ran them, what is red last."""
        checks = [step for step in workflow.steps if step.criterion is not None]
        keys = [step.key for step in checks]
        recorded = self.ledger.recorded(keys) if checks else {}
        shown = [
            telling.evidence(step, recorded[step.key])
            for step in checks
            if recorded[step.key].status != Status.SKIPPED
        ]
        return sorted(shown, key=lambda entry: not entry["met"])

    # The workspace.

    def _secrets(self, workflow: Workflow) -> list[str]:
        own = [*self.desk.host.secrets, self.mandate.program_token, *secrets_in(workflow.env)]
        own += [*self.terms.secrets.values(), *credentials_in(self.terms.repository)]
        return own + [secret for step in workflow.steps for secret in secrets_in(step.env)]

    def _prepare(self) -> Workspace:
        self.watch.note = "Preparing the workspace"
        start = self.desk.write(self.ledger.start)
        workspace = Workspace.prepare(
            self.desk.host.workspaces,
            self.ledger.store(),
            card_key=self.mandate.card,
            attempt_number=self.mandate.number,
            repository=self.terms.repository,
            resume_commit=start.commit,
            keep_ignored=self.terms.keep_ignored,
            settle=_settled,
        )
        self.ledger.found(workspace.store)
        if start.parents:
            self.livelog.note(f"It starts from what {' and '.join(start.parents)} ended with")
        if workspace.discarded is not None:
            self.livelog.note(
                "The files are back at the last checkpoint; what an earlier attempt left "
                f"unfinished is kept as {workspace.discarded[:12]}"
            )
        self.watch.check()
        return workspace

    # The steps.

    def _run_steps(self, carrier: Carrier) -> None:
        while (move := carrier.coming()) is not None:
            self.coming = move.step
            self.done, self.total = carrier.done, len(carrier.workflow.steps)
            carrier.see_whether_to_go_on(move.step)
            if not carrier.fresh and self.watch.shift.turn_over():
                raise HandOver("slice", "Other cards wait for a worker, and this one had its turn.")
            carrier.carry_out(move)
        self.done, self.coming = carrier.done, None


def _is_model_driven(kind: str) -> bool:
    executor = executors.known().get(kind)
    driven = executor is not None and bool(trait(executor, "model_driven"))
    return driven or kind in ("agent", "llm")


def _check_of(criterion: Criterion, workflow: Workflow) -> Step:
    """Return a step that runs the criterion's own command."""
    return workflow.beside(
        f"criterion:{criterion.number}",
        "check",
        criterion.command,
        title=criterion.text[: workflows.MAX_TITLE_CHARS],
        mark=":check",
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
