from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from checkpoints import recovery
from checkpoints.models import (
    Artifact,
    ArtifactLink,
    Briefing,
    Brought,
    Checkpoint,
    Keeping,
    Line,
    LogChunk,
    Merge,
    Salvage,
    Step,
)
from events.admin_base import ViewOnly, pretty, rows_of, short


@admin.register(Line)
class LineAdmin(ViewOnly):
    list_display = ("card", "number", "parent", "origin", "actor", "at")
    list_filter = ("card__board",)
    list_select_related = ("card", "origin")
    search_fields = ("=card__key", "actor")
    ordering = ("-id",)


@admin.register(Step)
class StepAdmin(ViewOnly):
    """Steps, every try of each: what ran, under which attempt, and how it ended."""

    list_display = ("card", "key", "status", "in_doubt", "superseded", "by", "took", "started_at")
    list_filter = ("status", "in_doubt", "superseded", "card__board")
    list_select_related = ("card", "attempt")
    search_fields = ("=card__key", "=key", "error")
    search_help_text = "A card's or a step's key, or words of an error."
    ordering = ("-id",)
    fields = (
        "card",
        "line",
        "key",
        "number",
        "title",
        "kind",
        "attempt",
        "status",
        "in_doubt",
        "superseded",
        "started_at",
        "finished_at",
        "took",
        "asked",
        "gave",
        "error",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "model",
        "log",
    )

    @admin.display(description="attempt")
    def by(self, step: Step) -> str:
        return f"{step.attempt.number}, {step.attempt.worker}"

    @admin.display
    def took(self, step: Step) -> str:
        if step.finished_at is None:
            return "–"
        return f"{(step.finished_at - step.started_at).total_seconds():.1f} s"

    @admin.display(description="input")
    def asked(self, step: Step) -> str:
        return pretty(step.input)

    @admin.display(description="result")
    def gave(self, step: Step) -> str:
        return pretty(step.result)

    @admin.display
    def log(self, step: Step) -> str:
        return rows_of(
            "checkpoints_logchunk",
            "output",
            attempt__id__exact=step.attempt_id,
            step_key__exact=step.key,
        )


@admin.register(Checkpoint)
class CheckpointAdmin(ViewOnly):
    """The points that cards can go on from."""

    list_display = ("card", "number", "says", "tested", "goes_on_with", "by", "at")
    list_filter = ("card__board",)
    list_select_related = ("card", "attempt")
    search_fields = ("=card__key", "summary", "=digest")
    ordering = ("-id",)
    fields = (
        "card",
        "line",
        "number",
        "parent",
        "attempt",
        "after_step",
        "key",
        "summary",
        "next_step",
        "state_laid_out",
        "tests_laid_out",
        "workspace_laid_out",
        "artifacts_laid_out",
        "digest",
        "adds_up",
        "at",
        "tag",
        "dropped_at",
        "released_at",
    )

    @admin.display(description="summary")
    def says(self, checkpoint: Checkpoint) -> str:
        return short(checkpoint.summary)

    @admin.display(description="tests")
    def tested(self, checkpoint: Checkpoint) -> str:
        tests = checkpoint.tests
        if not isinstance(tests, dict):
            return "–"
        return f"{tests.get('passed') or 0} passed, {tests.get('failed') or 0} failed"

    @admin.display(description="next step")
    def goes_on_with(self, checkpoint: Checkpoint) -> str:
        return short(checkpoint.next_step) or "–"

    @admin.display(description="attempt")
    def by(self, checkpoint: Checkpoint) -> str:
        return f"{checkpoint.attempt.number}, {checkpoint.attempt.worker}"

    @admin.display(description="digest adds up", boolean=True)
    def adds_up(self, checkpoint: Checkpoint) -> bool | None:
        return recovery.intact(checkpoint)

    @admin.display(description="state")
    def state_laid_out(self, checkpoint: Checkpoint) -> str:
        return pretty(checkpoint.state)

    @admin.display(description="tests")
    def tests_laid_out(self, checkpoint: Checkpoint) -> str:
        return pretty(checkpoint.tests)

    @admin.display(description="workspace")
    def workspace_laid_out(self, checkpoint: Checkpoint) -> str:
        return pretty(checkpoint.workspace)

    @admin.display(description="artifacts")
    def artifacts_laid_out(self, checkpoint: Checkpoint) -> str:
        return pretty(checkpoint.artifacts)


