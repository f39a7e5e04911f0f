"""What of a workflow comes next, given what is over. Nothing is read or written here.

Steps run one after the other in one workspace. A step is skipped where its ``if`` does not
hold, or where a step that it needs was skipped; what is over stays as it is. A step whose matrix
takes values from earlier ones becomes several as soon as those are over, see ``unfolded``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from boards import expressions
from boards.expressions import Expression, Unusable
from boards.workflows import MAX_STEPS, Step, Workflow, unfolding

SUCCEEDED, FAILED, SKIPPED = "succeeded", "failed", "skipped"
MAX_VALUE_BYTES = 120_000  # the kernel takes up to 128 KiB for a variable


@dataclass(frozen=True, slots=True)
class Over:
    """How a step ended: ``succeeded``, ``failed`` as it may, or ``skipped``."""

    status: str
    result: Any = None

    @property
    def outputs(self) -> Mapping[str, Any]:
        outputs = self.result.get("outputs") if isinstance(self.result, Mapping) else None
        return outputs if isinstance(outputs, Mapping) else {}


class Recorded(Protocol):
    """A step as it is on record."""

    @property
    def status(self) -> str: ...
    @property
    def result(self) -> Any: ...


def over(status: str, result: Any) -> Over | None:
    """Return how a step ended whose outcome stands: it succeeded, was skipped, or failed as it
    may. None for any other."""
    allowed = isinstance(result, Mapping) and result.get("allowed_failure") is True
    stands = status in (SUCCEEDED, SKIPPED) or (status == FAILED and allowed)
    return Over(status, result) if stands else None


def over_among(rows: Mapping[str, Recorded]) -> dict[str, Over]:
    """Return those of the recorded steps, by key, whose outcome stands."""
    found = {key: over(row.status, row.result) for key, row in rows.items()}
    return {key: one for key, one in found.items() if one is not None}


@dataclass(frozen=True, slots=True)
class Move:
    """The step that comes next; ``because`` says why it is skipped, empty where it is not."""

    step: Step
    because: str = ""


def coming(workflow: Workflow, over: Mapping[str, Over], around: Mapping[str, Any]) -> Move | None:
    """Return what comes next, None if all is over.

    ``around`` has the values of ``inputs`` and ``card``. Raises Unusable if an ``if`` makes no
    sense of the values there are.
    """
    workflow = unfolded(workflow, over, around)
    for step in workflow.steps:
        if step.key not in over:
            return Move(step, why_skipped(workflow, step, over, around))
    return None


def unfolded(workflow: Workflow, over: Mapping[str, Over], around: Mapping[str, Any]) -> Workflow:
    """Return the workflow with the steps that each matrix makes, as far as its values are known.

    Those that are skipped as a whole stay as they are. Raises Unusable, naming the place, where
    an earlier step handed on what no steps can be made of.
    """
    for step in [step for step in workflow.steps if step.is_open and step.key not in over]:
        if not all(_standing(workflow, key, over) for key in _taken_from(step)):
            continue
        try:
            made = _made(workflow, step, over, around)
        except Unusable as error:
            raise Unusable(f"Step {step.key}, {_place(workflow, step)}: {error}") from None
        if made:
            at = workflow.steps.index(step)
            steps = (*workflow.steps[:at], *made, *workflow.steps[at + 1 :])
            workflow = replace(workflow, steps=steps)
    if len(workflow.steps) > MAX_STEPS:
        there = len(workflow.steps)
        raise Unusable(f"Its matrices make {there} steps of it; {MAX_STEPS} are allowed.")
    return workflow


def _made(
    workflow: Workflow, step: Step, over: Mapping[str, Over], around: Mapping[str, Any]
) -> list[Step]:
    """Return the steps that the matrix makes, none where the step is skipped as a whole."""
    if why_skipped(workflow, step, over, around):
        return []
    lists: dict[str, Any] = dict(step.matrix)
    for name, found in _found(workflow, step, over, around).items():
        try:
            lists[name] = unfolding.values_of(step, name, found)
        except Unusable as error:
            raise Unusable(f"matrix.{name}: {error}") from None
    taken = {key for one in workflow.steps for key in (one.key, one.of) if key}
    try:
        return unfolding.unfolded(step, lists, taken)
    except Unusable as error:
        raise Unusable(f"matrix: {error}") from None


def _found(
    workflow: Workflow, step: Step, over: Mapping[str, Over], around: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the expressions of the step's matrix come to."""
    values = {**context(workflow, step, over, around), "matrix": {}}
    return {name: expression.value(values) for name, expression in step.lists.items()}


def _taken_from(step: Step) -> set[str]:
    """Return the keys of the steps that the step's matrix takes its values from."""
    paths = (path for expression in step.lists.values() for path in expression.paths())
    return {path[1] for path in paths if len(path) > 1}


