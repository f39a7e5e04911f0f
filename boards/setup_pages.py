"""The pages for making a board, setting it up and filling it from elsewhere."""

from __future__ import annotations

from typing import Any

from django.conf import settings as site
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import allowances, lookup, members, setup, workflow_templates
from boards.models import Board, Column
from boards.secrets import keeping, sealing
from boards.views import for_people, frame, principal
from goals.models import Goal
from kernel.access import Role
from kernel.addresses import shown_to_all

GOALS_SHOWN = 50
#: Defaults of boards that need not be set.
UNSET = ("memory_mb", "processes", "output_mb", "same_failures", "follow_ups")
KIND_WORDS = dict(Column.Kind.choices)


@require_GET
@for_people
@ensure_csrf_cookie
def new_board(request: HttpRequest) -> HttpResponse:
    """The page that makes a board from a template."""
    shown = {"templates": setup.TEMPLATES.values(), "allow_commands": site.ALLOW_COMMANDS}
    taken = Board.objects.values_list("key", flat=True)[:1000]
    return render(
        request, "boards/new_board.html", {**frame(request, None), **shown, "taken": list(taken)}
    )


@require_GET
@for_people
@ensure_csrf_cookie
def settings(request: HttpRequest, key: str) -> HttpResponse:
    """What a board is called, its columns, members and tokens; operators change them."""
    who = principal(request)
    board = lookup.board(who, key)
    may_operate = who.role_on(board.pk) == Role.OPERATOR
    shown: dict[str, Any] = {
        "may_operate": may_operate,
        "repository": board.repository if may_operate else shown_to_all(board.repository),
        "may_allow": who.everywhere == Role.OPERATOR,
        "columns": board.columns.order_by("position"),
        "kinds": KIND_WORDS.items(),
        "defaults": {"max_attempts": 3, "lease_seconds": 60, **dict.fromkeys(UNSET)}
        | {"keep_ignored": []}
        | board.defaults,
    }
    goals = Goal.objects.filter(board_id=board.pk, status=Goal.Status.ACTIVE).order_by("title")
    shown["spending"] = allowances.of_board(board)
    shown["caps"] = {
        "each_worker": board.caps.get("each_worker"),
        "labels": _pairs(board.caps.get("labels")),
        "workers": _pairs(board.caps.get("workers")),
        "ageing_hours": board.ageing_seconds and board.ageing_seconds / 3600,
    }
    shown["goals"] = [(goal, allowances.of_goal(goal)) for goal in goals[:GOALS_SHOWN]]
    if may_operate:
        shown["members"] = members.people_of(board.pk).order_by("user__username")
        shown["tokens"] = members.tokens_of(board.pk).order_by("-token__created_at")
        shown["others"] = members.others(board.pk)
        shown["templates"] = workflow_templates.of_board(board)
        shown["secrets"] = keeping.of_board(board.pk)
        shown["key_name"] = sealing.key_name()
    return render(request, "boards/settings.html", {**frame(request, board), **shown})


def _pairs(caps: dict[str, int] | None) -> str:
    """Return caps as a field has them: ``gpu 1, slow 2``."""
    return ", ".join(f"{name} {most}" for name, most in (caps or {}).items())


@require_GET
@for_people
@ensure_csrf_cookie
def import_(request: HttpRequest, key: str) -> HttpResponse:
    """The page that makes cards of a plan from elsewhere, after showing what it would make."""
    who = principal(request)
    board = lookup.board(who, key)
    who.require(board.pk, Role.MEMBER, "board")
    shown = {
        "may_operate": who.role_on(board.pk) == Role.OPERATOR,
        "most_bytes": site.MAX_ARTIFACT_BYTES,
    }
    return render(request, "boards/import.html", {**frame(request, board), **shown})
