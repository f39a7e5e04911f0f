from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from boards.secrets import keeping
from boards.secrets.models import Secret
from events.admin_base import Page, actor_of


@admin.register(Secret)
class SecretAdmin(Page):
    """What secrets there are. They are set on the board; here they can be removed."""

    list_display = ("name", "board", "set_by", "set_at")
    fields = readonly_fields = ("board", "name", "set_by", "set_at")
    list_filter = ("board",)
    list_select_related = ("board",)
    search_fields = ("=name", "=board__key")
    ordering = ("board__key", "name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("sealed")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        keeping.remove(obj.board_id, actor_of(request), obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for secret in queryset:
            self.delete_model(request, secret)
