"""The board's log in words, newest first, in pages whose cost no length of the log changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import groupby
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from boards import lookup, sentences
from boards.insights.asking import zone_of
from boards.models import Board, Card
from boards.views import for_people, frame, principal
from events import log
from events.models import Event
from goals.models import Goal
from kernel.errors import Invalid
from kernel.limits import whole_number

ROWS = 100
#: How far back one page looks for events that its filter lets through.
REACH = 20_000
#: Among so many of the newest events actors are looked for, to offer them.
RECENT = 2_000
#: Newer events that a permalink shows above the one it names.
ABOVE = 10
#: More new events than this are not counted.
MOST_NEW = 99

#: What the filter by kind offers: the beginnings of the kinds of events.
KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "card": (_("Cards"), ("card.",)),
    "attempt": (_("Attempts"), ("attempt.", "card.claimed", "card.submitted", "card.completed")),
    "step": (_("Steps"), ("step.",)),
    "checkpoint": (
        _("Checkpoints"),
        ("checkpoint.", "checkpoints.", "salvage.", "card.rewound", "card.forked"),
    ),
    "message": (_("Messages"), ("message.", "card.answered", "card.blocked", "card.rejected")),
    "memory": (_("Decisions and discoveries"), ("decision.", "discovery.")),
    "goal": (_("Goals"), ("goal.", "criterion.", "evidence.")),
    "board": (_("Board and members"), ("board.", "member.", "secret.")),
    "log": (_("Output"), ("log.",)),
}
#: What a person need not see unless asked for: a running command's every few lines.
UNASKED = "log."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody wants to see."""

    actor: str = ""
    kind: str = ""
    goal: UUID | None = None
    card: str = ""

    def fields(self) -> dict[str, str]:
        """Return the filter as it stands in an address."""
        told = {"actor": self.actor, "kind": self.kind, "card": self.card}
        told["goal"] = str(self.goal or "")
        return {name: value for name, value in told.items() if value}

    def href(self, **more: int) -> str:
        """Return the address of this filter and ``more``."""
        return "?" + urlencode({**self.fields(), **more})


@dataclass(slots=True)
class Line:
    """One event as the page tells it."""

    event: Event
    did: str
    key: str
    title: str = ""


@dataclass(slots=True)
class Page:
    """Events by minute, the newest first; ``older`` is where the next page begins."""

    minutes: list[tuple[str, list[Line]]] = field(default_factory=list)
    older: int | None = None
    #: True where the page ends for having looked far, not for being full.
    sparse: bool = False
    newest: int = 0


@require_GET
@for_people
def activity(request: HttpRequest, key: str) -> HttpResponse:
    """What happened on the board; with ``after`` only how much of it is new, as JSON."""
    board = lookup.board(principal(request), key)
    wanted = _wanted(request)
    card = _card(board, wanted.card)
    if "after" in request.GET:
        after = _seq(request, "after") or 0
        return JsonResponse({"new": count_new(board, wanted, card, after)})
    newest = log.last_seq(board.pk)
    named, before = _seq(request, "seq"), _seq(request, "before")
    if named is not None and before is None:
        before = named + ABOVE + 1
    goals = list(Goal.objects.filter(board_id=board.pk).order_by("title").values("pk", "title"))
    zone = zone_of(request.COOKIES.get("tz", ""))
    page = page_of(board, wanted, card, before if before is not None else newest + 1, zone)
    shown = {
        **frame(request, board),
        "page": page,
        "wanted": wanted,
        "no_card": wanted.card and card is None,
        "older": wanted.href(before=page.older) if page.older else "",
        "newest": wanted.href(),
        "at_newest": before is None or before > newest,
        "cursor": newest,
        "named": named,
        "kinds": [(name, words) for name, (words, _starts) in KINDS.items()],
        "goals": goals,
        "actors": recent_actors(board, newest),
        "zone": str(zone),
    }
    return render(request, "boards/activity.html", shown)


