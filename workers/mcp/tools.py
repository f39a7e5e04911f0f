"""The tools. Each takes a contract's fields and calls the transition that REST calls.

The lease is kept for the agent: a tool names the attempt, and the attempt must have been
claimed with the token that the request carries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q
from rest_framework import serializers

from boards import approaches, cards, leases, lookup, news, standings
from boards.api.contracts import MessageOut, with_latest
from boards.models import Attempt, Card
from boards.planning import comparing, proposing
from boards.planning.models import Plan
from checkpoints import briefing, joining, lines, recovery, steps
from checkpoints.api.contracts import (
    MAX_TEXT,
    CheckpointIn,
    ForkIn,
    Key,
    PartIn,
    RaceOut,
    SplitIn,
    UsageIn,
)
from events import receipts
from events.endpoint import Body, Choice, JSONValue, Line, Text
from events.receipts import Answer
from goals import discoveries
from goals.api.contracts import DecisionIn, DiscoveryIn
from kernel.access import Principal, Role
from kernel.digests import canonical, sha256
from kernel.errors import Forbidden, LeaseLost, NotFound
from kernel.tx import retrying
from workers import draining, registry, saying
from workers.api import contracts as c
from workers.api.views import RATE_LIMIT_SECONDS, granted
from workers.mcp import history

Handler = Callable[[Principal, dict[str, Any]], dict[str, Any]]

MAX_LISTED = 50
#: So much of a recorded result comes back when its step is replayed.
REPLAY_CHARS = 20_000


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
    status = Choice(["succeeded", "failed"])
    result = JSONValue(256 * 1024)
    error = Text(MAX_TEXT)
    usage = UsageIn(required=False, allow_null=True)
    checkpoint = CheckpointIn(required=False, allow_null=True)


class CheckpointArgs(OfAttempt, CheckpointIn):
    pass


class ApproachArgs(OfAttempt, c.DescribeIn):
    pass


class DecisionArgs(OfAttempt, DecisionIn):
    pass


class DiscoveryArgs(OfAttempt, DiscoveryIn):
    pass


class ProposeArgs(OfAttempt, c.FollowUpIn):
    pass


class PlanArgs(OfAttempt, c.ProposePlanIn):
    pass


class CompleteArgs(OfAttempt, c.CompleteIn):
    pass


class FailArgs(OfAttempt, c.FailIn):
    pass


class BlockArgs(OfAttempt, c.BlockIn):
    pass


class ReleaseArgs(OfAttempt, c.ReleaseIn):
    pass


class ForkArgs(Body):
    card = Line(64, required=True, help_text="The card's key, such as PAY-118, or its id.")
    checkpoint = ForkIn().fields["checkpoint"]
    title = ForkIn().fields["title"]
    approaches = ForkIn().fields["approaches"]
    choose = ForkIn().fields["choose"]
    score = ForkIn().fields["score"]
    deadline_seconds = ForkIn().fields["deadline_seconds"]


class PartArgs(Body):
    title = PartIn().fields["title"]
    description = PartIn().fields["description"]
    requires = PartIn().fields["requires"]


class SplitArgs(Body):
    card = Line(64, required=True, help_text="The card's key, such as PAY-118, or its id.")
    parts = PartArgs(many=True, max_length=joining.MAX_PARTS)
    checkpoint = SplitIn().fields["checkpoint"]


class RaceArgs(Body):
    card = Line(64, required=True, help_text="The card's key, such as PAY-118, or its id.")


class SearchArgs(Body):
    card = Line(64, help_text="The card's key or id.")
    what = Choice(history.KINDS, required=False)
    query = Line(400, help_text="Words to look for; everything unless given.")
    goal = Line(64, help_text="A goal's id: look through it and all its cards.")
    board = Line(64, help_text="A board's key: look through all of it.")
    before = serializers.IntegerField(
        min_value=1,
        max_value=2**63 - 1,
        required=False,
        help_text="From `next` of the last call, where that is a number.",
    )
    cursor = Line(400, help_text="From `next` of the last call, where that is a text.")
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LISTED, required=False)


class ListArgs(Body):
    board = Line(64)
    state = Choice(Card.State.choices, required=False)
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
        draining.see_whether_to_claim(args["worker"], token_id)
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
    attempt_id = _mine(principal, args)
    beat = leases.heartbeat(attempt_id, **args)
    # A program that a worker runs ends its step all the same.
    worker = registry.holder(attempt_id) if principal.scope is None else None
    return {
        "directive": "stop" if worker and worker.draining else beat.directive,
        "lease_seconds": beat.hold.lease_seconds,
        "messages": MessageOut(beat.messages, many=True).data,
        "notices": beat.notices,
    }


@tool(ApproachArgs, idempotent=True)
def state_approach(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Say how you go about the card, before you begin. Answers with what failed before and looks
    alike (`instead`: what yours puts in its place; `because`: what changed since) and with
    decisions in force that it is about. Where the board enforces dead ends, what failed as it is
    is refused with dead_end: choose another way, or say in `differs` what is different."""
    attempt_id = _mine(principal, args)
    approach = args["approach"]
    alike = leases.describe(attempt_id, approach, args.get("differs") or "")
    short = ("approach", "error", "lesson")
    told = [{**one, **{name: history.snippet(one[name]) for name in short}} for one in alike]
    return {"similar_failed": told, "in_force": approaches.in_force(attempt_id, approach)}


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
        out |= {"result": history.snippet(step.result, REPLAY_CHARS), "error": step.error}
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
    out: dict[str, Any] = {"checkpoint": saved.number, "new": new}
    if told := recovery.notices(saved, args):
        out["notices"] = told
    return out


