"""Plans over REST: propose, look at what would change, apply."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup
from boards.api.contracts import CardOut, Covers, Estimate, NothingIn, card_out
from boards.api.views import IF_MATCH, LIST
from boards.models import Attempt, Board
from boards.planning import applying, comparing, drafts, proposing
from boards.planning.models import Plan
from events.endpoint import (
    Body,
    Choice,
    Endpoint,
    JSONObject,
    JSONValue,
    Line,
    Text,
    Words,
    listed,
    page,
)
from events.receipts import Answer
from kernel.access import Principal, Role, hidden
from kernel.errors import Forbidden, Invalid

MAX_TEXT = 200_000


class PlannedIn(Body):
    """A card that is planned; what stands empty leaves a card that there is as it is."""

    ref = Line(drafts.MAX_REF, help_text="Names the item, for this plan and those to come.")
    title = Line(300, required=True)
    description = Text(MAX_TEXT)
    covers = Covers(help_text="Numbers of the goal's criteria.")
    depends_on = Words(max_items=200, max_chars=300, help_text="Refs, titles or keys of cards.")
    estimate = Estimate()
    labels = Words()
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False, allow_null=True)
    workflow = JSONValue(256 * 1024)
    requires = Words(help_text="What a worker must be capable of.")
    inputs = JSONObject()
    card = Line(64, help_text="The key of the card that it is about, where its ref doesn't say.")
    dropped = serializers.BooleanField(required=False)


class PlanEdit(Body):
    items = PlannedIn(many=True, required=False, max_length=drafts.MAX_ITEMS)
    note = Text(20_000)


class PlanIn(PlanEdit):
    markdown = Text(1024 * 1024, help_text="A checklist: more items, behind the others.")


class ApplyIn(Body):
    accept = Words(max_items=drafts.MAX_ITEMS, help_text="Refs of items; all unless told.")
    drop = Words(max_items=1000, help_text="Cards to cancel that it leaves out; all unless told.")
    confirm = Words(max_items=1000, help_text="Running cards that may be touched.")


class AskIn(Body):
    """Who plans: any agent that claims the card, or a built-in worker's step."""

    step = JSONObject(
        16 * 1024,
        help_text='`{"agent": {…}}` or `{"llm": {…}}` as in a workflow, without its prompt.',
    )
    note = Text(20_000, help_text="What whoever plans should know besides the goal.")


class ReceiptOut(serializers.Serializer[Any]):
    card = serializers.CharField(allow_null=True)
    ref = serializers.CharField()
    title = serializers.CharField()
    did = Choice(["created", "changed", "kept", "cancelled", "left"])
    why = serializers.CharField()
    changed = serializers.ListField(child=serializers.CharField(), required=False)