@admin.register(Artifact)
class ArtifactAdmin(ViewOnly):
    """Files by content. They are downloaded through the API, which asks who may."""

    list_display = ("sha256", "size_bytes", "content_type", "at")
    list_filter = (("links__board", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("sha256", "content_type")
    ordering = ("-at",)
    fields = ("sha256", "size_bytes", "content_type", "at", "held_by")

    @admin.display(description="see also")
    def held_by(self, artifact: Artifact) -> str:
        return rows_of("checkpoints_artifactlink", "who holds it", artifact__sha256=artifact.pk)


@admin.register(ArtifactLink)
class ArtifactLinkAdmin(ViewOnly):
    list_display = ("name", "artifact", "board", "card", "principal", "at")
    list_filter = ("board",)
    list_select_related = ("artifact", "board", "card")
    search_fields = ("name", "=card__key", "artifact__sha256")
    ordering = ("-id",)


@admin.register(LogChunk)
class LogChunkAdmin(ViewOnly):
    """Live output, newest piece first."""

    list_display = ("id", "attempt", "step_key", "stream", "begins", "at")
    list_filter = ("stream",)
    search_fields = ("=step_key", "=attempt__card__key")
    search_help_text = "A card's or a step's key."
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("attempt")

    @admin.display(description="text")
    def begins(self, chunk: LogChunk) -> str:
        return short(chunk.text)


@admin.register(Salvage)
class SalvageAdmin(ViewOnly):
    list_display = ("attempt", "card", "says", "adopted_as", "at")
    list_filter = ("attempt__board",)
    list_select_related = ("attempt__card", "adopted_as")
    search_fields = ("summary", "=attempt__card__key")
    date_hierarchy = "at"
    ordering = ("-id",)

    @admin.display
    def card(self, salvage: Salvage) -> str:
        return salvage.attempt.card.key

    @admin.display(description="summary")
    def says(self, salvage: Salvage) -> str:
        return short(salvage.summary)


@admin.register(Keeping)
class KeepingAdmin(ViewOnly):
    """What each board keeps and takes up; operators change the rules in the board's settings."""

    list_display = (
        "board",
        "keep_last",
        "keep_days",
        "snapshots",
        "artifacts",
        "logs",
        "events",
        "folders",
    )
    list_select_related = ("board",)
    search_fields = ("=board__key", "board__name")
    ordering = ("-snapshots_bytes",)

    @admin.display(ordering="snapshots_bytes")
    def snapshots(self, keeping: Keeping) -> str:
        return filesizeformat(keeping.snapshots_bytes)

    @admin.display(ordering="artifacts_bytes")
    def artifacts(self, keeping: Keeping) -> str:
        return filesizeformat(keeping.artifacts_bytes)

    @admin.display(ordering="logs_bytes", description="output")
    def logs(self, keeping: Keeping) -> str:
        return filesizeformat(keeping.logs_bytes)

    @admin.display(ordering="events_bytes", description="log of events")
    def events(self, keeping: Keeping) -> str:
        return filesizeformat(keeping.events_bytes)

    @admin.display(ordering="workspaces_bytes", description="workspaces")
    def folders(self, keeping: Keeping) -> str:
        return filesizeformat(keeping.workspaces_bytes)


@admin.register(Brought)
class BroughtAdmin(ViewOnly):
    """Which bundles were brought to which board, and what became of their cards."""

    list_display = ("sha256", "board", "actor", "at")
    list_select_related = ("board",)
    search_fields = ("=sha256", "=board__key", "actor")
    ordering = ("-id",)
    fields = ("sha256", "board", "became", "actor", "at")

    @admin.display(description="cards")
    def became(self, brought: Brought) -> str:
        return pretty(brought.cards)


@admin.register(Merge)
class MergeAdmin(ViewOnly):
    """Which card's files went into which branch, as which commit."""

    list_display = ("card", "checkpoint", "strategy", "into", "commit", "actor", "at")
    list_filter = ("strategy", "card__board")
    list_select_related = ("card", "checkpoint")
    search_fields = ("=card__key", "=commit", "actor")
    date_hierarchy = "at"
    ordering = ("-at",)


@admin.register(Briefing)
class BriefingAdmin(ViewOnly):
    """The exact texts that attempts were given."""

    list_display = ("sha256", "tokens", "at")
    search_fields = ("sha256",)
    ordering = ("-at",)
    fields = ("sha256", "tokens", "at", "text", "given_to")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        listing = request.resolver_match.url_name == "checkpoints_briefing_changelist"
        return rows.defer("markdown") if listing else rows

    @admin.display(description="markdown")
    def text(self, briefing: Briefing) -> str:
        return briefing.markdown

    @admin.display(description="given to")
    def given_to(self, briefing: Briefing) -> str:
        return rows_of("boards_attempt", "attempts", briefing_sha256__exact=briefing.pk)