@tool(DecisionArgs)
def record_decision(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Record a decision that later work must respect, with the reason and the alternatives."""
    (kept,) = recovery.record_memory(_mine(principal, args), decisions=[args])
    out: dict[str, Any] = {"decision": str(kept.pk)}
    if beside := recovery.in_force_beside(kept):
        out |= {"in_force": beside, "note": "These are in force, too; supersede what it replaces."}
    return out


@tool(DiscoveryArgs)
def record_discovery(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Record something learnt that the next worker must know; dead_end for what failed."""
    (kept,) = recovery.record_memory(_mine(principal, args), discoveries=[args])
    out: dict[str, Any] = {"discovery": str(kept.pk), "seen": kept.seen}
    if alike := discoveries.resembling(kept):
        note = "These may be the same thing: under the very title of one it counts as that one."
        out |= {"alike": alike, "note": note}
    return out


@tool(ProposeArgs)
def propose_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Add follow-up work to the same goal as a new card in the backlog; with plan true, or where
    the goal wants it, as an item of a plan that a person reviews first."""
    attempt_id = _mine(principal, args)
    board = Attempt.objects.select_related("board").get(pk=attempt_id).board

    def named(name: str, n: int) -> Card:
        return lookup.named(principal, board, name, f"depends_on[{n}]")

    made = proposing.propose(attempt_id, named=named, **args)
    return _planned(made) if isinstance(made, Plan) else {"card": made.key, "title": made.title}


@tool(PlanArgs, idempotent=True)
def propose_plan(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Propose the cards of a whole plan in one call: titles, what is to be done, the criteria each
    covers by number, what it waits for (refs or titles of other items), estimates. A person
    reviews it before any card is made. Calling it again replaces what you proposed."""
    attempt_id = _mine(principal, args)
    return _planned(proposing.propose_plan(attempt_id, args["items"], args.get("note", "")))


def _planned(plan: Plan) -> dict[str, Any]:
    """Return what an agent hears of its plan: the items' refs, and what nobody covers."""
    return {
        "plan": str(plan.pk),
        "items": [item["ref"] for item in plan.items],
        "uncovered": comparing.compared(plan).in_words(),
    }


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
    """Look up what the briefing left out. With `card` and `what`: that card's steps, checkpoints,
    attempts, messages, decisions or discoveries, newest first. With `query` alone, or `goal` or
    `board`: everything that was planned, tried, said, decided or learnt there, best match first.
    A query is words, "phrases" and beginnings*, and may hold kind:, by: and after:7d."""
    if args.get("card") and args.get("what"):
        card = lookup.card(principal, args["card"])
        return history.listed(
            card, args["what"], args.get("query"), args.get("before"), args.get("limit") or 20
        )
    return history.searched(principal, args)


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


@tool(ForkArgs, for_attempts=False)
def fork_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Make cards that start from a checkpoint of a card. Several, one for each approach, race from
    the same point and one is kept: `choose` says how."""
    card = lookup.card(principal, args["card"], Role.MEMBER)
    several = args.get("approaches") or []
    made = lines.fork(
        card.pk,
        args["checkpoint"],
        principal.actor,
        title=args.get("title") or "",
        approaches=several,
        count=max(1, len(several)),
        terms=lines.Terms(args["choose"], args.get("score") or "", args.get("deadline_seconds")),
    )
    return {"cards": [fork.key for fork in made]}


@tool(SplitArgs, for_attempts=False)
def split_card(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Hand a card's work to part-cards that start from its checkpoint. The card waits until all
    are completed; what they changed is then joined as its next checkpoint. Its attempt ends."""
    card = lookup.card(principal, args["card"], Role.MEMBER)
    parts = joining.split(card.pk, principal.actor, args["parts"], args.get("checkpoint"))
    return {"card": card.key, "parts": [part.key for part in parts]}


@tool(RaceArgs, read_only=True, idempotent=True)
def get_race(principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Look at the race that a card runs in: how all racers stand, and who won."""
    card = lookup.card(principal, args["card"])
    if card.race_id is None:
        raise NotFound(f"{card.key} runs in no race.")
    return dict(RaceOut(standings.of_race(card.race_id)).data)


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
    return principal.may_work_on()


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
    news.noticed(True)  # the end has no fence that would say so
    card = Card.objects.get(pk=attempt.card_id)
    return {"attempt": attempt.status, "card": card.key, "state": card.state}
