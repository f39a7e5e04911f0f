"""Who works on a board, and what is imported into it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import importing, lookup, members
from boards.api.views import LIST
from boards.models import Membership
from events.endpoint import Body, Choice, Endpoint, Line, Text, listed, page
from events.receipts import Answer
from kernel.access import Role


class MemberIn(Body):
    user = Line(150, required=True, help_text="The name of an account.")
    role = Choice(["viewer", "member", "operator"], default="member")


class MemberOut(serializers.Serializer[Membership]):
    id = serializers.IntegerField()
    user = serializers.CharField(source="user.get_username")
    role = serializers.SerializerMethodField()

    def get_role(self, member: Membership) -> str:
        return Role(member.role).label


class BoardTokenOut(serializers.Serializer[Membership]):
    id = serializers.UUIDField(source="token.pk")
    name = serializers.CharField(source="token.name")
    hint = serializers.CharField(source="token.hint", help_text="Its last characters.")
    role = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(source="token.created_at")
    expires_at = serializers.DateTimeField(source="token.expires_at", allow_null=True)
    last_used_at = serializers.DateTimeField(source="token.last_used_at", allow_null=True)
    carries_secrets = serializers.BooleanField(source="token.carries_secrets")

    def get_role(self, member: Membership) -> str:
        return Role(member.role).label


class FileIn(Body):
    name = Line(200, required=True)
    text = Text(importing.LONGEST, required=True)


class ImportIn(Body):
    files = FileIn(many=True, max_length=500)
    format = Choice(importing.FORMATS, required=False, allow_blank=True)
    dry_run = serializers.BooleanField(default=False)
    keep_going = serializers.BooleanField(
        default=False, help_text="Leave out what can't be read or kept."
    )


class ImportedCardOut(serializers.Serializer[Any]):
    ref = serializers.CharField(help_text="Its name in what was imported.")
    key = serializers.CharField(allow_null=True)
    title = serializers.CharField()
    kind = serializers.CharField()
    priority = serializers.IntegerField()
    goal = serializers.CharField(allow_null=True)
    depends_on = serializers.ListField(child=serializers.CharField())
    there = serializers.BooleanField(help_text="An earlier import has made it.")


class ImportOut(serializers.Serializer[Any]):
    format = serializers.CharField()
    dry_run = serializers.BooleanField()
    goals = serializers.ListField(child=serializers.CharField())
    cards = ImportedCardOut(many=True)
    problems = serializers.ListField(child=serializers.CharField())
    warnings = serializers.ListField(child=serializers.CharField())


class MembersView(Endpoint):
    """The people who may see the board; operators take them in."""

    @extend_schema(operation_id="list_members", parameters=LIST, responses=listed(MemberOut))
    def get(self, request: Request, board: str) -> Response:
        people = members.people_of(lookup.board(self.principal, board).pk)
        return self.respond(
            page(request, people, lambda m: MemberOut(m, many=True).data, order="id")
        )

    @extend_schema(operation_id="set_member", request=MemberIn, responses=MemberOut)
    def post(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        fields = self.fields(MemberIn)

        def effect() -> Answer:
            user, role = members.person(fields["user"]), Role[fields["role"].upper()]
            member = members.grant(found.pk, self.principal.actor, role, user_id=user.pk)
            return Answer(200, MemberOut(member).data)

        return self.answer(effect)


class MemberView(Endpoint):
    """One person's place on the board."""

    @extend_schema(operation_id="remove_member", responses={204: None})
    def delete(self, request: Request, board: str, member: int) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)

        def effect() -> Answer:
            members.remove(members.of_board(found.pk, member).pk, self.principal.actor)
            return Answer(204, None)

        return self.answer(effect)


class BoardTokensView(Endpoint):
    """The board's tokens that are not revoked, without their secrets."""

    @extend_schema(
        operation_id="list_board_tokens", parameters=LIST, responses=listed(BoardTokenOut)
    )
    def get(self, request: Request, board: str) -> Response:
        kept = members.tokens_of(lookup.board(self.principal, board).pk)
        return self.respond(
            page(request, kept, lambda m: BoardTokenOut(m, many=True).data, order="id")
        )


class ImportView(Endpoint):
    """Makes cards of a plan from elsewhere, all or none; ``dry_run`` only tells which."""

    @extend_schema(operation_id="import_cards", request=ImportIn, responses=ImportOut)
    def post(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.MEMBER)
        fields = self.fields(ImportIn)
        source = importing.read(fields["files"], fields.get("format") or None)

        def effect() -> Answer:
            done = importing.carry_out(
                found,
                self.principal.actor,
                source,
                dry_run=fields["dry_run"],
                keep_going=fields["keep_going"],
            )
            return Answer(200, ImportOut(done).data)

        return self.answer(effect)
