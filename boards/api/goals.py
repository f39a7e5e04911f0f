"""Goals over REST. They live beside the boards' views because a request names a board."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import bounds, cards, lookup, missing, progress
from boards.api.contracts import CardOut, card_out
from boards.api.views import IF_MATCH, LIST
from events.endpoint import Choice, Endpoint, listed, page
from events.receipts import Answer
from goals import checks, criteria, decisions, discoveries, memory
from goals.api import contracts as c
from goals.models import Decision, Discovery, Goal
from kernel.access import Role, hidden
from kernel.errors import Forbidden, Invalid, NotFound


class ProgressOut(serializers.Serializer[Any]):
    """The goal's own cards, the cancelled ones left out, and its criteria."""

    cards = serializers.IntegerField()
    completed = serializers.IntegerField()
    states = serializers.DictField(child=serializers.IntegerField())
    criteria = serializers.IntegerField()
    met = serializers.IntegerField()


class CostOut(serializers.Serializer[Any]):
    """What all attempts at its cards have used so far."""

    cost_usd = serializers.CharField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    seconds = serializers.IntegerField()
    attempts = serializers.IntegerField()


class EarlierOut(serializers.Serializer[Any]):
    card = serializers.CharField()
    criterion = serializers.IntegerField()


class MissingOut(serializers.Serializer[Any]):
    """What it lacks that nothing under way will bring, with the next step."""

    kind = Choice([kind.value for kind in missing.Kind])
    text = serializers.CharField()
    criteria = serializers.ListField(child=serializers.IntegerField())
    plan = serializers.UUIDField(allow_null=True)
    earlier = EarlierOut(
        many=True, help_text="Cards for an earlier text of one of the criteria: they may serve."
    )


class GoalReportOut(c.GoalOut):
    progress = ProgressOut()
    cost = CostOut()
    missing = MissingOut(allow_null=True)


def shown(goals: list[Goal]) -> list[dict[str, Any]]:
    """Return loaded goals as the API shows them, in eight statements for all of them."""
    how_far, costs = progress.of(goals), progress.costs(goals)
    lacking = missing.of(how_far.values())
    return [
        {
            **c.GoalOut(goal).data,
            "progress": how_far[goal.pk].as_json(),
            "cost": costs[goal.pk].as_json(),
            "missing": lacking[goal.pk].as_json() if goal.pk in lacking else None,
        }
        for goal in goals
    ]


def _afresh(goal: Goal) -> dict[str, Any]:
    return shown([c.loaded().get(pk=goal.pk)])[0]


class GoalQuery(serializers.Serializer[Any]):
    board = serializers.CharField(required=False, max_length=64)
    status = Choice(Goal.Status.choices, required=False)


class GoalsView(Endpoint):
    """Goals by board, and new ones."""

    @extend_schema(
        operation_id="list_goals", parameters=[*LIST, GoalQuery], responses=listed(GoalReportOut)
    )
    def get(self, request: Request) -> Response:
        wanted = self.query(GoalQuery)
        goals = c.loaded().on_boards(self.principal.visible())
        if "board" in wanted:
            goals = goals.filter(board_id=lookup.board(self.principal, wanted["board"]).pk)
        if "status" in wanted:
            goals = goals.filter(status=wanted["status"])
        return self.respond(page(request, goals, shown, order="-id"))

    @extend_schema(operation_id="create_goal", request=c.GoalIn, responses={201: GoalReportOut})
    def post(self, request: Request) -> Response:
        fields = self.fields(c.GoalIn)
        board = lookup.board(self.principal, fields.pop("board"), Role.MEMBER)
        fields["parent"] = _parent(self, fields.get("parent"))
        _check_probes(self, board.pk, fields.get("criteria") or [])
        status = fields.pop("status", Goal.Status.ACTIVE)
        if status != Goal.Status.ACTIVE:
            raise Invalid.field("status", "a new goal is active; change it afterwards.")

        def effect() -> Answer:
            goal = memory.create(board.pk, self.principal.actor, **fields)
            return Answer(201, _afresh(goal))

        return self.answer(effect)


