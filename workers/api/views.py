"""The worker side of the API: claim a card, then say under its lease what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import Q
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from boards import cards, leases, lookup, openings
from boards.api.contracts import AttemptOut, CardOut, MessageOut, card_out
from boards.api.views import LIST, resolved
from boards.models import Attempt, Card
from checkpoints import briefing, logs, recovery, salvaging, steps
from checkpoints.api import contracts as cp
from events.endpoint import Body, Endpoint, listed, page
from events.receipts import Answer
from goals.api.contracts import DecisionIn, DecisionOut, DiscoveryIn, DiscoveryOut, goal_out
from kernel.access import Role, hidden
from kernel.errors import DomainError, Forbidden, Invalid, LeaseLost, Malformed
from workers import registry, saying
from workers.api import contracts as c
from workers.models import Worker

RATE_LIMIT_SECONDS = 60

LEASE_TOKEN = OpenApiParameter(
    "Lease-Token",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="From the claim; a superseded attempt gets 409 lease_lost.",
)


class ClaimsView(Endpoint):
    """Take the best claimable card, waiting for one if asked."""

    @extend_schema(
        operation_id="claim_card",
        request=c.ClaimIn,
        responses={201: c.ClaimOut, 204: None},
    )
    def post(self, request: Request) -> Response:
        fields = self.fields(c.ClaimIn)
        if self.principal.kind != "token":
            raise Forbidden("A claim needs a token; create one for the board and send it.")
        boards = self._boards(fields.get("boards"))
        name = fields.get("card")
        wanted = lookup.card(self.principal, name, Role.MEMBER) if name else None
        if fields.get("goal"):
            lookup.goal(self.principal, fields["goal"])
        ask = self._ask(fields, boards, wanted)
        want = openings.Want(
            boards, frozenset(fields.get("capabilities") or ()), fields.get("goal")
        )
        must_ask = wanted is not None or "Idempotency-Key" in request.headers
        # The look takes no lock; the claim behind it decides. A key may have its answer.
        if must_ask or openings.would_find(want):
            leases.expire_lapsed(
                leases.CLAIM_EXPIRES, boards=boards, card_id=wanted.pk if wanted else None
            )
            response = self.answer(ask)
            if response.status_code != 204:
                return response
        response = Response(status=204, headers={"Retry-After": "5"})
        # The handler parks the request, holding no thread, and asks again when there is a card.
        response.ask_again_seconds = fields.get("wait_seconds") or 0
        response.ask_again_when = want
        return response

    def _ask(
        self, fields: dict[str, Any], boards: frozenset[UUID] | None, wanted: Card | None
    ) -> Callable[[], Answer]:
        token_id = UUID(self.principal.id)
        capabilities = fields.get("capabilities") or []

        def effect() -> Answer:
            attempt = leases.claim(
                fields["worker"],
                boards=boards,
                token_id=token_id,
                capabilities=capabilities,
                goal_id=fields.get("goal"),
                card_id=wanted.pk if wanted else None,
                lease_seconds=fields.get("lease_seconds") or 60,
            )
            if attempt is None:
                return Answer(204, None, keep=False)
            registry.seen(fields["worker"], token_id=token_id, capabilities=capabilities)
            return Answer(201, granted(attempt, fields.get("briefing_tokens") or 4000))

        return effect

    def _boards(self, names: list[str] | None) -> frozenset[UUID] | None:
        """Return the boards to choose from: those named, else all that the token may work on."""
        if names:
            return frozenset(lookup.board(self.principal, n, Role.MEMBER).pk for n in names)
        if self.principal.everywhere is not None and self.principal.everywhere >= Role.MEMBER:
            return None
        return frozenset(b for b, role in self.principal.boards.items() if role >= Role.MEMBER)

    def redact(self, body: Any) -> Any:
        kept = super().redact(body)
        if isinstance(kept, dict) and "lease" in kept:
            kept["lease"].pop("token")
        return kept

    def restore(self, answer: Answer) -> Answer:
        body = dict(answer.body)
        attempt = Attempt.objects.only("id", "board").get(pk=body["attempt"]["id"])
        body["lease"] = {"token": leases.token_of(attempt.pk, attempt.board_id), **body["lease"]}
        return Answer(answer.status, body, replayed=True)


def granted(attempt: Attempt, briefing_tokens: int) -> dict[str, Any]:
    """Return all that a worker gets with a card: lease, card, goal, where to resume, briefing."""
    card = Card.objects.select_related("column", "board", "goal").get(pk=attempt.card_id)
    built = briefing.build(card, max_tokens=briefing_tokens)
    briefing.store(attempt.pk, built)
    head = recovery.head(card.pk, card.line)
    return {
        "attempt": AttemptOut(attempt).data,
        "lease": {
            "token": leases.token_of(attempt.pk, attempt.board_id),
            "fence": attempt.number,
            "ttl_seconds": attempt.lease_seconds,
            "expires_at": attempt.lease_expires_at,
        },
        "card": CardOut(card).data,
        "goal": goal_out(card.goal) if card.goal else None,
        "resume": {
            "checkpoint": cp.CheckpointOut(head).data if head else None,
            "steps_done": attempt.steps_recorded,
            "in_doubt": steps.in_doubt(card.pk, card.line, live_attempt=attempt.pk),
        },
        "briefing": {"markdown": built.markdown, "tokens": built.tokens},
    }


class AttemptEndpoint(Endpoint):
    """Base of the calls made under a lease.

    The right to the board is read off the lease token itself; whether the lease still holds
    is decided by the fence inside the transition. A caller whose attempt is over hears
    ``lease_lost`` before anything about its input.
    """

    shared_parameters = (LEASE_TOKEN,)

    for_attempts = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        attempt_id: UUID = kwargs["attempt"]
        if self.is_agent:
            lookup.attempt(self.principal, attempt_id)  # its own, or none
            self.attempt_id = attempt_id
            return
        token = request.headers.get("Lease-Token")
        if not token:
            lookup.attempt(self.principal, attempt_id)
            raise Malformed("Send the Lease-Token header that the claim gave you.")
        try:
            board_id = leases.board_of_token(attempt_id, token)
        except LeaseLost:
            lookup.attempt(self.principal, attempt_id)
            raise
        self.principal.require(board_id, Role.MEMBER, "attempt")
        self.attempt_id = attempt_id

    @property
    def is_agent(self) -> bool:
        """True for an agent that a built-in worker runs: its token is its lease."""
        return self.principal.scope is not None

    def own_key(self, key: str) -> str:
        """Return the step's key as it is kept."""
        return saying.own_key(key) if self.is_agent else key

    def own_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a step, or of its end, with what this caller may say of it."""
        return saying.step_fields(fields) if self.is_agent else fields

    def handle_exception(self, exc: Exception) -> Response:
        attempt_id = getattr(self, "attempt_id", None)
        refused = isinstance(
            exc, exceptions.ValidationError | exceptions.UnsupportedMediaType | DomainError
        )
        if (
            refused
            and attempt_id is not None
            and not isinstance(exc, LeaseLost)
            and self.outlived(attempt_id)
        ):
            exc = LeaseLost(f"Attempt {attempt_id} is over or was replaced. Stop working on it.")
        return super().handle_exception(exc)

    def outlived(self, attempt_id: UUID) -> bool:
        """True when the attempt is over."""
        return not Attempt.objects.live().filter(pk=attempt_id).exists()


class AttemptView(AttemptEndpoint):
    """The attempt itself: how it goes about the card."""

    @extend_schema(operation_id="describe_attempt", request=c.DescribeIn, responses=AttemptOut)
    def patch(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.DescribeIn)

        def effect() -> Answer:
            alike = leases.describe(attempt, fields["approach"], fields.get("differs", ""))
            now = Attempt.objects.get(pk=attempt)
            return Answer(200, {**AttemptOut(now).data, "similar_failed": alike})

        return self.answer(effect)


class HeartbeatView(AttemptEndpoint):
    """Renew the lease; hear what changed."""

    @extend_schema(operation_id="heartbeat", request=c.HeartbeatIn, responses=c.HeartbeatOut)
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.HeartbeatIn)

        def effect() -> Answer:
            beat = leases.heartbeat(
                attempt,
                note=fields.get("note"),
                percent=fields.get("percent"),
                seen_message=fields.get("seen_message"),
            )
            return Answer(
                200,
                {
                    "ttl_seconds": beat.hold.lease_seconds,
                    "expires_at": beat.hold.lease_expires_at,
                    "directive": beat.directive,
                    "messages": MessageOut(beat.messages, many=True).data,
                    "notices": beat.notices,
                },
            )

        return self.answer(effect)


class StepsView(AttemptEndpoint):
    """Begin a step, or begin and finish it at once."""

    @extend_schema(
        operation_id="begin_step",
        request=cp.StepIn,
        responses={200: c.BegunOut, 201: c.BegunOut},
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.own_fields(self.fields(cp.StepIn))
        fields["key"] = self.own_key(fields["key"])
        if fields.get("status"):
            return self.answer(lambda: _finished(steps.record(attempt, **_step(fields))))
        for name in ("result", "error", "usage", "checkpoint"):
            if fields.pop(name, None):
                raise Invalid.field(name, "goes with a status; finish the step to record it.")
        fields.pop("status", None)

        def effect() -> Answer:
            begun = steps.begin(attempt, **fields)
            body = {**cp.StepOut(begun.step).data, "ttl_seconds": begun.lease_seconds}
            if begun.replay:
                return Answer(200, {**body, "replay": True})
            return Answer(201, body)

        return self.answer(effect)


class FinishView(AttemptEndpoint):
    """Record how a step ended."""

    @extend_schema(operation_id="finish_step", request=cp.FinishIn, responses=cp.StepOut)
    def post(self, request: Request, attempt: UUID, key: str) -> Response:
        fields = self.own_fields(self.fields(cp.FinishIn))
        return self.answer(
            lambda: _finished(
                steps.finish(attempt, self.own_key(key), **_step(fields)), created=200
            )
        )


def _step(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if v is not None or k in ("result", "input")}


def _finished(done: steps.Finished, created: int = 201) -> Answer:
    body = {**cp.StepOut(done.step).data, "ttl_seconds": done.lease_seconds}
    if done.checkpoint is not None:
        body["checkpoint"] = cp.CheckpointOut(done.checkpoint).data
    if done.replay:
        return Answer(200, {**body, "replay": True})
    return Answer(created, body)


class CheckpointsView(AttemptEndpoint):
    """Save a recovery point."""

    @extend_schema(
        operation_id="save_checkpoint",
        request=cp.CheckpointIn,
        responses={201: cp.CheckpointOut, 200: cp.CheckpointOut},
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(cp.CheckpointIn)
        if self.is_agent:
            fields = saying.checkpoint_fields(fields)

        def effect() -> Answer:
            saved, new = recovery.save(attempt, fields)
            return Answer(201 if new else 200, cp.CheckpointOut(saved).data)

        return self.answer(effect)


class LogView(AttemptEndpoint):
    """Append live output."""

    @extend_schema(operation_id="append_log", request=cp.LogIn, responses={201: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(cp.LogIn)

        def effect() -> Answer:
            piece = (fields.get("step") or "", fields["stream"], fields["text"])
            return Answer(201, {"last": logs.append(attempt, [piece])})

        return self.answer(effect)


class MemoryView(AttemptEndpoint):
    """Keep a decision or a discovery on the card's goal."""

    contract: type[Body] = DecisionIn
    kind = "decisions"

    def remember(self, attempt: UUID) -> Response:
        fields = self.fields(self.contract)

        def effect() -> Answer:
            (kept,) = recovery.record_memory(attempt, **{self.kind: [fields]})
            out = DecisionOut if self.kind == "decisions" else DiscoveryOut
            return Answer(201, out(kept).data)

        return self.answer(effect)


