"""Workflows in Python, for the built-in workers of Holdfast. Standard library only.

    from holdfast.workflows import Context, workflow

    @workflow("release", version=1)
    def release(ctx: Context):
        version = ctx.step("version", read_version)
        if ctx.ask("go", f"Release {version}?", ["yes", "no"]) == "yes":
            ctx.step("publish", publish, version)
        return {"version": version}

The function is run from its beginning whenever somebody goes on with the card, and every step
that is recorded gives its result at once: it is never computed twice. So what a workflow does
must follow from its inputs and from what its steps gave; anything else belongs into a step.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

__all__ = ["Context", "WorkflowError", "known", "workflow"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEY = re.compile(r"[A-Za-z0-9._:][A-Za-z0-9._:@/-]{0,99}")
MAX_AT_ONCE = 16

Function = Callable[["Context"], Any]
F = TypeVar("F", bound=Function)

_known: dict[str, dict[int, Function]] = {}


class WorkflowError(Exception):
    """The workflow asks for something that can't be had, in one sentence."""


class Stopped(BaseException):
    """Nothing more is to be done now. Whoever goes on later begins at the beginning."""


def workflow(name: str, *, version: int = 1) -> Callable[[F], F]:
    """Let cards name this function as their workflow.

    A card goes on under the ``version`` it began with: raise the number with a change that
    cards under way could not follow, and leave the old function in place for them.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a workflow; use letters, digits, . _ and -")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError("a version is a whole number from 1 on")

    def register(function: F) -> F:
        there = _known.setdefault(name, {}).setdefault(version, function)
        same = (there.__module__, there.__qualname__) == (
            function.__module__,
            function.__qualname__,
        )
        if not same:
            raise ValueError(f"version {version} of {name} is there twice")
        _known[name][version] = function
        return function

    return register


def known() -> Mapping[str, Mapping[int, Function]]:
    """Return every workflow that was registered, by name and version."""
    return _known


class Link(Protocol):
    """The way to the worker, who records what a workflow does."""

    def ask(self, op: str, **said: Any) -> dict[str, Any]:
        """Return the worker's answer. Raises WorkflowError or Stopped."""
        ...


