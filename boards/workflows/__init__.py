"""The declarative workflow of a card: read it, refuse what can't work, hand out its steps.

A workflow is a list of steps in the manner of CI files, as YAML text or JSON. Commands are one
kind of step; whoever carries out other kinds registers them::

    env: {PYTHONHASHSEED: "0"}
    inputs: {channel: {options: [stable, beta]}}
    steps:
      - key: test
        matrix: {python: ["3.11", "3.12"]}
        run: tox -e ${{ matrix.python }}
        timeout_seconds: 900
      - key: publish
        needs: [test]
        if: inputs.channel == 'stable'
        run: make publish

Everything is checked before anything runs: an unknown field, a path that leaves the workspace,
needs that go round in a circle or an expression that names what isn't there are refused with
the place they stand at and what to write instead.
"""

from __future__ import annotations

from typing import Any

from boards import documents
from boards.workflows.reading import Reader
from boards.workflows.steps import (
    AGENT_KEYS,
    CHECKS,
    DEFAULT_TIMEOUT_SECONDS,
    ENV_NAME,
    KEY,
    MAX_STEPS,
    MAX_TITLE_CHARS,
    OUTPUT_NAME,
    ReadKind,
    Refuse,
    Step,
    Workflow,
    kinds,
    placeholders_in,
    read_kind,
    register,
    storable,
)
from kernel import digests
from kernel.errors import Invalid

__all__ = [
    "AGENT_KEYS",
    "CHECKS",
    "DEFAULT_TIMEOUT_SECONDS",
    "ENV_NAME",
    "KEY",
    "MAX_STEPS",
    "MAX_TITLE_CHARS",
    "OUTPUT_NAME",
    "ReadKind",
    "Refuse",
    "Step",
    "Workflow",
    "canonical",
    "digest",
    "kinds",
    "parse",
    "placeholders_in",
    "read_kind",
    "register",
    "storable",
]


def parse(source: object) -> Workflow:
    """Return the workflow in ``source``, YAML (or JSON) text or an already decoded object.

    Raises Invalid whose ``errors`` map each offending path (``steps[2].timeout_seconds``) to
    what is wrong there and what to write instead.
    """
    document = documents.load(source) if isinstance(source, str) else source
    reader = Reader()
    workflow = reader.workflow(document)
    if workflow is None or reader.errors:
        first, sentences = next(iter(reader.errors.items()))
        raise Invalid(f"The workflow can't be used. {first}: {sentences[0]}", errors=reader.errors)
    return workflow


def canonical(workflow: Workflow) -> dict[str, Any]:
    """Return the workflow as JSON with every default written out."""
    asked = {one.name: one.as_json() for one in workflow.inputs}
    return {
        "env": dict(workflow.env),
        **({"inputs": asked} if asked else {}),
        "steps": [_canonical(step) for step in workflow.written],
    }


def _canonical(step: Step) -> dict[str, Any]:
    said: dict[str, Any] = {
        "key": step.key,
        step.kind: step.given,
        "title": step.title,
        "cwd": step.cwd,
        "env": dict(step.env),
        "timeout_seconds": step.timeout_seconds,
        "retries": step.retries,
        "allow_failure": step.allow_failure,
        "junit": step.junit,
        "artifacts": list(step.artifacts),
    }
    if step.criterion:
        said["criterion"] = step.criterion
    if step.condition:
        said["if"] = step.condition
    for name in ("needs", "outputs", "until"):
        if getattr(step, name):
            said[name] = list(getattr(step, name))
    if step.until:
        said["rounds"] = step.rounds
    if step.matrix:
        said["matrix"] = {
            name: values if isinstance(values, str) else list(values)
            for name, values in step.matrix.items()
        }
    return said


def digest(workflow: Workflow) -> str:
    """Return the SHA-256 of the canonical form: equal for workflows that do the same."""
    return digests.sha256(digests.canonical(canonical(workflow)))
