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

import heapq
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from boards import documents, expressions, inputs
from boards.documents import shown as _shown
from boards.expressions import Expression, Refused
from boards.inputs import Input
from kernel import digests
from kernel.errors import Invalid

MAX_STEPS = 500
MAX_ENV_ENTRIES = 100
MAX_ENV_VALUE_BYTES = 32 * 1024
MAX_TITLE_CHARS = 200
MAX_PATH_CHARS = 500
MAX_ARTIFACTS = 100
MAX_INSTANCES = 100
MAX_NEEDS = 100
MAX_OUTPUTS = 50
MAX_ROUNDS, DEFAULT_ROUNDS = 20, 3
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS = 1, 21_600, 600
MAX_RETRIES = 10
MAX_CRITERION = 32_767
MAX_REPORTED_ERRORS = 50

KEY = re.compile(r"[A-Za-z0-9._:@/-]{1,200}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
OUTPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
RESERVED_ENV_PREFIX = "HOLDFAST_"
#: Steps that agents record of their own accord while they carry out a step have such keys, so
#: that none of them is taken for a step of the workflow.
AGENT_KEYS = "@agent/"
#: What is known of a step that is over, by the names an expression uses.
OF_A_STEP = ("status", "outputs", "result")
#: Kinds of steps whose outcome is a command's and nobody's word: they can be checks.
CHECKS = ("run", "check")

_WORKFLOW_FIELDS = ("steps", "env", "inputs")
_STEP_FIELDS = (
    "key",
    "title",
    "cwd",
    "env",
    "timeout_seconds",
    "retries",
    "allow_failure",
    "junit",
    "artifacts",
    "criterion",
    "if",
    "needs",
    "matrix",
    "outputs",
    "until",
    "rounds",
)
#: What a matrix may put its values into when the step is multiplied.
_MULTIPLIED = ("title", "cwd", "junit", "artifacts")


Refuse = Callable[[str, str], None]
#: Reads what a step of one kind is told. Gets it decoded and a way to refuse: the place below
#: the field (empty: the field itself) and a sentence. Returns JSON, None after refusing.
ReadKind = Callable[[Any, Refuse], Any]

_kinds: dict[str, ReadKind] = {}


def register(kind: str, read: ReadKind) -> None:
    """Let steps be of this kind: the field of that name says what such a step is to do.

    Who carries steps out is above this app and says so here, once at the start. ``read`` gets
    texts with ``${{ … }}`` in them as they were written, and once more when they are filled in.
    """
    if kind in _STEP_FIELDS:
        raise ValueError(f"{kind} is a field of every step and can't name a kind of step")
    _kinds[kind] = read


def kinds() -> tuple[str, ...]:
    """The kinds of steps that are known."""
    return tuple(_kinds)


def read_kind(kind: str, value: Any) -> Any:
    """Return what a step of that kind is told, with every default; None if it is no such thing."""
    refused: list[str] = []
    given = _kinds[kind](value, lambda place, sentence: refused.append(sentence))
    return None if refused else given


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow and the terms it runs under. ``env`` includes the workflow's.

    ``kind`` is the field that says what to do, ``given`` what stands there, with every default
    written out: for ``run`` the command. ``criterion`` is the number of the goal's criterion
    that the step is a check of. ``condition`` is the text of ``if``, ``needs`` names steps that
    must be over and not skipped, ``outputs`` what the step promises to write. ``until`` names
    checks that send the work back while they are red, at most ``rounds`` times in all.

    A step with a ``matrix`` stands for several: its ``matrix`` has lists. Each of them has the
    values that are its own, and in ``of`` the key of the step it was made from.
    """

    key: str
    kind: str
    given: Any
    title: str
    cwd: str
    env: Mapping[str, str]
    timeout_seconds: int
    retries: int
    allow_failure: bool
    junit: str | None
    artifacts: tuple[str, ...]
    criterion: int | None = None
    condition: str = ""
    needs: tuple[str, ...] = ()
    matrix: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    outputs: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    rounds: int = DEFAULT_ROUNDS
    of: str = ""

    def as_input(self) -> dict[str, Any]:
        """Return what decides the step's outcome, for the record of the step's input."""
        return {self.kind: self.given, "cwd": self.cwd, "env": dict(self.env)}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A checked workflow: at least one step, every key once.

    ``steps`` are in the order in which they run: as written, but after what they need.
    ``written`` are the steps as they stand in the document, each matrix in one.
    """

    steps: tuple[Step, ...]
    env: Mapping[str, str]
    inputs: tuple[Input, ...] = ()
    written: tuple[Step, ...] = ()

    def named(self, key: str) -> list[Step]:
        """Return the step of that key, or those that were made from it by its matrix."""
        return [step for step in self.steps if key in (step.key, step.of)]


def parse(source: object) -> Workflow:
    """Return the workflow in ``source``, YAML (or JSON) text or an already decoded object.

    Raises Invalid whose ``errors`` map each offending path (``steps[2].timeout_seconds``) to
    what is wrong there and what to write instead.
    """
    document = documents.load(source) if isinstance(source, str) else source
    reader = _Reader()
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
        said["matrix"] = {name: list(values) for name, values in step.matrix.items()}
    return said


def digest(workflow: Workflow) -> str:
    """Return the SHA-256 of the canonical form: equal for workflows that do the same."""
    return digests.sha256(digests.canonical(canonical(workflow)))


class _Reader:
    """Walks a decoded document and collects every error, not just the first."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}

    def refuse(self, path: str, sentence: str) -> None:
        if len(self.errors) < MAX_REPORTED_ERRORS or path in self.errors:
            said = self.errors.setdefault(path, [])
            if sentence not in said:  # each step that a matrix makes is read
                said.append(sentence)

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
            _Relations(self, steps, places, {one.name for one in asked}).check_names()
        if self.errors:
            return None
        ordered = _Relations(self, steps, places, set()).ordered()
        return Workflow(tuple(ordered), MappingProxyType(env), asked, tuple(written))

    def below(self, path: str) -> Refuse:
        """Return a way to refuse what stands at places below the path."""

        def refuse(where: str, sentence: str) -> None:
            joint = "" if not where or where.startswith("[") else "."
            self.refuse(f"{path}{joint}{where}", sentence)

        return refuse

    def step(self, item: Any, path: str, env: dict[str, str]) -> Step | None:
        if not isinstance(item, Mapping):
            self.refuse(path, "must be an object such as {'key': 'test', 'run': 'make test'}.")
            return None
        self.unknown(item, ("key", *_kinds, *_STEP_FIELDS[1:]), f"{path}.")
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
            elif not isinstance(values, list) or not values:
                self.refuse(where, "must be a list with at least one value.")
            else:
                found[name] = tuple(self.values(values, where))
                count *= len(values)
        if count > MAX_INSTANCES:
            self.refuse(path, f"makes {count} steps of this one; {MAX_INSTANCES} are allowed.")
        return found if len(self.errors) == before else None

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
        named = [kind for kind in _kinds if kind in item] or ["run"]
        kind, others = named[0], named[1:]
        if others:
            self.refuse(path, f"says {' and '.join(named)}; a step is of one kind.")
            return kind, None
        place = f"{path}.{kind}"
        before = len(self.errors)
        given = _kinds[kind](item.get(kind), self.below(place))
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


def storable(text: str, refuse: Refuse) -> bool:
    """Return whether every store takes the text; refuse it otherwise."""
    if "\x00" in text:
        refuse("", "contains a NUL character; remove it.")
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse("", "contains half of a surrogate pair; send whole characters.")
        return False
    return True


def placeholders_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return each text within JSON that has a placeholder, with its place."""
    if isinstance(value, str):
        if "${{" in value:
            yield path, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from placeholders_in(one, f"{path}.{_shown(name)}")
    elif isinstance(value, list | tuple):
        for n, one in enumerate(value):
            yield from placeholders_in(one, f"{path}[{n}]")


def _one_step(document: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the workflow whose one step is the Python workflow that the document names."""
    said = {k: v for k, v in document.items() if k not in ("env", "timeout_seconds")}
    step: dict[str, Any] = {"key": "workflow", "python": {"workflow": said.pop("python"), **said}}
    if "timeout_seconds" in document:
        step["timeout_seconds"] = document["timeout_seconds"]
    return {"env": document.get("env"), "steps": [step]}


class _Relations:
    """How steps depend on each other: checks what names what, and finds an order."""

    def __init__(
        self, reader: _Reader, steps: Sequence[Step], places: Mapping[str, str], asked: set[str]
    ) -> None:
        self.reader, self.steps, self.places, self.asked = reader, steps, places, asked
        self.made: dict[str, list[int]] = {}
        for n, step in enumerate(steps):
            self.made.setdefault(step.key, []).append(n)
            if step.of:
                self.made.setdefault(step.of, []).append(n)

    def check_names(self) -> None:
        """Refuse needs and checks that aren't there, circles, and what expressions can't know."""
        for step in self.steps:
            self._check_known(step.needs, f"{self.places[step.key]}.needs")
            self._check_until(step)
        if self.reader.errors:
            return
        ordered = self.ordered()
        if len(ordered) < len(self.steps):
            self._refuse_circle(ordered)
            return
        place_of = {step.key: n for n, step in enumerate(ordered)}
        for step in ordered:
            self._check_expressions(step, place_of)

    def ordered(self) -> list[Step]:
        """Return the steps as written, but each after those it waits for; circles are left out."""
        before = self._before()
        after: dict[int, list[int]] = {}
        for n, needed in enumerate(before):
            for m in needed:
                after.setdefault(m, []).append(n)
        waits = [len(needed) for needed in before]
        free = [n for n, count in enumerate(waits) if not count]
        found: list[Step] = []
        while free:
            n = heapq.heappop(free)
            found.append(self.steps[n])
            for m in after.get(n, ()):
                waits[m] -= 1
                if not waits[m]:
                    heapq.heappush(free, m)
        return found

    def _before(self) -> list[set[int]]:
        before: list[set[int]] = [set() for _ in self.steps]
        for n, step in enumerate(self.steps):
            for key in step.needs:
                before[n].update(self.made[key])
            for key in step.until:
                for m in self.made[key]:
                    before[m].add(n)
        return before

    def _check_known(self, keys: Collection[str], path: str) -> bool:
        unknown = [key for key in keys if key not in self.made]
        if unknown:
            there = ", ".join(step.key for step in self.steps)[:300]
            self.reader.refuse(path, f"names {unknown[0]}, but the steps are: {there}.")
        return not unknown

    def _check_until(self, step: Step) -> None:
        path = f"{self.places[step.key]}.until"
        if not self._check_known(step.until, path):
            return
        for key in step.until:
            for n in self.made[key]:
                check = self.steps[n]
                if check.kind not in CHECKS or check.until:
                    self.reader.refuse(
                        path,
                        f"names {key}, which is no check; only steps of the kinds "
                        f"{' and '.join(CHECKS)} are.",
                    )
        if step.until and step.kind in ("check", "wait", "ask"):
            self.reader.refuse(path, f"is for steps that can do better; a {step.kind} can't.")

    def _refuse_circle(self, ordered: Sequence[Step]) -> None:
        done = {step.key for step in ordered}
        before = self._before()
        n = next(n for n, step in enumerate(self.steps) if step.key not in done)
        seen: list[int] = []
        while n not in seen:
            seen.append(n)
            n = next(m for m in before[n] if self.steps[m].key not in done)
        circle = [self.steps[m].key for m in [*seen[seen.index(n) :], n]]
        self.reader.refuse(
            f"{self.places[circle[0]]}.needs",
            f"goes round in a circle: {' needs '.join(circle)}; take one of these away.",
        )

    def _check_expressions(self, step: Step, place_of: Mapping[str, int]) -> None:
        place = self.places[step.key]
        texts = [(f"{place}.if", f"${{{{ {step.condition} }}}}")] if step.condition else []
        texts += list(placeholders_in(step.given, f"{place}.{step.kind}"))
        texts += list(placeholders_in(dict(step.env), f"{place}.env"))
        for path, text in texts:
            try:
                for expression in expressions.placeholders(text):
                    for looked_up in expression.paths():
                        self._check_path(step, looked_up, place_of)
            except Refused as refused:
                self.reader.refuse(path, str(refused))

    def _check_path(self, step: Step, path: expressions.Path, place_of: Mapping[str, int]) -> None:
        root, *names = path
        if root == "inputs" and names and self.asked and names[0] not in self.asked:
            raise Refused(
                f"names inputs.{names[0]}, but the inputs are: {', '.join(sorted(self.asked))}."
            )
        if root == "matrix" and names and names[0] not in step.matrix:
            there = ", ".join(step.matrix) or "none; the step has no matrix"
            raise Refused(f"names matrix.{names[0]}, but the values are: {there}.")
        if root != "steps" or not names:
            return
        key = names[0]
        if key not in self.made:
            raise Refused(
                f"names steps.{key}, but there is no such step; a key with other characters "
                "stands in brackets, steps['test:3.11']."
            )
        if any(place_of[self.steps[n].key] >= place_of[step.key] for n in self.made[key]):
            raise Refused(f"names steps.{key}, which is not over by then; add it to 'needs'.")
        if len(names) > 1 and names[1] not in OF_A_STEP:
            raise Refused(f"names steps.{key}.{names[1]}; there are {', '.join(OF_A_STEP)}.")
        promised = self.steps[self.made[key][0]].outputs
        if len(names) > 2 and names[1] == "outputs" and promised and names[2] not in promised:
            raise Refused(
                f"names the output {names[2]}, but step {key} promises {', '.join(promised)}."
            )
