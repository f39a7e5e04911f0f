"""What is said of steps that ended: sentences, lessons, what goes back to a worker, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boards.workflows import Step
from workers.executors.contract import Ending
from workers.ledger import Row, Status

LESSON_LINES = 15
LESSON_CHARS = 1500
EVIDENCE_CHARS = 2000
DONE_CHARS, OUTCOME_CHARS = 1500, 300
FEEDBACK_CHARS = 8000
FEEDBACK_CHARS_OF_ONE = 3000


def named(step: Step | None) -> str:
    """Return the step's key, and its title if it has one that is known."""
    if step is None:
        return ""
    return f"{step.key} ({step.title})" if step.title and not step.is_open else step.key


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


def done(steps: Sequence[Step], rows: Mapping[str, Row]) -> str:
    """Return what a reviewer reads first: that all is done, what workers say that they did, and
    what the checks showed."""
    said = ["Its one step is done." if len(steps) == 1 else f"All {len(steps)} steps are done."]
    for step in steps:
        row = rows.get(step.key)
        result = row.result if row is not None and isinstance(row.result, dict) else {}
        if told := _outcome(step, row, result):
            said.append(f"{named(step)}: {told}")
    whole = " ".join(said)
    return whole if len(whole) <= DONE_CHARS else f"{whole[: DONE_CHARS - 1]}…"


def _outcome(step: Step, row: Row | None, result: dict[str, Any]) -> str:
    """Return the word of whoever did the step, or what it showed as a check; nothing of others."""
    if row is None or row.status == Status.SKIPPED:
        return ""
    outputs = result.get("outputs")
    summary = outputs.get("summary") if isinstance(outputs, dict) else ""
    if isinstance(summary, str) and summary.strip():
        short = " ".join(summary.split())[:OUTCOME_CHARS].rstrip(" .")
        return f"{short}."
    if tests := result.get("tests"):
        return f"{tests['passed']} passed, {tests['failed']} failed."
    if step.kind == "check":
        return "green." if row.status == Status.SUCCEEDED else "red, as it may be."
    return ""


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


def feedback(reds: Sequence[tuple[Step, Row]]) -> str:
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


def evidence(check: Step, row: Row) -> dict[str, Any]:
    """Return a check's outcome as evidence: how it ended and the end of what it printed."""
    result = row.result if isinstance(row.result, dict) else {}
    met = row.status == Status.SUCCEEDED
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
        "step": row.key,
        "detail": f"{detail}\n\n{tail}" if tail else detail,
    }


def _command(row: Row) -> str:
    said = row.input if isinstance(row.input, dict) else {}
    command = said.get("run") or said.get("check") or ""
    return command if isinstance(command, str) else ""


def _tail(result: dict[str, Any]) -> str:
    return str((result.get("output") or {}).get("tail") or "").strip()
