"""Saved views of a board: for people, whose pages show them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup, saved
from boards.api.views import LIST
from boards.models import Board, SavedView
from events.endpoint import Body, Endpoint, Line, listed, page
from events.receipts import Answer
from kernel.access import Role
from kernel.errors import Forbidden


class ViewEdit(Body):
    name = Line(60, required=True)
    query = Line(1000, help_text="What follows the ? in the board's address.")
    shared = serializers.BooleanField(required=False, help_text="Seen by all on the board.")


class ViewIn(ViewEdit):
    """A view to keep."""


class ViewOut(serializers.Serializer[SavedView]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    query = serializers.CharField()
    shared = serializers.BooleanField()
    owner = serializers.CharField(source="owner.get_username")
    created_at = serializers.DateTimeField()


class _ForPeople(Endpoint):
    def board(self, name: str, fields: dict[str, Any]) -> Board:
        """Return the board if a person asks, and one who may write if it is to be shared."""
        found = lookup.board(self.principal, name)
        if not self.principal.is_person:
            raise Forbidden("Saved views belong to people; sign in to the board in a browser.")
        if fields.get("shared"):
            self.principal.require(found.pk, Role.MEMBER, "board")
        return found


class ViewsView(_ForPeople):
    """A board's saved views: the shared ones and a person's own; and new ones."""

    @extend_schema(operation_id="list_views", parameters=LIST, responses=listed(ViewOut))
    def get(self, request: Request, board: str) -> Response:
        kept = saved.seen_by(lookup.board(self.principal, board), self.principal)
        return self.respond(page(request, kept, lambda v: ViewOut(v, many=True).data, order="-id"))

    @extend_schema(operation_id="create_view", request=ViewIn, responses={201: ViewOut})
    def post(self, request: Request, board: str) -> Response:
        found = self.board(board, {})
        fields = self.fields(ViewIn)
        found = self.board(board, fields)

        def effect() -> Answer:
            view = saved.keep(
                found,
                self.principal,
                fields["name"],
                fields.get("query") or "",
                fields.get("shared", False),
            )
            return Answer(201, ViewOut(view).data)

        return self.answer(effect)


class ViewView(_ForPeople):
    """One saved view of one's own."""

    @extend_schema(operation_id="edit_view", request=ViewEdit, responses=ViewOut)
    def patch(self, request: Request, board: str, view: UUID) -> Response:
        found = saved.find(self.board(board, {}), self.principal, view)
        changes = self.fields(ViewEdit, partial=True)
        self.board(board, changes)

        def effect() -> Answer:
            return Answer(200, ViewOut(saved.edit(found, changes)).data)

        return self.answer(effect)

    @extend_schema(operation_id="delete_view", responses={204: None})
    def delete(self, request: Request, board: str, view: UUID) -> Response:
        found = saved.find(self.board(board, {}), self.principal, view)

        def effect() -> Answer:
            saved.delete(found)
            return Answer(204, None)

        return self.answer(effect)