def page_of(board: Board, wanted: Wanted, card: Card | None, before: int, zone: tzinfo) -> Page:
    """Return the events below ``before`` that the filter lets through, at most ROWS.

    A filter that lets little through looks REACH events back and then says where to go on, so
    that no page reads a whole log. Those of one card are found by an index.
    """
    events = _found(board, wanted, card)
    floor = 0 if card else max(0, before - REACH)
    rows = list(events.filter(seq__lt=before, seq__gte=floor).order_by("-seq")[: ROWS + 1])
    page = Page()
    if len(rows) > ROWS:
        rows = rows[:ROWS]
        page.older = rows[-1].seq
    elif floor > 1:
        page.older, page.sparse = floor, True
    lines = _lines(board, rows)
    for minute, some in groupby(lines, lambda line: _minute(line.event.at, zone)):
        # A template would turn it into the server's own time.
        page.minutes.append((date_format(minute, "j M Y H:i"), list(some)))
    return page


def count_new(board: Board, wanted: Wanted, card: Card | None, after: int) -> int:
    """Return how many events past ``after`` the filter lets through, MOST_NEW + 1 for more."""
    events = _found(board, wanted, card).filter(seq__gt=after, seq__lte=after + REACH)
    return len(events.order_by("seq").values_list("seq")[: MOST_NEW + 1])


def recent_actors(board: Board, newest: int) -> list[str]:
    """Return who did something lately."""
    events = Event.objects.of_board(board.pk).filter(seq__gt=newest - RECENT)
    return sorted(events.order_by().values_list("actor", flat=True).distinct())


def _found(board: Board, wanted: Wanted, card: Card | None) -> Any:
    events = Event.objects.of_board(board.pk)
    if wanted.card:
        events = events.filter(subject_id=card.pk) if card else events.none()
    if wanted.actor:
        events = events.filter(actor=wanted.actor)
    if wanted.goal:
        cards = Card.objects.filter(board=board, goal=wanted.goal).values("pk")
        events = events.filter(Q(subject_id__in=cards) | Q(subject_id=wanted.goal))
    if wanted.kind:
        starts = Q()
        for start in KINDS[wanted.kind][1]:
            starts |= Q(kind__startswith=start)
        return events.filter(starts)
    return events.exclude(kind__startswith=UNASKED)


def _lines(board: Board, events: Iterable[Event]) -> list[Line]:
    events = list(events)
    columns = {str(c.pk): c.name for c in board.columns.all()}
    subjects = {event.subject_id for event in events}
    cards = {
        pk: (key, title)
        for pk, key, title in Card.objects.filter(pk__in=subjects).values_list("pk", "key", "title")
    }
    return [_line(event, columns, cards) for event in events]


def _line(event: Event, columns: Mapping[str, str], cards: Mapping[UUID, tuple[str, str]]) -> Line:
    key, title = cards.get(event.subject_id, ("", ""))
    if not title:  # a goal, or a card that is gone
        title = " ".join(str(event.data.get(name) or "") for name in ("card", "title")).strip()
        if event.kind.startswith(("decision.", "discovery.")):
            title = str(event.data.get("card") or "")
    return Line(event, sentences.told(event, columns), key, title)


def _minute(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(second=0, microsecond=0)


def _card(board: Board, key: str) -> Card | None:
    return Card.objects.filter(board=board, key=key.upper()).first() if key else None


def _wanted(request: HttpRequest) -> Wanted:
    """Return the filter in the address; what makes no sense in it is left out."""
    get = {n: request.GET.get(n, "").replace("\x00", "").strip()[:200] for n in ("actor", "card")}
    kind = request.GET.get("kind", "")
    return Wanted(
        get["actor"],
        kind if kind in KINDS else "",
        lookup.as_uuid(request.GET.get("goal", "")),
        get["card"],
    )


def _seq(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "").strip()
    if not text:
        return None
    number = whole_number(text, 18)
    if number is None:
        raise Invalid.field(name, "must be the number of an event.")
    return number
