"""What is said of steps that ended: sentences, lessons, what goes back to a worker, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boards.workflows import Step
from checkpoints.models import Step as StepRow
from workers.executors.contract import Ending

LESSON_LINES = 15
LESSON_CHARS = 1500
EVIDENCE_CHARS = 2000
FEEDBACK_CHARS = 8000
FEEDBACK_CHARS_OF_ONE = 3000


def named(step: Step | None) -> str:
    """Return the step's key, and its title if it has one."""
    if step is None:
        return ""
    return f"{step.key} ({step.title})" if step.title else step.key


def sentence(step: Step, ending: Ending, tests: dict[str, Any] | None) -> str:
    """Return how the step ended, and what its worker says of it."""
    how = ending.how
    if not ending.succeeded and step.allow_failure:
        how += ", as it may"
    counted = ""
    if tests:
        counted = (
            f": {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
        )
    said = f"Step {named(step)} {how}{counted}."
    return f"{said} {ending.summary}" if ending.summary else said


def lesson(ending: Ending, said: str, tests: dict[str, Any] | None) -> str:
    """Return what the next attempt should know: which step failed, and its last words."""
    lines = ending.last_words.rstrip().splitlines()[-LESSON_LINES:]
    last = "\n".join(lines)[-LESSON_CHARS:]
    failing = ", ".join((tests or {}).get("failing", [])[:10])
    parts = [said]
    if failing:
        parts.append(f"Failing: {failing}.")
    parts.append(f"Its last output:\n{last}" if last else "It printed nothing.")
    return "\n".join(parts)


def feedback(reds: Sequence[tuple[Step, StepRow]]) -> str:
    """Return what red checks say to whoever did the work: each with the end of its output."""
    each = min(FEEDBACK_CHARS_OF_ONE, FEEDBACK_CHARS // max(1, len(reds)))
    parts = []
    for check, row in reds:
        result = row.result if isinstance(row.result, dict) else {}
        said = [row.error or f"Check {check.key} failed."]
        if command := _command(row):
            said.append(f"Command: {command[:500]}")
        if failing := ", ".join((result.get("tests") or {}).get("failing", [])[:20]):
            said.append(f"Failing: {failing}")
        tail = _tail(result)[-each:]
        said.append(f"The end of its output:\n{tail}" if tail else "It printed nothing.")
        parts.append("\n".join(said))
    return "\n\n".join(parts)[:FEEDBACK_CHARS]


def evidence(check: Step, row: StepRow) -> dict[str, Any]:
    """Return a check's outcome as evidence: how it ended and the end of what it printed."""
    result = row.result if isinstance(row.result, dict) else {}
    met = row.status == StepRow.Status.SUCCEEDED
    command = _command(row)
    said = f"`{command}`" if command else check.key
    detail = (
        f"{said} {'passed' if met else 'failed'} in {result.get('duration_seconds')} s"
        f" (step {row.key}, attempt {row.attempt.number})."
    )
    tail = _tail(result)[-EVIDENCE_CHARS:]
    return {
        "criterion": check.criterion,
        "met": met,
        "detail": f"{detail}\n\n{tail}" if tail else detail,
    }


def _command(row: StepRow) -> str:
    said = row.input if isinstance(row.input, dict) else {}
    command = said.get("run") or said.get("check") or ""
    return command if isinstance(command, str) else ""


def _tail(result: dict[str, Any]) -> str:
    return str((result.get("output") or {}).get("tail") or "").strip()
