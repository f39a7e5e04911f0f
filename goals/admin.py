from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

import goals.search.admin  # noqa: F401 — so that its pages are registered
from events.admin_base import (
    ByTransition,
    EditForm,
    ObjectField,
    OnBoard,
    ViewOnly,
    actor_of,
    links,
    one,
    pretty,
    rows_of,
    short,
)
from goals import amendments, checks, memory
from goals.models import (
    Amendment,
    CheckRun,
    Criterion,
    Decision,
    Discovery,
    Evidence,
    Goal,
    Regression,
)


class GoalForm(EditForm):
    budgets = ObjectField()

    class Meta:
        model = Goal
        fields = (
            "title",
            "intent",
            "status",
            "evidence_required",
            "achieves_itself",
            "check_every_seconds",
            "budgets",
            "share",
            "max_running",
            "plans_first",
        )


class CriteriaInline(admin.TabularInline):
    """The criteria that stand, and whether they are met."""

    model = Criterion
    fields = readonly_fields = ("number", "text", "check_command", "met", "replaces", "retired_at")
    ordering = ("number",)
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Goal)
class GoalAdmin(ByTransition, OnBoard):
    """What boards work towards. Criteria change through the API, which keeps their evidence."""

    form = GoalForm
    list_display = ("title", "on_board", "status", "criteria_met", "version", "updated_at")
    list_filter = ("status",)
    search_fields = ("title", "intent")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    inlines = (CriteriaInline,)
    actions = ("check_criteria",)
    steered_by = "goals.change_goal"
    readonly_fields = (
        "on_board",
        "parent",
        "constraints_laid_out",
        "over",
        "version",
        "created_by",
        "created_at",
        "updated_at",
        "history",
    )
    fields = (*GoalForm.Meta.fields, *readonly_fields, "seen_version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        standing = Q(criteria__retired_at=None)
        return (
            super()
            .get_queryset(request)
            .annotate(
                n_criteria=Count("criteria", filter=standing),
                n_met=Count("criteria", filter=standing & Q(criteria__met=True)),
            )
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a goal begins on its board

    def save_model(self, request: HttpRequest, obj: Goal, form: Any, change: bool) -> None:
        if changes := form.changes():
            memory.edit(
                obj.pk,
                actor_of(request),
                changes,
                expected_version=form.cleaned_data["seen_version"],
            )

    @admin.action(description="Check the criteria of the chosen goals", permissions=["steer"])
    def check_criteria(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def check_one(goal: Goal) -> None:
            checks.request(goal, actor_of(request))

        self.each(request, queryset, check_one, "to be checked")

    @admin.display(description="criteria met")
    def criteria_met(self, goal: Any) -> str:
        return f"{goal.n_met} of {goal.n_criteria}" if goal.n_criteria else "–"

    @admin.display(description="constraints")
    def constraints_laid_out(self, goal: Goal) -> str:
        return pretty(goal.constraints)

    @admin.display(description="see also")
    def history(self, goal: Goal) -> str:
        return links(
            rows_of("boards_card", "cards", goal__id__exact=goal.pk),
            rows_of("goals_decision", "decisions", goal__id__exact=goal.pk),
            rows_of("goals_discovery", "discoveries", goal__id__exact=goal.pk),
            rows_of("goals_amendment", "amendments", goal__id__exact=goal.pk),
            rows_of("events_event", "events", subject_id__exact=goal.pk),
        )


@admin.register(Criterion)
class CriterionAdmin(ViewOnly):
    list_display = ("text", "goal", "number", "met", "check_command", "replaces", "retired_at")
    list_filter = ("met", ("retired_at", admin.EmptyFieldListFilter))
    list_select_related = ("goal",)
    search_fields = ("text", "check_command", "goal__title")


@admin.register(Evidence)
class EvidenceAdmin(ViewOnly):
    list_display = ("criterion", "met", "summary", "actor", "at")
    list_filter = ("met",)
    list_select_related = ("criterion",)
    search_fields = ("detail", "criterion__text", "actor")
    date_hierarchy = "at"
    ordering = ("-id",)

    @admin.display(description="detail")
    def summary(self, evidence: Evidence) -> str:
        return short(evidence.detail)


@admin.register(CheckRun)
class CheckRunAdmin(ViewOnly):
    """Runs of goals' checks; the admin action of goals asks for one."""

    list_display = ("goal", "status", "why", "said", "actor", "created_at", "ended_at")
    list_filter = ("status", "why")
    list_select_related = ("goal",)
    search_fields = ("goal__title", "commit", "actor")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)


@admin.register(Regression)
class RegressionAdmin(ViewOnly):
    """Criteria that were met and are no longer, with the changes that may have done it."""

    list_display = ("criterion", "status", "good", "bad", "at")
    list_filter = ("status",)
    list_select_related = ("criterion",)
    search_fields = ("criterion__text", "good", "bad")
    ordering = ("-at",)


@admin.register(Amendment)
class AmendmentAdmin(ViewOnly):
    list_display = ("goal", "number", "actor", "at", "withdrawn_at")
    list_select_related = ("goal",)
    list_filter = (
        ("goal__status", admin.ChoicesFieldListFilter),
        ("withdrawn_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("goal__title", "actor", "reason")
    date_hierarchy = "at"
    ordering = ("-id",)
    fields = (
        "goal",
        "number",
        "actor",
        "at",
        "reason",
        "asked_before",
        "asks_now",
        "withdrawn_at",
        "withdrawn_by",
        "withdrawn_because",
    )
    actions = ("withdraw",)
    steered_by = "goals.change_amendment"

    @admin.action(description="Withdraw the chosen amendments", permissions=["steer"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def withdraw_one(row: Amendment) -> None:
            amendments.withdraw(row.goal_id, row.number, actor_of(request), "In the admin.")

        self.each(request, queryset.order_by("-number"), withdraw_one, "withdrawn")

    @admin.display(description="before")
    def asked_before(self, amendment: Amendment) -> str:
        return pretty(amendment.before)

    @admin.display(description="after")
    def asks_now(self, amendment: Amendment) -> str:
        return pretty(amendment.after)


class MemoryAdmin(ViewOnly, OnBoard):
    """Base of what was learnt on the way: where it came from, by link."""

    list_select_related = ("goal",)
    date_hierarchy = "at"
    ordering = ("-at",)

    @admin.display(description="card")
    def card(self, row: Any) -> str:
        return one("boards_card", row.card_id, "card")

    @admin.display(description="attempt")
    def attempt(self, row: Any) -> str:
        return one("boards_attempt", row.attempt_id, "attempt")


@admin.register(Decision)
class DecisionAdmin(MemoryAdmin):
    list_display = ("title", "on_board", "goal", "in_force", "actor", "at", "card")
    list_filter = (("superseded_by", admin.EmptyFieldListFilter),)
    search_fields = ("title", "rationale", "actor")
    fields = (
        "title",
        "on_board",
        "goal",
        "card",
        "attempt",
        "rationale",
        "options",
        "superseded_by",
        "actor",
        "at",
    )

    @admin.display(description="in force", boolean=True)
    def in_force(self, decision: Decision) -> bool:
        return decision.superseded_by_id is None

    @admin.display(description="alternatives")
    def options(self, decision: Decision) -> str:
        return pretty(decision.alternatives)


@admin.register(Discovery)
class DiscoveryAdmin(MemoryAdmin):
    list_display = ("title", "kind", "severity", "status", "on_board", "goal", "actor", "at")
    list_filter = ("status", "kind", "severity")
    search_fields = ("title", "detail", "actor")
    fields = (
        "title",
        "on_board",
        "goal",
        "card",
        "attempt",
        "kind",
        "severity",
        "detail",
        "status",
        "resolution",
        "resolved_at",
        "actor",
        "at",
    )
    actions = ("resolve",)
    steered_by = "goals.change_discovery"

    @admin.action(description="Resolve the chosen discoveries", permissions=["steer"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def resolve_one(row: Discovery) -> None:
            memory.resolve(row.pk, actor_of(request), "Resolved in the admin.")

        self.each(request, queryset, resolve_one, "resolved")
