from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from events import webhooks
from events.admin_base import OnBoard, ViewOnly, pretty, short
from events.models import Delivery, Event, Receipt, Stream, Webhook


class Noun(admin.SimpleListFilter):
    """What the event is about: the first half of its kind. Fixed, for a log is too long to ask."""

    title = "about"
    parameter_name = "about"
    NOUNS = (
        "attempt",
        "board",
        "card",
        "checkpoint",
        "decision",
        "discovery",
        "goal",
        "log",
        "member",
        "message",
        "step",
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(noun, noun) for noun in self.NOUNS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in self.NOUNS:
            return queryset.filter(kind__startswith=f"{self.value()}.")
        return queryset


@admin.register(Event)
class EventAdmin(ViewOnly, OnBoard):
    """The log: what happened on the boards, newest first."""

    list_display = ("seq", "on_board", "at", "kind", "subject", "actor")
    list_filter = (Noun,)
    search_fields = ("=kind", "=actor", "=data__card", "subject_id")
    search_help_text = "A card's key, a kind (card.claimed), an actor (worker:ada) or an id."
    ordering = ("-id",)
    fields = ("on_board", "seq", "at", "kind", "actor", "subject_id", "details")

    @admin.display(description="subject")
    def subject(self, event: Event) -> str:
        data = event.data if isinstance(event.data, dict) else {}
        return str(data.get("card") or data.get("title") or data.get("board") or event.subject_id)

    @admin.display(description="data")
    def details(self, event: Event) -> str:
        return pretty(event.data)


@admin.register(Stream)
class StreamAdmin(ViewOnly, OnBoard):
    """How far each board's log has been counted."""

    list_display = ("on_board", "last_seq")
    search_fields = ("board_id",)


@admin.register(Receipt)
class ReceiptAdmin(ViewOnly):
    """Answers kept for requests that come again."""

    list_display = ("key", "principal", "status", "at")
    list_filter = ("status",)
    search_fields = ("=key", "=principal")
    ordering = ("-id",)
    fields = ("principal", "key", "fingerprint", "status", "at", "answer")

    @admin.display(description="answer")
    def answer(self, receipt: Receipt) -> str:
        return pretty(receipt.body)


@admin.register(Webhook)
class WebhookAdmin(ViewOnly, OnBoard):
    """Addresses that are told of events, and how they fare. A board's operators change them."""

    list_display = ("url", "on_board", "active", "failures", "failing_since", "not_before")
    list_filter = ("active",)
    search_fields = ("url",)
    ordering = ("-id",)
    fields = (
        "url", "on_board", "user_id", "chosen_kinds", "active", "why_off", "cursor", "tries",
        "failures", "failing_since", "not_before", "created_by", "created_at",
    )  # fmt: skip

    @admin.display(description="kinds")
    def chosen_kinds(self, hook: Webhook) -> str:
        return ", ".join(hook.kinds) or "all"


@admin.register(Delivery)
class DeliveryAdmin(ViewOnly):
    """What was sent to webhooks and what came of it."""

    list_display = ("kind", "seq", "webhook", "state", "code", "tries", "trouble", "created_at")
    list_select_related = ("webhook",)
    list_filter = ("state",)
    search_fields = ("=message_id", "=kind")
    ordering = ("-id",)
    actions = ("send_again",)
    steered_by = "events.change_delivery"
    fields = (
        "webhook", "message_id", "kind", "seq", "state", "code", "tries", "error", "answer",
        "duration_ms", "queued", "due_at", "created_at", "finished_at",
    )  # fmt: skip

    @admin.display(description="error")
    def trouble(self, delivery: Delivery) -> str:
        return short(delivery.error)

    @admin.action(description="Send again", permissions=["steer"])
    def send_again(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self.each(request, rows.select_related("webhook"), webhooks.repeat, "is sent again")
