"""Steps: a recorded result is never computed twice.

    begin ──> started ──> finish ──> succeeded   (returned to whoever asks again, for good)
                 │           └─────> failed      (a later attempt may try again)
    skip ──> skipped (a workflow's own word; it counts like a result)
                 └── the attempt ends first ──>  in doubt: the next try says so

Every call is fenced and renews the lease, see ``boards.leases``. What the outside world saw
of a step that died half-way is not known here: the next try is flagged ``in_doubt``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from boards import bounds, leases
from boards.models import Attempt
from checkpoints import recovery
from checkpoints.models import Checkpoint, Step
from events import log
from kernel.digests import canonical, sha256
from kernel.errors import Invalid, NotFound, StepConflict
from kernel.sql import insert_or_skip
from kernel.tx import transition

KEY = re.compile(r"[A-Za-z0-9._:@/-]{1,200}")
Status = Step.Status


@dataclass(frozen=True, slots=True)
class Begun:
    """How a step stands after ``begin``: ``replay`` means it has its result, don't run it."""

    step: Step
    replay: bool
    lease_seconds: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished step, the checkpoint saved with it, and whether both were there before."""

    step: Step
    checkpoint: Checkpoint | None
    replay: bool
    lease_seconds: int


def begin(
    attempt_id: UUID,
    key: str,
    *,
    title: str = "",
    kind: str = "",
    input: Any = None,
    depends_on_input: bool = False,
    continues: bool = False,
) -> Begun:
    """Return the step, started, or with its result if it succeeded before on this line.

    With ``depends_on_input`` a recorded result counts only for the same ``input``; another
    input is a StepConflict, unless the step failed or is in doubt and is tried again anyway.
    One that ``continues`` knows what it has behind it: begun again, it is not in doubt.
    Raises LeaseLost, and BudgetExceeded where a budget is used up: nothing is begun then.
    """
    check_key(key)
    digest = sha256(canonical(input)) if input is not None else ""
    add = {"step_number": 1}
    with transition():
        held = leases.hold(attempt_id, add=add, ask_bounded=True)
        fresh = _insert(held, key, title=title, kind=kind, input=input, input_sha256=digest)
        if fresh is not None:
            _check_bounds(held)
            _note(held, "step.started", fresh)
            return Begun(fresh, False, held.lease_seconds)
        step = Step.objects.on_line(held.card_id, held.line).get(key=key)
        if _counts(step, attempt_id):
            if depends_on_input:
                _check_input(step, digest)
            _take_back(held, add)
            return Begun(step, step.status != Status.STARTED, held.lease_seconds)
        _check_bounds(held)
        again = _supersede(
            held,
            step,
            doubtful=not continues,
            title=title,
            kind=kind,
            input=input,
            input_sha256=digest,
        )
        _note(held, "step.started", again)
        return Begun(again, False, held.lease_seconds)


def finish(
    attempt_id: UUID,
    key: str,
    status: str,
    *,
    result: Any = None,
    error: str = "",
    usage: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> Finished:
    """Record how the step ended, with a checkpoint in the same transaction if one is given.

    The same finish again returns what is stored; another one is a StepConflict. Raises
    NotFound for a step that was not begun by this attempt, and LeaseLost.
    """
    check_key(key)
    spent = _usage(usage)
    digest = sha256(canonical([status, result, error]))
    add = _counted(status, checkpoint)
    with transition():
        held = _hold(attempt_id, add, spent, checkpoint)
        step = Step.objects.on_line(held.card_id, held.line).filter(key=key).first()
        if step is None:
            raise NotFound(f"Step {key} was not begun; begin it first.")
        if step.status != Status.STARTED:
            _take_back(held, add, spent)
            recovery.restate(held)
            return _finished_before(held, step, digest)
        if step.attempt_id != attempt_id:
            raise NotFound(f"Step {key} was begun by another attempt; begin it again first.")
        outcome = _outcome(status, result, error, digest, usage, spent)
        Step.objects.filter(pk=step.pk).update(**outcome)
        for name, value in outcome.items():
            setattr(step, name, value)
        _look_at_bounds(held)
        saved = recovery.insert(held, checkpoint, after_step=step.number) if checkpoint else None
        _note(held, f"step.{status}", step, saved)
        return Finished(step, saved, False, held.lease_seconds)


def record(
    attempt_id: UUID,
    key: str,
    status: str,
    *,
    title: str = "",
    kind: str = "",
    input: Any = None,
    depends_on_input: bool = False,
    result: Any = None,
    error: str = "",
    usage: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> Finished:
    """Begin and finish a step at once: one transaction, three statements on the common path.

    ``seconds`` is how long it took; it is on record as having begun that long ago.
    Where a budget was used up before, it raises BudgetExceeded; what the step itself used up is
    kept.
    """
    check_key(key)
    spent = _usage(usage)
    input_sha256 = sha256(canonical(input)) if input is not None else ""
    digest = sha256(canonical([status, result, error]))
    outcome = _outcome(status, result, error, digest, usage, spent)
    asked: dict[str, Any] = {
        "title": title,
        "kind": kind,
        "input": input,
        "input_sha256": input_sha256,
        "started_at": outcome["finished_at"] - timedelta(seconds=seconds),
    }
    add = {"step_number": 1, **_counted(status, checkpoint)}
    with transition():
        held = _hold(attempt_id, add, spent, checkpoint)
        step = _insert(held, key, **asked, **outcome)
        if step is not None:
            _check_bounds(held, spent)
        else:
            step = Step.objects.on_line(held.card_id, held.line).get(key=key)
            if depends_on_input and _counts(step, attempt_id):
                _check_input(step, input_sha256)
            mine = step.attempt_id == attempt_id
            final = step.status in (Status.SUCCEEDED, Status.SKIPPED)
            if final or (mine and step.status == Status.FAILED):
                _take_back(held, add, spent)
                recovery.restate(held)
                return _finished_before(held, step, digest)
            if mine:  # begun before, finished now
                _take_back(held, {"step_number": 1})
                Step.objects.filter(pk=step.pk).update(**outcome)
                step.refresh_from_db()
                _look_at_bounds(held)
            else:
                _check_bounds(held, spent)
                step = _supersede(held, step, **asked, **outcome)
        saved = recovery.insert(held, checkpoint, after_step=step.number) if checkpoint else None
        _note(held, f"step.{status}", step, saved)
        return Finished(step, saved, False, held.lease_seconds)


def skip(attempt_id: UUID, key: str, because: str, *, title: str = "", kind: str = "") -> Finished:
    """Record that the step is left out, and why. Repeating it changes nothing."""
    check_key(key)
    fields: dict[str, Any] = {"title": title, "kind": kind, "result": {"skipped": because}}
    fields |= {"status": Status.SKIPPED}
    with transition():
        held = leases.hold(attempt_id, add={"step_number": 1})
        now = timezone.now()
        fields |= {"started_at": now, "finished_at": now}
        step = _insert(held, key, **fields)
        if step is None:
            step = Step.objects.on_line(held.card_id, held.line).get(key=key)
            if _counts(step, attempt_id):
                _take_back(held, {"step_number": 1})
                return Finished(step, None, True, held.lease_seconds)
            step = _supersede(held, step, **fields)
        _note(held, "step.skipped", step)
        return Finished(step, None, False, held.lease_seconds)


def recorded(card_id: UUID, line: int, keys: Collection[str] | None = None) -> dict[str, Step]:
    """Return every counting step of the line by key (or those named), in order of number."""
    found = Step.objects.on_line(card_id, line)
    if keys is not None:
        found = found.filter(key__in=keys)
    return {s.key: s for s in found.order_by("number")}


def attempts_at(card_id: UUID, line: int, key: str) -> list[UUID]:
    """Return the attempts that tried the step on the line, oldest first."""
    tries = Step.objects.filter(card_id=card_id, line=line, key=key).order_by("number")
    return list(tries.values_list("attempt_id", flat=True))


def recorded_below(card_id: UUID, line: int, prefix: str) -> list[Step]:
    """Return the counting steps whose keys begin with ``prefix``, in order of number."""
    below = Step.objects.on_line(card_id, line).filter(key__startswith=prefix).order_by("number")
    return [step for step in below if step.key.startswith(prefix)]  # SQLite folds case


def failures(card_id: UUID, line: int, key: str) -> int:
    """Return how many tries at the step failed on the line, those within one attempt included."""
    failed = Step.objects.filter(card_id=card_id, line=line, key=key, status=Status.FAILED)
    results = failed.values_list("result", flat=True)
    return sum(int(r.get("tries") or 1) if isinstance(r, dict) else 1 for r in results)


def in_doubt(card_id: UUID, line: int, *, live_attempt: UUID | None = None) -> list[str]:
    """Return the keys of steps begun by an attempt that ended before they did."""
    steps = Step.objects.on_line(card_id, line).filter(status=Status.STARTED)
    if live_attempt is not None:
        steps = steps.exclude(attempt_id=live_attempt)
    return list(steps.order_by("number").values_list("key", flat=True))


def check_key(key: str) -> None:
    """Pass only a well-formed step or checkpoint key. Raises Invalid."""
    if not KEY.fullmatch(key):
        raise Invalid.field(
            "key", "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : @ / and -."
        )


def _hold(
    attempt_id: UUID,
    add: Mapping[str, int],
    spent: Mapping[str, Any],
    checkpoint: Mapping[str, Any] | None,
) -> leases.Hold:
    """Fence a step's end, and learn whether it has a budget."""
    notes = recovery.facts(checkpoint)
    return leases.hold(attempt_id, add=add, usage=spent, notes=notes, ask_bounded=True)


