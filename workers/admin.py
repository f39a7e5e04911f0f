from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.lookups import IsNull
from django.http import HttpRequest
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Success

from boards.models import Attempt
from events.admin_base import ViewOnly, ago, links, pretty, rows_of
from workers import hosts
from workers.models import Host, Pulse, Worker

#: The queue's own pages can add schedules, change and resubmit entries: any of them would
#: call a function by name. Ours only look.
for model in (Schedule, Success, Failure, OrmQ):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class Presence(admin.SimpleListFilter):
    """Workers by when they were last heard of."""

    title = "last seen"
    parameter_name = "seen"
    RECENT = timedelta(minutes=5)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("recently", "in the last 5 minutes"), ("silent", "longer ago")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since = timezone.now() - self.RECENT
        match self.value():
            case "recently":
                return queryset.filter(last_seen_at__gte=since)
            case "silent":
                return queryset.filter(last_seen_at__lt=since)
        return queryset


@admin.register(Worker)
class WorkerAdmin(ViewOnly):
    """Who works here, what each one holds now, and when it was last heard of."""

    list_display = ("name", "kind", "holds", "seen", "draining", "token", "skills")
    list_filter = ("kind", "draining", Presence)
    list_select_related = ("token",)
    search_fields = ("name", "token__name")
    ordering = ("-last_seen_at",)
    fields = (
        "name",
        "kind",
        "token",
        "skills",
        "holds",
        "draining",
        "first_seen_at",
        "last_seen_at",
        "done",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        same_token = Q(token=OuterRef("token")) | Q(IsNull(OuterRef("token"), True), token=None)
        live = Attempt.objects.live().filter(same_token, worker=OuterRef("name")).order_by("-id")
        holding = Subquery(live.values("card__key")[:1])
        return super().get_queryset(request).annotate(holding=holding)

    @admin.display
    def holds(self, worker: Any) -> str:
        return worker.holding or "–"

    @admin.display(description="last seen", ordering="last_seen_at")
    def seen(self, worker: Worker) -> str:
        return ago(worker.last_seen_at)

    @admin.display(description="capabilities")
    def skills(self, worker: Worker) -> str:
        return ", ".join(map(str, worker.capabilities)) or "–"

    @admin.display(description="see also")
    def done(self, worker: Worker) -> str:
        return links(rows_of("boards_attempt", "attempts", worker__exact=worker.name))


@admin.register(Host)
class HostAdmin(ViewOnly):
    """Hosts with built-in workers, workers on other hosts, and steps there: drained by a person,
    or at rest after failing cards."""

    list_display = ("__str__", "draining", "at_rest", "why", "seen")
    list_filter = ("draining",)
    list_select_related = ("worker",)
    search_fields = ("name", "worker__name", "why")
    ordering = ("name",)
    fields = ("name", "worker", "draining", "at_rest", "rests", "why", "seen")
    actions = ("drain", "let_work")
    steered_by = "workers.change_host"

    @admin.display(description="rests", ordering="rests_until")
    def at_rest(self, host: Host) -> str:
        resting = host.rests_until is not None and host.rests_until > timezone.now()
        return ago(host.rests_until).replace("in ", "for ") if resting else "–"

    @admin.display(description="last started", ordering="seen_at")
    def seen(self, host: Host) -> str:
        return ago(host.worker.last_seen_at if host.worker is not None else host.seen_at)

    @admin.action(description="Drain the chosen hosts", permissions=["steer"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.each(request, queryset, lambda h: hosts.drain(h.name, True), "is being drained")

    @admin.action(description="Let the chosen hosts work again", permissions=["steer"])
    def let_work(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.each(request, queryset, lambda h: hosts.drain(h.name, False), "works again")


@admin.register(Pulse)
class PulseAdmin(ViewOnly):
    """The parts of the runtime and when each last showed that it lives."""

    list_display = ("name", "beat", "detail")
    search_fields = ("name",)
    ordering = ("name",)
    fields = ("name", "beat_at", "beat", "laid_out")

    @admin.display(description="last beat", ordering="beat_at")
    def beat(self, pulse: Pulse) -> str:
        return ago(pulse.beat_at)

    @admin.display(description="detail")
    def laid_out(self, pulse: Pulse) -> str:
        return pretty(pulse.detail)


@admin.register(OrmQ)
class NudgeAdmin(ViewOnly):
    """Nudges that no built-in worker has taken. Losing one costs a sweep; truth is elsewhere."""

    list_display = ("id", "key", "what", "lock")
    list_filter = ("key",)
    search_fields = ("=key",)
    ordering = ("-id",)
    fields = ("id", "key", "lock", "what")

    @admin.display(description="calls")
    def what(self, nudge: OrmQ) -> str:
        task = nudge.task
        return f"{task.get('func', '?')} {' '.join(map(str, task.get('args', ())))}"


@admin.register(Failure)
class FailureAdmin(ViewOnly):
    """Nudges that ended in an error: a fault of the runtime, not of a card."""

    list_display = ("name", "func", "started", "stopped")
    list_filter = ("cluster",)
    search_fields = ("name", "func")
    fields = ("name", "func", "started", "stopped", "cluster", "said")

    @admin.display(description="error")
    def said(self, failure: Failure) -> str:
        return str(failure.result)