class DecisionsView(MemoryView):
    """Keep an architectural decision."""

    @extend_schema(operation_id="record_decision", request=DecisionIn, responses={201: DecisionOut})
    def post(self, request: Request, attempt: UUID) -> Response:
        return self.remember(attempt)


class DiscoveriesView(MemoryView):
    """Keep a discovery."""

    contract = DiscoveryIn
    kind = "discoveries"

    @extend_schema(
        operation_id="record_discovery", request=DiscoveryIn, responses={201: DiscoveryOut}
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        return self.remember(attempt)


class FollowUpsView(AttemptEndpoint):
    """Add follow-up work to the same goal."""

    @extend_schema(operation_id="propose_card", request=c.FollowUpIn, responses={201: CardOut})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.FollowUpIn)
        board = lookup.attempt(self.principal, attempt).board
        wanted = resolved(self, board, fields)

        def effect() -> Answer:
            return Answer(201, card_out(cards.follow_up(attempt, **wanted)))

        return self.answer(effect)


class EndView(AttemptEndpoint):
    """Base of the calls that end an attempt; repeating one returns the same end."""

    says = ""  # what an agent says by it that can't end the attempt itself

    def ended(self, fields: dict[str, Any], end: Callable[[], Attempt]) -> Response:
        def effect() -> Answer:
            attempt = saying.keep(self.attempt_id, self.says, fields) if self.is_agent else end()
            card = Card.objects.get(pk=attempt.card_id)
            return Answer(200, {"attempt": AttemptOut(attempt).data, "card": card_out(card)})

        return self.answer(effect)


