"""The inbox in the API: notices, the rules they follow, and the webhooks of a board."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup
from boards.api.contracts import NothingIn
from boards.api.views import IF_MATCH, LIST
from boards.notices import inbox, rules
from boards.notices.models import Notice, NoticeRules
from events import outgoing, webhooks
from events.endpoint import Body, Choice, Endpoint, Line, Words, listed, page
from events.models import Delivery, Webhook
from events.receipts import Answer
from kernel.access import Principal, Role, hidden
from kernel.errors import Forbidden, Invalid, NotFound

# ── shapes ───────────────────────────────────────────────────────────────────────────────


class NoticeOut(serializers.Serializer[Notice]):
    id = serializers.UUIDField()
    kind = Choice(Notice.Kind.choices)
    board = serializers.CharField(source="board.key")
    card = serializers.CharField(
        source="card.key", default=None, allow_null=True, help_text="null: about the goal alone."
    )
    goal = serializers.UUIDField(source="goal_id", allow_null=True)
    title = serializers.CharField()
    actor = serializers.CharField()
    text = serializers.CharField()
    message = serializers.IntegerField(source="message_id", allow_null=True)
    options = serializers.SerializerMethodField()
    question_kind = serializers.CharField(source="message.asks", default="")
    detail = serializers.SerializerMethodField()
    default = serializers.CharField(source="message.default", default="")
    on_timeout = serializers.CharField(source="message.on_timeout", default="")
    due_at = serializers.DateTimeField(source="message.due_at", default=None, allow_null=True)
    at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)
    done_at = serializers.DateTimeField(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)
    snoozed_until_at = serializers.DateTimeField(source="snoozed_until", allow_null=True)

    def get_options(self, notice: Notice) -> list[str]:
        message = notice.message
        return [str(option) for option in message.options] if message is not None else []

    def get_detail(self, notice: Notice) -> str:
        return notice.message.detail if notice.kind == "question" and notice.message else ""


class NoticeQuery(serializers.Serializer[Any]):
    kind = Choice(Notice.Kind.choices, required=False)
    board = serializers.CharField(required=False, max_length=64)
    all = serializers.BooleanField(required=False, help_text="What is settled or done as well.")


class NoticeEdit(Body):
    read = serializers.BooleanField(required=False)
    done = serializers.BooleanField(required=False)
    snoozed_until_at = serializers.DateTimeField(required=False, allow_null=True)


class WatchIn(Body):
    watching = serializers.BooleanField(allow_null=True)


class ChannelsField(serializers.ListField):
    """Ways out of the page; null where the kind is not wanted at all."""

    child = Choice(rules.CHANNELS)


class KindsIn(Body):
    question = ChannelsField(required=False, allow_null=True)
    review = ChannelsField(required=False, allow_null=True)
    blocked = ChannelsField(required=False, allow_null=True)
    stalled = ChannelsField(required=False, allow_null=True)
    budget = ChannelsField(required=False, allow_null=True)
    goal = ChannelsField(required=False, allow_null=True)
    host = ChannelsField(required=False, allow_null=True)
    mention = ChannelsField(required=False, allow_null=True)


class RulesEdit(Body):
    kinds = KindsIn(required=False)
    scope = Choice(NoticeRules.Scope.choices, required=False)
    boards = Words(max_items=200, max_chars=64)
    digest = Choice(NoticeRules.Digest.choices, required=False)
    digest_at = serializers.TimeField(required=False)
    quiet_from = serializers.TimeField(required=False, allow_null=True)
    quiet_to = serializers.TimeField(required=False, allow_null=True)
    time_zone = Line(64, required=False)
    urgent_passes = serializers.BooleanField(required=False)
    email = serializers.EmailField(required=False, allow_blank=True, max_length=254)


class RulesOut(serializers.Serializer[NoticeRules]):
    kinds = serializers.SerializerMethodField(help_text="null: not wanted at all.")
    scope = serializers.CharField()
    boards = serializers.ListField(child=serializers.CharField())
    digest = serializers.CharField()
    digest_at = serializers.TimeField(format="%H:%M")
    quiet_from = serializers.TimeField(format="%H:%M", allow_null=True)
    quiet_to = serializers.TimeField(format="%H:%M", allow_null=True)
    time_zone = serializers.CharField()
    urgent_passes = serializers.BooleanField()
    email = serializers.SerializerMethodField()
    version = serializers.IntegerField()

    @extend_schema_field(KindsIn)
    def get_kinds(self, found: NoticeRules) -> dict[str, list[str] | None]:
        return {**rules.DEFAULT, **found.kinds}

    def get_email(self, found: NoticeRules) -> str:
        return rules.address_of(found.user) if found.user_id else ""


class WebhookEdit(Body):
    url = Line(outgoing.MAX_URL_CHARS, required=True)
    kinds = Words(max_items=50, max_chars=64)
    active = serializers.BooleanField(required=False)


class WebhookChange(WebhookEdit):
    new_secret = serializers.BooleanField(required=False)


class WebhookOut(serializers.Serializer[Webhook]):
    """A webhook; the whole address is for operators, since it may be a secret itself."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    kinds = serializers.ListField(child=serializers.CharField())
    active = serializers.BooleanField()
    why_off = serializers.CharField()
    cursor = serializers.IntegerField()
    failures = serializers.IntegerField()
    failing_since_at = serializers.DateTimeField(source="failing_since", allow_null=True)
    not_before_at = serializers.DateTimeField(source="not_before", allow_null=True)
    version = serializers.IntegerField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()

    def get_url(self, hook: Webhook) -> str:
        if self.context.get("whole"):
            return hook.url
        parts = urlsplit(hook.url)
        return f"{parts.scheme}://{parts.hostname}/…"


