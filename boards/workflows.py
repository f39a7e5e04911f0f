"""The declarative workflow of a card: read it, refuse what can't work, hand out its steps.

A workflow is a list of steps in the manner of CI files, as YAML text or JSON. Commands are one
kind of step; whoever carries out other kinds registers them::

    env: {PYTHONHASHSEED: "0"}
    steps:
      - key: test
        run: python -m pytest -q --junitxml=report.xml
        timeout_seconds: 900
        junit: report.xml

Everything is checked before anything runs: an unknown field or a path that leaves the
workspace is refused with the place it stands at and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import yaml

from kernel import digests
from kernel.errors import Invalid

MAX_STEPS = 500
MAX_ENV_ENTRIES = 100
MAX_ENV_VALUE_BYTES = 32 * 1024
MAX_TITLE_CHARS = 200
MAX_PATH_CHARS = 500
MAX_ARTIFACTS = 100
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_YAML_DEPTH = 10
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS = 1, 21_600, 600
MAX_RETRIES = 10
MAX_CRITERION = 32_767
MAX_REPORTED_ERRORS = 50

KEY = re.compile(r"[A-Za-z0-9._:@/-]{1,200}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
RESERVED_ENV_PREFIX = "HOLDFAST_"
#: Steps that agents record of their own accord while they carry out a step have such keys, so
#: that none of them is taken for a step of the workflow.
AGENT_KEYS = "@agent/"

_WORKFLOW_FIELDS = ("steps", "env")
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
)


Refuse = Callable[[str, str], None]
#: Reads what a step of one kind is told. Gets it decoded and a way to refuse: the place below
#: the field (empty: the field itself) and a sentence. Returns JSON, None after refusing.
ReadKind = Callable[[Any, Refuse], Any]

_kinds: dict[str, ReadKind] = {}


def register(kind: str, read: ReadKind) -> None:
    """Let steps be of this kind: the field of that name says what such a step is to do.

    Who carries steps out is above this app and says so here, once at the start.
    """
    if kind in _STEP_FIELDS:
        raise ValueError(f"{kind} is a field of every step and can't name a kind of step")
    _kinds[kind] = read


def kinds() -> tuple[str, ...]:
    """The kinds of steps that are known."""
    return tuple(_kinds)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow and the terms it runs under. ``env`` includes the workflow's.

    ``kind`` is the field that says what to do, ``given`` what stands there, with every default
    written out: for ``run`` the command. ``criterion`` is the number of the goal's criterion
    that the step is a check of.
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

    def as_input(self) -> dict[str, Any]:
        """Return what decides the step's outcome, for the record of the step's input."""
        return {self.kind: self.given, "cwd": self.cwd, "env": dict(self.env)}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A checked workflow: at least one step, every key once."""

    steps: tuple[Step, ...]
    env: Mapping[str, str]


def parse(source: object) -> Workflow:
    """Return the workflow in ``source``, YAML (or JSON) text or an already decoded object.

    Raises Invalid whose ``errors`` map each offending path (``steps[2].timeout_seconds``) to
    what is wrong there and what to write instead.
    """
    document = _load(source) if isinstance(source, str) else source
    reader = _Reader()
    workflow = reader.workflow(document)
    if workflow is None or reader.errors:
        first, sentences = next(iter(reader.errors.items()))
        raise Invalid(f"The workflow can't be used. {first}: {sentences[0]}", errors=reader.errors)
    return workflow


def canonical(workflow: Workflow) -> dict[str, Any]:
    """Return the workflow as JSON with every default written out."""
    return {
        "env": dict(workflow.env),
        "steps": [
            {
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
                **({"criterion": step.criterion} if step.criterion else {}),
            }
            for step in workflow.steps
        ],
    }


def digest(workflow: Workflow) -> str:
    """Return the SHA-256 of the canonical form: equal for workflows that do the same."""
    return digests.sha256(digests.canonical(canonical(workflow)))


class _Reader:
    """Walks a decoded document and collects every error, not just the first."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}

    def refuse(self, path: str, sentence: str) -> None:
        if len(self.errors) < MAX_REPORTED_ERRORS or path in self.errors:
            self.errors.setdefault(path, []).append(sentence)

    def workflow(self, document: Any) -> Workflow | None:
        if not isinstance(document, Mapping):
            self.refuse("workflow", "must be an object with a list of steps, {'steps': [...]}.")
            return None
        self.unknown(document, _WORKFLOW_FIELDS, "")
        env = self.env(document.get("env"), "env")
        raw = document.get("steps")
        if not isinstance(raw, list) or not raw:
            self.refuse("steps", "must be a list with at least one step, [{key, run}, ...].")
            return None
        if len(raw) > MAX_STEPS:
            self.refuse("steps", f"has {len(raw)} steps; split it into cards of {MAX_STEPS}.")
            return None
        steps: list[Step] = []
        places: dict[str, str] = {}
        for n, item in enumerate(raw):
            step = self.step(item, f"steps[{n}]", env)
            if step is None:
                continue
            if step.key in places:
                self.refuse(
                    f"steps[{n}].key",
                    f"{step.key!r} is already the key of {places[step.key]}; give each step its "
                    "own, results are kept by key.",
                )
            places.setdefault(step.key, f"steps[{n}]")
            steps.append(step)
        return Workflow(tuple(steps), MappingProxyType(env))

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
        if key is None or given is None:
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
        )

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
        field = f"{path}.{kind}"
        before = len(self.errors)
        given = _kinds[kind](
            item.get(kind),
            lambda where, sentence: self.refuse(f"{field}.{where}" if where else field, sentence),
        )
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


def _shown(name: object) -> str:
    return str(name).encode("utf-8", "replace").decode().replace("\x00", "?")[:100]


# The C parser reads the same language ten times faster; it is absent where libyaml is.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):  # type: ignore[misc]  # the base is chosen at run time
    """A safe loader that refuses a field given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int):
                raise _RefusedYaml(f"line {key_node.start_mark.line + 1} has a key that is no text")
            if key in seen:
                raise _RefusedYaml(
                    f"line {key_node.start_mark.line + 1} gives {_shown(key)!r} a second time"
                )
            seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result


class _RefusedYaml(Exception):
    """Well-formed YAML that a workflow may not use."""


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "the text"


def _load(text: str) -> Any:
    """Return the document in ``text``. Raises Invalid; anchors are refused (a kilobyte of
    nested aliases expands to gigabytes)."""
    try:
        too_long = len(text.encode()) > MAX_DOCUMENT_BYTES
    except UnicodeEncodeError:
        raise Invalid.field("workflow", "contains half of a surrogate pair.") from None
    if too_long:
        raise Invalid.field(
            "workflow",
            f"is longer than {MAX_DOCUMENT_BYTES} bytes; put scripts in files.",
        )
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_BaseLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _RefusedYaml(f"{_line(event)} uses an anchor or alias; write it out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_YAML_DEPTH:
                raise _RefusedYaml(f"{_line(event)} nests too deep")
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except _RefusedYaml as error:
        raise Invalid.field("workflow", f"{error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise Invalid.field(
            "workflow",
            f"is not YAML{where}: {_shown(problem)}. Check the indentation and quotes.",
        ) from None
