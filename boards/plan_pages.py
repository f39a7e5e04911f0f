"""The pages of plans: those of a goal, and the review of one before it becomes cards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import lookup
from boards.api.plans import find
from boards.models import Board, Card
from boards.planning import comparing
from boards.planning.comparing import Entry
from boards.planning.models import Plan
from boards.views import for_people, frame, principal
from events import log
from goals import amendments

SHOWN = 100
#: What an item's fields are called.
WORDS = {
    "title": _("Title"),
    "description": _("What is to be done"),
    "covers": _("Criteria it covers, by number"),
    "depends_on": _("Waits for"),
    "estimate": _("Estimate"),
    "labels": _("Labels"),
    "priority": _("Priority"),
    "workflow": _("Workflow"),
    "requires": _("Requirements"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """An item as the review shows it: ``changes`` are what a field is called, what is taken away
    and what is put in its place."""

    item: dict[str, Any]
    did: str
    card: Card | None
    is_running: bool
    changes: list[tuple[Any, list[str], list[str]]]


@require_GET
@for_people
@ensure_csrf_cookie
def plans(request: HttpRequest, goal: UUID) -> HttpResponse:
    """The goal's plans, newest first, and the ways to a new one."""
    found = lookup.goal(principal(request), goal)
    board = Board.objects.get(pk=found.board_id)
    cursor = log.last_seq(board.pk)
    rows = Plan.objects.filter(goal=found).select_related("card").order_by("-number")
    shown = {"goal": found, "cursor": cursor, "plans": rows[:SHOWN]}
    return render(request, "boards/plans.html", {**frame(request, board), **shown})


@require_GET
@for_people
@ensure_csrf_cookie
def plan(request: HttpRequest, plan: UUID) -> HttpResponse:
    """One plan: its items beside the cards that there are, and what became of it."""
    board_id = Plan.objects.filter(pk=plan).values_list("board_id", flat=True).first()
    cursor = log.last_seq(board_id) if board_id else 0
    found = find(principal(request), plan)
    shown: dict[str, Any] = {"plan": found, "goal": found.goal, "cursor": cursor}
    if found.status == Plan.Status.OPEN:
        compared = comparing.compared(found)
        out = {e.card.pk for e in compared.entries if e.did == "dropped" and e.card}
        shown |= {
            "entries": [_row(entry) for entry in compared.entries],
            "coverage": compared.coverage,
            # Whoever leaves an item out does not mean to cancel its card until they say so.
            "gone": [
                (card, card.state != Card.State.RUNNING and card.pk not in out)
                for card in compared.gone
            ],
        }
    return render(request, "boards/plan.html", {**frame(request, found.board), **shown})


def _row(entry: Entry) -> Row:
    changes = []
    for name, (was, becomes) in entry.changes.items():
        if name == "workflow":
            was, becomes = (json.dumps(side) if side else None for side in (was, becomes))
        changes.append((WORDS[name], *amendments.parted(was, becomes)))
    return Row(entry.item, entry.did, entry.card, entry.is_running, changes)
