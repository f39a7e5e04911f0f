"""The workers of a board: who is there, what they hold, how they have done."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from boards import lookup
from boards.views import for_people, frame, principal
from kernel.access import Role, hidden
from kernel.limits import check_text
from workers import draining, hosts
from workers.executors.shell import cgroups, mode
from workers.models import Host
from workers.roster import Entry, roster


@require_GET
@for_people
def workers(request: HttpRequest, key: str) -> HttpResponse:
    """Everybody who works on the board."""
    board = lookup.board(principal(request), key)
    entries, left_out = roster(board)
    shown = {**frame(request, board), "entries": entries, "left_out": left_out}
    _tell_draining(request, entries)
    shown["shut"] = _shut(request, entries)
    return render(request, "workers/workers.html", shown)


def _shut(request: HttpRequest, entries: list[Entry]) -> list[tuple[Host, bool]]:
    """Return what begins nothing now: of all built-in workers' hosts, and of the workers listed
    that are on others; each with whether the reader may let it work."""
    operates_all = principal(request).everywhere == Role.OPERATOR
    steered = {worker.pk: entry.steered for entry in entries for worker in entry.workers}
    return [
        (host, operates_all if host.worker_id is None else steered[host.worker_id])
        for host in hosts.shut()
        if host.worker_id is None or host.worker_id in steered
    ]


def _tell_draining(request: HttpRequest, entries: list[Entry]) -> None:
    """Say of each entry whether it is drained and whether the reader may change that."""
    every = [worker for entry in entries for worker in entry.workers]
    mine = draining.steered(principal(request), every)
    draining.mark(every)
    for entry in entries:
        entry.steered = bool(entry.workers) and all(w.pk in mine for w in entry.workers)


@require_POST
@for_people
def drain(request: HttpRequest, key: str) -> HttpResponse:
    """Drain the ``worker`` of the board, or the ``host``, or let it work again, as asked."""
    board = lookup.board(principal(request), key)
    wanted = request.POST.get("wanted") == "drain"
    if host := check_text(request.POST.get("host", ""), "host"):
        draining.drain_host(principal(request), host, wanted)
        return redirect("workers:workers", key=board.key)
    entries, _ = roster(board, check_text(request.POST.get("worker", ""), "worker"))
    found = [worker for entry in entries for worker in entry.workers]
    if not found:
        raise hidden("worker")
    draining.require(principal(request), found)
    for worker in found:
        draining.drain(principal(request), worker, wanted)
    return redirect("workers:workers", key=board.key)


@require_GET
@for_people
def worker(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """One worker of the board and its attempts there."""
    board = lookup.board(principal(request), key)
    entries, _ = roster(board, check_text(name, "name"))
    if not entries:
        raise hidden("worker")
    _tell_draining(request, entries)
    return render(request, "workers/worker.html", {**frame(request, board), "entry": entries[0]})


@require_GET
@for_people
def sandbox(request: HttpRequest, key: str) -> HttpResponse:
    """What holds commands back on this server's host, for the board's settings."""
    lookup.board(principal(request), key)
    controlled = {name for place in cgroups.places() for name in place.controllers}
    words = [_("memory")] * ("memory" in controlled) + [_("processes")] * ("pids" in controlled)
    shown = {
        "mode": mode(settings.COMMAND_SANDBOX),
        "bounded": get_text_list(words, _("and")),
    }
    return render(request, "workers/_sandbox.html", shown)
