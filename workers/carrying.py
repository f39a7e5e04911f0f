"""Has the steps of a workflow carried out, one by one, and records how each ended.

A step with checks (``until``) is done in rounds. Everything is kept below the step's key, so
that whoever goes on knows which round it was, and neither the work nor a check is done twice:

    fix              begun; ended when its checks are green, or the rounds used up
    fix/1.1          the work of the first round of the first try, with the files after it
    fix/1.1:tests    what the check ``tests`` said of it: red, so
    fix/1.2          the work of the second round, which was told of that
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from boards import inputs, plans, workflows
from boards.expressions import Unusable
from boards.plans import Filled, Over
from boards.workflows import Step, Workflow
from checkpoints.git import GitFailed
from checkpoints.snapshots import Snapshot
from checkpoints.workspaces import WorkspaceError
from kernel.errors import DomainError, Invalid
from workers import executors, junit, pauses, products, telling
from workers.assignments import GRACE_SECONDS, Assignment, Desk
from workers.executors.contract import Ask, Ending, Executor, HandOver, Lacking, trait
from workers.ledger import Begun, Mandate, Row, Status
from workers.redaction import MARK, secrets_in

log = logging.getLogger(__name__)

#: A key has 200 characters, of which a Python workflow's own take up to 100.
STEM_CHARS = 90
MAX_BECAUSE_CHARS = 500
#: What a round's result has and the step's has not: it is told anew.
_OF_A_ROUND = ("outputs", "tries", "summary", "duration_seconds")


class StepFailed(Exception):
    """A step failed for good: the attempt is over. ``checks`` are those that are red; ``broken``
    if such steps can't be carried out here."""

    def __init__(
        self,
        error: str,
        lesson: str,
        checks: Sequence[tuple[Step, Row]] = (),
        broken: bool = False,
    ) -> None:
        super().__init__(error)
        self.error, self.lesson, self.checks = error, lesson, tuple(checks)
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended, after how many tries and how long, and the report it wrote."""

    ending: Ending
    tries: int
    seconds: float
    report: junit.Report | None


class Carrier:
    """Carries one card's workflow out under one attempt, from what is over to what comes."""

    def __init__(self, desk: Desk, workflow: Workflow) -> None:
        self.desk, self.workflow = desk, workflow
        self.ledger, self.watch, self.livelog = desk.ledger, desk.watch, desk.livelog
        self.under_way: dict[str, Over] = {}  # work whose checks run just now
        self.fresh = True  # nothing was recorded by this worker yet
        mandate = desk.mandate
        self.around = {"inputs": _inputs(workflow, mandate), "card": _facts(mandate)}
        self.rows = self.ledger.recorded([step.key for step in workflow.steps])
        self._unfold()

    @property
    def done(self) -> int:
        return len(self._over())

    def coming(self) -> plans.Move | None:
        """Return what comes next. Raises Invalid if the workflow makes no sense here."""
        self._unfold()
        try:
            return plans.coming(self.workflow, self._over(), self.around)
        except Unusable as error:
            key = next(s.key for s in self.workflow.steps if s.key not in self._over())
            raise Invalid(f"The condition of step {key} can't be used: {error}") from None

    def _unfold(self) -> None:
        """Take in the steps that a matrix makes of what is over by now. Raises Invalid."""
        known: set[str] = {step.key for step in self.workflow.steps}
        while any(step.is_open for step in self.workflow.steps):
            try:
                self.workflow = plans.unfolded(self.workflow, self._over(), self.around)
            except Unusable as error:
                raise Invalid(str(error)) from None
            new = [step.key for step in self.workflow.steps if step.key not in known]
            if not new:
                return
            known.update(new)
            self.rows |= self.ledger.recorded(new)

    def see_whether_to_go_on(self, step: Step) -> None:
        """Pass if this worker should begin the step now. Raises HandOver or LeaseLost."""
        self.watch.check()
        if self.watch.stopping:
            raise HandOver("shutdown", "The worker was stopped.")
        if self.watch.paused:
            raise HandOver("paused", "The card was paused.")
        if self.watch.shift.draining():
            raise HandOver("drained", "The host is being drained.")
        if self.watch.shift.resting(step.kind, step.given):
            raise HandOver("at_rest", f"Steps of the kind {step.kind} rest on this host for now.")
        if not self.fresh and not self.has_room_for(step):
            raise HandOver("slice", "The worker's turn is over.")

    def has_room_for(self, step: Step) -> bool:
        """Return whether the step would end within this worker's turn."""
        return self.watch.shift.room_for(step.timeout_seconds + 2 * GRACE_SECONDS)

    def carry_out(self, move: plans.Move) -> None:
        """Do what comes next and record it. Raises StepFailed, HandOver or Ask."""
        step = move.step
        number = self.workflow.steps.index(step) + 1
        total = len(self.workflow.steps)
        self.watch.note = f"Step {number} of {total}: {step.title or step.key}"[:500]
        self.watch.percent = 100 * self.done // total
        if move.because:
            self._skip(step, move.because)
        elif (adopted := self._shown_in_rounds(step)) is not None:
            self._adopt(step, adopted)
        else:
            self._carry_out(step)

    def _over(self) -> dict[str, Over]:
        return plans.over_among(self.rows)

    def _skip(self, step: Step, because: str) -> None:
        because = self.desk.redactor.redact(because)
        self.rows[step.key] = self.desk.write(
            lambda: self.ledger.skip(step.key, because, title=step.title, kind=step.kind)
        )
        self.livelog.step_key = step.key
        self.livelog.note(f"Skipped: {because}")

    # One step.

    def _carry_out(self, written: Step) -> None:
        filled = self._filled(written)
        step = filled.step
        self.livelog.step_key = step.key
        continues = step.kind in pauses.KINDS or trait(self._executor(step), "continues")
        begun = self._begin(step, step.key, step.title, continues=continues)
        if begun.replay and _is_over(begun.step):
            self.rows[step.key] = begun.step
            return
        if begun.step.in_doubt:
            self.livelog.note(
                "An earlier attempt began this step and never said how it ended; it runs again"
            )
        if step.until:
            ended, reds = self._run_rounds(filled, in_doubt=begun.step.in_doubt)
        elif step.kind in pauses.KINDS:
            began = time.monotonic()
            ending = pauses.carry_out(self.ledger, step, self.desk.redactor.redacted)
            ended = Ended(ending, 1, round(time.monotonic() - began, 3), None)
            reds = []
        else:
            turn = 1 + self._failures(step)

            def scopes(number: int) -> list[str]:
                return [f"{stem(step.key)}/{1 if continues else turn + number - 1}"]

            ended = self._run_tries(filled, scopes, in_doubt=begun.step.in_doubt)
            reds = []
        self._see_that_it_may_end(ended)
        self._record(step, ended, reds)

    def _begin(self, step: Step, key: str, title: str, *, continues: bool = False) -> Begun:
        return self.desk.write(
            lambda: self.ledger.begin(
                key,
                title=title,
                kind=step.kind,
                input=self._shown_input(step),
                continues=continues,
            )
        )

    def _see_that_it_may_end(self, ended: Ended) -> None:
        self.livelog.finish()
        self.watch.check()
        if self.watch.stopping and not ended.ending.succeeded:
            # Not the step's fault: it stays begun, and the next attempt runs it again.
            raise HandOver("shutdown", "The worker was stopped.")

    def _run_tries(
        self,
        filled: Filled,
        scopes: Callable[[int], list[str]],
        *,
        in_doubt: bool = False,
        feedback: str = "",
        previous: Mapping[str, Any] | None = None,
    ) -> Ended:
        """Have the step carried out until it succeeds or its retries are used up."""
        step = filled.step
        executor = self._executor(step)
        began = time.monotonic()
        for number in range(1, step.retries + 2):
            if number > 1:
                self.livelog.note(f"Try {number} of {step.retries + 1}, from the same files")
                self.desk.files.put_back()
            report = products.Report(self.desk.files.tree, step.junit)
            self.desk.confined = None
            assignment = Assignment(
                self.desk,
                step,
                scopes=scopes(number),
                in_doubt=in_doubt and number == 1,
                done=self.done,
                total=len(self.workflow.steps),
                feedback=feedback,
                previous=previous,
                variables=filled.variables,
            )
            ending = _with_outputs(step, self._done_by(executor, assignment), assignment)
            self.watch.check()
            if ending.succeeded or not ending.again:
                break
            if self.watch.stopping or not self.has_room_for(step):
                break
        seconds = round(time.monotonic() - began, 3)
        return Ended(ending, number, seconds, report.read())

    def _done_by(self, executor: Executor, assignment: Assignment) -> Ending:
        """Return how the executor ended. Raises HandOver where another host is to do it."""
        try:
            return executor.carry_out(assignment)
        except (*_PASSES, *self.ledger.away):
            raise
        except Lacking as lacking:
            if not self.ledger.last_resort:
                raise HandOver("unfit", lacking.because, lacks=lacking.lacks) from None
            if isinstance(lacking.instead, Ending):
                return lacking.instead
            raise lacking.instead from None
        except Exception as error:
            log.exception("%s: the executor of step %s broke", assignment.card, assignment.key)
            said = f"met a fault of the worker: {type(error).__name__}: {error}"[:1000]
            said = self.desk.redactor.redact(said)
            return Ending(False, said.rstrip("."), said, again=False, broken=True)

    def _executor(self, step: Step) -> Executor:
        return executors.known()[step.kind]

    def _failures(self, step: Step) -> int:
        return self.ledger.failures(step.key)

    def _filled(self, step: Step) -> Filled:
        """Return the step with its placeholders filled in. Raises StepFailed."""
        commands = () if step.kind in pauses.KINDS else trait(self._executor(step), "commands")
        over = {**self._over(), **self.under_way}
        values = plans.context(self.workflow, step, over, self.around)
        try:
            filled = plans.filled(
                step,
                values,
                commands=lambda place: place in commands,
                read=lambda given: workflows.read_kind(step.kind, given),
            )
        except Unusable as error:
            said = f"Step {telling.named(step)} can't be begun: {error}"
            raise StepFailed(said, said) from None
        for secret in secrets_in(filled.step.env):
            # One that came as an input is one from here on.
            if self.desk.redactor.redact(secret) == secret:
                self.desk.redactor = self.desk.redactor.knowing(secret)
        return filled

    def _shown_input(self, step: Step) -> dict[str, Any]:
        shown = step.as_input()
        hidden = set(secrets_in(step.env))
        shown["env"] = {k: MARK if v in hidden else v for k, v in step.env.items()}
        shown[step.kind] = self.desk.redactor.redacted(step.given)
        return shown

    # Work that is done in rounds, until its checks are green.

    def _run_rounds(
        self, filled: Filled, *, in_doubt: bool
    ) -> tuple[Ended, list[tuple[Step, Row]]]:
        """Return how the work ended, and its checks that are red when the rounds are used up."""
        step = filled.step
        checks = [check for key in step.until for check in self.workflow.named(key)]
        loop = f"{stem(step.key)}/{1 + self._failures(step)}"
        keys = [f"{loop}.{number}" for number in range(1, step.rounds + 1)]
        rows = self.ledger.recorded(
            [*keys, *(f"{key}:{stem(check.key)}" for key in keys for check in checks)]
        )
        scopes: list[str] = []
        told, seconds = "", 0.0
        previous: dict[str, Any] = {}
        reds: list[tuple[Step, Row]] = []
        for number, key in enumerate(keys, 1):
            work = rows.get(key)
            if work is None:
                ended = self._run_round(filled, key, scopes, told, previous, in_doubt=in_doubt)
                self._see_that_it_may_end(ended)
                seconds += ended.seconds
                if not ended.ending.succeeded:
                    return ended, []
                work = self._record_round(step, key, number, ended)
            in_doubt = False
            previous = _as_dict(work.result)
            self.under_way = {step.key: Over("succeeded", previous)}
            scopes.append(f"{key}{_of_try(previous.get('tries', 1))}")
            reds = self._red(checks, key, rows)
            if not reds:
                break
            told = telling.feedback(reds)
            if number < step.rounds:
                self.livelog.step_key = step.key
                names = ", ".join(check.key for check, _ in reds)
                self.livelog.note(f"Round {number} of {step.rounds}: {names} red; it goes back")
                self.see_whether_to_go_on(step)
        self.under_way = {}
        ending = _done_in_rounds(step, key, number, previous, reds)
        return Ended(ending, 1, round(seconds, 3), None), reds

    def _run_round(
        self,
        filled: Filled,
        key: str,
        earlier: Sequence[str],
        told: str,
        previous: Mapping[str, Any],
        *,
        in_doubt: bool,
    ) -> Ended:
        self.livelog.step_key = filled.step.key
        return self._run_tries(
            filled,
            lambda number: [*earlier, f"{key}{_of_try(number)}"],
            in_doubt=in_doubt,
            feedback=told,
            previous=previous,
        )

    def _record_round(self, step: Step, key: str, number: int, ended: Ended) -> Row:
        """Record a round's work with the files after it, from which its checks run."""
        snapshot = self.desk.snapshot(f"{step.key}, round {number}")
        summary = ended.ending.summary
        said = f"Round {number} of step {telling.named(step)} {ended.ending.how}. {summary}".strip()
        detail = {
            "duration_seconds": ended.seconds,
            **ended.ending.detail,
            "outputs": dict(ended.ending.outputs),
            "tries": ended.tries,
            "summary": summary,
        }
        recorded = self.desk.write(
            lambda: self.ledger.record(
                key,
                "succeeded",
                title=f"Round {number}",
                kind=step.kind,
                result=detail,
                usage=ended.ending.usage,
                checkpoint={
                    "summary": said,
                    "next_step": f"Run the checks of step {step.key}: {', '.join(step.until)}.",
                    "state": self._state(),
                    "workspace": snapshot.as_json(),
                },
            )
        )
        self.fresh = False
        return recorded

    def _red(
        self, checks: Sequence[Step], key: str, rows: Mapping[str, Row]
    ) -> list[tuple[Step, Row]]:
        """Run a round's checks, those that were not run yet, and return the red ones."""
        reds = []
        for check in checks:
            if self._left_out(check):
                continue
            own = f"{key}:{stem(check.key)}"
            row = rows.get(own)
            if row is None or row.status not in (Status.SUCCEEDED, Status.FAILED):
                row = self._run_check(check, own)
            if row.status == Status.FAILED and not check.allow_failure:
                reds.append((check, row))
        return reds

    def _left_out(self, check: Step) -> bool:
        over = {**self._over(), **self.under_way}
        try:
            return bool(plans.why_skipped(self.workflow, check, over, self.around))
        except Unusable as error:
            said = f"The condition of step {check.key} can't be used: {error}"
            raise Invalid(said) from None

    def _run_check(self, written: Step, key: str) -> Row:
        filled = self._filled(written)
        step = filled.step
        self.see_whether_to_go_on(step)
        self.livelog.step_key = key
        self._begin(step, key, step.title or step.key)
        own = Filled(replace(step, key=key), filled.variables)
        ended = self._run_tries(own, lambda number: [f"{key}/{number}"])
        self._see_that_it_may_end(ended)
        detail, tests = self._detail(step, ended)
        said = telling.sentence(step, ended.ending, tests)
        ended_well = ended.ending.succeeded
        finished = self.desk.write(
            lambda: self.ledger.finish(
                key,
                "succeeded" if ended_well else "failed",
                result=detail,
                error="" if ended_well else said,
            )
        )
        self.fresh = False
        return finished

    def _shown_in_rounds(self, step: Step) -> Row | None:
        """Return the check's row from the last round of the work it is of, if that still counts:
        nothing was done since but what belongs to it."""
        owner = None
        for other in self.workflow.steps:
            if other.key == step.key:
                break
            row = self.rows.get(other.key)
            if step.key in other.until or (step.of and step.of in other.until):
                owner = other
            elif owner is not None and row is not None and row.status != Status.SKIPPED:
                keys = owner.until
                if other.key not in keys and other.of not in keys:
                    owner = None
        row = self.rows.get(owner.key) if owner else None
        key = row.result.get("round") if row and isinstance(row.result, dict) else None
        if not key:
            return None
        found = self.ledger.recorded([f"{key}:{stem(step.key)}"])
        shown = next(iter(found.values()), None)
        good = shown is not None and shown.status == Status.SUCCEEDED
        return shown if good else None

    def _adopt(self, step: Step, shown: Row) -> None:
        """Record the check as its last round showed it."""
        kept = self._products(step)
        snapshot = self.desk.snapshot(f"after {step.key}")
        showed = _as_dict(shown.result)
        result = {
            **showed,
            "artifacts": kept.artifacts,
            "workspace": snapshot.as_json(),
            "shown_in": shown.key,
        }
        said = f"Step {telling.named(step)} is green, as {shown.key} showed."
        tests = showed.get("tests")
        self.rows[step.key] = self.desk.write(
            lambda: self.ledger.record(
                step.key,
                "succeeded",
                title=step.title,
                kind=step.kind,
                input=shown.input,
                result=result,
                checkpoint=self._checkpoint(step, said, tests, snapshot, kept),
            )
        )

    # The record.

    def _products(self, step: Step) -> products.Kept:
        most = self.desk.host.max_artifact_bytes

        def store(file: IO[bytes], content_type: str) -> tuple[str, int]:
            def put() -> tuple[str, int]:
                file.seek(0)
                return self.ledger.keep_file(file, content_type)

            return self.desk.write(put)

        secrets = self.desk.terms.secrets
        return products.keep(self.desk.files.tree, step.artifacts, store, most, secrets)

    def _detail(self, step: Step, ended: Ended) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return what is kept of how a step ended, and the tests of its report, which passed
        among them."""
        read = ended.report
        tests = read.tests if read else None
        told = tests
        if read and tests:
            tests["failing"] = [self.desk.redactor.redact(name) for name in tests["failing"]]
            passing = [self.desk.redactor.redact(name) for name in read.passing]
            told = {**tests, "passing": passing}
        detail: dict[str, Any] = {
            "duration_seconds": ended.seconds,
            **ended.ending.detail,
            "tries": ended.tries,
            "tests": tests,
            "problems": [read.reason] if read and read.reason else [],
        }
        if step.junit:
            detail["junit"] = step.junit  # stays out of the branch, see checkpoints.merging
        if self.desk.confined is not None:
            detail["sandbox"] = self.desk.confined.as_json()
        if ended.ending.broken:
            detail["broken"] = executors.word(step.kind, step.given)
            said = f"It {ended.ending.how.rstrip('.')}. {ended.ending.last_words.strip()}"
            detail["because"] = self.desk.redactor.redact(said.strip())[:MAX_BECAUSE_CHARS]
        if ended.ending.outputs:
            detail["outputs"] = dict(ended.ending.outputs)
        return detail, told

    def _record(self, step: Step, ended: Ended, reds: Sequence[tuple[Step, Row]]) -> None:
        """Record the step's end, with a checkpoint unless the failure ends the attempt."""
        ending = ended.ending
        detail, tests = self._detail(step, ended)
        kept = self._products(step)
        snapshot = self.desk.snapshot(f"after {step.key}")
        counts = ending.succeeded or step.allow_failure
        detail["problems"] = [*kept.problems, *detail["problems"]]
        detail["artifacts"] = kept.artifacts
        detail["workspace"] = snapshot.as_json()
        if not ending.succeeded and step.allow_failure:
            detail["allowed_failure"] = True
        said = telling.sentence(step, ending, tests)
        checkpoint = self._checkpoint(step, said, tests, snapshot, kept) if counts else None
        finished = self.desk.write(
            lambda: self.ledger.finish(
                step.key,
                "succeeded" if ending.succeeded else "failed",
                result=detail,
                error="" if ending.succeeded else said,
                usage=ending.usage,
                checkpoint=checkpoint,
            )
        )
        self.rows[step.key] = finished
        self.fresh = False
        if not counts:
            lesson = telling.lesson(ending, said, tests)
            if reds:
                lesson = f"{said}\n{ending.last_words}"
            checks = [] if ending.broken else [*reds, (step, finished)]
            raise StepFailed(said, lesson, checks, ending.broken)

    def _checkpoint(
        self,
        step: Step,
        said: str,
        tests: dict[str, Any] | None,
        snapshot: Snapshot,
        kept: products.Kept,
    ) -> dict[str, Any]:
        return {
            "summary": said,
            "next_step": _next_step(self._after(step)),
            "state": self._state(1),
            "tests": tests,
            "workspace": snapshot.as_json(),
            "artifacts": [{"name": a["name"], "sha256": a["sha256"]} for a in kept.artifacts],
        }

    def _state(self, more: int = 0) -> dict[str, int]:
        return {"steps_done": self.done + more, "steps_total": len(self.workflow.steps)}

    def _after(self, step: Step) -> Step | None:
        over = self._over()
        left = (s for s in self.workflow.steps if s.key not in over and s.key != step.key)
        return next(left, None)


