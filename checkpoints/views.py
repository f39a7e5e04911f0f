"""The card page, and what running cards show on the board."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from boards import allowances, cards, covering, fragments, lookup, markup, splits, standings
from boards import selectors as boards_selectors
from boards.models import Attempt, Card
from boards.views import as_of, for_people, frame, may_write, principal
from checkpoints import (
    artifacts,
    briefing,
    bundles,
    lineage,
    merging,
    previews,
    recovery,
    retention,
    reviews,
    selectors,
    spilling,
    tabs,
)
from checkpoints.models import Checkpoint, Salvage
from events import log
from events.models import Event
from goals import amendments, criteria
from goals.models import Decision, Discovery, Goal
from kernel.access import Role
from kernel.errors import DomainError
from kernel.limits import whole_number

ROWS = 100
EVENTS = 300
#: By level: what each priority is called where one is chosen.
PRIORITIES = [
    (0, gettext_lazy("Urgent")),
    (1, gettext_lazy("High")),
    (2, gettext_lazy("Medium")),
    (3, gettext_lazy("Low")),
    (4, gettext_lazy("None")),
]


@require_GET
@for_people
@ensure_csrf_cookie
def card(request: HttpRequest, key: str) -> HttpResponse:
    """One card: what it is, its attempts, steps, checkpoints, messages and events."""
    found = lookup.card(principal(request), key)
    tab = request.GET.get("tab", "steps")
    tab = tab if tab in _TABS else "steps"
    cursor = log.last_seq(found.board_id)
    attempts = list(found.attempts.order_by("-number")[:ROWS])
    facts = _facts(found, attempts)
    shown = {
        **frame(request, found.board),
        **facts,
        "tab": tab,
        "cursor": cursor,
        "may_operate": principal(request).role_on(found.board_id) == Role.OPERATOR,
        "budgets": allowances.of_card(found),
        "attempts": attempts,
        "drawing": lineage.drawn(found, attempts, facts["origin"], request.GET.get("lane", "")),
        "tabs": _tabs(found, attempts),
        "field": standings.near(found),
        "parted": _parted(found),
        **_review(found),
        **_TABS[tab](request, found, attempts),
    }
    return render(request, "checkpoints/card.html", shown)


@require_GET
@for_people
def drawer(request: HttpRequest, key: str) -> HttpResponse:
    """The card beside its board: what it is, where it stands, and what is done now."""
    found = lookup.card(principal(request), key)
    attempts = list(found.attempts.order_by("-number")[:ROWS])
    facts = _facts(found, attempts)
    shown = {
        "board": found.board,
        "may_write": may_write(request, found.board),
        **facts,
        "built": briefing.build(found),
        "spills": _spills(found),
    }
    if facts["live"] is not None:
        shown |= selectors.under_way(found, facts["live"])
    return render(request, "checkpoints/_drawer.html", shown)


@require_GET
@for_people
def spills(request: HttpRequest, key: str) -> HttpResponse:
    """Which files of a card in review hold a secret of its board; empty where none does."""
    found = lookup.card(principal(request), key)
    shown = {
        "card": found,
        "may_write": may_write(request, found.board),
        "spills": _spills(found),
    }
    return render(request, "checkpoints/_spills.html", shown)


@require_GET
@for_people
def bundle(request: HttpRequest, key: str) -> HttpResponse:
    """Lead to the card's bundle, or say which of its files hold a secret of the board."""
    found = lookup.card(principal(request), key)
    try:
        bundles.see_what_they_hold([found])
    except spilling.SecretInFiles as problem:
        shown = {"card": found, "problem": str(problem)}
        return render(request, "checkpoints/bundle.html", shown, status=409)
    return redirect("card-bundle", found.key)


@require_POST
@for_people
def preview(request: HttpRequest) -> HttpResponse:
    """Markdown as it will look; nothing is kept."""
    text = request.POST.get("text", "")
    return HttpResponse(markup.markdown(text[: markup.MAX_CHARS]))


