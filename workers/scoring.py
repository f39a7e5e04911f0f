"""What a finisher of a race scores: a command is run in its workspace, and the last line that it
prints is the number.

It is a step of the attempt like others, so that it is not run again by whoever goes on; the files
are put back after it, so that nothing of it is in what the racer hands in.
"""

from __future__ import annotations

import math
from typing import Any

from boards.workflows import Step, Workflow
from workers.assignments import Assignment, Desk
from workers.executors.shell.executor import detail, told
from workers.ledger import Mandate, Score

KEY = "race:score"
PROBLEM_CHARS = 300


def step(mandate: Mandate, workflow: Workflow) -> Step | None:
    """Return the step that scores the card's files, or None where it runs in no scored race."""
    if not mandate.score:
        return None
    return workflow.beside(
        KEY,
        "run",
        mandate.score,
        title="Score for the race",
        mark=":race",
        allow_failure=True,
    )


def score(desk: Desk, step: Step, number: int) -> Score:
    """Return what the attempt's files score, after so many steps.

    A command that fails, or prints no number, gives no score. Raises LeaseLost and HandOver.
    """
    begun = desk.write(
        lambda: desk.ledger.begin(step.key, title=step.title, kind=step.kind, input=step.as_input())
    )
    kept: Any = begun.step.result
    if not begun.replay:
        kept = _run(desk, step, number, in_doubt=begun.step.in_doubt)
    return Score(kept["score"], kept["problem"])


def _run(desk: Desk, step: Step, number: int, *, in_doubt: bool) -> dict[str, Any]:
    desk.livelog.step_key = step.key
    desk.watch.note = "Scoring"
    assignment = Assignment(
        desk, step, scopes=[f"{step.key}/1"], in_doubt=in_doubt, done=number, total=number
    )
    result = assignment.process(step.given)
    desk.livelog.finish()
    assignment.check()
    desk.files.put_back()
    value, problem = None, ""
    if result.succeeded:
        value, problem = _number(result.output_tail)
    else:
        problem = f"The scoring command {told(result, step.timeout_seconds)}."
    kept = {**detail(result), "score": value, "problem": problem[:PROBLEM_CHARS]}
    desk.write(lambda: desk.ledger.finish(step.key, "succeeded", result=kept))
    return kept


def _number(printed: str) -> tuple[float | None, str]:
    """Return the number in the last line that was printed, or why there is none."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if not lines:
        return None, "The scoring command printed nothing."
    try:
        value = float(lines[-1])
    except ValueError:
        return None, f"The scoring command printed no number last, but {lines[-1][:100]}."
    if not math.isfinite(value):
        return None, f"The scoring command printed {lines[-1]}, which is no score."
    return value, ""
