"""The workers of a board: who is there, what they hold, how they have done."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from boards import lookup
from boards.views import for_people, frame, principal
from kernel.access import hidden
from kernel.limits import check_text
from workers import hosts
from workers.executors.shell import cgroups, mode
from workers.roster import roster


@require_GET
@for_people
def workers(request: HttpRequest, key: str) -> HttpResponse:
    """Everybody who works on the board."""
    board = lookup.board(principal(request), key)
    entries, left_out = roster(board)
    shown = {**frame(request, board), "entries": entries, "left_out": left_out}
    shown["shut"] = hosts.shut()
    return render(request, "workers/workers.html", shown)


@require_GET
@for_people
def worker(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """One worker of the board and its attempts there."""
    board = lookup.board(principal(request), key)
    entries, _ = roster(board, check_text(name, "name"))
    if not entries:
        raise hidden("worker")
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
