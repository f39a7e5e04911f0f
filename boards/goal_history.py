"""The page of what a goal asked for before."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import lookup
from boards.models import Board
from boards.views import for_people, frame, principal
from events import log
from goals import amendments
from kernel.limits import whole_number


@require_GET
@for_people
@ensure_csrf_cookie
def page(request: HttpRequest, goal: UUID) -> HttpResponse:
    """The goal's amendments, newest first, each of which a member may withdraw.

    ``before`` asks for those older than the amendment of that number.
    """
    found = lookup.goal(principal(request), goal)
    board = Board.objects.get(pk=found.board_id)
    cursor = log.last_seq(board.pk)
    before = whole_number(request.GET.get("before", ""), 9) or None
    rows, older = amendments.history(found, before=before)
    shown = {"goal": found, "cursor": cursor, "amendments": rows, "older": older, "before": before}
    return render(request, "goals/amendments.html", {**frame(request, board), **shown})
