"""An attempt: one try at a card, under a lease that a thread keeps while the ``with`` lasts.

    with client.claim(worker="ada") as attempt:
        ... ── complete, fail, block, release ──> over
        leaving without any of them ──> released, to be claimed again half a minute later
        an exception ──> failed, with what went wrong; retried as the card's policy says
        interrupted, paused, asked to stop ──> released, claimable at once
        a budget is used up ──> released, claimable once somebody has raised it
        LeaseLost ──> nothing more is said to the server

``LeaseLost`` is raised by the first call after the lease is known to be gone, whoever noticed,
and by leaving the block if no call came in between. Attempts from ``client.work`` keep it,
``Handover`` and what was reported by ``fail`` to themselves, so that the loop goes on.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Token
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from holdfast import protocol, steps
from holdfast.errors import Error, Handover, LeaseLost, Refused, Unreachable
from holdfast.heartbeat import Heartbeat
from holdfast.protocol import JSON, Talk, logger
from holdfast.steps import AsyncStep, Step
from holdfast.texts import described, given, sayable

if TYPE_CHECKING:
    from holdfast.client import AsyncClient, Caller, Client

P = ParamSpec("P")
R = TypeVar("R")
Given = TypeVar("Given")
Items = Sequence[Mapping[str, Any]]

FORGOTTEN_SECONDS = 30
LEAVING_PATIENCE_SECONDS = 3.0


class Held(ABC, Generic[Given]):
    """What both kinds of attempt know and can say.

    ``card``, ``goal``, ``resume`` and ``briefing`` are as they were at the claim. ``directive``,
    ``messages`` are what heartbeats have brought since, and ``notices`` (such as that the goal
    was amended) what any call has.
    """

    def __init__(
        self,
        client: Caller[Any],
        granted: Mapping[str, Any],
        stop: threading.Event | None = None,
    ) -> None:
        self.client = client
        self.id: str = granted["attempt"]["id"]
        self.number: int = granted["attempt"]["number"]
        self.card: JSON = granted["card"]
        self.goal: JSON | None = granted["goal"]
        self.resume: JSON = granted["resume"]
        self.briefing: str = granted["briefing"]["markdown"]
        self.ttl_seconds: float = granted["lease"]["ttl_seconds"]
        self.lease_token: str = granted["lease"]["token"]
        self.directive = "continue"
        self.notices: list[JSON] = []
        #: How it ended: complete, fail, block or release; None as long as it has not.
        self.ended: str | None = None
        self._messages: dict[int, JSON] = {}
        self._lost: LeaseLost | None = None
        self._lost_raised = False
        self._stop = stop
        self._pid = os.getpid()
        self._heartbeat: Heartbeat | None = None
        self._outer: Token[Any] | None = None

    def __str__(self) -> str:
        return f"attempt {self.number} at {self.card['key']}"

    @property
    def in_doubt(self) -> list[str]:
        """The steps that an earlier attempt began and never said how they ended."""
        return list(self.resume["in_doubt"])

    @property
    def state(self) -> Any:
        """The ``state`` of the checkpoint that this attempt resumes at, if there is one."""
        return (self.resume["checkpoint"] or {}).get("state")

    @property
    def messages(self) -> list[JSON]:
        """What people have said since the claim, in order."""
        return [self._messages[number] for number in sorted(self._messages)]

    @property
    def lost(self) -> bool:
        """True once the lease is known to be gone."""
        return self._lost is not None and self.ended is None

    @property
    def should_stop(self) -> bool:
        """True once a person paused the card, or the worker was asked to end.

        The next step raises Handover then; ask this inside of long ones.
        """
        return self.directive in ("pause", "stop") or bool(self._stop and self._stop.is_set())

    # What is said under the lease. Every one raises LeaseLost when it is gone.

    @abstractmethod
    def _say(self, talk: Talk[JSON]) -> Given:
        """Carry out a conversation; give what it returns."""

    def _post(self, path: str, **fields: Any) -> Given:
        return self._say(self.under_lease("POST", path, given(**fields)))

    def _end(self, name: str, **fields: Any) -> Given:
        return self._say(self.under_lease("POST", f"/{name}", given(**fields), ends=name))

    def heartbeat(self, note: str | None = None, percent: int | None = None) -> Given:
        """Renew the lease now, saying how far the work is."""
        return self._say(self._told_beat(note, percent))

    def approach(self, approach: str, differs: str | None = None) -> Given:
        """Say how this attempt goes about it; ``similar_failed`` of the answer warns."""
        return self._say(self.under_lease("PATCH", "", given(approach=approach, differs=differs)))

    def checkpoint(
        self,
        summary: str,
        *,
        next_step: str | None = None,
        state: Any = None,
        tests: Mapping[str, Any] | None = None,
        workspace: Mapping[str, Any] | None = None,
        artifacts: Items | None = None,
        decisions: Items | None = None,
        discoveries: Items | None = None,
        key: str | None = None,
    ) -> Given:
        """Save a point to go on from; the same ``key`` again saves nothing more."""
        return self._post(
            "/checkpoints",
            summary=summary,
            next_step=next_step,
            state=state,
            tests=tests,
            workspace=workspace,
            artifacts=artifacts,
            decisions=decisions,
            discoveries=discoveries,
            key=key,
        )

    def log(self, text: str, *, stream: str = "log", step: str | None = None) -> Given:
        """Append to the live output; ``stream`` is stdout, stderr or log."""
        return self._post("/log", text=sayable(text), stream=stream, step=step)

    def decision(
        self,
        title: str,
        rationale: str,
        *,
        alternatives: Any = None,
        supersedes: str | None = None,
        **more: Any,
    ) -> Given:
        """Keep an architectural decision on the goal; ``more`` are ``context``, ``consequences``,
        ``files`` and ``differs``. ``in_force`` of the answer has those that it resembles."""
        return self._post(
            "/decisions",
            title=title,
            rationale=rationale,
            alternatives=alternatives,
            supersedes=supersedes,
            **more,
        )

    def discovery(
        self,
        kind: str,
        title: str,
        *,
        detail: str | None = None,
        severity: str | None = None,
        **more: Any,
    ) -> Given:
        """Keep what was found out: a failing_test, architecture_issue, new_requirement,
        dead_end or fact. ``more`` are ``rests_on`` and ``environment``."""
        said = {"kind": kind, "title": title, "detail": detail, "severity": severity}
        return self._post("/discoveries", **said, **more)

    def propose(self, title: str, **fields: Any) -> Given:
        """Add a card for follow-up work to the same goal."""
        return self._post("/cards", title=title, **fields)

    def plan(self, items: Items, *, note: str | None = None) -> Given:
        """Propose the cards of a whole plan, for a person to review; again replaces it."""
        return self._post("/plan", items=list(items), note=note)

    def complete(self, summary: str, *, result: Any = None, evidence: Items | None = None) -> Given:
        """End the attempt: the work is done."""
        return self._end("complete", summary=summary, result=result, evidence=evidence)

    def fail(
        self,
        error: str,
        *,
        lesson: str | None = None,
        retryable: bool = True,
        fault: str | None = None,
    ) -> Given:
        """End the attempt: it failed, and this is why.

        ``fault`` is ``transient``, ``rate_limited``, ``infrastructure``, ``agent_error`` or
        ``red_checks``: it decides how long the card waits, and whether the failure counts.
        """
        return self._end(
            "fail", error=sayable(error), lesson=lesson, retryable=retryable, fault=fault
        )

    def block(
        self,
        reason: str,
        *,
        question: str | None = None,
        options: Sequence[str] | None = None,
        question_kind: str | None = None,
        detail: str | None = None,
        default: str | None = None,
        timeout_seconds: int | None = None,
        on_timeout: str | None = None,
    ) -> Given:
        """End the attempt: a person is needed.

        ``question_kind`` is text, choice, approve (of what stands in ``detail``), number, date,
        or secret: the one in ``options`` is the name under which commands get what is given.
        When nobody answers within ``timeout_seconds``, the ``default`` is the answer, or as
        ``on_timeout`` says.
        """
        return self._end(
            "block",
            reason=reason,
            question=question,
            options=options,
            question_kind=question_kind,
            detail=detail,
            default=default,
            timeout_seconds=timeout_seconds,
            on_timeout=on_timeout,
        )

    def release(
        self,
        summary: str,
        *,
        next_step: str | None = None,
        reason: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> Given:
        """End the attempt: hand the card over as it is."""
        return self._end(
            "release",
            summary=summary,
            next_step=next_step,
            reason=reason,
            retry_after_seconds=retry_after_seconds,
        )

    def salvage(
        self,
        summary: str,
        *,
        workspace: Mapping[str, Any] | None = None,
        artifacts: Items | None = None,
    ) -> Given:
        """Keep what is at hand beside the attempt: the one call still taken after LeaseLost."""
        body = given(summary=summary, workspace=workspace, artifacts=artifacts)
        return self._say(protocol.fetch(self._call("POST", "/salvage", body), self.client.patience))

    # The conversations behind it.

    def _call(
        self, method: str, path: str, body: Any, *, repeatable: bool = False
    ) -> protocol.Call:
        return protocol.call(
            method,
            f"/attempts/{self.id}{path}",
            body,
            headers={"Lease-Token": self.lease_token},
            repeatable=repeatable,
        )

    def under_lease(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        ends: str | None = None,
        patience: float | None = None,
    ) -> Talk[JSON]:
        """Say something that only the holder may say. Raises LeaseLost, at once if it is known."""
        self._check()
        # A PATCH says how the work is gone about; saying it twice says it once.
        call = self._call(method, path, body, repeatable=method == "PATCH")
        try:
            answer: JSON = yield from protocol.fetch(
                call, self.client.patience if patience is None else patience
            )
        except LeaseLost as lost:
            self._lost, self._lost_raised = lost, True
            raise
        self.ended = ends
        if isinstance(answer, dict) and answer.get("notices"):
            self.notices = answer["notices"]
        return answer

    def _check(self) -> None:
        """Raise what is known already: the attempt is over, or its lease is lost."""
        if self.ended:
            raise Error(f"This attempt ended with {self.ended}. Claim a card to go on.")
        if self._lost:
            self._lost_raised = True
            raise LeaseLost(self._lost.detail, status=409, problem=self._lost.problem)

    def _told_beat(self, note: str | None, percent: int | None) -> Talk[JSON]:
        self._check()
        try:
            return (yield from self.beat(self.client.patience, note, percent))
        except LeaseLost:
            self._lost_raised = True
            raise

    def beat(
        self, patience: float, note: str | None = None, percent: int | None = None
    ) -> Talk[JSON]:
        """Renew the lease and take in what the server has to say. Raises LeaseLost."""
        seen = max(self._messages, default=None)
        body = given(note=note, percent=percent, seen_message=seen)
        # Repeatable by nature, so without a key: the server would keep its answer for a day.
        call = self._call("POST", "/heartbeat", body, repeatable=True)
        try:
            answer: JSON = yield from protocol.fetch(call, patience)
        except LeaseLost as lost:
            self._lost = lost
            raise
        self.ttl_seconds = answer["ttl_seconds"]
        self.directive = answer["directive"]
        self.notices = answer["notices"]
        self._messages.update((message["id"], message) for message in answer["messages"])
        return answer

    def heed(self, key: str) -> None:
        """Raise Handover when the worker was asked to pause or stop; step ``key`` waits."""
        if self.ended or self._lost or not self.should_stop:
            return
        if self._stop and self._stop.is_set():
            raise Handover("signal", f"The worker was asked to end before step {key}.")
        raise Handover(self.directive, f"A person asked to {self.directive} before step {key}.")

    # Entering and leaving.

    def _enter(self) -> None:
        self._outer = steps.current.set(self)  # type: ignore[arg-type]
        self._heartbeat = Heartbeat(self)
        self._heartbeat.start()

    def _left(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._outer is not None:
            steps.current.reset(self._outer)

    def _leave(self, error: BaseException | None) -> Talk[bool]:
        """Say how the attempt ended if nobody has; return whether ``error`` is settled by it."""
        in_loop = self._stop is not None
        if self.ended is None and self._lost is None:
            try:
                yield from self._last_words(error)
            except LeaseLost:
                self._lost_raised = False  # the block has not heard of it
            except Error as unsaid:
                if error is None:
                    raise
                error.add_note(f"{self} could not be ended: {unsaid} Its lease will run out.")
                return False
        if self.lost and error is None and not (in_loop or self._lost_raised):
            self._check()
        settled = in_loop and isinstance(error, Exception | None)
        if not settled or isinstance(error, Unreachable):
            return False
        if self.lost:
            cause = None if isinstance(error, LeaseLost) else error
            logger.warning("%s: %s", self, self._lost, exc_info=cause)
        elif error is not None and not isinstance(error, Handover):
            logger.error("%s failed", self, exc_info=error)
        return True

    def _last_words(self, error: BaseException | None) -> Talk[None]:
        patience = None
        if error is None:
            logger.warning("%s was left without complete, fail, block or release", self)
            body = {
                "summary": "The worker left without saying how the work ended.",
                # Claimed again at once, it might be left again at once, without end.
                "retry_after_seconds": FORGOTTEN_SECONDS,
            }
        elif isinstance(error, Unreachable):
            return
        elif isinstance(error, Handover):
            body = {"summary": str(error), "reason": error.reason}
        elif isinstance(error, Refused) and error.code == "budget_exceeded":
            # No failure: the card waits until somebody raises the budget.
            body = {"summary": error.detail, "reason": "budget"}
        elif not isinstance(error, Exception):
            body = {"summary": f"The worker was interrupted ({type(error).__name__})."}
            patience = LEAVING_PATIENCE_SECONDS
        else:
            yield from self.under_lease("POST", "/fail", {"error": described(error)}, ends="fail")
            return
        yield from self.under_lease("POST", "/release", body, ends="release", patience=patience)


class Attempt(Held[JSON]):
    """An attempt whose calls return what the server answers."""

    client: Client

    def _say(self, talk: Talk[JSON]) -> JSON:
        return self.client._run(talk)

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if os.getpid() != self._pid:
            return False  # a forked child: the attempt is its parent's to end
        try:
            return self.client._run(self._leave(error))
        finally:
            self._left()

    @overload
    def step(self, key: str, /, **options: Any) -> Step: ...

    @overload
    def step(self, key: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def step(self, fn: Callable[P, R], /) -> Callable[P, R]: ...

    def step(self, key: Any, fn: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        """Return the step ``key``; or with ``fn`` its result, recorded, without running ``fn``
        if it was before. On a function, make it a step, see ``holdfast.step``."""
        if callable(key):
            return steps.remembered(key, lambda: self, {})
        if fn is None:
            return Step(self, key, **kwargs)
        return self.remember(key, lambda: fn(*args, **kwargs))

    def remember(self, key: str, fn: Callable[[], R], **options: Any) -> R:
        """Return the recorded result of step ``key``, calling ``fn`` only if there is none."""
        with Step(self, key, **options) as step:
            if not step.replayed:
                step.result = fn()
        result: R = step.result
        return result


class AsyncAttempt(Held[Coroutine[Any, Any, JSON]]):
    """An attempt whose calls are awaited. Its heartbeat is a thread too, so that code which
    blocks the event loop does not lose the lease."""

    client: AsyncClient

    async def _say(self, talk: Talk[JSON]) -> JSON:
        return await self.client._run(talk)

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if os.getpid() != self._pid:
            return False
        try:
            return await self.client._run(self._leave(error))
        finally:
            self._left()

    @overload
    def step(self, key: str, /, **options: Any) -> AsyncStep: ...

    @overload
    def step(
        self,
        key: str,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self, key: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...

    def step(self, key: Any, fn: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        """Return the step ``key``; or with ``fn`` its result, to be awaited. See ``Attempt``."""
        if callable(key):
            return steps.remembered(key, lambda: self, {})
        if fn is None:
            return AsyncStep(self, key, **kwargs)
        return self.remember(key, lambda: fn(*args, **kwargs))

    async def remember(self, key: str, fn: Callable[[], Any], **options: Any) -> Any:
        """Return the recorded result of step ``key``, calling ``fn`` only if there is none."""
        async with AsyncStep(self, key, **options) as step:
            if not step.replayed:
                step.result = await steps.awaited(fn())
        return step.result
