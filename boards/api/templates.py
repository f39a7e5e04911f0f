"""Workflow templates of a board."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup, workflow_templates
from boards.api.views import IF_MATCH, LIST
from boards.models import WorkflowTemplate
from events.endpoint import Body, Endpoint, Line, Text, listed, page
from events.receipts import Answer
from kernel.access import Role


class TemplateEdit(Body):
    name = Line(60, required=True)
    description = Line(300)
    source = Text(1024 * 1024, required=True, help_text="The workflow as YAML, with its inputs.")


class TemplateIn(TemplateEdit):
    """A workflow to keep under a name."""


class TemplateOut(serializers.Serializer[WorkflowTemplate]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    source = serializers.CharField()
    inputs = serializers.SerializerMethodField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_inputs(self, template: WorkflowTemplate) -> list[dict[str, Any]]:
        """What a card made from it is asked for, in order."""
        asked = template.workflow.get("inputs") or {}
        return [{"name": name, **spec} for name, spec in asked.items()]


class TemplatesView(Endpoint):
    """A board's workflow templates, and new ones."""

    @extend_schema(operation_id="list_templates", parameters=LIST, responses=listed(TemplateOut))
    def get(self, request: Request, board: str) -> Response:
        kept = WorkflowTemplate.objects.filter(board=lookup.board(self.principal, board))
        rows = page(request, kept, lambda t: TemplateOut(t, many=True).data, order="-id")
        return self.respond(rows)

    @extend_schema(operation_id="create_template", request=TemplateIn, responses={201: TemplateOut})
    def post(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        fields = self.fields(TemplateIn)
        fields = {name: value or "" for name, value in fields.items()}

        def effect() -> Answer:
            made = workflow_templates.make(found, self.principal.actor, **fields)
            return Answer(201, TemplateOut(made).data)

        return self.answer(effect)


class TemplateView(Endpoint):
    """One workflow template, by its id or name."""

    @extend_schema(operation_id="get_template", responses=TemplateOut)
    def get(self, request: Request, board: str, template: str) -> Response:
        found = workflow_templates.find(lookup.board(self.principal, board), template)
        return self.respond(Answer(200, TemplateOut(found).data))

    @extend_schema(
        operation_id="edit_template",
        request=TemplateEdit,
        responses=TemplateOut,
        parameters=[IF_MATCH],
    )
    def patch(self, request: Request, board: str, template: str) -> Response:
        on = lookup.board(self.principal, board, Role.OPERATOR)
        found = workflow_templates.find(on, template)
        changes = {n: value or "" for n, value in self.fields(TemplateEdit, partial=True).items()}
        version = self.expected_version()

        def effect() -> Answer:
            edited = workflow_templates.edit(
                found.pk, self.principal.actor, changes, expected_version=version
            )
            return Answer(200, TemplateOut(edited).data)

        return self.answer(
            effect,
            current=lambda: TemplateOut(WorkflowTemplate.objects.get(pk=found.pk)).data,
        )

    @extend_schema(operation_id="delete_template", responses={204: None})
    def delete(self, request: Request, board: str, template: str) -> Response:
        on = lookup.board(self.principal, board, Role.OPERATOR)
        found = workflow_templates.find(on, template)

        def effect() -> Answer:
            workflow_templates.delete(found, self.principal.actor)
            return Answer(204, None)

        return self.answer(effect)