#: What an executor may raise without being broken: it is dealt with above, or the host's own.
_PASSES: tuple[type[Exception], ...] = (
    HandOver,
    Ask,
    DomainError,
    WorkspaceError,
    GitFailed,
    OSError,
)


def _is_over(row: Row) -> bool:
    """Return whether the step's outcome stands."""
    return plans.over(row.status, row.result) is not None


def stem(key: str) -> str:
    """Return what the keys below a step's begin with: its own, unless they had no room then."""
    if len(key) <= STEM_CHARS:
        return key
    return f"{key[: STEM_CHARS - 13]}@{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _as_dict(result: Any) -> dict[str, Any]:
    return dict(result) if isinstance(result, dict) else {}


def _inputs(workflow: Workflow, mandate: Mandate) -> Mapping[str, Any]:
    given = mandate.inputs
    return inputs.checked(workflow.inputs, given) if workflow.inputs else given


def _facts(mandate: Mandate) -> dict[str, Any]:
    return {"key": mandate.card, "title": mandate.title, "labels": list(mandate.labels)}


def _next_step(following: Step | None) -> str:
    if following is None:
        return "All steps are done; complete the card."
    return f"Run step {telling.named(following)}."


def _of_try(number: int) -> str:
    return f".{number}" if number > 1 else ""


