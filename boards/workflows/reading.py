"""Reads a decoded workflow, and says of every mistake where it stands and what to write."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from boards import expressions, inputs
from boards.documents import shown as _shown
from boards.expressions import Expression, Refused
from boards.workflows.mistakes import Mistakes
from boards.workflows.relations import Relations
from boards.workflows.steps import (
    AGENT_KEYS,
    DEFAULT_ROUNDS,
    DEFAULT_TIMEOUT_SECONDS,
    ENV_NAME,
    KEY,
    MAX_ARTIFACTS,
    MAX_CRITERION,
    MAX_ENV_ENTRIES,
    MAX_ENV_VALUE_BYTES,
    MAX_INSTANCES,
    MAX_NEEDS,
    MAX_OUTPUTS,
    MAX_PATH_CHARS,
    MAX_RETRIES,
    MAX_ROUNDS,
    MAX_STEPS,
    MAX_TIMEOUT_SECONDS,
    MAX_TITLE_CHARS,
    MIN_TIMEOUT_SECONDS,
    OUTPUT_NAME,
    RESERVED_ENV_PREFIX,
    STEP_FIELDS,
    Step,
    Workflow,
    kinds,
    reader_of,
    storable,
)

_WORKFLOW_FIELDS = ("steps", "env", "inputs")
#: What a matrix may put its values into when the step is multiplied.
_MULTIPLIED = ("title", "cwd", "junit", "artifacts")
_NO_LIST = (
    "must be a list with at least one value, or one that an earlier step hands on, "
    "'${{ steps.KEY.outputs.NAME }}'."
)


class Reader(Mistakes):
    """Walks a decoded document and collects every error, not just the first."""

    def workflow(self, document: Any) -> Workflow | None:
        if not isinstance(document, Mapping):
            self.refuse("workflow", "must be an object with a list of steps, {'steps': [...]}.")
            return None
        if "python" in document and "steps" not in document:
            document = _one_step(document)
        self.unknown(document, _WORKFLOW_FIELDS, "")
        env = self.env(document.get("env"), "env")
        asked = inputs.read(document.get("inputs"), self.below("inputs"))
        raw = document.get("steps")
        if not isinstance(raw, list) or not raw:
            self.refuse("steps", "must be a list with at least one step, [{key, run}, ...].")
            return None
        if len(raw) > MAX_STEPS:
            self.refuse("steps", f"has {len(raw)} steps; split it into cards of {MAX_STEPS}.")
            return None
        written: list[Step] = []
        steps: list[Step] = []
        places: dict[str, str] = {}
        for n, item in enumerate(raw):
            step = self.step(item, f"steps[{n}]", env)
            if step is None:
                continue
            made = self.multiplied(step, item, f"steps[{n}]", env)
            for key in dict.fromkeys([step.key, *(one.key for one in made)]):
                if key in places:
                    self.refuse(
                        f"steps[{n}].key",
                        f"{key!r} is already the key of {places[key]}; give each step its "
                        "own, results are kept by key.",
                    )
                places.setdefault(key, f"steps[{n}]")
            written.append(step)
            steps += made
        if len(steps) > MAX_STEPS:
            self.refuse("steps", f"makes {len(steps)} steps; split it into cards of {MAX_STEPS}.")
            return None
        if not self.errors:
            Relations(self, steps, places, {one.name for one in asked}).check_names()
        if self.errors:
            return None
        ordered = Relations(self, steps, places, set()).ordered()
        return Workflow(tuple(ordered), MappingProxyType(env), asked, tuple(written))

    def step(self, item: Any, path: str, env: dict[str, str]) -> Step | None:
        if not isinstance(item, Mapping):
            self.refuse(path, "must be an object such as {'key': 'test', 'run': 'make test'}.")
            return None
        self.unknown(item, ("key", *kinds(), *STEP_FIELDS[1:]), f"{path}.")
        key = self.key(item.get("key"), f"{path}.key")
        kind, given = self.kind(item, path)
        title = self.text(item.get("title"), f"{path}.title", MAX_TITLE_CHARS)
        cwd = self.path(item.get("cwd"), f"{path}.cwd", "a folder") or "."
        own_env = self.env(item.get("env"), f"{path}.env")
        timeout_seconds = self.integer(
            item.get("timeout_seconds"),
            f"{path}.timeout_seconds",
            MIN_TIMEOUT_SECONDS,
            MAX_TIMEOUT_SECONDS,
            DEFAULT_TIMEOUT_SECONDS,
        )
        retries = self.integer(item.get("retries"), f"{path}.retries", 0, MAX_RETRIES, 0)
        allow_failure = item.get("allow_failure")
        if allow_failure is not None and not isinstance(allow_failure, bool):
            self.refuse(f"{path}.allow_failure", "must be true or false, without quotes.")
        junit = self.path(item.get("junit"), f"{path}.junit", "a report file")
        artifacts = self.artifacts(item.get("artifacts"), f"{path}.artifacts")
        criterion = None
        if item.get("criterion") is not None:
            criterion = self.integer(item["criterion"], f"{path}.criterion", 1, MAX_CRITERION, 1)
        condition = self.condition(item.get("if"), f"{path}.if")
        needs = self.names(item.get("needs"), f"{path}.needs", KEY, MAX_NEEDS)
        outputs = self.names(item.get("outputs"), f"{path}.outputs", OUTPUT_NAME, MAX_OUTPUTS)
        until = self.names(item.get("until"), f"{path}.until", KEY, MAX_NEEDS)
        rounds = self.integer(item.get("rounds"), f"{path}.rounds", 1, MAX_ROUNDS, DEFAULT_ROUNDS)
        if item.get("rounds") is not None and not until:
            self.refuse(f"{path}.rounds", "is for a step with 'until'; name its checks there.")
        matrix = self.matrix(item.get("matrix"), f"{path}.matrix")
        if key is None or given is None or matrix is None:
            return None
        return Step(
            key=key,
            kind=kind,
            given=given,
            title=title,
            cwd=cwd,
            env=MappingProxyType({**env, **own_env}),
            timeout_seconds=timeout_seconds,
            retries=retries,
            allow_failure=allow_failure is True,
            junit=junit,
            artifacts=artifacts,
            criterion=criterion,
            condition=condition,
            needs=needs,
            matrix=MappingProxyType(matrix),
            outputs=outputs,
            until=until,
            rounds=rounds,
        )

    def condition(self, value: Any, path: str) -> str:
        """Return the text of a condition, without the brackets of a placeholder around it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, str) or not self.storable(value, path):
            if not isinstance(value, str):
                self.refuse(path, "must be an expression, such as inputs.channel == 'beta'.")
            return ""
        try:
            return (expressions.alone(value) or expressions.read(value)).text
        except Refused as refused:
            self.refuse(path, str(refused))
            return ""

    def names(self, value: Any, path: str, pattern: re.Pattern[str], most: int) -> tuple[str, ...]:
        """Return the names in a list, or the one that stands there alone."""
        if value is None:
            return ()
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, list) or len(named) > most:
            self.refuse(path, f"must be a list of up to {most} names.")
            return ()
        for n, name in enumerate(named):
            if not isinstance(name, str) or not pattern.fullmatch(name):
                self.refuse(f"{path}[{n}]", "is no such name; use letters, digits, _ and -.")
                return ()
        return tuple(dict.fromkeys(named))

    def matrix(self, value: Any, path: str) -> dict[str, Any] | None:
        """Return the lists of a matrix, empty where there is none; None after refusing."""
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not value:
            self.refuse(path, "must be an object of lists, {'python': ['3.11', '3.12']}.")
            return None
        before = len(self.errors)
        found: dict[str, Any] = {}
        count = 1
        for name, values in value.items():
            where = f"{path}.{_shown(name)}"
            if not isinstance(name, str) or not OUTPUT_NAME.fullmatch(name):
                self.refuse(where, "is no name; use letters, digits, _ and -.")
            elif isinstance(values, str):
                found[name] = self.taken(values, where)
            elif not isinstance(values, list) or not values:
                self.refuse(where, _NO_LIST)
            else:
                found[name] = tuple(self.values(values, where))
                count *= len(values)
        if count > MAX_INSTANCES:
            self.refuse(path, f"makes {count} steps of this one; {MAX_INSTANCES} are allowed.")
        return found if len(self.errors) == before else None

    def taken(self, text: str, path: str) -> str:
        """Return the expression of a list that an earlier step hands on."""
        try:
            only = expressions.alone(text)
            roots = {root for root, *_ in only.paths()} if only is not None else set()
            if roots != {"steps"}:
                self.refuse(path, _NO_LIST)
        except Refused as refused:
            self.refuse(path, str(refused))
        return text.strip()

    def values(self, values: list[Any], path: str) -> Iterator[Any]:
        seen: set[str] = set()
        for n, one in enumerate(values):
            where = f"{path}[{n}]"
            if isinstance(one, float):
                self.refuse(where, f"is the number {one}; put it in quotes, or 3.10 becomes 3.1.")
            elif not isinstance(one, str | int):
                self.refuse(where, "must be text or a whole number.")
            elif not KEY.fullmatch(expressions.text_of(one)):
                self.refuse(
                    where, "becomes part of a key: use 1 to 200 of A-Z a-z 0-9 . _ : @ / and -."
                )
            elif expressions.text_of(one) in seen:
                self.refuse(where, "stands there twice.")
            seen.add(expressions.text_of(one))
            yield one

    def multiplied(
        self, step: Step, item: Mapping[Any, Any], path: str, env: dict[str, str]
    ) -> list[Step]:
        """Return the steps that a matrix makes of one: the step itself where it has none."""
        named = {name: item[name] for name in _MULTIPLIED if item.get(name) is not None}
        if step.is_open:
            some = dict.fromkeys(step.matrix, "x")
            put = {name: self.put(value, some, f"{path}.{name}") for name, value in named.items()}
            self.step({**item, **put, "matrix": None}, path, env)
            return [step]
        found: list[Step] = []
        for chosen in itertools.product(*step.matrix.values()):
            values = dict(zip(step.matrix, chosen, strict=True))
            put = {name: self.put(value, values, f"{path}.{name}") for name, value in named.items()}
            if not step.matrix:
                return [step]
            key = ":".join([step.key, *map(expressions.text_of, chosen)])
            one = self.step({**item, **put, "key": key, "matrix": None}, path, env)
            if one is not None:
                found.append(replace(one, matrix=MappingProxyType(values), of=step.key))
        return found

    def put(self, value: Any, values: Mapping[str, Any], path: str) -> Any:
        """Return the field with a matrix's values put in: nothing else is known so early."""
        if isinstance(value, list):
            return [self.put(one, values, f"{path}[{n}]") for n, one in enumerate(value)]
        if not isinstance(value, str) or "${{" not in value:
            return value

        def known(expression: Expression) -> str:
            for root, *_ in expression.paths():
                if root != "matrix" or not values:
                    raise Refused("can only hold ${{ matrix.… }} of the step's own matrix.")
            return expressions.text_of(expression.value({"matrix": values}))

        try:
            expressions.placeholders(value)
            return expressions.filled(value, known)
        except (Refused, expressions.Unusable) as refused:
            self.refuse(path, str(refused))
            return "x"

    def unknown(self, item: Mapping[Any, Any], known: tuple[str, ...], prefix: str) -> None:
        for name in item:
            if name not in known:
                shown = _shown(name)
                self.refuse(
                    f"{prefix}{shown}",
                    f"is no field of a workflow; use {', '.join(known)}.",
                )

    def key(self, value: Any, path: str) -> str | None:
        if not isinstance(value, str) or not KEY.fullmatch(value):
            self.refuse(
                path,
                "must be 1 to 200 characters of A-Z a-z 0-9 . _ : @ / -, such as 'unit-tests'.",
            )
            return None
        if value.startswith(AGENT_KEYS):
            self.refuse(path, f"begins with {AGENT_KEYS}, which is for agents' own; rename it.")
            return None
        return value

    def kind(self, item: Mapping[Any, Any], path: str) -> tuple[str, Any]:
        """Return what the step is to do, by its kind; None for it when that was refused."""
        named = [kind for kind in kinds() if kind in item] or ["run"]
        kind, others = named[0], named[1:]
        if others:
            self.refuse(path, f"says {' and '.join(named)}; a step is of one kind.")
            return kind, None
        place = f"{path}.{kind}"
        before = len(self.errors)
        given = reader_of(kind)(item.get(kind), self.below(place))
        return kind, given if len(self.errors) == before else None

    def text(self, value: Any, path: str, limit: int) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or not self.storable(value, path):
            if not isinstance(value, str):
                self.refuse(path, "must be text; put it in quotes.")
            return ""
        if len(value) > limit:
            self.refuse(path, f"is longer than {limit} characters; shorten it.")
            return ""
        return value

    def env(self, value: Any, path: str) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.refuse(path, "must be an object of names and values, {'NAME': 'value'}.")
            return {}
        if len(value) > MAX_ENV_ENTRIES:
            self.refuse(path, f"has {len(value)} entries; {MAX_ENV_ENTRIES} are allowed.")
            return {}
        env: dict[str, str] = {}
        for name, content in value.items():
            where = f"{path}.{_shown(name)}"
            if not isinstance(name, str) or not ENV_NAME.fullmatch(name):
                self.refuse(where, "is no variable name; use letters, digits and underscores.")
            elif name.startswith(RESERVED_ENV_PREFIX):
                self.refuse(
                    where,
                    f"is reserved: {RESERVED_ENV_PREFIX}* is set by Holdfast. Rename it.",
                )
            elif isinstance(content, bool) or not isinstance(content, str | int):
                self.refuse(where, "must be text; put it in quotes.")
            elif self.storable(text := str(content), where):
                if len(text.encode()) > MAX_ENV_VALUE_BYTES:
                    self.refuse(
                        where,
                        f"is longer than {MAX_ENV_VALUE_BYTES} bytes; put it in a file.",
                    )
                env[name] = text
        return env

    def integer(self, value: Any, path: str, low: int, high: int, default: int) -> int:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(path, f"must be a whole number from {low} to {high}.")
            return default
        return value

    def path(self, value: Any, path: str, what: str) -> str | None:
        """Return the path normalised, or None when there is none or it was refused."""
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            self.refuse(path, f"must name {what} by its path in the workspace.")
            return None
        if not self.storable(value, path):
            return None
        pure = PurePosixPath(value)
        if len(value) > MAX_PATH_CHARS:
            self.refuse(path, f"is longer than {MAX_PATH_CHARS} characters.")
        elif pure.is_absolute() or value.startswith("~") or "\\" in value:
            self.refuse(path, "must be relative to the workspace, with / between folders.")
        elif ".." in pure.parts:
            self.refuse(path, "must stay inside the workspace; remove '..'.")
        else:
            return str(pure)
        return None

    def artifacts(self, value: Any, path: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MAX_ARTIFACTS:
            self.refuse(
                path,
                f"must be a list of up to {MAX_ARTIFACTS} patterns, ['dist/*.whl'].",
            )
            return ()
        patterns: list[str] = []
        for n, item in enumerate(value):
            pattern = self.path(item, f"{path}[{n}]", "files")
            if item is None:
                self.refuse(f"{path}[{n}]", "must name files by their path in the workspace.")
            if pattern is not None:
                patterns.append(pattern)
        return tuple(patterns)

    def storable(self, text: str, path: str) -> bool:
        return storable(text, lambda _, sentence: self.refuse(path, sentence))


def _one_step(document: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the workflow whose one step is the Python workflow that the document names."""
    said = {k: v for k, v in document.items() if k not in ("env", "timeout_seconds")}
    step: dict[str, Any] = {"key": "workflow", "python": {"workflow": said.pop("python"), **said}}
    if "timeout_seconds" in document:
        step["timeout_seconds"] = document["timeout_seconds"]
    return {"env": document.get("env"), "steps": [step]}
