"""The card page, the live log, and what running cards show on the board."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import cards, lookup
from boards import selectors as boards_selectors
from boards.models import Attempt, Card
from boards.views import for_people, frame, principal
from checkpoints import briefing, recovery, selectors
from checkpoints.models import Checkpoint
from events import log
from events.models import Event
from kernel.errors import Invalid, NotFound
from kernel.limits import whole_number

TABS = ("steps", "checkpoints", "messages", "briefing", "activity")
ROWS = 100
EVENTS = 300


@require_GET
@for_people
@ensure_csrf_cookie
def card(request: HttpRequest, key: str) -> HttpResponse:
    """One card: what it is, its attempts, steps, checkpoints, messages and events."""
    found = lookup.card(principal(request), key)
    tab = request.GET.get("tab", "steps")
    tab = tab if tab in TABS else "steps"
    cursor = log.last_seq(found.board_id)
    attempts = list(found.attempts.order_by("-number")[:ROWS])
    latest = attempts[0] if attempts else None
    shown = {
        **frame(request, found.board),
        "card": found,
        "tab": tab,
        "cursor": cursor,
        "attempts": attempts,
        "latest": latest,
        "live": latest if latest and latest.status == "running" else None,
        "drawing": selectors.lineage(found, attempts),
        "head": recovery.head(found.pk, found.line),
        "columns": list(found.board.columns.all()),
        "question": cards.open_questions(found).first(),
        "criteria": found.goal.criteria.filter(retired_at=None).order_by("number")
        if found.goal
        else [],
        "origin": selectors.origin_of(found),
        "forks": selectors.forks_of(found)[:ROWS],
        "parents": [d.depends_on for d in found.dependencies.select_related("depends_on")],
        "message_count": found.messages.count(),
    }
    live = shown["live"]
    silent = live is not None and boards_selectors.is_silent(live)
    shown["look"] = "stalled" if silent else found.state
    shown["tabs"] = [
        {"name": "steps", "words": "Steps", "count": latest.step_number if latest else 0},
        {
            "name": "checkpoints",
            "words": "Checkpoints",
            "count": latest.checkpoint_number if latest else 0,
        },
        {"name": "messages", "words": "Messages", "count": shown["message_count"]},
        {"name": "briefing", "words": "Next worker is told", "count": None},
        {"name": "activity", "words": "Activity", "count": None},
    ]
    if found.state == "waiting":
        shown["why"] = cards.why_waiting(found)[1]
    if tab == "steps":
        shown["rows"] = selectors.rows(found, {a.pk: a for a in attempts})
        shown["planned"] = selectors.planned(found, shown["rows"])
    elif tab == "checkpoints":
        newest = Checkpoint.objects.filter(card=found).select_related("attempt")
        shown["checkpoints"] = newest.order_by("-number")[:ROWS]
        wanted, against = request.GET.get("c", ""), request.GET.get("against", "")
        shown["compared"] = selectors.compared(found, wanted, against)
    elif tab == "messages":
        shown["messages_said"] = found.messages.order_by("-id")[:ROWS]
    elif tab == "briefing":
        shown["told_to"] = _attempt(found, request.GET.get("attempt", ""))
        shown["built"] = (
            briefing.told(shown["told_to"]) if shown["told_to"] else briefing.build(found)
        )
    else:
        names = {str(c.pk): c.name for c in shown["columns"]}
        newest = Event.objects.filter(subject_id=found.pk).order_by("-seq")[:EVENTS]
        shown["events"] = selectors.story(newest, names)
    return render(request, "checkpoints/card.html", shown)


def _attempt(found: Card, text: str) -> Attempt | None:
    """The card's attempt of this number, or None for any other text."""
    number = whole_number(text)
    return found.attempts.filter(number=number).first() if number is not None else None


@require_GET
@for_people
def output(request: HttpRequest, key: str) -> HttpResponse:
    """The output of a step after an id, as JSON pieces."""
    found = lookup.card(principal(request), key)
    step = request.GET.get("step", "")
    try:
        number, after = int(request.GET.get("attempt", "")), int(request.GET.get("after", "0"))
    except ValueError:
        raise Invalid.field("attempt", "must be a whole number.") from None
    attempt = found.attempts.filter(number=number).first() if 0 < number < 2**31 else None
    if attempt is None or "\x00" in step or not 0 <= after < 2**63:
        raise NotFound("There is no such attempt.")
    pieces, last = selectors.log_of(attempt.pk, step, after)
    return JsonResponse({"pieces": pieces, "last": last})


@require_GET
@for_people
def tapes(request: HttpRequest, key: str) -> HttpResponse:
    """What each running card of the board is doing this moment."""
    found = lookup.board(principal(request), key)
    return JsonResponse({"cards": selectors.activity(found)})