def _facts(found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    """What the page and the drawer say of the card, whatever else they show."""
    latest = attempts[0] if attempts else None
    live = latest if latest and latest.status == Attempt.Status.RUNNING else None
    silent = live is not None and boards_selectors.is_silent(live)
    goals = Goal.objects.filter(board_id=found.board_id, status=Goal.Status.ACTIVE)
    asked = list(criteria.standing(found.goal_id)) if found.goal_id else []
    prefetch_related_objects([found], "dependencies__depends_on")
    return {
        "card": found,
        "latest": latest,
        "live": live,
        "look": "stalled" if silent else found.state,
        "head": recovery.head(found.pk, found.line),
        "columns": list(found.board.columns.all()),
        "question": cards.open_questions(found).first(),
        "criteria": asked,
        "covers": covering.of(found, asked),
        "amendments": amendments.of(found.goal_id),
        "plans": found.plans.filter(status="open"),
        "origin": selectors.origin_of(found),
        "forks": selectors.forks_of(found)[:ROWS],
        "parents": [d.depends_on for d in found.dependencies.all()],
        "children": found.dependents.order_by("number")[:ROWS],
        "goals": goals.order_by("title")[:ROWS],
        "known_labels": selectors.labels_of(found.board_id),
        "priorities": PRIORITIES,
        "spent": selectors.spent(found),
        "tasks": markup.tasks_of(found.description),
        "why": cards.why_waiting(found)[1] if found.state == Card.State.WAITING else "",
    }


def _review(found: Card) -> dict[str, Any]:
    """What approving or sending back a card in review has to say; a completed one whose files
    went nowhere yet, such as the winner of a race, can still be merged."""
    if found.state not in (Card.State.REVIEW, Card.State.COMPLETED):
        return {}
    work = None
    done = found.state == Card.State.COMPLETED
    if not (done and found.merges.exists()):
        with suppress(DomainError):
            work = merging.work_of(found)
    return {
        "mergeable": work is not None and bool(found.board.repository.strip()),
        "branch": work.branch if work else "",
        "left_out": work.left_out if work else (),
        "spills": _told(work),
        "open_remarks": reviews.open_remarks(found),
    }


def _spills(found: Card) -> str:
    """Which files of a card in review hold a secret of its board, in a line."""
    work = None
    if found.state == Card.State.REVIEW:
        with suppress(DomainError):
            work = merging.work_of(found)
    return _told(work)


def _told(work: merging.Work | None) -> str:
    if work is None:
        return ""
    return spilling.told(spilling.of_card(work.card.board_id, work.began, work.files))


def _parted(found: Card) -> dict[str, Any] | None:
    """What the page shows of the card's newest split, if it was split."""
    made = splits.newest(found)
    return {"split": made, "parts": splits.parts_of(made)} if made else None


def _tabs(found: Card, attempts: list[Attempt]) -> list[dict[str, Any]]:
    latest = attempts[0] if attempts else None
    left = Salvage.objects.filter(attempt__card=found).count()
    return [
        {"name": "steps", "words": _("Steps"), "count": latest.step_number if latest else 0},
        {"name": "log", "words": _("Log"), "count": None},
        {
            "name": "checkpoints",
            "words": _("Checkpoints"),
            "count": found.newest_checkpoint(latest),
        },
        *([{"name": "left", "words": _("Left behind"), "count": left}] if left else []),
        {"name": "messages", "words": _("Messages"), "count": found.messages.count()},
        {
            "name": "decisions",
            "words": _("Decisions"),
            "count": Decision.objects.filter(card_id=found.pk).count(),
        },
        {
            "name": "discoveries",
            "words": _("Discoveries"),
            "count": Discovery.objects.filter(card_id=found.pk).count(),
        },
        {"name": "briefing", "words": _("Next worker is told"), "count": None},
        {"name": "activity", "words": _("Activity"), "count": None},
    ]


def _steps(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    upto = whole_number(request.GET.get("upto", ""))
    rows = selectors.rows(found, {a.pk: a for a in attempts}, upto)
    return {
        "rows": selectors.folded(found, rows),
        "tape": rows,
        "planned": selectors.planned(found, rows),
    }


def _log(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    shown = _attempt(found, request.GET.get("attempt", "")) or (attempts[0] if attempts else None)
    step = request.GET.get("step")
    return {
        "shown": shown,
        "step": step if step and "\x00" not in step else None,
        "printed": selectors.printed(shown) if shown else [],
    }


def _checkpoints(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    newest = Checkpoint.objects.filter(card=found).select_related("attempt")
    wanted, against = request.GET.get("c", ""), request.GET.get("against", "")
    return {
        "checkpoints": newest.order_by("-number")[:ROWS],
        "compared": selectors.compared(found, wanted, against),
        "split": request.COOKIES.get("split") == "1",
    }


def _left(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    return {"left": selectors.left_behind(found, request.GET.get("s", ""))}


def _messages(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    return tabs.thread(found, request.GET.get("before", ""))


def _decisions(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    return tabs.decisions(found)


def _discoveries(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    return tabs.discoveries(found)


def _briefing(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    return tabs.told(found, _attempt(found, request.GET.get("attempt", "")))


def _activity(request: HttpRequest, found: Card, attempts: list[Attempt]) -> dict[str, Any]:
    names = {str(c.pk): c.name for c in found.board.columns.all()}
    newest = Event.objects.filter(subject_id=found.pk).order_by("-seq")[:EVENTS]
    return {"events": selectors.story(newest, names)}


#: What each tab reads, and nobody else.
_TABS: dict[str, Callable[[HttpRequest, Card, list[Attempt]], dict[str, Any]]] = {
    "steps": _steps,
    "log": _log,
    "checkpoints": _checkpoints,
    "left": _left,
    "messages": _messages,
    "decisions": _decisions,
    "discoveries": _discoveries,
    "briefing": _briefing,
    "activity": _activity,
}


def _attempt(found: Card, text: str) -> Attempt | None:
    """The card's attempt of this number, or None for any other text."""
    number = whole_number(text)
    return found.attempts.filter(number=number).first() if number is not None else None


@require_GET
@for_people
def attempts_list(request: HttpRequest, key: str) -> HttpResponse:
    """What the drawing shows, as a table of all attempts."""
    found = lookup.card(principal(request), key)
    shown = {"card": found, "entries": lineage.listed(found)}
    return render(request, "checkpoints/_lineage_list.html", shown)


@require_GET
@for_people
def storage(request: HttpRequest, key: str) -> HttpResponse:
    """What a board keeps and takes up, for its settings page."""
    found = lookup.board(principal(request), key)
    shown = {
        "rule": retention.measured(found),
        "counts": retention.counts(found),
        "may_operate": principal(request).role_on(found.pk) == Role.OPERATOR,
    }
    return render(request, "checkpoints/_storage.html", shown)


_activity: fragments.Shared[dict[str, Any]] = fragments.Shared()


@require_GET
@for_people
def artifact_picture(request: HttpRequest, sha256: str) -> HttpResponse:
    """An artifact that is a picture, to be looked at."""
    found = artifacts.readable(sha256, principal(request))
    return _picture(previews.artifact(found, previews.MAX_PICTURE_BYTES))


@require_GET
@for_people
def artifact_notebook(request: HttpRequest, sha256: str) -> HttpResponse:
    """An artifact that is a notebook, as text."""
    found = artifacts.readable(sha256, principal(request))
    return _notebook(request, previews.artifact(found, previews.MAX_NOTEBOOK_BYTES))


@require_GET
@for_people
def picture(request: HttpRequest, key: str, number: int) -> HttpResponse:
    """A picture as a checkpoint of the card has it, or as it was where the card began."""
    found, path = lookup.card(principal(request), key), request.GET.get("path", "")
    base = request.GET.get("base") == "1"
    return _picture(previews.file(found, number, path, previews.MAX_PICTURE_BYTES, base=base))


@require_GET
@for_people
def notebook(request: HttpRequest, key: str, number: int) -> HttpResponse:
    """A notebook as a checkpoint of the card has it, as text."""
    found, path = lookup.card(principal(request), key), request.GET.get("path", "")
    data = previews.file(found, number, path, previews.MAX_NOTEBOOK_BYTES)
    return _notebook(request, data)


def _picture(data: bytes) -> HttpResponse:
    """Return the bytes as the picture they are; where opened by itself it may do nothing."""
    response = HttpResponse(data, content_type=previews.picture(data))
    response["Content-Disposition"] = "inline"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, max-age=3600"
    return response


def _notebook(request: HttpRequest, data: bytes) -> HttpResponse:
    shown = {"notebook": previews.notebook(data)}
    return render(request, "checkpoints/_notebook.html", shown)


@require_GET
@for_people
def tapes(request: HttpRequest, key: str) -> HttpResponse:
    """What each running card of the board is doing; with ``at``, at that event or a later one."""
    found = lookup.board(principal(request), key)
    told = _activity.get(
        found.pk,
        as_of(request),
        lambda: log.last_seq(found.pk),
        lambda: selectors.activity(found),
    )
    return JsonResponse({"cards": told})