class CompleteView(EndView):
    """The work is done."""

    says = "complete"

    @extend_schema(operation_id="complete_attempt", request=c.CompleteIn, responses={200: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.CompleteIn)
        return self.ended(fields, lambda: leases.complete(attempt, **fields))


class FailView(EndView):
    """The attempt failed."""

    says = "fail"

    @extend_schema(operation_id="fail_attempt", request=c.FailIn, responses={200: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.FailIn)
        return self.ended(fields, lambda: leases.fail(attempt, **fields))


class BlockView(EndView):
    """A person is needed."""

    says = "block"

    @extend_schema(operation_id="block_attempt", request=c.BlockIn, responses={200: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.BlockIn)
        return self.ended(fields, lambda: leases.block(attempt, **fields))


class ReleaseView(EndView):
    """Hand the card over cleanly."""

    says = "release"

    @extend_schema(operation_id="release_attempt", request=c.ReleaseIn, responses={200: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.ReleaseIn)
        wait = fields.get("retry_after_seconds")
        if wait is None:
            wait = RATE_LIMIT_SECONDS if fields.get("reason") == "rate_limited" else 0
        return self.ended(
            fields,
            lambda: leases.release(
                attempt,
                fields["summary"],
                fields.get("next_step", ""),
                reason=fields.get("reason", ""),
                retry_after_seconds=wait,
            ),
        )


class SalvageView(AttemptEndpoint):
    """The one call that a superseded attempt may still make."""

    for_attempts = False  # what a built-in worker leaves is kept by itself

    @extend_schema(operation_id="salvage_attempt", request=cp.SalvageIn, responses={201: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(cp.SalvageIn)

        def effect() -> Answer:
            kept = salvaging.salvage(attempt, fields)
            return Answer(201, {"id": kept.pk, "attempt": str(attempt), "summary": kept.summary})

        return self.answer(effect)

    def outlived(self, attempt_id: UUID) -> bool:
        return False


class WorkersView(Endpoint):
    """Who is there, newest first."""

    @extend_schema(operation_id="list_workers", parameters=LIST, responses=listed(c.WorkerOut))
    def get(self, request: Request) -> Response:
        return self.respond(
            page(request, known_to(self), lambda rows: _workers(self, rows), order="-id")
        )


class WorkerView(Endpoint):
    """One worker, by id or name."""

    @extend_schema(operation_id="get_worker", responses=c.WorkerOut)
    def get(self, request: Request, worker: str) -> Response:
        pk = lookup.as_uuid(worker)
        by = Q(pk=pk) if pk else Q(name=worker)
        found = known_to(self).filter(by).order_by("-last_seen_at").first()
        if found is None:
            raise hidden("worker")
        return self.respond(Answer(200, _workers(self, [found])[0]))


def known_to(view: Endpoint) -> Any:
    """Return the workers that share a board with the principal: its own, built-in, and those
    that have held a card on a board it sees."""
    boards = view.principal.visible()
    workers = Worker.objects.all()
    if boards is None:
        return workers
    tokens = Attempt.objects.filter(board_id__in=boards).values("token_id")
    return workers.filter(Q(token=None) | Q(token_id__in=tokens) | Q(token_id=_own(view)))


def _own(view: Endpoint) -> UUID | None:
    return UUID(view.principal.id) if view.principal.kind == "token" else None


def _workers(view: Endpoint, found: list[Worker]) -> list[dict[str, Any]]:
    live = Attempt.objects.live().filter(worker__in=[w.name for w in found])
    boards = view.principal.visible()
    if boards is not None:
        live = live.filter(board_id__in=boards)
    holding: dict[tuple[Any, str], list[Attempt]] = {}
    for attempt in live:
        holding.setdefault((attempt.token_id, attempt.worker), []).append(attempt)
    for worker in found:
        worker.holding = holding.get((worker.token_id, worker.name), [])  # type: ignore[attr-defined]
    return [dict(w) for w in c.WorkerOut(found, many=True).data]