def _check_bounds(held: leases.Hold, spent: Mapping[str, Any] | None = None) -> None:
    """Pass if the step may be done. Raises BudgetExceeded."""
    if held.bounded:
        bounds.check_step(held.card_id, spent)


def _look_at_bounds(held: leases.Hold) -> None:
    """Have it looked at, once this is kept, whether the step has used a budget up."""
    if held.bounded:
        bounds.look_later(card=held.card_id)


def _insert(held: leases.Hold, key: str, **fields: Any) -> Step | None:
    """Insert the try with the next number; None if the line has a counting try already."""
    step = Step(
        card_id=held.card_id,
        line=held.line,
        key=key,
        number=held.step_number,
        attempt_id=held.attempt_id,
        **fields,
    )
    return step if insert_or_skip(step) else None


def _counts(step: Step, attempt_id: UUID) -> bool:
    """True if the try stands: it succeeded or was left out, or it is this attempt's own."""
    return step.status in (Status.SUCCEEDED, Status.SKIPPED) or step.attempt_id == attempt_id


def _check_input(step: Step, digest: str) -> None:
    if step.input_sha256 != digest:
        raise StepConflict(
            f"Step {step.key} was recorded for another input; use a key that names the input."
        )


def _supersede(held: leases.Hold, old: Step, *, doubtful: bool = True, **fields: Any) -> Step:
    """Set an earlier attempt's unsuccessful try aside and insert the new one in its place."""
    Step.objects.filter(pk=old.pk).update(superseded=True)
    in_doubt = doubtful and old.status == Status.STARTED
    step = _insert(held, old.key, in_doubt=in_doubt, **fields)
    if step is None:
        raise StepConflict(f"Step {old.key} was begun twice at once; ask again.")
    return step


