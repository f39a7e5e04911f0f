"""What a workflow is made of: its steps, and the kinds of steps that are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from boards import expressions
from boards.documents import shown as _shown
from boards.expressions import Expression
from boards.inputs import Input

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

STEP_FIELDS = (
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
    if kind in STEP_FIELDS:
        raise ValueError(f"{kind} is a field of every step and can't name a kind of step")
    _kinds[kind] = read


def kinds() -> tuple[str, ...]:
    """The kinds of steps that are known."""
    return tuple(_kinds)


def reader_of(kind: str) -> ReadKind:
    """Return what reads steps of the kind, which is known."""
    return _kinds[kind]


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

    A step with a ``matrix`` stands for several: its ``matrix`` has lists, or texts of expressions
    that come to lists once earlier steps are over. Each of them has the values that are its own,
    and in ``of`` the key of the step it was made from.
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

    @property
    def is_open(self) -> bool:
        """True while it is not known which steps its matrix makes of it."""
        return not self.of and any(isinstance(values, str) for values in self.matrix.values())

    @property
    def lists(self) -> dict[str, Expression]:
        """What its matrix takes values from, by name."""
        texts = {name: values for name, values in self.matrix.items() if isinstance(values, str)}
        found = {name: expressions.alone(text) for name, text in texts.items() if self.is_open}
        return {name: one for name, one in found.items() if one is not None}

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

    def beside(
        self,
        key: str,
        kind: str,
        given: str,
        *,
        title: str,
        mark: str,
        allow_failure: bool = False,
        criterion: int | None = None,
    ) -> Step:
        """Return a step that is none of the workflow's and runs with its variables.

        ``mark`` ends its key as often as one of theirs is in the way.
        """
        while self.named(key):
            key += mark
        return Step(
            key=key,
            kind=kind,
            given=given,
            title=title,
            cwd=".",
            env=self.env,
            timeout_seconds=DEFAULT_TIMEOUT_SECONDS,
            retries=0,
            allow_failure=allow_failure,
            junit=None,
            artifacts=(),
            criterion=criterion,
        )


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
