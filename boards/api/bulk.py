"""One change to many cards, each for itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import cards, lookup
from boards.models import Card, Column
from events import receipts
from events.endpoint import Body, Choice, Endpoint, Line, Words
from events.receipts import Answer
from goals.models import Goal
from kernel.access import Role
from kernel.digests import sha256
from kernel.errors import DomainError, Invalid, KeyReused, Stale
from kernel.tx import retrying

MAX_CARDS = 200
MAX_LABELS = 50
TRIES = 3
STEERING = ("pause", "resume", "cancel", "retry", "archive", "unarchive")
ACTIONS = ("move", "edit", *STEERING)


class ChangesIn(Body):
    """What ``edit`` changes; ``add_labels`` and ``remove_labels`` leave a card's others alone."""

    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)
    goal = serializers.UUIDField(required=False, allow_null=True)
    add_labels = Words()
    remove_labels = Words()
    due_at = serializers.DateTimeField(required=False, allow_null=True)


class BulkIn(Body):
    cards = Words(max_items=MAX_CARDS, required=True, allow_empty=False)
    action = Choice(choices=ACTIONS)
    column = Line(64, help_text="For move: the id, name or kind of a column.")
    changes = ChangesIn(required=False, allow_null=True)


class OutcomeOut(serializers.Serializer[Any]):
    card = serializers.CharField()
    ok = serializers.BooleanField()
    version = serializers.IntegerField(required=False)
    was = serializers.DictField(required=False, help_text="What edit changed, as it was before.")
    code = serializers.CharField(required=False)
    detail = serializers.CharField(required=False)


class BulkOut(serializers.Serializer[Any]):
    results = OutcomeOut(many=True)


class BulkView(Endpoint):
    """Change many cards: one that is refused says why and holds up none of the others.

    Each card is a transition, and with an Idempotency-Key a receipt, of its own: repeated after
    a failure half-way, what was done stays done once and the rest is done.
    """

    @extend_schema(operation_id="change_cards", request=BulkIn, responses=BulkOut)
    def post(self, request: Request) -> Response:
        fields = self.fields(BulkIn)
        if fields["action"] == "move" and not fields.get("column"):
            raise Invalid.field("column", "is needed to move cards.")
        if fields["action"] == "edit" and not fields.get("changes"):
            raise Invalid.field("changes", "must say what to change.")
        names = list(dict.fromkeys(fields["cards"]))
        self._let_in(names)
        outcomes = [self._outcome(name, fields) for name in names]
        replayed = all(replay for _, replay in outcomes)
        body = {"results": [told for told, _ in outcomes]}
        return self.respond(Answer(200, body, replayed=replayed))

    def _let_in(self, names: list[str]) -> None:
        """Pass whoever may change one of the cards. Raises NotFound and Forbidden."""
        refused: list[DomainError] = []
        for name in names:
            try:
                lookup.card(self.principal, name, Role.MEMBER)
                return
            except DomainError as refusal:
                refused.append(refusal)
        raise refused[0]

    def _outcome(self, name: str, fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        try:
            answer = self._each(name, lambda: self._changed(name, fields))
        except KeyReused:
            raise
        except DomainError as refusal:
            told = {"card": name, "ok": False, "code": refusal.code, "detail": refusal.detail}
            return told, False
        return answer.body, answer.replayed

    def _each(self, name: str, effect: Callable[[], Answer]) -> Answer:
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return retrying(effect)
        own = "bulk:" + sha256(receipts.check_key(key).encode(), name.encode())
        who, fingerprint = self.principal.key, self.fingerprint()
        return retrying(lambda: receipts.once(who, own, fingerprint, effect))

    def _changed(self, name: str, fields: dict[str, Any]) -> Answer:
        card = lookup.card(self.principal, name, Role.MEMBER)
        actor = self.principal.actor
        told: dict[str, Any] = {"card": name, "ok": True}
        if fields["action"] == "edit":
            changed, told["was"] = _edit(card, actor, fields["changes"])
        else:
            changed = _change(card, actor, fields)
        return Answer(200, {**told, "version": changed.version})


def _change(card: Card, actor: str, fields: dict[str, Any]) -> Card:
    action = fields["action"]
    if action == "move":
        column: Column = lookup.column(card.board, fields["column"])
        return cards.move(card.pk, actor, column.pk)[0]
    steer: Callable[[UUID, str], Card] = getattr(cards, action)
    return steer(card.pk, actor)


def _edit(card: Card, actor: str, changes: dict[str, Any]) -> tuple[Card, dict[str, Any]]:
    """Edit the card as it is now, and return it with what was changed as it was before.

    Labels are added to those that others add meanwhile.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            edits = _edits(card, changes)
            was = {name: _told(getattr(card, name)) for name in edits}
            return cards.edit(card.pk, actor, edits, expected_version=card.version), was
        except Stale:
            if not left:
                raise
            card = Card.objects.get(pk=card.pk)
    raise AssertionError("unreachable")


def _edits(card: Card, changes: dict[str, Any]) -> dict[str, Any]:
    edits = {name: changes[name] for name in ("priority", "due_at") if name in changes}
    if "goal" in changes:
        goal = changes["goal"]
        edits["goal"] = Goal.objects.filter(pk=goal, board_id=card.board_id).first()
        if goal is not None and edits["goal"] is None:
            raise Invalid.field("changes.goal", "is no goal of the card's board.")
    added, removed = changes.get("add_labels") or [], changes.get("remove_labels") or []
    if added or removed:
        kept = [label for label in card.labels if label not in removed]
        edits["labels"] = list(dict.fromkeys([*kept, *added]))
        if len(edits["labels"]) > MAX_LABELS:
            raise Invalid.field("changes.add_labels", f"a card has at most {MAX_LABELS} labels.")
    return edits


def _told(value: Any) -> Any:
    if isinstance(value, Goal):
        return str(value.pk)
    if isinstance(value, datetime):
        return serializers.DateTimeField().to_representation(value)
    return value