class GoalView(Endpoint):
    """One goal."""

    @extend_schema(operation_id="get_goal", responses=GoalReportOut)
    def get(self, request: Request, goal: UUID) -> Response:
        return self.respond(Answer(200, _afresh(lookup.goal(self.principal, goal))))

    @extend_schema(
        operation_id="edit_goal", request=c.GoalEdit, responses=GoalReportOut, parameters=[IF_MATCH]
    )
    def patch(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        changes = self.fields(c.GoalEdit, partial=True)
        reason = changes.pop("reason", "")
        if "parent" in changes:
            changes["parent"] = _parent(self, changes["parent"])
        _check_probes(self, found.board_id, changes.get("criteria") or [], found)
        version = self.expected_version()

        def effect() -> Answer:
            edited = memory.edit(
                found.pk, self.principal.actor, changes, reason=reason, expected_version=version
            )
            if {"budgets", "status"} & changes.keys():
                bounds.look_later(goal=found.pk)
            return Answer(200, _afresh(edited))

        return self.answer(effect, current=lambda: _afresh(found))


class CheckView(Endpoint):
    """Have a goal's criteria checked that check themselves, by a built-in worker."""

    @extend_schema(operation_id="check_goal", request=None, responses={202: c.CheckRunOut})
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)

        def effect() -> Answer:
            run = checks.request(found, self.principal.actor)
            return Answer(202, c.CheckRunOut(run).data)

        return self.answer(effect)


class CheckRunsView(Endpoint):
    """The newest runs of a goal's checks, newest first."""

    @extend_schema(operation_id="list_checks", parameters=LIST, responses=listed(c.CheckRunOut))
    def get(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal)
        runs = found.check_runs.all()
        return self.respond(
            page(request, runs, lambda r: c.CheckRunOut(r, many=True).data, order="-id")
        )


class WordView(Endpoint):
    """A person's word on whether a criterion is met."""

    @extend_schema(operation_id="say_criterion", request=c.WordIn, responses={201: GoalReportOut})
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        if not self.principal.is_person:
            raise Forbidden("A person says so; workers show it with what they complete.")
        fields = self.fields(c.WordIn)
        named = fields.pop("criterion")

        def effect() -> Answer:
            criteria.say(found.pk, named, self.principal.actor, **fields)
            return Answer(201, _afresh(found))

        return self.answer(effect)


class DecisionsView(Endpoint):
    """The decisions of a goal, newest first."""

    @extend_schema(operation_id="list_decisions", parameters=LIST, responses=listed(c.DecisionOut))
    def get(self, request: Request, goal: UUID) -> Response:
        rows = Decision.objects.filter(goal=lookup.goal(self.principal, goal))
        return self.respond(
            page(request, rows, lambda d: c.DecisionOut(d, many=True).data, order="-id")
        )

    @extend_schema(
        operation_id="create_decision", request=c.DecisionPost, responses={201: c.DecidedOut}
    )
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(c.DecisionPost)

        def effect() -> Answer:
            made = memory.decide(found.board_id, found.pk, self.principal.actor, **fields)
            alike = decisions.resembling(found.pk, None, made.title, made.files)
            beside = [one for one in alike if one["id"] != str(made.pk)]
            return Answer(201, {**c.DecisionOut(made).data, "in_force": beside})

        return self.answer(effect)


class DiscoveriesView(Endpoint):
    """The discoveries of a goal, newest first."""

    @extend_schema(
        operation_id="list_discoveries",
        parameters=[*LIST, OpenApiParameter("status", str, enum=Discovery.Status.values)],
        responses=listed(c.DiscoveryOut),
    )
    def get(self, request: Request, goal: UUID) -> Response:
        rows = Discovery.objects.filter(goal=lookup.goal(self.principal, goal))
        status = request.query_params.get("status")
        if status is not None:
            if status not in Discovery.Status.values:
                listed = ", ".join(Discovery.Status.values)
                raise Invalid.field("status", f"must be one of {listed}.")
            rows = rows.filter(status=status)
        return self.respond(
            page(request, rows, lambda d: c.DiscoveryOut(d, many=True).data, order="-id")
        )

    @extend_schema(
        operation_id="create_discovery", request=c.DiscoveryPost, responses={201: c.DiscoveredOut}
    )
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(c.DiscoveryPost)

        def effect() -> Answer:
            made = memory.discover(found.board_id, found.pk, self.principal.actor, **fields)
            alike = discoveries.resembling(made)
            return Answer(201, {**c.DiscoveryOut(made).data, "alike": alike})

        return self.answer(effect)


class DecisionView(Endpoint):
    """One decision: whether every briefing tells it."""

    @extend_schema(operation_id="pin_decision", request=c.PinIn, responses=c.DecisionOut)
    def patch(self, request: Request, decision: UUID) -> Response:
        found = Decision.objects.filter(pk=decision).first()
        if found is None:
            raise hidden("decision")
        return _pinned(self, found, c.DecisionOut)