class NewWebhookOut(WebhookOut):
    secret = serializers.CharField(help_text="In this one answer only.")


class DeliveryOut(serializers.Serializer[Delivery]):
    id = serializers.UUIDField()
    message_id = serializers.CharField()
    seq = serializers.IntegerField(allow_null=True)
    kind = serializers.CharField()
    queued = serializers.BooleanField()
    state = serializers.CharField()
    tries = serializers.IntegerField()
    code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField()
    answer = serializers.SerializerMethodField()
    duration_ms = serializers.IntegerField(allow_null=True)
    due_at = serializers.DateTimeField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_answer(self, delivery: Delivery) -> str:
        return delivery.answer if self.context.get("whole") else ""


# ── the inbox ────────────────────────────────────────────────────────────────────────────


class InboxView(Endpoint):
    """What needs the person now; for a token, what needs anybody on the boards it sees."""

    @extend_schema(
        operation_id="list_notices", parameters=[*LIST, NoticeQuery], responses=listed(NoticeOut)
    )
    def get(self, request: Request) -> Response:
        wanted = self.query(NoticeQuery)
        found = inbox.of(self.principal) if wanted.get("all") else inbox.current(self.principal)
        if "kind" in wanted:
            found = found.filter(kind=wanted["kind"])
        if "board" in wanted:
            found = found.filter(board=lookup.board(self.principal, wanted["board"]))
        found = found.select_related("board", "card", "goal", "message")
        return self.respond(
            page(request, found, lambda rows: NoticeOut(rows, many=True).data, order="-id")
        )


class NoticeView(Endpoint):
    """One notice: read, done with, or put off until later."""

    @extend_schema(operation_id="edit_notice", request=NoticeEdit, responses=NoticeOut)
    def patch(self, request: Request, notice: UUID) -> Response:
        found = inbox.find(self.principal, notice)
        changes = self.fields(NoticeEdit)
        if "snoozed_until_at" in changes:
            until = changes["snoozed_until"] = changes.pop("snoozed_until_at")
            if until is not None and until <= timezone.now():
                raise Invalid.field("snoozed_until_at", "must be later than now.")

        def effect() -> Answer:
            return Answer(200, NoticeOut(inbox.mark(found.pk, changes)).data)

        return self.answer(effect)


