"""Plans for operators to look at; people review them on their page."""

from __future__ import annotations

from django.contrib import admin

from boards.planning.models import Plan
from events.admin_base import OnBoard, ViewOnly, pretty


@admin.register(Plan)
class PlanAdmin(ViewOnly, OnBoard):
    """Plans, newest first, and what became of each card."""

    list_display = ("goal", "number", "on_board", "status", "source", "created_by", "created_at")
    list_select_related = ("goal",)
    list_filter = ("status", "source")
    search_fields = ("goal__title", "created_by")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    fields = (
        "goal", "number", "on_board", "status", "source", "card", "note", "what", "became",
        "created_by", "created_at", "closed_by", "closed_at",
    )  # fmt: skip

    @admin.display(description="items")
    def what(self, plan: Plan) -> str:
        return pretty(plan.items)

    @admin.display(description="outcome")
    def became(self, plan: Plan) -> str:
        return pretty(plan.outcome)