class DiscoveryView(Endpoint):
    """One discovery: whether every briefing tells it."""

    @extend_schema(operation_id="pin_discovery", request=c.PinIn, responses=c.DiscoveryOut)
    def patch(self, request: Request, discovery: UUID) -> Response:
        found = Discovery.objects.filter(pk=discovery).first()
        if found is None:
            raise hidden("discovery")
        return _pinned(self, found, c.DiscoveryOut)


class ResolveView(Endpoint):
    """Resolve a discovery."""

    @extend_schema(operation_id="resolve_discovery", request=c.ResolveIn, responses=c.DiscoveryOut)
    def post(self, request: Request, discovery: UUID) -> Response:
        found = Discovery.objects.filter(pk=discovery).first()
        if found is None:
            raise hidden("discovery")
        self.principal.require(found.board_id, Role.MEMBER, "discovery")
        fields = self.fields(c.ResolveIn)

        def effect() -> Answer:
            resolved = memory.resolve(
                discovery,
                self.principal.actor,
                fields.get("resolution", ""),
                wont_do=bool(fields.get("wont_do")),
            )
            return Answer(200, c.DiscoveryOut(resolved).data)

        return self.answer(effect)


class MergeView(Endpoint):
    """Make two discoveries one."""

    @extend_schema(operation_id="merge_discovery", request=c.SameAsIn, responses=c.DiscoveryOut)
    def post(self, request: Request, discovery: UUID) -> Response:
        _found(self, discovery)
        into = _found(self, self.fields(c.SameAsIn)["into"])

        def effect() -> Answer:
            kept = discoveries.merge(discovery, into.pk, self.principal.actor)
            return Answer(200, c.DiscoveryOut(kept).data)

        return self.answer(effect)


class ReviveView(Endpoint):
    """Say that a dead end may be none any more."""

    @extend_schema(operation_id="revive_discovery", request=c.ReviveIn, responses=c.DiscoveryOut)
    def post(self, request: Request, discovery: UUID) -> Response:
        _found(self, discovery)
        because = self.fields(c.ReviveIn)["because"]

        def effect() -> Answer:
            revived = discoveries.revive(discovery, self.principal.actor, because)
            return Answer(200, c.DiscoveryOut(revived).data)

        return self.answer(effect)


class ProposeView(Endpoint):
    """Make a card of a discovery, in the backlog of its board and on its goal."""

    @extend_schema(operation_id="make_card_of_discovery", request=None, responses={201: CardOut})
    def post(self, request: Request, discovery: UUID) -> Response:
        found = _found(self, discovery)

        def effect() -> Answer:
            return Answer(201, card_out(cards.of_discovery(found, self.principal.actor)))

        return self.answer(effect)


def _found(view: Endpoint, discovery: UUID) -> Discovery:
    """Return the discovery, on a board that the caller may write to."""
    found = Discovery.objects.filter(pk=discovery).first()
    if found is None:
        raise hidden("discovery")
    view.principal.require(found.board_id, Role.MEMBER, "discovery")
    return found


def _pinned(view: Endpoint, kept: Decision | Discovery, out: Any) -> Response:
    view.principal.require(kept.board_id, Role.MEMBER, type(kept).__name__.lower())
    pinned = view.fields(c.PinIn)["pinned"]
    return view.answer(
        lambda: Answer(200, out(memory.pin(kept, view.principal.actor, pinned)).data)
    )


def _check_probes(
    view: Endpoint, board_id: UUID, wanted: list[dict[str, Any]], goal: Goal | None = None
) -> None:
    """Pass if whoever asks may have this server call the addresses. Raises Forbidden.

    Those that an operator has named before stay.
    """
    there = [x.probe for x in criteria.standing(goal.pk)] if goal is not None else []
    new = [entry for entry in wanted if entry.get("probe") and entry["probe"] not in there]
    if new and view.principal.role_on(board_id) != Role.OPERATOR:
        raise Forbidden("Only an operator of the board may name an address to be checked.")


def _parent(view: Endpoint, name: Any) -> Goal | None:
    if name is None:
        return None
    try:
        return lookup.goal(view.principal, name, Role.MEMBER)
    except NotFound:
        raise Invalid.field("parent", "names no goal that you may see.") from None
