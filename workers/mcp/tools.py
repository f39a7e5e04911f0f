"""The tools. Each takes a contract's fields and calls the transition that REST calls.

The lease is kept for the agent: a tool names the attempt, and the attempt must have been
claimed with the token that the request carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from rest_framework import serializers

from boards import cards, leases, lookup
from boards.api.contracts import MessageOut, with_latest
from boards.models import Attempt, Card, Message
from checkpoints import briefing, recovery, steps
from checkpoints.api.contracts import MAX_TEXT, CheckpointIn, Key, UsageIn
from checkpoints.models import Checkpoint, Step
from events import receipts
from events.endpoint import Body, JSONValue, Line, Text
from events.receipts import Answer
from goals.api.contracts import DecisionIn, DiscoveryIn
from goals.models import Decision, Discovery
from kernel.access import Principal, Role
from kernel.digests import canonical, sha256
from kernel.errors import Forbidden, Invalid, LeaseLost
from kernel.tx import retrying
from workers import registry, saying
from workers.api import contracts as c
from workers.api.views import RATE_LIMIT_SECONDS, granted

Handler = Callable[[Principal, dict[str, Any]], dict[str, Any]]

MAX_LISTED = 50
SNIPPET_CHARS = 300
#: So much of a recorded result comes back when its step is replayed.
REPLAY_CHARS = 20_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as clients list it, and what it does."""

    name: str
    description: str
    contract: type[Body]
    call: Handler
    read_only: bool
    idempotent: bool
    for_attempts: bool  # also for an agent that a built-in worker runs for its attempt


TOOLS: dict[str, Tool] = {}


def tool(
    contract: type[Body],
    *,
    read_only: bool = False,
    idempotent: bool = False,
    for_attempts: bool = True,
) -> Callable[[Handler], Handler]:
    """Register the function as the tool of its name; its docstring is what the model reads."""

    def register(call: Handler) -> Handler:
        text = " ".join((call.__doc__ or "").split())
        TOOLS[call.__name__] = Tool(
            call.__name__, text, contract, call, read_only, idempotent, for_attempts
        )
        return call

    return register


# ── contracts ────────────────────────────────────────────────────────────────────────────


class OfAttempt(Body):
    attempt_id = serializers.UUIDField(help_text="From claim_card.")


class ClaimArgs(Body):
    worker = Line(100, required=True, help_text="A name for yourself, the same every time.")
    card = Line(64, help_text="A card's key, to claim that one; else the best claimable card.")
    boards = c.ClaimIn().fields["boards"]
    capabilities = c.ClaimIn().fields["capabilities"]
    lease_seconds = serializers.IntegerField(
        min_value=leases.MIN_LEASE_SECONDS,
        max_value=leases.MAX_LEASE_SECONDS,
        required=False,
        help_text="How long you may be silent before another worker takes over; 900 unless told.",
    )
    briefing_tokens = serializers.IntegerField(min_value=200, max_value=50_000, required=False)
    idempotency_key = Line(255, help_text="Repeat a claim whose answer was lost with the same key.")


class BriefingArgs(Body):
    card = Line(64, required=True, help_text="The card's key, such as PAY-118, or its id.")
    max_tokens = serializers.IntegerField(min_value=200, max_value=50_000, required=False)


class HeartbeatArgs(OfAttempt, c.HeartbeatIn):
    pass


class BeginArgs(OfAttempt):
    key = Key(help_text="Names the step for good; the same key gives the same step.")
    title = Line(300)
    kind = Line(40)
    input = JSONValue()


class FinishArgs(OfAttempt):
    key = Key()
    status = serializers.ChoiceField(["succeeded", "failed"])
    result = JSONValue(256 * 1024)
    error = Text(MAX_TEXT)
    usage = UsageIn(required=False, allow_null=True)
    checkpoint = CheckpointIn(required=False, allow_null=True)


class CheckpointArgs(OfAttempt, CheckpointIn):
    pass


class DecisionArgs(OfAttempt, DecisionIn):
    pass


class DiscoveryArgs(OfAttempt, DiscoveryIn):
    pass


class ProposeArgs(OfAttempt, c.FollowUpIn):
    pass


class CompleteArgs(OfAttempt, c.CompleteIn):
    pass


class FailArgs(OfAttempt, c.FailIn):
    pass


class BlockArgs(OfAttempt, c.BlockIn):
    pass


class ReleaseArgs(OfAttempt, c.ReleaseIn):
    pass


class SearchArgs(Body):
    card = Line(64, required=True, help_text="The card's key or id.")
    what = serializers.ChoiceField(
        ["steps", "checkpoints", "attempts", "messages", "decisions", "discoveries"]
    )
    query = Line(200, help_text="Words to look for; everything unless given.")
    before = serializers.IntegerField(
        min_value=1, max_value=2**63 - 1, required=False, help_text="From `next` of the last call."
    )
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LISTED, required=False)