class Context:
    """What a workflow works with: its inputs, and the steps it records.

    Keys are the workflow's own, each used once in a run. ``card`` is the card's key,
    ``round`` and ``feedback`` are those of a step whose checks send it back.
    """

    def __init__(self, link: Link, told: Mapping[str, Any]) -> None:
        self._link = link
        self._recorded: dict[str, Any] = dict(told["recorded"])
        self._used: set[str] = set()
        self._within = threading.local()
        self._lock = threading.Lock()
        self.inputs: dict[str, Any] = dict(told["inputs"])
        self.card: str = told["card"]
        self.version: int = told["version"]
        self.round: int = told["round"]
        self.feedback: str = told["feedback"]

    def step(
        self,
        key: str,
        function: Callable[..., Any],
        *args: Any,
        title: str = "",
        checkpoint: str = "",
        next_step: str = "",
        announced: bool = False,
        if_in_doubt: Callable[..., Any] | None = None,
    ) -> Any:
        """Return what ``function(*args)`` gives, as JSON: computed once, then remembered.

        With a ``checkpoint``, one sentence on where things stand, the files in the workspace are
        kept with the result; without one, files that the step changes are lost if the worker is.
        An ``announced`` step is recorded before it begins, too. Should it never say how it ended,
        the next run calls ``if_in_doubt(*args)`` in its place, if that is given.
        """
        self._begin_of(key, "step")
        if key in self._recorded:
            return _copy(self._recorded[key])
        if announced and self._ask("begin", key=key, title=title)["in_doubt"] and if_in_doubt:
            function = if_in_doubt
        self._within.step = key
        try:
            result = function(*args)
        finally:
            self._within.step = ""
        said = _as_json(result, key)
        self._ask(
            "finish" if announced else "record",
            key=key,
            title=title,
            result=said,
            checkpoint=checkpoint,
            next_step=next_step,
        )
        return said

    def parallel(
        self, calls: Mapping[str, Callable[[], Any]], *, at_once: int = 4
    ) -> dict[str, Any]:
        """Return what the functions give, each a step of its key, several at once in threads.

        All are run to their end, and recorded, before one that failed makes this fail.
        """
        for key in calls:
            if not KEY.fullmatch(key):
                raise _no_key(key)
        with ThreadPoolExecutor(max(1, min(at_once, MAX_AT_ONCE))) as pool:
            running = {key: pool.submit(self.step, key, call) for key, call in calls.items()}
        return {key: one.result() for key, one in running.items()}

    def checkpoint(self, summary: str, next_step: str = "") -> None:
        """Keep the files as they are now, with a sentence on where things stand, once."""
        key = f"checkpoint:{hashlib.sha256(summary.encode()).hexdigest()[:16]}"
        self._begin_of(key, "checkpoint")
        if key not in self._recorded:
            self._ask("record", key=key, title=summary, checkpoint=summary, next_step=next_step)

    def ask(
        self,
        key: str,
        question: str,
        options: Sequence[str] = (),
        *,
        kind: str = "",
        detail: str = "",
        default: str = "",
        timeout_seconds: int | None = None,
        on_timeout: str = "",
    ) -> str:
        """Return a person's answer. Until there is one the card is blocked, the worker free.

        ``kind`` is text, choice, approve (of what stands in ``detail``: yes or no), number,
        date, or secret: kept sealed under the one name in ``options``, which is the answer.
        When nobody answers within ``timeout_seconds`` the ``default`` is the answer, or
        the card stays blocked for good (``on_timeout="fail"``) or goes on waiting (``"stay"``).
        """
        self._begin_of(key, "ask")
        if key in self._recorded:
            return str(self._recorded[key]["answer"])
        terms = {
            "question_kind": kind,
            "detail": detail,
            "default": default,
            "timeout_seconds": timeout_seconds,
            "on_timeout": on_timeout,
        }
        answered = self._ask("ask", key=key, question=question, options=list(options), terms=terms)
        return str(answered["answer"])

    def sleep(self, key: str, seconds: float) -> None:
        """Go on when so many seconds are over. The worker is free for other cards until then."""
        self._begin_of(key, "sleep")
        self._ask("sleep", key=key, seconds=seconds)

    def note(self, sentence: str) -> None:
        """Append a sentence to the card's live log."""
        self._ask("note", text=sentence)

    def progress(self, note: str) -> None:
        """Say in a few words what goes on, for the card on the board."""
        self._ask("progress", text=note)

    def _begin_of(self, key: str, what: str) -> None:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise _no_key(key)
        if getattr(self._within, "step", ""):
            raise WorkflowError(
                f"ctx.{what}({key!r}) stands within the step {self._within.step!r}; what is to be "
                "remembered by itself is called by the workflow, not by one of its steps."
            )
        with self._lock:
            if key in self._used:
                raise WorkflowError(
                    f"The key {key!r} is used twice; give each call its own, in a loop with what "
                    "it is about, such as f'send:{name}'."
                )
            self._used.add(key)

    def _ask(self, op: str, **said: Any) -> dict[str, Any]:
        return self._link.ask(op, **said)


def _no_key(key: object) -> WorkflowError:
    return WorkflowError(f"{key!r} is no key; use 1 to 100 of A-Z a-z 0-9 . _ : @ / and -.")


def _as_json(result: Any, key: str) -> Any:
    """Return the result as a later run will find it."""
    try:
        return json.loads(json.dumps(result, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkflowError(
            f"What step {key!r} gave is no JSON and can't be remembered: {error}. Return text, "
            "numbers, lists and dicts."
        ) from None


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))
