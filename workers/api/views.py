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

from boards import (
    approaches,
    choice,
    leases,
    lookup,
    needs,
    news,
    openings,
    races,
    workflows,
)
from boards.api import plans
from boards.api.contracts import AttemptOut, CardOut, MessageOut, card_out
from boards.api.views import LIST
from boards.models import Attempt, Card
from boards.planning import proposing
from boards.planning.models import Plan
from checkpoints import briefing, logs, recovery, salvaging, steps
from checkpoints.api import contracts as cp
from checkpoints.models import Step
from events.endpoint import Body, Endpoint, listed, page
from events.receipts import Answer
from goals import discoveries
from goals.api.contracts import (
    DecidedOut,
    DecisionIn,
    DecisionOut,
    DiscoveredOut,
    DiscoveryIn,
    DiscoveryOut,
    goal_out,
)
from kernel.access import Role, hidden
from kernel.errors import DomainError, Forbidden, Invalid, LeaseLost, Malformed
from workers import afar, draining, handing, proposals, registry, saying, striking
from workers.api import contracts as c
from workers.models import Host, Worker

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
        rest = afar.Rest()
        if fields["workflows"]:
            rest = afar.resting(fields["worker"], UUID(self.principal.id))
        lacks = _lacks(fields) | rest.words
        ask = self._ask(fields, boards, wanted, lacks)
        want = openings.Want(
            boards,
            frozenset(fields.get("capabilities") or ()),
            fields.get("goal"),
            fields["workflows"],
            lacks,
        )
        must_ask = wanted is not None or "Idempotency-Key" in request.headers
        # The look takes no lock; the claim behind it decides. A key may have its answer.
        if must_ask or (not rest.whole and openings.would_find(want)):
            leases.expire_lapsed(
                leases.CLAIM_EXPIRES, boards=boards, card_id=wanted.pk if wanted else None
            )
            response = self.answer(ask)
            if response.status_code != 204:
                return response
        if fields["workflows"]:
            # It works here though there is nothing to do: what it can do, others need not.
            self._note(fields)
        response = Response(status=204, headers={"Retry-After": "5"})
        # The handler parks the request, holding no thread, and asks again when there is a card.
        response.ask_again_seconds = fields.get("wait_seconds") or 0
        response.ask_again_when = openings.Want(frozenset()) if rest.whole else want
        return response

    def _ask(
        self,
        fields: dict[str, Any],
        boards: frozenset[UUID] | None,
        wanted: Card | None,
        lacks: frozenset[str],
    ) -> Callable[[], Answer]:
        token_id = UUID(self.principal.id)

        def effect() -> Answer:
            draining.see_whether_to_claim(fields["worker"], token_id)
            turn = afar.begin(fields["worker"], token_id) if fields["workflows"] else afar.Turn()
            if turn.none and wanted is None:
                turn.taken(None)
                return Answer(204, None, keep=False)
            attempt = leases.claim(
                fields["worker"],
                boards=boards,
                token_id=token_id,
                capabilities=fields.get("capabilities") or (),
                goal_id=fields.get("goal"),
                card_id=wanted.pk if wanted else None,
                ours=fields["workflows"],
                lacks=(choice.Lack(lacks | (turn.left - {""})),),
                lease_seconds=fields.get("lease_seconds") or 60,
            )
            turn.taken(attempt)
            if attempt is None:
                return Answer(204, None, keep=False)
            self._note(fields)
            return Answer(201, granted(attempt, fields.get("briefing_tokens") or 4000))

        return effect

    def _note(self, fields: dict[str, Any]) -> None:
        """Note that the worker was here."""
        registry.seen(
            fields["worker"],
            token_id=UUID(self.principal.id),
            capabilities=fields.get("capabilities") or (),
            kind=Worker.Kind.REMOTE if fields["workflows"] else Worker.Kind.AGENT,
        )

    def _boards(self, names: list[str] | None) -> frozenset[UUID] | None:
        """Return the boards to choose from: those named, else all that the token may work on."""
        if names:
            return frozenset(lookup.board(self.principal, n, Role.MEMBER).pk for n in names)
        return self.principal.may_work_on()

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


