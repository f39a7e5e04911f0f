"""Goals over REST. They live beside the boards' views because a request names a board."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import bounds, lookup
from boards.api.views import IF_MATCH, LIST
from events.endpoint import Endpoint, listed, page
from events.receipts import Answer
from goals import memory
from goals.api import contracts as c
from goals.models import Decision, Discovery, Goal
from kernel.access import Role, hidden
from kernel.errors import Invalid, NotFound


class GoalQuery(serializers.Serializer[Any]):
    board = serializers.CharField(required=False, max_length=64)
    status = serializers.ChoiceField(Goal.Status.choices, required=False)


class GoalsView(Endpoint):
    """Goals by board, and new ones."""

    @extend_schema(
        operation_id="list_goals", parameters=[*LIST, GoalQuery], responses=listed(c.GoalOut)
    )
    def get(self, request: Request) -> Response:
        wanted = self.query(GoalQuery)
        goals = c.loaded().on_boards(self.principal.visible())
        if "board" in wanted:
            goals = goals.filter(board_id=lookup.board(self.principal, wanted["board"]).pk)
        if "status" in wanted:
            goals = goals.filter(status=wanted["status"])
        return self.respond(
            page(request, goals, lambda g: c.GoalOut(g, many=True).data, order="-id")
        )

    @extend_schema(operation_id="create_goal", request=c.GoalIn, responses={201: c.GoalOut})
    def post(self, request: Request) -> Response:
        fields = self.fields(c.GoalIn)
        board = lookup.board(self.principal, fields.pop("board"), Role.MEMBER)
        fields["parent"] = _parent(self, fields.get("parent"))
        status = fields.pop("status", Goal.Status.ACTIVE)
        if status != Goal.Status.ACTIVE:
            raise Invalid.field("status", "a new goal is active; change it afterwards.")

        def effect() -> Answer:
            goal = memory.create(board.pk, self.principal.actor, **fields)
            return Answer(201, c.goal_out(goal))

        return self.answer(effect)


class GoalView(Endpoint):
    """One goal."""

    @extend_schema(operation_id="get_goal", responses=c.GoalOut)
    def get(self, request: Request, goal: UUID) -> Response:
        return self.respond(Answer(200, c.goal_out(lookup.goal(self.principal, goal))))

    @extend_schema(
        operation_id="edit_goal", request=c.GoalEdit, responses=c.GoalOut, parameters=[IF_MATCH]
    )
    def patch(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        changes = self.fields(c.GoalEdit, partial=True)
        if "parent" in changes:
            changes["parent"] = _parent(self, changes["parent"])
        version = self.expected_version()

        def effect() -> Answer:
            edited = memory.edit(found.pk, self.principal.actor, changes, expected_version=version)
            if {"budgets", "status"} & changes.keys():
                bounds.look_later(goal=found.pk)
            return Answer(200, c.goal_out(edited))

        return self.answer(effect, current=lambda: c.goal_out(found))


class DecisionsView(Endpoint):
    """The decisions of a goal, newest first."""

    @extend_schema(operation_id="list_decisions", parameters=LIST, responses=listed(c.DecisionOut))
    def get(self, request: Request, goal: UUID) -> Response:
        rows = Decision.objects.filter(goal=lookup.goal(self.principal, goal))
        return self.respond(
            page(request, rows, lambda d: c.DecisionOut(d, many=True).data, order="-id")
        )

    @extend_schema(
        operation_id="create_decision", request=c.DecisionPost, responses={201: c.DecisionOut}
    )
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(c.DecisionPost)

        def effect() -> Answer:
            made = memory.decide(found.board_id, found.pk, self.principal.actor, **fields)
            return Answer(201, c.DecisionOut(made).data)

        return self.answer(effect)


class DiscoveriesView(Endpoint):
    """The discoveries of a goal, newest first."""

    @extend_schema(
        operation_id="list_discoveries",
        parameters=[*LIST, OpenApiParameter("status", str, enum=["open", "resolved"])],
        responses=listed(c.DiscoveryOut),
    )
    def get(self, request: Request, goal: UUID) -> Response:
        rows = Discovery.objects.filter(goal=lookup.goal(self.principal, goal))
        status = request.query_params.get("status")
        if status is not None:
            if status not in Discovery.Status.values:
                raise Invalid.field("status", "must be open or resolved.")
            rows = rows.filter(status=status)
        return self.respond(
            page(request, rows, lambda d: c.DiscoveryOut(d, many=True).data, order="-id")
        )

    @extend_schema(
        operation_id="create_discovery", request=c.DiscoveryPost, responses={201: c.DiscoveryOut}
    )
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(c.DiscoveryPost)

        def effect() -> Answer:
            made = memory.discover(found.board_id, found.pk, self.principal.actor, **fields)
            return Answer(201, c.DiscoveryOut(made).data)

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
            resolved = memory.resolve(discovery, self.principal.actor, fields.get("resolution", ""))
            return Answer(200, c.DiscoveryOut(resolved).data)

        return self.answer(effect)


def _pinned(view: Endpoint, kept: Decision | Discovery, out: Any) -> Response:
    view.principal.require(kept.board_id, Role.MEMBER, type(kept).__name__.lower())
    pinned = view.fields(c.PinIn)["pinned"]
    return view.answer(
        lambda: Answer(200, out(memory.pin(kept, view.principal.actor, pinned)).data)
    )


def _parent(view: Endpoint, name: Any) -> Goal | None:
    if name is None:
        return None
    try:
        return lookup.goal(view.principal, name, Role.MEMBER)
    except NotFound:
        raise Invalid.field("parent", "names no goal that you may see.") from None
