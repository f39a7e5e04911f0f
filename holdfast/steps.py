"""Steps: what is computed under a key is recorded, and never computed again once it is."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from holdfast import protocol
from holdfast.errors import Error, Handover, LeaseLost, Refused, StepFailed, Unreachable
from holdfast.protocol import Talk
from holdfast.texts import described, given

if TYPE_CHECKING:
    from holdfast.attempt import AsyncAttempt, Attempt, Held

P = ParamSpec("P")
R = TypeVar("R")

MAX_TITLE_CHARS = 120
current: ContextVar[Attempt | AsyncAttempt] = ContextVar("holdfast.current")


class StepBase:
    """One step of an attempt, as it is known here.

    ``replayed``: the result was recorded before; use ``result``, don't compute it again.
    ``in_doubt``: an earlier attempt began this and never said how it ended; look before
    doing again what must not be done twice. Set ``result`` (plain data) and, if you like,
    ``usage`` inside the block; they are recorded as it ends.
    """

    def __init__(
        self,
        attempt: Held[Any],
        key: str,
        *,
        title: str | None = None,
        kind: str | None = None,
        input: Any = None,
        depends_on_input: bool | None = None,
    ) -> None:
        self.key = key
        self.result: Any = None
        self.usage: Mapping[str, Any] | None = None
        self.replayed = False
        self.in_doubt = False
        self._attempt = attempt
        self._asked = given(
            key=key, title=title, kind=kind, input=input, depends_on_input=depends_on_input
        )
        self._checkpoint: dict[str, Any] | None = None

    def checkpoint(self, summary: str, **more: Any) -> None:
        """Save a checkpoint in the very transaction that records the step's result.

        Takes what ``attempt.checkpoint`` takes.
        """
        self._checkpoint = {"summary": summary, **given(**more)}

    def _begin(self) -> Talk[None]:
        self._attempt.heed(self.key)
        begun = yield from self._attempt.under_lease("POST", "/steps", self._asked)
        self.replayed = bool(begun.get("replay"))
        self.in_doubt = bool(begun.get("in_doubt")) and not self.replayed
        if self.replayed and begun["status"] != "succeeded":
            raise StepFailed(
                f"Step {self.key} already failed in this attempt: {begun['error']}"
                " Fail the attempt, or use another key."
            )
        if self.replayed:
            self.result = begun["result"]

    def _end(self, error: BaseException | None) -> Talk[None]:
        """Record how the step ended.

        One that was cut off is left as it is, for the next attempt to find in doubt.
        """
        if self.replayed:
            return
        if error is None:
            yield from self._succeed()
        elif isinstance(error, Exception) and not isinstance(
            error, LeaseLost | Handover | Unreachable
        ):
            try:
                yield from self._fail(described(error))
            except Error as unsaid:
                error.add_note(f"Step {self.key} could not be recorded as failed: {unsaid}")

    def _succeed(self) -> Talk[None]:
        try:
            result = json.loads(protocol.encoded(self.result))
            body = given(
                status="succeeded", result=result, usage=self.usage, checkpoint=self._checkpoint
            )
            yield from self._finish(body)
        except (LeaseLost, Unreachable):
            raise
        except Error as refused:
            if type(refused) is Error or isinstance(refused, Refused):
                yield from self._fail(f"The result can't be recorded: {refused}")
            raise
        # As it will be replayed: a tuple is a list by now.
        self.result = result

    def _fail(self, error: str) -> Talk[None]:
        yield from self._finish(given(status="failed", error=error, usage=self.usage))

    def _finish(self, body: Mapping[str, Any]) -> Talk[None]:
        path = f"/steps/{protocol.segment(self.key)}/finish"
        yield from self._attempt.under_lease("POST", path, body)


class Step(StepBase):
    """A step as a context manager, and as a decorator of what computes its result."""

    _attempt: Attempt

    def __enter__(self) -> Self:
        self._attempt.client._run(self._begin())
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._attempt.client._run(self._end(error))

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        made: Callable[P, R] = remembered(fn, lambda: self._attempt, self._asked)
        return made


class AsyncStep(StepBase):
    """The same for asyncio."""

    _attempt: AsyncAttempt

    async def __aenter__(self) -> Self:
        await self._attempt.client._run(self._begin())
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        await self._attempt.client._run(self._end(error))

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        made: Callable[P, R] = remembered(fn, lambda: self._attempt, self._asked)
        return made


@overload
def step(fn: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def step(fn: Any = None, /, **options: Any) -> Any:
    """Make ``fn`` a step of whichever attempt it is called in; its result is recorded once.

    The key is the function's name and, where it takes arguments, a digest of them; or say
    ``@step(key="publish")``. In asyncio ``fn`` is a coroutine function, and awaited.
    """
    if fn is None:
        return lambda fn: remembered(fn, _current, options)
    return remembered(fn, _current, options)


def _current() -> Attempt | AsyncAttempt:
    try:
        return current.get()
    except LookupError:
        raise Error(
            "A step is recorded in an attempt, and there is none here. Call it inside of"
            " `with attempt:`, and hand the attempt itself to other threads."
        ) from None


def remembered(
    fn: Callable[..., Any],
    attempt: Callable[[], Attempt | AsyncAttempt],
    options: Mapping[str, Any],
) -> Any:
    @functools.wraps(fn)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        named = _named(fn, options.get("key", fn.__name__), args, kwargs)
        named = {**named, **options, "key": named["key"]}
        return attempt().remember(fn=functools.partial(fn, *args, **kwargs), **named)

    return recorded


def _named(
    fn: Callable[..., Any], key: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return key and title of a call: the same for the same arguments, for good."""
    if not args and not kwargs:
        return {"key": key}
    try:
        plain = json.dumps([args, kwargs], allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise Error(
            f"The arguments of {fn.__name__} are no plain data, so they can't name a step"
            f" ({error}). Call attempt.step(key, {fn.__name__}, …) with a key of your own."
        ) from error
    words = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    title = f"{fn.__name__}({', '.join(words)})"
    if len(title) > MAX_TITLE_CHARS:
        title = title[: MAX_TITLE_CHARS - 1] + "…"
    return {"key": f"{key}:{hashlib.sha256(plain.encode()).hexdigest()[:12]}", "title": title}


async def awaited(value: Any) -> Any:
    """Return ``value``, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value