class ListArgs(Body):
    board = Line(64)
    state = serializers.ChoiceField(Card.State.choices, required=False)
    query = Line(200)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LISTED, required=False)
    skip = serializers.IntegerField(
        min_value=0, max_value=100_000, required=False, help_text="How many were listed before."
    )


# ── tools ────────────────────────────────────────────────────────────────────────────────


@tool(ClaimArgs, for_attempts=False)
def claim_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Take a card to work on. Returns attempt_id, which every other tool wants, and the
    briefing: read it first. Steps it lists as done must not be done again. `claimed` is false
    when there is nothing to do. Then: begin_step before and finish_step after each piece of
    work, save_checkpoint whenever somebody else could go on, heartbeat within lease_seconds,
    and at the end complete_card; release_card before your context runs out."""
    boards = _workable(principal, args.get("boards"))
    wanted = lookup.card(principal, args["card"], Role.MEMBER) if args.get("card") else None
    token_id = UUID(principal.id)
    capabilities = args.get("capabilities") or []
    key = args.pop("idempotency_key", "")

    def effect() -> Answer:
        attempt = leases.claim(
            args["worker"],
            boards=boards,
            token_id=token_id,
            capabilities=capabilities,
            card_id=wanted.pk if wanted else None,
            lease_seconds=args.get("lease_seconds") or 900,
        )
        if attempt is None:
            return Answer(200, {"claimed": False, "retry_after_seconds": 15}, keep=False)
        registry.seen(args["worker"], token_id=token_id, capabilities=capabilities)
        grant = granted(attempt, args.get("briefing_tokens") or 4000)
        body = {
            "claimed": True,
            "attempt_id": str(attempt.pk),
            "number": attempt.number,
            "card": grant["card"]["key"],
            "title": grant["card"]["title"],
            "lease_seconds": attempt.lease_seconds,
            "steps_done": grant["resume"]["steps_done"],
            "in_doubt": grant["resume"]["in_doubt"],
            "briefing": grant["briefing"]["markdown"],
        }
        return Answer(201, body)

    if not key:
        return dict(retrying(effect).body)
    fingerprint = sha256(b"mcp claim_card", canonical(args))
    key = receipts.check_key(key)
    leases.expire_lapsed(leases.CLAIM_EXPIRES, boards=boards, card_id=wanted.pk if wanted else None)
    return dict(retrying(lambda: receipts.once(principal.key, key, fingerprint, effect)).body)


@tool(BriefingArgs, read_only=True, idempotent=True)
def get_briefing(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Read what the next worker on a card is told: goal, where it stands, decisions, what
    failed, what comes next."""
    card = lookup.card(principal, args["card"])
    built = briefing.build(card, max_tokens=args.get("max_tokens") or 4000)
    return {"card": card.key, "briefing": built.markdown, "omitted": list(built.omitted)}


