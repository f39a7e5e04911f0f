"""The board side of the API: each view parses, calls one transition and answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from boards import cards, lookup, questions, setup, tokens, workflow_templates
from boards.api import contracts as c
from boards.models import Attempt, Board, Message
from events.endpoint import Endpoint, etag, listed, page
from events.receipts import Answer
from goals.api.contracts import PinIn
from kernel.access import Principal, Role
from kernel.errors import Forbidden, Invalid, NotFound
from kernel.release import version

IF_MATCH = OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The ETag seen.")
LIST = [
    OpenApiParameter("limit", int, description="Page size, 1 to 200; 50 unless told."),
    OpenApiParameter("cursor", str, description="From the answer's `next`."),
]


class BoardEndpoint(Endpoint):
    """Base of the calls that show boards as whoever asks may see them."""

    def shown(self, boards: Any, *, many: bool = False) -> Any:
        return c.BoardOut(boards, many=many, context={"principal": self.principal}).data


class BoardsView(BoardEndpoint):
    """The boards that the principal sees, and new ones."""

    @extend_schema(operation_id="list_boards", parameters=LIST, responses=listed(c.BoardOut))
    def get(self, request: Request) -> Response:
        boards = Board.objects.visible_to(self.principal.visible()).prefetch_related("columns")
        boards = boards.filter(archived_at=None)
        return self.respond(
            page(request, boards, lambda found: self.shown(found, many=True), order="key")
        )

    @extend_schema(operation_id="create_board", request=c.BoardIn, responses={201: c.BoardOut})
    def post(self, request: Request) -> Response:
        if not self.principal.is_person and self.principal.everywhere != Role.OPERATOR:
            raise Forbidden("A new board needs a person or an operator's token for all boards.")
        fields = self.fields(c.BoardIn)
        _check_operator_only(self.principal, fields)

        def effect() -> Answer:
            fields.setdefault("allow_commands", settings.ALLOW_COMMANDS)
            fields.setdefault("allow_network", settings.ALLOW_NETWORK)
            template = fields.pop("template", None)
            if template:
                made = setup.make_board(self.principal, template, **fields)
            else:
                made = cards.create_board(self.principal, **fields)
            return Answer(201, self.shown(made))

        return self.answer(effect)


def _check_operator_only(principal: Principal, fields: dict[str, Any]) -> None:
    """Pass if the principal may have these set. Raises Forbidden."""
    for name, what in (("allow_commands", "commands"), ("allow_network", "the network")):
        if fields.get(name) and principal.everywhere != Role.OPERATOR:
            raise Forbidden(f"Only an operator of the installation may allow {what} on a board.")


class BoardView(BoardEndpoint):
    """One board."""

    @extend_schema(operation_id="get_board", responses=c.BoardOut)
    def get(self, request: Request, board: str) -> Response:
        return self.respond(Answer(200, self.shown(lookup.board(self.principal, board))))

    @extend_schema(
        operation_id="edit_board", request=c.BoardEdit, responses=c.BoardOut, parameters=[IF_MATCH]
    )
    def patch(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        changes = self.fields(c.BoardEdit, partial=True)
        _check_operator_only(self.principal, changes)
        version = self.expected_version()

        def effect() -> Answer:
            edited = cards.edit_board(
                found.pk, self.principal.actor, changes, expected_version=version
            )
            return Answer(200, self.shown(edited))

        return self.answer(effect, current=lambda: self.shown(Board.objects.get(pk=found.pk)))


class CardsView(Endpoint):
    """Cards by filter, and new ones."""

    @extend_schema(
        operation_id="list_cards", parameters=[*LIST, c.CardQuery], responses=listed(c.CardOut)
    )
    def get(self, request: Request) -> Response:
        found = self._filtered(self.query(c.CardQuery))
        return self.respond(
            page(
                request,
                found,
                lambda rows: c.CardOut(c.with_latest(rows), many=True).data,
                order="-id",
            )
        )

    def _filtered(self, wanted: dict[str, Any]) -> Any:
        found = c.loaded().visible_to(self.principal.visible()).filter(archived_at=None)
        if "board" in wanted:
            found = found.filter(board=lookup.board(self.principal, wanted["board"]))
        if "goal" in wanted:
            found = found.filter(goal_id=wanted["goal"])
        if "column" in wanted:
            pk = lookup.as_uuid(wanted["column"])
            name = wanted["column"]
            by_name = Q(column__name__iexact=name) | Q(column__kind=name.lower())
            found = found.filter(Q(column_id=pk) if pk else by_name)
        if "kind" in wanted:
            found = found.filter(column__kind=wanted["kind"])
        if "state" in wanted:
            found = found.filter(state=wanted["state"])
        if "label" in wanted:
            found = found.labelled(wanted["label"])
        if "q" in wanted:
            found = found.filter(
                Q(title__icontains=wanted["q"])
                | Q(description__icontains=wanted["q"])
                | Q(key__iexact=wanted["q"])
            )
        return found

    @extend_schema(operation_id="create_card", request=c.CardIn, responses={201: c.CardOut})
    def post(self, request: Request) -> Response:
        fields = self.fields(c.CardIn)
        board = lookup.board(self.principal, fields.pop("board"), Role.MEMBER)
        template = fields.pop("template", None)
        wanted = resolved(self, board, fields)
        if template:
            if wanted.get("workflow"):
                raise Invalid.field("workflow", "comes from the template; send one of the two.")
            made_from = workflow_templates.find(board, template)
            wanted |= workflow_templates.filled(made_from, wanted.get("inputs"))

        def effect() -> Answer:
            card = cards.create(board, self.principal.actor, **wanted)
            return Answer(201, c.card_out(card))

        return self.answer(effect)


class CardView(Endpoint):
    """One card."""

    @extend_schema(operation_id="get_card", responses=c.CardOut)
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        body = c.card_out(found)
        if request.headers.get("If-None-Match") == etag(body["version"]):
            return Response(status=304, headers={"ETag": etag(body["version"])})
        return self.respond(Answer(200, body))

    @extend_schema(
        operation_id="edit_card", request=c.CardEdit, responses=c.CardOut, parameters=[IF_MATCH]
    )
    def patch(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        changes = resolved(self, found.board, self.fields(c.CardEdit, partial=True))
        version = self.expected_version()

        def effect() -> Answer:
            edited = cards.edit(found.pk, self.principal.actor, changes, expected_version=version)
            return Answer(200, c.card_out(edited))

        return self.answer(effect, current=lambda: c.card_out(found))

    @extend_schema(operation_id="delete_card", responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: Request, card: str) -> Response:
        # Its history goes with it, for good: a member archives.
        found = lookup.card(self.principal, card, Role.OPERATOR)
        version = self.expected_version()

        def effect() -> Answer:
            cards.delete(found.pk, self.principal.actor, expected_version=version)
            return Answer(204, None)

        return self.answer(effect, current=lambda: c.card_out(found))


class MoveView(Endpoint):
    """Move and rank a card."""

    @extend_schema(
        operation_id="move_card", request=c.MoveIn, responses=c.CardOut, parameters=[IF_MATCH]
    )
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        fields = self.fields(c.MoveIn)
        column = lookup.column(found.board, fields["column"])
        beside = {
            side: lookup.named(self.principal, found.board, fields[side], side)
            for side in ("before", "after")
            if fields.get(side)
        }
        filed = {name: fields[name] for name in ("goal", "priority") if name in fields}
        changes = resolved(self, found.board, filed)
        version = self.expected_version()

        def effect() -> Answer:
            moved, warnings = cards.refile(
                found.pk,
                self.principal.actor,
                column.pk,
                changes,
                expected_version=version,
                **beside,
            )
            return Answer(200, {**c.card_out(moved), "warnings": warnings})

        return self.answer(effect, current=lambda: c.card_out(found))


class SteerView(Endpoint):
    """Pause, resume, cancel, retry, archive or restore a card; approve it (people only)."""

    action = ""
    operation_id = ""

    @extend_schema(request=c.NothingIn, responses=c.CardOut)
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        self.fields(c.NothingIn)
        if self.action == "approve" and not self.principal.is_person:
            raise Forbidden("Only a person may approve; sign in to the board in a browser.")
        steer = getattr(cards, self.action)

        def effect() -> Answer:
            return Answer(200, c.card_out(steer(found.pk, self.principal.actor)))

        return self.answer(effect)


class RejectView(Endpoint):
    """Send a card in review back, with the reason (people only)."""

    @extend_schema(operation_id="reject_card", request=c.RejectIn, responses=c.CardOut)
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        if not self.principal.is_person:
            raise Forbidden("Only a person may reject; sign in to the board in a browser.")
        reason = self.fields(c.RejectIn)["reason"]

        def effect() -> Answer:
            return Answer(200, c.card_out(cards.reject(found.pk, self.principal.actor, reason)))

        return self.answer(effect)


class MessagesView(Endpoint):
    """What was said about a card, newest first."""

    @extend_schema(operation_id="list_messages", parameters=LIST, responses=listed(c.MessageOut))
    def get(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        rows = Message.objects.filter(card=found)
        return self.respond(
            page(request, rows, lambda m: c.MessageOut(m, many=True).data, order="-id")
        )

    @extend_schema(operation_id="post_message", request=c.MessageIn, responses={201: c.MessageOut})
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        fields = self.fields(c.MessageIn)
        answers = fields.get("answers")
        if fields.get("reason") and answers is None:
            raise Invalid.field("reason", "goes with an answer; name the question in answers.")
        if answers is not None:
            asked = found.messages.select_related("attempt", "card").filter(pk=answers).first()
            questions.check_may_answer(self.principal, asked)

        def effect() -> Answer:
            message = cards.say(
                found.pk,
                self.principal.actor,
                fields["text"],
                answers=answers,
                reason=fields.get("reason", ""),
                via="browser" if self.principal.is_person else "api",
                pinned=fields.get("pinned", False),
            )
            return Answer(201, c.MessageOut(message).data)

        return self.answer(effect)


class MessageView(Endpoint):
    """One thing said about a card: whether every briefing tells it."""

    @extend_schema(operation_id="pin_message", request=PinIn, responses=c.MessageOut)
    def patch(self, request: Request, card: str, message: int) -> Response:
        found = lookup.card(self.principal, card, Role.MEMBER)
        said = found.messages.select_related("card").filter(pk=message).first()
        if said is None:
            raise NotFound(f"The card has no message {message}.")
        fields = self.fields(PinIn)

        def effect() -> Answer:
            kept = cards.pin(said, self.principal.actor, fields["pinned"])
            return Answer(200, c.MessageOut(kept).data)

        return self.answer(effect)


class AttemptsView(Endpoint):
    """The attempts at a card, newest first."""

    @extend_schema(operation_id="list_attempts", parameters=LIST, responses=listed(c.AttemptOut))
    def get(self, request: Request, card: str) -> Response:
        rows = Attempt.objects.filter(card=lookup.card(self.principal, card))
        return self.respond(
            page(request, rows, lambda a: c.AttemptOut(a, many=True).data, order="-number")
        )


class MeView(Endpoint):
    """Who the principal is, what it may do where, and the server's version."""

    @extend_schema(operation_id="get_me", responses={200: dict})
    def get(self, request: Request) -> Response:
        who = self.principal
        boards = Board.objects.visible_to(who.visible()).filter(archived_at=None).order_by("key")
        may = max([who.everywhere or 0, *who.boards.values()])
        body = {
            "kind": who.kind,
            "id": who.id,
            "name": who.name,
            "version": version(),
            "everywhere": who.everywhere.label if who.everywhere else None,
            "scopes": [role.label for role in Role if role <= may],
            "boards": [
                {"id": str(b.pk), "key": b.key, "name": b.name, "role": role.label}
                for b in boards[:200]
                if (role := who.role_on(b.pk)) is not None
            ],
        }
        return self.respond(Answer(200, body))