class RulesView(Endpoint):
    """What the person wants to hear of, by which ways and when."""

    @extend_schema(operation_id="get_notification_rules", responses=RulesOut)
    def get(self, request: Request) -> Response:
        found = rules.of(person(self.principal)) if self.principal.is_person else NoticeRules()
        return self.respond(Answer(200, RulesOut(found).data))

    @extend_schema(
        operation_id="edit_notification_rules",
        request=RulesEdit,
        responses=RulesOut,
        parameters=[IF_MATCH],
    )
    def patch(self, request: Request) -> Response:
        who = self.principal
        if not who.is_person:
            raise Forbidden("Rules are a person's; sign in in a browser.")
        changes = self.fields(RulesEdit, partial=True)
        user = person(who)
        if "kinds" in changes:
            changes["kinds"] = {**rules.of(user).kinds, **changes["kinds"]}
        if "boards" in changes:
            changes["boards"] = [str(self._board(name)) for name in changes["boards"]]
        version = self.expected_version()

        def effect() -> Answer:
            made = rules.change(user, changes, expected_version=version)
            return Answer(200, RulesOut(made).data)

        return self.answer(effect, current=lambda: RulesOut(rules.of(user)).data)

    def _board(self, name: str) -> UUID:
        try:
            return lookup.board(self.principal, name).pk
        except NotFound:
            raise Invalid.field("boards", "names a board that is not there.") from None


class WatchView(Endpoint):
    """Watch a card, keep silent about it, or leave it to the rules (people only)."""

    @extend_schema(operation_id="watch_card", request=WatchIn, responses=WatchIn)
    def post(self, request: Request, card: str) -> Response:
        found = lookup.card(self.principal, card)
        if not self.principal.is_person:
            raise Forbidden("Only a person watches cards; sign in in a browser.")
        watching = self.fields(WatchIn)["watching"]

        def effect() -> Answer:
            rules.watch(person(self.principal), found, watching)
            return Answer(200, {"watching": watching})

        return self.answer(effect)


def person(who: Principal) -> AbstractBaseUser:
    """Return the account of a signed-in person."""
    return get_user_model().objects.get(pk=who.id)


# ── webhooks ─────────────────────────────────────────────────────────────────────────────


class WithSecret(Endpoint):
    """An endpoint whose answer holds a secret: the kept answer does without."""

    def redact(self, body: Any) -> Any:
        kept = super().redact(body)
        if isinstance(kept, dict):
            kept.pop("secret", None)
        return kept

    def restore(self, answer: Answer) -> Answer:
        hook = Webhook.objects.filter(pk=answer.body["id"]).first()
        secret = webhooks.secret_of(hook) if hook is not None else ""
        return Answer(answer.status, {**answer.body, "secret": secret}, replayed=True)


class WebhooksView(WithSecret):
    """The webhooks of a board, and new ones (operators)."""

    @extend_schema(operation_id="list_webhooks", parameters=LIST, responses=listed(WebhookOut))
    def get(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board)
        rows = Webhook.objects.filter(board_id=found.pk)
        seen = {"whole": _operates(self.principal, found.pk)}
        return self.respond(
            page(request, rows, lambda r: WebhookOut(r, many=True, context=seen).data, order="-id")
        )

    @extend_schema(
        operation_id="create_webhook", request=WebhookEdit, responses={201: NewWebhookOut}
    )
    def post(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board, Role.OPERATOR)
        fields = self.fields(WebhookEdit)

        def effect() -> Answer:
            hook = webhooks.create(found.pk, self.principal.actor, **fields)
            return Answer(201, {**_out(hook), "secret": webhooks.secret_of(hook)})

        return self.answer(effect)