class PlanOut(serializers.Serializer[Plan]):
    id = serializers.UUIDField()
    board = serializers.UUIDField(source="board_id")
    goal = serializers.UUIDField(source="goal_id")
    number = serializers.IntegerField()
    status = serializers.CharField()
    source = serializers.CharField()
    note = serializers.CharField()
    items = serializers.JSONField()
    card = serializers.CharField(source="card.key", default=None, allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    closed_by = serializers.CharField()
    closed_at = serializers.DateTimeField(allow_null=True)
    outcome = ReceiptOut(many=True)
    version = serializers.IntegerField()


class ChangeOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    did = Choice(["new", "changed", "kept", "dropped"])
    card = serializers.CharField(allow_null=True)
    state = serializers.CharField(allow_null=True)
    changes = serializers.DictField(help_text="By field: `before` and `after`.")


class CoverageOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    text = serializers.CharField()
    met = serializers.BooleanField(allow_null=True)
    by = serializers.ListField(child=serializers.CharField())
    earlier = serializers.ListField(
        child=serializers.CharField(), help_text="What was for an earlier text of it."
    )


class ComparedOut(PlanOut):
    """An open plan beside the cards of its goal; of a closed one these lists are empty."""

    changes = ChangeOut(many=True)
    gone = ChangeOut(many=True, help_text="Cards of earlier plans that this one leaves out.")
    coverage = CoverageOut(many=True)
    uncovered = serializers.ListField(child=serializers.IntegerField())


def shown(plan: Plan) -> dict[str, Any]:
    """Return the plan as the API shows it, with what it would change."""
    found = Plan.objects.select_related("goal", "card").get(pk=plan.pk)
    body: dict[str, Any] = dict(PlanOut(found).data)
    if found.status != Plan.Status.OPEN:
        return {**body, "changes": [], "gone": [], "coverage": [], "uncovered": []}
    compared = comparing.compared(found)
    changes = [
        {
            "ref": e.item["ref"],
            "did": e.did,
            "card": e.card.key if e.card else None,
            "state": e.card.state if e.card else None,
            "changes": {n: {"before": was, "after": is_} for n, (was, is_) in e.changes.items()},
        }
        for e in compared.entries
    ]
    gone = [
        {"ref": c.planned_as, "did": "dropped", "card": c.key, "state": c.state, "changes": {}}
        for c in compared.gone
    ]
    return {
        **body,
        "changes": changes,
        "gone": gone,
        "coverage": compared.coverage,
        "uncovered": compared.uncovered,
    }


def find(who: Principal, pk: UUID, role: Role = Role.VIEWER) -> Plan:
    """Return the plan. Raises NotFound, Forbidden."""
    plan = Plan.objects.select_related("goal", "board", "card").filter(pk=pk).first()
    if plan is None:
        raise hidden("plan")
    who.require(plan.board_id, role, "plan")
    return plan


def check_may_apply(who: Principal, plan: Plan) -> None:
    """Pass if the principal may make cards of the plan. Raises Forbidden.

    What an agent proposes waits for a person, or for an operator's token that did not propose it.
    """
    if plan.source != Plan.Source.AGENT or who.is_person:
        return
    mine = Attempt.objects.filter(card=plan.card, token_id=who.id).exists() if plan.card else False
    if who.role_on(plan.board_id) != Role.OPERATOR or mine:
        raise Forbidden(
            "What an agent planned is applied by a person, or with an operator's token other than "
            "its own; sign in to the board in a browser."
        )


class PlansView(Endpoint):
    """The plans of a goal, newest first, and new ones."""

    @extend_schema(operation_id="list_plans", parameters=LIST, responses=listed(PlanOut))
    def get(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal)
        rows = Plan.objects.filter(goal=found).select_related("card")
        return self.respond(
            page(request, rows, lambda p: PlanOut(p, many=True).data, order="-number")
        )

    @extend_schema(operation_id="create_plan", request=PlanIn, responses={201: ComparedOut})
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(PlanIn)
        text = fields.get("markdown") or ""
        items = [*fields.get("items", []), *(drafts.from_markdown(text) if text else [])]
        if not items:
            raise Invalid.field("items", "is needed: a plan has at least one item.")
        source = Plan.Source.MARKDOWN if text else Plan.Source.PERSON

        def effect() -> Answer:
            plan = applying.create(
                found,
                self.principal.actor,
                items,
                source=source,
                note=fields.get("note", ""),
            )
            return Answer(201, shown(plan))

        return self.answer(effect)


class AskView(Endpoint):
    """Ask an agent for a plan of the goal: a card in progress that proposes one."""

    @extend_schema(operation_id="ask_for_plan", request=AskIn, responses={201: CardOut})
    def post(self, request: Request, goal: UUID) -> Response:
        found = lookup.goal(self.principal, goal, Role.MEMBER)
        fields = self.fields(AskIn)
        step = fields.get("step") or {}
        if step and (len(step) != 1 or not {"agent", "llm"} & step.keys()):
            raise Invalid.field("step", "must be {'agent': {…}} or {'llm': {…}}.")
        if any(not isinstance(given, dict) or "prompt" in given for given in step.values()):
            raise Invalid.field("step", "is an object that brings no prompt: that is given.")
        board = Board.objects.get(pk=found.board_id)

        def effect() -> Answer:
            card = proposing.ask(
                board, self.principal.actor, found, step, note=fields.get("note") or ""
            )
            return Answer(201, card_out(card))

        return self.answer(effect)


class PlanView(Endpoint):
    """One plan, and what it would change."""

    @extend_schema(operation_id="get_plan", responses=ComparedOut)
    def get(self, request: Request, plan: UUID) -> Response:
        return self.respond(Answer(200, shown(find(self.principal, plan))))

    @extend_schema(
        operation_id="edit_plan", request=PlanEdit, responses=ComparedOut, parameters=[IF_MATCH]
    )
    def patch(self, request: Request, plan: UUID) -> Response:
        found = find(self.principal, plan, Role.MEMBER)
        fields = self.fields(PlanEdit, partial=True)
        version = self.expected_version()

        def effect() -> Answer:
            edited = applying.edit(
                found.pk, self.principal.actor, expected_version=version, **fields
            )
            return Answer(200, shown(edited))

        return self.answer(effect, current=lambda: shown(found))


class ApplyView(Endpoint):
    """Make the cards of a plan what it says: all that is accepted, or nothing."""

    @extend_schema(
        operation_id="apply_plan", request=ApplyIn, responses=ComparedOut, parameters=[IF_MATCH]
    )
    def post(self, request: Request, plan: UUID) -> Response:
        found = find(self.principal, plan, Role.MEMBER)
        fields = self.fields(ApplyIn)
        check_may_apply(self.principal, found)
        version = self.expected_version()

        def effect() -> Answer:
            applied = applying.apply(
                found.pk,
                self.principal.actor,
                accept=fields.get("accept"),
                drop=fields.get("drop"),
                confirm=fields.get("confirm") or (),
                expected_version=version,
            )
            return Answer(200, shown(applied))

        return self.answer(effect, current=lambda: shown(found))


class DiscardView(Endpoint):
    """Close a plan; nothing is made of it."""

    @extend_schema(operation_id="discard_plan", request=NothingIn, responses=ComparedOut)
    def post(self, request: Request, plan: UUID) -> Response:
        found = find(self.principal, plan, Role.MEMBER)
        self.fields(NothingIn)

        def effect() -> Answer:
            return Answer(200, shown(applying.discard(found.pk, self.principal.actor)))

        return self.answer(effect)