@tool(HeartbeatArgs, idempotent=True)
def heartbeat(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Say that you are alive during long work; any other tool call does so too. Obey
    `directive`: continue, checkpoint_now, pause (checkpoint, then release_card) or stop."""
    beat = leases.heartbeat(_mine(principal, args), **args)
    return {
        "directive": beat.directive,
        "lease_seconds": beat.hold.lease_seconds,
        "messages": MessageOut(beat.messages, many=True).data,
        "notices": beat.notices,
    }


@tool(BeginArgs, idempotent=True)
def begin_step(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Begin a step before doing it. If `replay` is true it was done before: use its result, do
    not do it again. If `in_doubt` is true an earlier worker died in it: look at what it left
    before you redo it."""
    attempt_id, key = _mine(principal, args), args.pop("key")
    begun = steps.begin(attempt_id, _kept_key(principal, key), **args)
    step = begun.step
    out: dict[str, Any] = {"key": key, "status": step.status, "replay": begun.replay}
    if begun.replay:
        out |= {"result": _snippet(step.result, REPLAY_CHARS), "error": step.error}
        if out["result"] != step.result:
            card = Card.objects.values_list("key", flat=True).get(pk=step.card_id)
            out["cut"] = f"The result is long; GET /api/v1/cards/{card}/steps has all of it."
    if step.in_doubt:
        out["in_doubt"] = True
    return out


@tool(FinishArgs, idempotent=True)
def finish_step(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Record how a step ended, with a checkpoint if the card could go on from here."""
    attempt_id, key = _mine(principal, args), args.pop("key")
    if principal.scope is not None:
        args = saying.step_fields(args)
    done = steps.finish(attempt_id, _kept_key(principal, key), args.pop("status"), **args)
    out: dict[str, Any] = {"key": key, "status": done.step.status}
    if done.checkpoint is not None:
        out["checkpoint"] = done.checkpoint.number
    return out


@tool(CheckpointArgs)
def save_checkpoint(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Save a point to go on from: what is done (summary), what comes next (next_step), and the
    state somebody without your memory would need."""
    attempt_id = _mine(principal, args)
    if principal.scope is not None:
        args = saying.checkpoint_fields(args)
    saved, new = recovery.save(attempt_id, args)
    return {"checkpoint": saved.number, "new": new}


@tool(DecisionArgs)
def record_decision(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Record a decision that later work must respect, with the reason and the alternatives."""
    (kept,) = recovery.record_memory(_mine(principal, args), decisions=[args])
    return {"decision": str(kept.pk)}


@tool(DiscoveryArgs)
def record_discovery(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Record something learnt that the next worker must know; dead_end for what failed."""
    (kept,) = recovery.record_memory(_mine(principal, args), discoveries=[args])
    return {"discovery": str(kept.pk)}


@tool(ProposeArgs)
def propose_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Add follow-up work to the same goal as a new card in the backlog."""
    attempt_id = _mine(principal, args)
    board = Attempt.objects.select_related("board").get(pk=attempt_id).board
    if "depends_on" in args:
        args["depends_on"] = [
            lookup.named(principal, board, name, f"depends_on[{n}]")
            for n, name in enumerate(args["depends_on"])
        ]
    card = cards.follow_up(attempt_id, **args)
    return {"card": card.key, "title": card.title}


@tool(CompleteArgs, idempotent=True)
def complete_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Finish the card: say what was done and, per acceptance criterion, the evidence."""
    return _ended(principal, args, "complete", leases.complete)


@tool(FailArgs, idempotent=True)
def fail_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Give up this attempt: say what went wrong and the lesson for the next one."""
    return _ended(principal, args, "fail", leases.fail)


@tool(BlockArgs, idempotent=True)
def block_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Ask a person: the card waits until your question is answered, then goes on."""
    return _ended(principal, args, "block", leases.block)


@tool(ReleaseArgs, idempotent=True)
def release_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Hand the card over cleanly before you stop: your summary and next step lead the next
    worker's briefing."""
    wait = args.get("retry_after_seconds")
    if wait is None:
        wait = RATE_LIMIT_SECONDS if args.get("reason") == "rate_limited" else 0
    return _ended(principal, {**args, "retry_after_seconds": wait}, "release", leases.release)


@tool(SearchArgs, read_only=True, idempotent=True)
def search_history(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Look up what the briefing left out: steps, checkpoints, attempts, messages, decisions or
    discoveries of a card, newest first."""
    card = lookup.card(principal, args["card"])
    rows, order, fields, represent = _history(card, args["what"])
    if args.get("query"):
        rows = rows.annotate(**{f"{f}_text": Cast(f, TextField()) for f in fields})
        match = Q()
        for name in fields:
            match |= Q(**{f"{name}_text__icontains": args["query"]})
        rows = rows.filter(match)
    if args.get("before"):
        rows = rows.filter(**{f"{order}__lt": _place(order, args["before"])})
    limit = args.get("limit") or 20
    found = list(rows.order_by(f"-{order}")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    out: dict[str, Any] = {"results": [represent(row) for row in found]}
    if more:
        last = getattr(found[-1], order)
        out["next"] = (last - EPOCH) // MICROSECOND if order == "at" else last
    return out


def _place(order: str, before: int) -> Any:
    """Return the value of the order's field that ``next`` stood for. Raises Invalid."""
    if order != "at":
        return before
    try:
        return EPOCH + before * MICROSECOND
    except OverflowError:
        raise Invalid.field("before", "must be `next` of the last call.") from None


@tool(ListArgs, read_only=True, idempotent=True, for_attempts=False)
def list_cards(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """List cards you may see, the most urgent first, filtered by board, state or words. Where
    `more` is true, call again with `skip`."""
    rows = Card.objects.visible_to(principal.visible()).filter(archived_at=None)
    if args.get("board"):
        rows = rows.filter(board=lookup.board(principal, args["board"]))
    if args.get("state"):
        rows = rows.filter(state=args["state"])
    if args.get("query"):
        rows = rows.filter(
            Q(title__icontains=args["query"]) | Q(description__icontains=args["query"])
        )
    limit, skip = args.get("limit") or 20, args.get("skip") or 0
    ordered = rows.select_related("column").in_claim_order()
    found = with_latest(list(ordered[skip : skip + limit + 1]))
    listed = [
        {
            "card": card.key,
            "title": card.title,
            "state": card.state,
            "priority": card.priority,
            "why_waiting": cards.why_waiting(card)[1] if card.state == "waiting" else None,
        }
        for card in found[:limit]
    ]
    return {"cards": listed, "more": len(found) > limit}


# ── what they share ──────────────────────────────────────────────────────────────────────


def _mine(principal: Principal, args: dict[str, Any]) -> UUID:
    """Return the attempt that ``args`` names, taken out of them, if this token claimed it."""
    attempt_id: UUID = args.pop("attempt_id")
    attempt = lookup.attempt(principal, attempt_id)
    if principal.scope is not None:
        return attempt_id  # no other is found
    if str(attempt.token_id) != principal.id:
        raise LeaseLost("This attempt was claimed with another token. Claim a card of your own.")
    return attempt_id


def _workable(principal: Principal, names: list[str] | None) -> frozenset[UUID] | None:
    if principal.kind != "token":
        raise Forbidden("A claim needs a token; create one for the board and send it.")
    if names:
        return frozenset(lookup.board(principal, n, Role.MEMBER).pk for n in names)
    if principal.everywhere is not None and principal.everywhere >= Role.MEMBER:
        return None
    return frozenset(b for b, role in principal.boards.items() if role >= Role.MEMBER)


def _kept_key(principal: Principal, key: str) -> str:
    """Return the key of a step as it is kept: an agent's own is none of the workflow's."""
    return key if principal.scope is None else saying.own_key(key)


def _ended(
    principal: Principal, args: dict[str, Any], how: str, end: Callable[..., Attempt]
) -> dict[str, Any]:
    """End the attempt, or keep for its worker that the agent would have it end so."""
    attempt_id = _mine(principal, args)
    if principal.scope is not None:
        saying.keep(attempt_id, how, args)
        return {"noted": how, "note": "The worker that runs you checks it and ends the attempt."}
    attempt = end(attempt_id, **args)
    card = Card.objects.get(pk=attempt.card_id)
    return {"attempt": attempt.status, "card": card.key, "state": card.state}


def _history(card: Card, what: str) -> tuple[Any, str, list[str], Callable[[Any], dict[str, Any]]]:
    """Return the rows of one kind of history: queryset, order field, searched fields, shape."""
    memory = Q(goal_id=card.goal_id) if card.goal_id else Q(card_id=card.pk)
    kinds: Mapping[str, tuple[Any, str, list[str], Callable[[Any], dict[str, Any]]]] = {
        "steps": (
            Step.objects.filter(card=card),
            "number",
            ["key", "title", "result", "error"],
            lambda s: {
                "number": s.number,
                "key": s.key,
                "status": s.status,
                "in_doubt": s.in_doubt,
                "result": _snippet(s.result),
                "error": _snippet(s.error),
            },
        ),
        "checkpoints": (
            Checkpoint.objects.filter(card=card),
            "number",
            ["summary", "next_step", "state"],
            lambda p: {
                "number": p.number,
                "summary": _snippet(p.summary),
                "next_step": _snippet(p.next_step),
                "tests": p.tests,
                "state": _snippet(p.state),
            },
        ),
        "attempts": (
            Attempt.objects.filter(card=card),
            "number",
            ["worker", "approach", "outcome", "error", "lesson"],
            lambda a: {
                "number": a.number,
                "worker": a.worker,
                "status": a.status,
                "approach": _snippet(a.approach),
                "outcome": _snippet(a.outcome),
                "error": _snippet(a.error),
                "lesson": _snippet(a.lesson),
            },
        ),
        "messages": (
            Message.objects.filter(card=card),
            "id",
            ["text"],
            lambda m: {"id": m.pk, "kind": m.kind, "actor": m.actor, "text": _snippet(m.text)},
        ),
        "decisions": (
            Decision.objects.filter(memory),
            "at",
            ["title", "rationale"],
            lambda d: {
                "id": str(d.pk),
                "title": d.title,
                "rationale": _snippet(d.rationale),
                "in_force": d.superseded_by_id is None,
            },
        ),
        "discoveries": (
            Discovery.objects.filter(memory),
            "at",
            ["title", "detail"],
            lambda d: {
                "id": str(d.pk),
                "kind": d.kind,
                "title": d.title,
                "detail": _snippet(d.detail),
                "status": d.status,
            },
        ),
    }
    if what not in kinds:
        raise Invalid.field("what", f"must be one of {', '.join(kinds)}.")
    return kinds[what]


def _snippet(value: Any, most: int = SNIPPET_CHARS) -> Any:
    """Return a value short enough for a model: long ones as their first and last part."""
    if value is None or value == "":
        return value
    text = value if isinstance(value, str) else canonical(value).decode()
    if len(text) <= most:
        return value
    half = most // 2
    return f"{text[:half]} …[{len(text)} characters]… {text[-half:]}"