class WebhookView(Endpoint):
    """One webhook (operators)."""

    @extend_schema(
        operation_id="edit_webhook",
        request=WebhookChange,
        responses=WebhookOut,
        parameters=[IF_MATCH],
    )
    def patch(self, request: Request, webhook: UUID) -> Response:
        found = webhook_of(self.principal, webhook, Role.OPERATOR)
        changes = self.fields(WebhookChange, partial=True)
        version = self.expected_version()

        def effect() -> Answer:
            hook = webhooks.edit(found.pk, changes, expected_version=version)
            body = _out(hook)
            if changes.get("new_secret"):
                body["secret"] = webhooks.secret_of(hook)
            return Answer(200, body)

        return self.answer(effect, current=lambda: _out(Webhook.objects.get(pk=found.pk)))

    @extend_schema(operation_id="delete_webhook", responses={204: None})
    def delete(self, request: Request, webhook: UUID) -> Response:
        webhooks.delete(webhook_of(self.principal, webhook, Role.OPERATOR).pk)
        return Response(status=204)


class DeliveriesView(Endpoint):
    """What was sent to a webhook and what came of it, newest first."""

    @extend_schema(operation_id="list_deliveries", parameters=LIST, responses=listed(DeliveryOut))
    def get(self, request: Request, webhook: UUID) -> Response:
        found = webhook_of(self.principal, webhook)
        seen = {"whole": found.board_id is None or _operates(self.principal, found.board_id)}
        return self.respond(
            page(
                request,
                Delivery.objects.filter(webhook=found),
                lambda rows: DeliveryOut(rows, many=True, context=seen).data,
                order="-id",
            )
        )


class TestView(Endpoint):
    """Send a test to a webhook (operators)."""

    @extend_schema(operation_id="test_webhook", request=NothingIn, responses={202: DeliveryOut})
    def post(self, request: Request, webhook: UUID) -> Response:
        found = webhook_of(self.principal, webhook, Role.OPERATOR)
        self.fields(NothingIn)

        def effect() -> Answer:
            return Answer(202, DeliveryOut(webhooks.test(found, self.principal.actor)).data)

        return self.answer(effect)


class RepeatView(Endpoint):
    """Send a delivery again, under its old id (operators)."""

    @extend_schema(operation_id="redeliver", request=NothingIn, responses={202: DeliveryOut})
    def post(self, request: Request, delivery: UUID) -> Response:
        found = Delivery.objects.filter(pk=delivery).select_related("webhook").first()
        if found is None:
            raise hidden("delivery")
        _require(self.principal, found.webhook, Role.OPERATOR, "delivery")
        self.fields(NothingIn)

        def effect() -> Answer:
            return Answer(202, DeliveryOut(webhooks.repeat(found)).data)

        return self.answer(effect)


class PersonalWebhookView(WithSecret):
    """The person's own webhook, to which their notices go."""

    @extend_schema(
        operation_id="set_personal_webhook", request=WebhookEdit, responses={201: NewWebhookOut}
    )
    def post(self, request: Request) -> Response:
        who = self.principal
        if not who.is_person:
            raise Forbidden("A webhook for notices is a person's; sign in in a browser.")
        fields = self.fields(WebhookEdit)

        def effect() -> Answer:
            hook = webhooks.create(None, who.actor, user_id=int(who.id), **fields)
            return Answer(201, {**_out(hook), "secret": webhooks.secret_of(hook)})

        return self.answer(effect)


def webhook_of(who: Principal, pk: UUID, role: Role = Role.VIEWER) -> Webhook:
    """Return the webhook: of a board that the principal has the role on, or their own."""
    found = Webhook.objects.filter(pk=pk).first()
    if found is None:
        raise hidden("webhook")
    _require(who, found, role, "webhook")
    return found


def _require(who: Principal, hook: Webhook, role: Role, what: str) -> None:
    if hook.board_id is not None:
        who.require(hook.board_id, role, what)
    elif not (who.is_person and str(hook.user_id) == who.id):
        raise hidden(what)


def _operates(who: Principal, board_id: UUID) -> bool:
    role = who.role_on(board_id)
    return role is not None and role >= Role.OPERATOR


def _out(hook: Webhook) -> dict[str, Any]:
    return dict(WebhookOut(hook, context={"whole": True}).data)
