"""Secrets of a board: set and removed by its operators, read back by nobody."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup
from boards.api.views import LIST
from boards.secrets import keeping
from boards.secrets.models import Secret
from events.endpoint import Body, Endpoint, Text, listed, page
from events.receipts import Answer
from kernel.access import Role


class SecretIn(Body):
    value = Text(
        keeping.MAX_VALUE_BYTES,
        required=True,
        write_only=True,
        help_text="Kept as it is, its white space too; no answer ever has it.",
    )


class SecretOut(serializers.Serializer[Secret]):
    name = serializers.CharField()
    set_by = serializers.CharField()
    set_at = serializers.DateTimeField()


class SecretsView(Endpoint):
    """What secrets the board has, by name."""

    @extend_schema(operation_id="list_secrets", parameters=LIST, responses=listed(SecretOut))
    def get(self, request: Request, board: str) -> Response:
        kept = keeping.of_board(lookup.board(self.principal, board).pk)
        return self.respond(
            page(request, kept, lambda s: SecretOut(s, many=True).data, order="name")
        )


class SecretView(Endpoint):
    """One secret of the board."""

    @extend_schema(
        operation_id="set_secret", request=SecretIn, responses={200: SecretOut, 201: SecretOut}
    )
    def put(self, request: Request, board: str, secret: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        value = self.fields(SecretIn)["value"]

        def effect() -> Answer:
            kept, new = keeping.put(found.pk, self.principal.actor, secret, value)
            return Answer(201 if new else 200, SecretOut(kept).data)

        return self.answer(effect)

    @extend_schema(operation_id="remove_secret", responses={204: None})
    def delete(self, request: Request, board: str, secret: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)

        def effect() -> Answer:
            keeping.remove(found.pk, self.principal.actor, secret)
            return Answer(204, None)

        return self.answer(effect)