def _lacks(fields: dict[str, Any]) -> frozenset[str]:
    """Return what the worker can't carry out. Raises Invalid."""
    lacks = needs.checked(fields.get("lacks") or (), "lacks")
    kinds = fields.get("kinds")
    return lacks if kinds is None else lacks | (set(workflows.kinds()) - set(kinds))


def granted(attempt: Attempt, briefing_tokens: int) -> dict[str, Any]:
    """Return all that a worker gets with a card: lease, card, goal, where to resume, briefing."""
    card = Card.objects.select_related("column", "board", "goal").get(pk=attempt.card_id)
    built = briefing.build(card, max_tokens=briefing_tokens)
    attempt.briefing_sha256 = briefing.store(attempt.pk, built)
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
            raise Malformed.field("Lease-Token", "send the header as the claim gave it to you.")
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

    def answer(self, *args: Any, **options: Any) -> Response:
        """Return the answer, with what has changed under the worker where something has."""
        news.forget()
        response = super().answer(*args, **options)
        if isinstance(response.data, dict) and (told := news.told(self.attempt_id)):
            said = response.data.setdefault("notices", [])
            said += [notice for notice in told if notice not in said]
        return response

    def fields(self, contract: type[Body], **options: Any) -> dict[str, Any]:
        """Return the validated body, an agent's without the secrets that it was given."""
        return dict(striking.struck_out(self.principal, super().fields(contract, **options)))

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
            exc = _over(attempt_id)
        return super().handle_exception(exc)

    def outlived(self, attempt_id: UUID) -> bool:
        """True when the attempt is over for good."""
        asked = Attempt.objects.filter(pk=attempt_id)
        return not asked.live().exists() and not asked.unreplaced().exists()

    def require_live(self, attempt_id: UUID) -> None:
        """Refuse a read under a lease that is over. Raises LeaseLost."""
        if self.outlived(attempt_id):
            raise _over(attempt_id)


def _over(attempt_id: UUID) -> LeaseLost:
    return LeaseLost(f"Attempt {attempt_id} is over or was replaced. Stop working on it.")


class AttemptView(AttemptEndpoint):
    """The attempt itself: how it goes about the card."""

    @extend_schema(operation_id="describe_attempt", request=c.DescribeIn, responses=AttemptOut)
    def patch(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.DescribeIn)

        def effect() -> Answer:
            alike = leases.describe(attempt, fields["approach"], fields.get("differs", ""))
            now = Attempt.objects.get(pk=attempt)
            beside = approaches.in_force(attempt, fields["approach"])
            body = {**AttemptOut(now).data, "similar_failed": alike, "in_force": beside}
            return Answer(200, body)

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
            told = beat.directive
            worker = None if self.is_agent else registry.holder(attempt)
            remote = worker is not None and worker.kind == Worker.Kind.REMOTE
            return Answer(
                200,
                {
                    "ttl_seconds": beat.hold.lease_seconds,
                    "expires_at": beat.hold.lease_expires_at,
                    # A program that a worker runs ends its step all the same.
                    "directive": "stop" if worker and worker.draining else told,
                    "messages": MessageOut(beat.messages, many=True).data,
                    "notices": beat.notices,
                    "resting": afar.heard(worker, attempt) if remote else [],
                },
            )

        return self.answer(effect)