class TokensView(Endpoint):
    """Tokens of a board: operators make them; the plaintext is in the first answer only.

    A repeated request makes no second token; it is told the first one without its plaintext.
    """

    def redact(self, body: Any) -> Any:
        return {**super().redact(body), "token": None}

    @extend_schema(operation_id="create_token", request=c.TokenIn, responses={201: dict})
    def post(self, request: Request) -> Response:
        if not self.principal.is_person and self.principal.everywhere != Role.OPERATOR:
            raise Forbidden("Only a person may create a token.")
        fields = self.fields(c.TokenIn)
        board = lookup.board(self.principal, fields["board"], Role.OPERATOR)

        def effect() -> Answer:
            issued = tokens.issue(
                fields["name"],
                roles={board.pk: Role[fields["role"].upper()]},
                expires_at=fields.get("expires_at"),
                carries_secrets=fields["carries_secrets"],
            )
            body = {
                "id": str(issued.token.pk),
                "name": issued.token.name,
                "token": issued.plaintext,
                "board": board.key,
                "role": fields["role"],
                "carries_secrets": fields["carries_secrets"],
            }
            return Answer(201, body)

        return self.answer(effect)


class TokenView(Endpoint):
    """One token."""

    @extend_schema(operation_id="revoke_token", responses={204: None})
    def delete(self, request: Request, token: UUID) -> Response:
        tokens.revoke(lookup.token(self.principal, token).pk)
        return Response(status=204)


def resolved(view: Endpoint, board: Board, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the column, goal and cards that they name looked up."""
    wanted = dict(fields)
    if not wanted.get("column"):
        wanted.pop("column", None)
    else:
        wanted["column"] = lookup.column(board, wanted["column"])
    if "goal" in wanted:
        wanted["goal"] = _goal(view, board, wanted["goal"]) if wanted["goal"] else None
    if "depends_on" in wanted:
        wanted["depends_on"] = [
            lookup.named(view.principal, board, name, f"depends_on[{n}]")
            for n, name in enumerate(wanted["depends_on"])
        ]
    return wanted


def _goal(view: Endpoint, board: Board, name: Any) -> Any:
    try:
        goal = lookup.goal(view.principal, name)
    except NotFound:
        goal = None
    if goal is None or goal.board_id != board.pk:
        raise Invalid.field("goal", "names no goal of this board.")
    return goal
