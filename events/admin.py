from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from events.admin_base import OnBoard, ViewOnly, pretty
from events.models import Event, Receipt, Stream


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