class StepsView(AttemptEndpoint):
    """Begin a step, or begin and finish it at once; or see what is on record."""

    @extend_schema(
        operation_id="list_recorded_steps",
        parameters=[*LIST, c.RecordedQuery],
        responses=listed(c.RecordedOut),
    )
    def get(self, request: Request, attempt: UUID) -> Response:
        """Steps of the attempt's line, in order: those that count, or with `tries` all."""
        asked = c.RecordedQuery(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        self.require_live(attempt)
        held = Attempt.objects.only("card_id", "line").get(pk=attempt)
        rows = Step.objects.filter(card_id=held.card_id, line=held.line)
        if not wanted["tries"]:
            rows = Step.objects.on_line(held.card_id, held.line)
        if wanted["key"]:
            rows = rows.filter(key__in=wanted["key"])
        if wanted.get("below"):
            rows = rows.filter(key__startswith=wanted["below"])
        return self.respond(
            page(
                request,
                rows.select_related("attempt"),
                lambda found: c.RecordedOut(found, many=True).data,
                order="number",
            )
        )

    @extend_schema(
        operation_id="begin_step",
        request=cp.StepIn,
        responses={200: c.BegunOut, 201: c.BegunOut},
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.own_fields(self.fields(cp.StepIn))
        fields["key"] = self.own_key(fields["key"])
        if fields.get("status") == steps.Status.SKIPPED:
            told = {name: fields.get(name) or "" for name in ("title", "kind")}
            because = fields.get("error") or ""
            return self.answer(
                lambda: _finished(steps.skip(attempt, fields["key"], because, **told))
            )
        if fields.get("status"):
            fields.pop("continues", None)
            return self.answer(lambda: _finished(steps.record(attempt, **_step(fields))))
        for name in ("result", "error", "usage", "checkpoint", "seconds"):
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
            body = dict(cp.CheckpointOut(saved).data)
            if told := recovery.notices(saved, fields):
                body["notices"] = told
            return Answer(201 if new else 200, body)

        return self.answer(effect)


class LogView(AttemptEndpoint):
    """Append live output."""

    @extend_schema(operation_id="append_log", request=cp.LogIn, responses={201: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(cp.LogIn)

        if fields.get("pieces") is None:
            if not fields.get("stream"):
                raise Invalid.field("stream", "is needed, as is text; or send pieces.")
            fields["pieces"] = [fields]
        pieces = [(p.get("step") or "", p["stream"], p.get("text") or "") for p in fields["pieces"]]

        def effect() -> Answer:
            return Answer(201, {"last": logs.append(attempt, pieces)})

        return self.answer(effect)


class MemoryView(AttemptEndpoint):
    """Keep a decision or a discovery on the card's goal."""

    contract: type[Body] = DecisionIn
    kind = "decisions"

    def remember(self, attempt: UUID) -> Response:
        fields = self.fields(self.contract)

        def effect() -> Answer:
            (kept,) = recovery.record_memory(attempt, **{self.kind: [fields]})
            if self.kind == "discoveries":
                alike = discoveries.resembling(kept)
                return Answer(201, {**DiscoveryOut(kept).data, "alike": alike})
            beside = recovery.in_force_beside(kept)
            return Answer(201, {**DecisionOut(kept).data, "in_force": beside})

        return self.answer(effect)


class DecisionsView(MemoryView):
    """Keep an architectural decision."""

    @extend_schema(operation_id="record_decision", request=DecisionIn, responses={201: DecidedOut})
    def post(self, request: Request, attempt: UUID) -> Response:
        return self.remember(attempt)


class DiscoveriesView(MemoryView):
    """Keep a discovery."""

    contract = DiscoveryIn
    kind = "discoveries"

    @extend_schema(
        operation_id="record_discovery", request=DiscoveryIn, responses={201: DiscoveredOut}
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        return self.remember(attempt)


class FollowUpsView(AttemptEndpoint):
    """Add follow-up work to the same goal."""

    @extend_schema(
        operation_id="propose_card",
        request=c.FollowUpIn,
        responses={201: CardOut, 202: plans.ComparedOut},
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.FollowUpIn)
        board = lookup.attempt(self.principal, attempt).board
        key = fields.pop("step", None)

        def named(name: str, n: int) -> Card:
            return lookup.named(self.principal, board, name, f"depends_on[{n}]")

        def effect() -> Answer:
            if key and not self.is_agent:
                made = proposals.add(attempt, key, named=named, **fields)
            else:
                made = proposing.propose(attempt, named=named, **fields)
            if isinstance(made, Plan):
                return Answer(202, plans.shown(made))
            return Answer(201, card_out(made))

        return self.answer(effect)


class ProposePlanView(AttemptEndpoint):
    """Propose all cards of a plan at once; again, it takes the place of what was proposed."""

    @extend_schema(
        operation_id="propose_plan", request=c.ProposePlanIn, responses={201: plans.ComparedOut}
    )
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.ProposePlanIn)

        def effect() -> Answer:
            plan = proposing.propose_plan(attempt, fields["items"], fields.get("note", ""))
            return Answer(201, plans.shown(plan))

        return self.answer(effect)


class EndView(AttemptEndpoint):
    """Base of the calls that end an attempt; repeating one returns the same end."""

    says = ""  # what an agent says by it that can't end the attempt itself

    def ended(self, fields: dict[str, Any], end: Callable[[], Attempt]) -> Response:
        def effect() -> Answer:
            attempt = saying.keep(self.attempt_id, self.says, fields) if self.is_agent else end()
            news.noticed(True)  # the end has no fence that would say so
            card = Card.objects.get(pk=attempt.card_id)
            return Answer(200, {"attempt": AttemptOut(attempt).data, "card": card_out(card)})

        response = self.answer(effect)
        if not self.is_agent:
            afar.learn(self.attempt_id)
        return response


class CompleteView(EndView):
    """The work is done."""

    says = "complete"

    @extend_schema(operation_id="complete_attempt", request=c.CompleteIn, responses={200: dict})
    def post(self, request: Request, attempt: UUID) -> Response:
        fields = self.fields(c.CompleteIn)
        if (score := fields.pop("score", None)) is not None and not self.is_agent:
            fields["score"] = races.Score(score["value"], score.get("problem") or "")
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
        bundle = fields.pop("bundle", None)

        def prepare() -> None:
            if bundle:
                held = Attempt.objects.select_related("card").get(pk=attempt)
                fields["workspace"] = handing.left(held, bundle, self.principal)
                fields["commit"] = fields["workspace"]["commit"]

        def effect() -> Answer:
            kept = salvaging.salvage(attempt, fields)
            return Answer(201, {"id": kept.pk, "attempt": str(attempt), "summary": kept.summary})

        return self.answer(effect, prepare=prepare)

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
        found = named(self, worker)
        if found is None:
            raise hidden("worker")
        return self.respond(Answer(200, _workers(self, [found])[0]))


class DrainView(Endpoint):
    """Take a worker out of service: it hands over what it holds, and begins nothing."""

    wanted = True

    @extend_schema(operation_id="drain_worker", request=None, responses=c.DrainedOut)
    def post(self, request: Request, worker: str) -> Response:
        """By name or id; a built-in worker with all others of its host, which may be named, too."""
        return self.answer(lambda: Answer(200, self._drained(worker)))

    def _drained(self, name: str) -> dict[str, Any]:
        found = named(self, name)
        if found is not None:
            draining.drain(self.principal, found, self.wanted)
            host = draining.host_of(found)
        elif Host.objects.filter(name=name).exists() and self.principal.visible() is None:
            host = draining.drain_host(self.principal, name, self.wanted).name
        else:
            raise hidden("worker")
        return {
            "worker": found.name if found and host is None else None,
            "host": host,
            "draining": self.wanted,
        }


class UndrainView(DrainView):
    """Let a drained worker take cards again; ends a rest of its host as well."""

    wanted = False

    @extend_schema(operation_id="undrain_worker", request=None, responses=c.DrainedOut)
    def post(self, request: Request, worker: str) -> Response:
        """By name or id; a built-in worker with all others of its host, which may be named, too."""
        return super().post(request, worker)


def named(view: Endpoint, worker: str) -> Worker | None:
    """Return the worker of that id or name, if it is known to the principal."""
    pk = lookup.as_uuid(worker)
    by = Q(pk=pk) if pk else Q(name=worker)
    found: Worker | None = known_to(view).filter(by).order_by("-last_seen_at").first()
    return found


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
    draining.mark(found)
    return [dict(w) for w in c.WorkerOut(found, many=True).data]
