"""Whether this process answers (``/healthz``) and whether the whole is ready (``/readyz``)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from workers import pulses

#: A part that was silent for longer counts as gone.
SILENT = timedelta(seconds=30)

_migrated = False


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200: the process lives. Touches nothing else."""
    return JsonResponse({"ok": True})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when every check passes, else 503; either way with each check's result."""
    checks: dict[str, Any] = {}
    for name, check in CHECKS.items():
        try:
            fault = check()
        except DatabaseError:
            fault = "the store does not answer"
        checks[name] = {"ok": not fault, **({"detail": fault} if fault else {})}
    ready = all(check["ok"] for check in checks.values())
    return JsonResponse(
        {"ready": ready, "checks": checks},
        status=200 if ready else 503,
        headers={} if ready else {"Retry-After": "1"},
    )


def _migrations() -> str:
    """A schema never goes back under a running process, so one good look is enough."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return "" if _migrated else "migrations are waiting to be run"


def _store() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _tail() -> str:
    from events import tail

    return "" if tail.is_running() else "the tail does not run in this process"


def _sweep() -> str:
    return _silence(pulses.age("sweep"), "the sweep")


def _workers() -> str:
    if not settings.WORKERS:
        return ""
    return _silence(pulses.youngest("workers:"), "a built-in worker")


def _silence(age: timedelta | None, who: str) -> str:
    if age is None:
        return f"{who} has not shown itself yet"
    return f"{who} was last seen {age.total_seconds():.0f} s ago" if age > SILENT else ""


CHECKS: dict[str, Callable[[], str]] = {
    "store": _store,
    "migrations": _migrations,
    "tail": _tail,
    "sweep": _sweep,
    "workers": _workers,
}