def _place(workflow: Workflow, step: Step) -> str:
    """Return where the step stands in the document."""
    keys = [one.key for one in workflow.written]
    return f"steps[{keys.index(step.key)}]" if step.key in keys else "steps"


def why_skipped(
    workflow: Workflow, step: Step, over: Mapping[str, Over], around: Mapping[str, Any]
) -> str:
    """Return in a sentence why the step is skipped, or nothing if it is to be carried out."""
    for key in step.needs:
        if _standing(workflow, key, over) == SKIPPED:
            return f"It needs {key}, which was skipped."
    if step.is_open:
        return _why_none(workflow, step, over, around)
    if not step.condition:
        return ""
    condition = expressions.read(step.condition)
    holds = condition.holds(context(workflow, step, over, around))
    return "" if holds else f"Its condition does not hold: {step.condition}"


def _why_none(
    workflow: Workflow, step: Step, over: Mapping[str, Over], around: Mapping[str, Any]
) -> str:
    """Return why a step makes no steps at all, nothing if it makes some.

    Its condition is that of each of them. Only where there is no list it speaks for the step.
    """
    for key in sorted(_taken_from(step)):
        if _standing(workflow, key, over) == SKIPPED:
            return f"Its matrix takes values from {key}, which was skipped."
    found = _found(workflow, step, over, around)
    for name, values in found.items():
        if values == []:
            return f"Its matrix has no values: {step.matrix[name]} is empty."
    if None in found.values() and step.condition:
        condition = expressions.read(step.condition)
        of_each = any(root == "matrix" for root, *_ in condition.paths())
        if not of_each and not condition.holds(context(workflow, step, over, around)):
            return f"Its condition does not hold: {step.condition}"
    return ""


def context(
    workflow: Workflow, step: Step, over: Mapping[str, Over], around: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values that the step's expressions can look up."""
    known: dict[str, Any] = {
        key: {"status": one.status, "outputs": one.outputs, "result": one.result}
        for key, one in over.items()
    }
    for base in {step.of for step in workflow.steps if step.of}:
        known[base] = {"status": _standing(workflow, base, over)}
    literal = {name: value for name, value in step.env.items() if "${{" not in value}
    return {**around, "steps": known, "env": literal, "matrix": dict(step.matrix)}


def _standing(workflow: Workflow, key: str, over: Mapping[str, Over]) -> str | None:
    """Return how a step ended, or all that its matrix made; None if that isn't over."""
    found = [over[step.key].status if step.key in over else None for step in workflow.named(key)]
    if None in found or not found:
        return None
    if FAILED in found:
        return FAILED
    return SUCCEEDED if SUCCEEDED in found else SKIPPED


@dataclass(frozen=True, slots=True)
class Filled:
    """A step with every ``${{ … }}`` filled in, and the variables that its commands read."""

    step: Step
    variables: Mapping[str, str]


def filled(
    step: Step,
    values: Mapping[str, Any],
    *,
    commands: Callable[[str], bool],
    read: Callable[[Any], Any | None],
) -> Filled:
    """Return the step as it is to be carried out.

    Within a shell command, a placeholder becomes a variable of the shell, so that a value can
    never become a part of the command; everywhere else it becomes the value's text, or the
    value itself where nothing else stands. ``commands`` tells of a place in what is given
    whether a shell reads it, ``read`` checks the outcome. Raises Unusable.
    """
    variables: dict[str, str] = {}

    def as_variable(expression: Expression) -> str:
        name = f"HOLDFAST_VALUE_{len(variables) + 1}"
        text = expressions.text_of(expression.value(values))
        if len(text.encode()) > MAX_VALUE_BYTES:
            raise Unusable(f"{expression.text} is too long for a command; pass it in a file.")
        variables[name] = text.replace("\x00", "")
        return f"${{{name}}}"

    def as_text(expression: Expression) -> str:
        return expressions.text_of(expression.value(values))

    def put(value: Any, place: str, *, whole: bool) -> Any:
        if isinstance(value, str):
            if "${{" not in value:
                return value
            if commands(place):
                return expressions.filled(value, as_variable)
            only = expressions.alone(value) if whole else None
            return only.value(values) if only else expressions.filled(value, as_text)
        if isinstance(value, Mapping):
            return {
                name: put(one, f"{place}.{name}" if place else str(name), whole=whole)
                for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [put(one, f"{place}[{n}]", whole=whole) for n, one in enumerate(value)]
        return value

    env = {name: expressions.filled(value, as_text) for name, value in step.env.items()}
    given = step.given
    if "${{" in repr(given):
        given = read(put(step.given, "", whole=True))
        if given is None:
            variables.clear()
            given = read(put(step.given, "", whole=False))
        if given is None:
            raise Unusable(f"what step {step.key} is told makes no sense once filled in.")
    return Filled(
        replace(step, given=given, env=MappingProxyType(env)), MappingProxyType(variables)
    )
