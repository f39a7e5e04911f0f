"""The search index as operators see it: what is in it, what is not yet, and how to make it anew."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from events.admin_base import ViewOnly, short
from goals.search import keeping
from goals.search.models import Entry, Filled, Pending


@admin.register(Entry)
class EntryAdmin(ViewOnly):
    """What is found by its words. Search itself is on the pages: this is the table behind it."""

    list_display = ("ref", "kind", "short_title", "actor", "at")
    list_filter = ("kind",)
    search_fields = ("ref", "actor")
    ordering = ("-id",)
    readonly_fields = tuple(field.name for field in Entry._meta.fields)
    fields = readonly_fields

    @admin.display(description="title")
    def short_title(self, entry: Entry) -> str:
        return short(entry.title)


@admin.register(Pending)
class PendingAdmin(ViewOnly):
    """What was written of late and is taken in by the next sweep."""

    list_display = ("kind", "key")
    list_filter = ("kind",)
    search_fields = ("key",)
    ordering = ("id",)
    readonly_fields = fields = ("kind", "key")


@admin.register(Filled)
class FilledAdmin(ViewOnly):
    """How far what is older than the index has been taken in."""

    list_display = ("kind", "done", "upto")
    search_fields = ("kind",)
    ordering = ("kind",)
    readonly_fields = fields = ("kind", "done", "upto", "definition")
    actions = ("begin_anew",)

    @admin.action(description="Take everything in again", permissions=["view"])
    def begin_anew(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        keeping.begin_anew()
        self.message_user(request, "The sweep takes everything in again, in small slices.")