def _with_outputs(step: Step, ending: Ending, assignment: Assignment) -> Ending:
    """Return the ending with what the step's commands wrote as outputs; it fails if a promised
    one is missing, or if what they wrote can't be used."""
    written = assignment.outputs()
    outputs = {**ending.outputs, **written.values}
    if not ending.succeeded:
        return replace(ending, outputs=outputs)
    missing = [name for name in step.outputs if name not in outputs]
    problem = written.problem
    if not problem and missing:
        problem = f"It promised the output {', '.join(missing)} and did not write it."
    if not problem:
        return replace(ending, outputs=outputs)
    words = f"{ending.last_words.rstrip()}\n{problem}".strip()
    how = f"failed: {problem[0].lower()}{problem[1:].rstrip('.')}"
    return replace(ending, succeeded=False, how=how, last_words=words)


def _done_in_rounds(
    step: Step, key: str, number: int, work: Mapping[str, Any], reds: Sequence[tuple[Step, Row]]
) -> Ending:
    """Return how work that was done in rounds ended. What it cost stands with each round."""
    rounds = f"{number} round{'s' if number > 1 else ''}"
    names = ", ".join(check.key for check, _ in reds)
    return Ending(
        not reds,
        f"is not done after {rounds}: {names} red" if reds else f"succeeded in {rounds}",
        last_words=telling.feedback(reds),
        summary=str(work.get("summary") or ""),
        detail={
            **{name: value for name, value in work.items() if name not in _OF_A_ROUND},
            "round": key,
            "rounds": number,
        },
        outputs=work.get("outputs") or {},
        again=False,
    )