def _take_back(
    held: leases.Hold, add: Mapping[str, int], spent: Mapping[str, Any] | None = None
) -> None:
    """Undo the counters of a hold whose call turned out to be a repetition; keep the renewal."""
    sums = {**add, **(spent or {})}
    Attempt.objects.filter(pk=held.attempt_id).update(
        **{name: F(name) - value for name, value in sums.items() if value}
    )


def _finished_before(held: leases.Hold, step: Step, digest: str) -> Finished:
    """Answer a finish that came again. Raises StepConflict if it says something else."""
    if step.outcome_sha256 != digest:
        raise StepConflict(
            f"Step {step.key} has another recorded result; the first one stands.",
            extra={"recorded": {"status": step.status, "result": step.result}},
        )
    saved = Checkpoint.objects.filter(attempt_id=step.attempt_id, after_step=step.number)
    return Finished(step, saved.order_by("number").first(), True, held.lease_seconds)


def _outcome(
    status: str,
    result: Any,
    error: str,
    digest: str,
    usage: Mapping[str, Any] | None,
    spent: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "status": status,
        "result": result,
        "error": error,
        "outcome_sha256": digest,
        "finished_at": timezone.now(),
        "model": (usage or {}).get("model") or "",
        **spent,
    }


def _counted(status: str, checkpoint: Mapping[str, Any] | None) -> dict[str, int]:
    return {
        "steps_done": 1,
        "steps_recorded": int(status == Status.SUCCEEDED),
        "checkpoint_number": int(bool(checkpoint)),
    }


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = usage or {}
    return {
        "input_tokens": usage.get("input_tokens") or 0,
        "output_tokens": usage.get("output_tokens") or 0,
        "cost_usd": Decimal(str(usage.get("cost_usd") or 0)),
    }


def _note(held: leases.Hold, kind: str, step: Step, saved: Checkpoint | None = None) -> None:
    data: dict[str, Any] = {"attempt": held.number, "step": step.key, "number": step.number}
    if step.in_doubt:
        data["in_doubt"] = True
    if saved is not None:
        data["checkpoint"], data["digest"] = saved.number, saved.digest
    if step.finished_at and (step.input_tokens or step.output_tokens or step.cost_usd):
        data["usage"] = {
            "model": step.model,
            "input_tokens": step.input_tokens,
            "output_tokens": step.output_tokens,
            "cost_usd": step.cost_usd,
        }
    log.record(kind, board_id=held.board_id, subject_id=held.card_id, actor=held.actor, **data)
