"""The board's pages and the fragments that keep them current."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import get_language, gettext, gettext_lazy
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import fragments, lookup, saved, selectors, sentences
from boards.authentication import principal_of_user
from boards.models import Board
from boards.notices import inbox
from boards.wanted import Wanted, asked
from events import log
from kernel.access import Principal, Role
from kernel.errors import Invalid
from kernel.limits import whole_number

MAX_IDS = 100
BOARDS_SHOWN = 50

View = Callable[..., HttpResponse]


def for_people(view: View) -> View:
    """Give the view its signed-in principal; others are sent to sign in first."""

    @wraps(view)
    def signed_in(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        request.principal = principal_of_user(request.user)  # type: ignore[attr-defined]
        return view(request, *args, **kwargs)

    return signed_in


def principal(request: HttpRequest) -> Principal:
    """Return who looks at the page."""
    found: Principal = request.principal  # type: ignore[attr-defined]
    return found


def visible_boards(request: HttpRequest) -> list[Board]:
    """Return the boards to go to from every page."""
    boards = Board.objects.visible_to(principal(request).visible()).filter(archived_at=None)
    return list(boards.order_by("key")[:BOARDS_SHOWN])


def frame(
    request: HttpRequest, board: Board | None, boards: list[Board] | None = None
) -> dict[str, Any]:
    """Return what every page's frame shows: the boards to go to, who looks, and the theme."""
    who = principal(request)
    theme = request.COOKIES.get("theme", "")
    return {
        "board": board,
        "boards": visible_boards(request) if boards is None else boards,
        "who": who,
        "theme": theme if theme in ("light", "dark") else "",
        "may_write": board is not None and may_write(request, board),
        "waiting": inbox.count(who),
    }


def may_write(request: HttpRequest, board: Board) -> bool:
    """True if the reader may change the board's cards."""
    role = principal(request).role_on(board.pk)
    return role is not None and role >= Role.MEMBER


@require_GET
@for_people
def home(request: HttpRequest) -> HttpResponse:
    """The only board, or the list of boards."""
    shown = frame(request, None)
    if len(shown["boards"]) == 1 and "all" not in request.GET:
        return redirect("boards:board", key=shown["boards"][0].key)
    return render(request, "boards/home.html", {**shown, "gists": selectors.gists(shown["boards"])})


@require_GET
@for_people
@ensure_csrf_cookie
def board(request: HttpRequest, key: str) -> HttpResponse:
    """The board with the first cards of every column, or its cards as a table."""
    boards = visible_boards(request)
    found = next((b for b in boards if b.key == key), None) or lookup.board(principal(request), key)
    wanted = asked(request.GET)
    folded = request.COOKIES.get("folded")
    # Read first: a change in between is then replayed, never missed.
    cursor = log.last_seq(found.pk)
    overview = selectors.overview(
        found,
        wanted,
        rails=None if folded is None else folded.split("_"),
        folded=request.COOKIES.get("folded_lanes", "").split("_"),
    )
    shown = {
        **frame(request, found, boards),
        "overview": overview,
        "wanted": wanted,
        "chips": [
            {"show": show, "words": words, "class": css, "icon": icon, "on": wanted.show == show}
            | {"href": wanted.but(show="" if wanted.show == show else show)}
            | {"count": overview.tally.attention[show]}
            for show, words, css, icon in CHIPS
        ],
        "filters": _filters(wanted, overview),
        "layouts": _layouts(wanted),
        "display": _display(request, wanted),
        "cursor": cursor,
        "modules": MODULES,
        "may_operate": may_operate(request, found),
        "priorities": list(enumerate(selectors.PRIORITY_NAMES)),
    }
    if wanted.listed or wanted.archived:
        shown["faces"], shown["left"] = selectors.rows_of(found, wanted)
        shown["headers"] = _headers(wanted)
        return render(request, "boards/list.html", shown)
    return render(request, "boards/board.html", shown)


@require_GET
@for_people
def rows(request: HttpRequest, key: str) -> HttpResponse:
    """The next rows of the table, below ``place``."""
    found = lookup.board(principal(request), key)
    wanted = asked(request.GET)
    faces, left = _at_place(lambda place: selectors.rows_of(found, wanted, place), request)
    shown = {"board": found, "wanted": wanted, "faces": faces, "left": left}
    return render(request, "boards/_rows.html", {**shown, "may_write": may_write(request, found)})


@require_GET
@for_people
def views(request: HttpRequest, key: str) -> HttpResponse:
    """The saved views with the number of cards in each, and the labels to filter by.

    With ``at`` the numbers may be anybody's of that event or a later one.
    """
    found = lookup.board(principal(request), key)
    kept = list(saved.seen_by(found, principal(request))[: 2 * saved.MAX_VIEWS])
    built_in = [(name, icon, asked(QueryDict(query))) for name, icon, query in BUILT_IN]
    wants = [want for _, _, want in built_in] + [asked(QueryDict(view.query)) for view in kept]
    counts = _tallies.get(
        (found.pk, tuple(wants)),
        as_of(request),
        lambda: log.last_seq(found.pk),
        lambda: selectors.tallied(found, wants),
    )
    shown = {
        "board": found,
        "built_in": [
            {"name": name, "icon": icon, "query": want.query, "count": count}
            for (name, icon, want), count in zip(built_in, counts, strict=False)
        ],
        "kept": [
            {"view": view, "count": count, "mine": str(view.owner_id) == principal(request).id}
            for view, count in zip(kept, counts[len(built_in) :], strict=True)
        ],
        "labels": selectors.labels_of(found),
        "may_write": may_write(request, found),
    }
    return render(request, "boards/_views.html", shown)


#: The views that every board has.
BUILT_IN = (
    (gettext_lazy("Waiting on a person"), "hand", "show=needs"),
    (gettext_lazy("Stalled or failing"), "alert", "show=trouble"),
    (gettext_lazy("Running over an hour"), "clock", "show=long"),
)
SORT_WORDS = {
    "": gettext_lazy("Manual"),
    "priority": gettext_lazy("Priority"),
    "newest": gettext_lazy("Newest first"),
    "updated": gettext_lazy("Last change"),
    "due": gettext_lazy("Due date"),
    "age": gettext_lazy("Time in its state"),
    "cost": gettext_lazy("Cost"),
}
LANE_WORDS = {
    "": gettext_lazy("None"),
    "goal": gettext_lazy("Goal"),
    "worker": gettext_lazy("Worker"),
    "priority": gettext_lazy("Priority"),
}
SHOW_WORDS = {
    "needs": gettext_lazy("Needs you"),
    "stalled": gettext_lazy("Stalled"),
    "running": gettext_lazy("Running"),
    "review": gettext_lazy("To review"),
    "failing": gettext_lazy("Checks failing"),
    "trouble": gettext_lazy("Stalled or failing"),
    "long": gettext_lazy("Running over an hour"),
    "waiting": gettext_lazy("Waiting for a worker"),
    "dependent": gettext_lazy("Waiting for other cards"),
    "paused": gettext_lazy("Paused"),
    "backlog": gettext_lazy("In the backlog"),
    "completed": gettext_lazy("Completed"),
    "cancelled": gettext_lazy("Cancelled"),
}
DUE_WORDS = {
    "overdue": gettext_lazy("Overdue"),
    "week": gettext_lazy("Due this week"),
    "none": gettext_lazy("Without a due date"),
}
#: What a reader may leave out of every card.
FACTS = {
    "labels": gettext_lazy("Labels"),
    "worker": gettext_lazy("Worker"),
    "checks": gettext_lazy("Checks and lines"),
    "checkpoints": gettext_lazy("Checkpoints"),
    "age": gettext_lazy("Running time"),
    "cost": gettext_lazy("Cost"),
    "due": gettext_lazy("Due date"),
    "tasks": gettext_lazy("Tasks in the description"),
    "tape": gettext_lazy("Last steps"),
}


def _filters(wanted: Wanted, overview: selectors.Overview) -> list[dict[str, str]]:
    """Return what narrows the board besides the chips: in words, and the address without it."""
    found = []

    def add(words: Any, **without: Any) -> None:
        found.append({"words": str(words), "href": wanted.but(**without)})

    if wanted.q:
        add(f"“{wanted.q}”", q="")
    if wanted.show and wanted.show not in {chip[0] for chip in CHIPS}:
        add(SHOW_WORDS[wanted.show], show="")
    if wanted.goal:
        titles = {p.goal.pk: p.goal.title for p in overview.goals}
        add(titles.get(wanted.goal, gettext("One goal")), goal=None)
    if wanted.worker:
        add(wanted.worker, worker="")
    if wanted.label:
        add(f"#{wanted.label}", label="")
    if wanted.prio:
        add(", ".join(str(selectors.PRIORITY_NAMES[n]) for n in wanted.prio), prio=())
    if wanted.due:
        add(DUE_WORDS[wanted.due], due="")
    return found


def _layouts(wanted: Wanted) -> list[dict[str, Any]]:
    table = wanted.listed and not wanted.archived
    return [
        {
            "words": gettext("Board"),
            "icon": "board",
            "href": wanted.but(listed=False, archived=False),
            "on": not (wanted.listed or wanted.archived),
        },
        {
            "words": gettext("List"),
            "icon": "filter",
            "href": wanted.but(listed=True, archived=False, lanes=""),
            "on": table,
        },
    ]


def _display(request: HttpRequest, wanted: Wanted) -> dict[str, Any]:
    """Return how the reader has cards drawn, and what else there is to choose."""
    hidden = [name for name in request.COOKIES.get("facts", "").split("_") if name in FACTS]
    compact = request.COOKIES.get("density") == "compact"
    return {
        "compact": compact,
        "classes": " ".join(["compact"] * compact + [f"no-{name}" for name in hidden]),
        "facts": [{"name": n, "words": w, "on": n not in hidden} for n, w in FACTS.items()],
        "sorts": SORT_WORDS.items(),
        "sort": wanted.sort.removeprefix("-"),
        "lanes": LANE_WORDS.items(),
        "shows": SHOW_WORDS.items(),
        "dues": DUE_WORDS.items(),
        "priorities": list(enumerate(selectors.PRIORITY_NAMES)),
    }


def _headers(wanted: Wanted) -> list[dict[str, Any]]:
    """Return the table's columns: the words, and where one sorts by it, the link and its way."""
    columns = (
        (gettext("Card"), "newest", "key"),
        (gettext("Title"), "", "title"),
        (gettext("State"), "age", "state"),
        (gettext("Priority"), "priority", "level"),
        (gettext("Goal"), "", "goal"),
        (gettext("Worker"), "", "worker"),
        (gettext("Labels"), "", "labels"),
        (gettext("Due"), "due", "due"),
        (gettext("Changed"), "updated", "changed"),
        (gettext("Cost"), "cost", "cost"),
    )
    found = []
    for words, sort, css in columns:
        on = bool(sort) and wanted.sort.removeprefix("-") == sort
        down = (sort in ("newest", "updated", "cost")) != wanted.sort.startswith("-")
        turned = f"-{sort}" if wanted.sort == sort else sort
        found.append(
            {
                "words": words,
                "class": css,
                "href": wanted.but(sort=turned) if sort else "",
                "on": on,
                "aria": ("descending" if down else "ascending") if on else "none",
            }
        )
    return found


def may_operate(request: HttpRequest, board: Board) -> bool:
    """True if the reader may change the board itself."""
    return principal(request).role_on(board.pk) == Role.OPERATOR


#: What the board's script is made of: a browser told early fetches all of it at once.
MODULES = [f"js/board/{name}.js" for name in (
    "asking", "bulk", "cards", "columns", "compose", "dom", "drag", "feed", "keys", "menu",
    "morph", "moves", "popup", "presence", "queue", "select",
)]  # fmt: skip


#: What the filters above the board show: which cards, in words, their colour and icon.
CHIPS = (
    ("needs", gettext_lazy("Needs you"), "need", "hand"),
    ("stalled", gettext_lazy("Stalled"), "fail", "alert"),
    ("running", gettext_lazy("Running"), "run", ""),
    ("review", gettext_lazy("To review"), "rev", "check"),
)


_counts: fragments.Shared[tuple[selectors.Pulse, selectors.Tally]] = fragments.Shared()
_changes: fragments.Shared[dict[str, Any]] = fragments.Shared()
_tallies: fragments.Shared[list[int]] = fragments.Shared()


def as_of(request: HttpRequest) -> int | None:
    """Return the event that an answer may not be older than; None where it may be nobody else's."""
    return whole_number(request.GET.get("at", ""), 18)


def _counted(board: Board, wanted: Wanted) -> tuple[selectors.Pulse, selectors.Tally]:
    pulse = selectors.pulse_of(board)
    return pulse, selectors.counted(board, wanted, pulse)


@require_GET
@for_people
def changes(request: HttpRequest, key: str) -> HttpResponse:
    """The named cards as they are now, and the counts of all columns, for a page to patch in.

    A card that is gone, or that the page's filter leaves out, is named in ``gone``. With
    ``said`` the answer tells who changed the first card last, and how. With ``at`` the answer
    may be anybody's of that event or a later one.
    """
    found = lookup.board(principal(request), key)
    wanted, at = asked(request.GET), as_of(request)
    ids = _ids(request.GET.get("ids", ""))
    shown = {"may_write": may_write(request, found)}

    def newest() -> int:
        return log.last_seq(found.pk)

    def changed() -> dict[str, Any]:
        pulse, tally = _counts.get((found.pk, wanted), at, newest, lambda: _counted(found, wanted))
        return _body(selectors.some(found, ids, wanted, pulse), ids, tally, shown)

    of_whom = (found.pk, wanted, tuple(sorted(ids)), shown["may_write"], get_language())
    body = _changes.get(of_whom, at, newest, changed)
    if ids and request.GET.get("said"):
        event = selectors.last_change(ids[0])
        if event is not None and event.board_id == found.pk:
            names = {str(c.pk): c.name for c in found.columns.all()}
            said = {
                "actor": event.actor.partition(":")[2] or event.actor,
                "did": sentences.told(event, names),
                "at": event.at.isoformat(),
            }
            body = {**body, "said": said}
    return JsonResponse(body)


def _body(
    faces: list[selectors.Face], ids: list[UUID], tally: selectors.Tally, shown: dict[str, Any]
) -> dict[str, Any]:
    there = {f.card.pk for f in faces}
    return {
        "cards": [
            {
                "id": str(f.card.pk),
                "column": str(f.card.column_id),
                "lane": f.lane,
                "sort": f.place,
                "version": f.card.version,
                "html": fragments.card(f, shown),
            }
            for f in faces
        ],
        "gone": [str(pk) for pk in ids if pk not in there],
        "counts": tally.columns,
        "lane_counts": tally.lanes,
        "attention": tally.attention,
        "done": tally.done,
        "total": tally.total,
    }


@require_GET
@for_people
def more(request: HttpRequest, key: str, column: UUID) -> HttpResponse:
    """The next cards of a column, or of the part of it in a ``lane``, below ``place``.

    In the order of ranks ``group`` and ``rank`` name the place as well.
    """
    found = lookup.board(principal(request), key)
    place = lookup.column(found, column)
    wanted, lane = asked(request.GET), request.GET.get("lane") or None
    faces, left = _at_place(lambda at: selectors.rest_of(found, place, wanted, at, lane), request)
    shown = {
        "board": found,
        "column": place,
        "faces": faces,
        "left": left,
        "may_write": may_write(request, found),
    }
    return render(request, "boards/_more.html", shown)


def _at_place(read: Callable[[list[int] | None], Any], request: HttpRequest) -> Any:
    """Return what ``read`` gives below the place in the address. Raises Invalid for a bad one."""
    text = request.GET.get("place", "")
    if not text and "rank" in request.GET:
        return read([_whole(request.GET.get(name, "0"), name) for name in ("group", "rank")])
    parts = text.strip("[]").split(",")
    place = [_whole(part, "place") for part in parts] if text.strip("[] ") else None
    try:
        return read(place)
    except ValueError:
        raise Invalid.field("place", "is no place in this order.") from None


def _whole(text: str, name: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if abs(number) >= 2**63:
        raise Invalid.field(name, "must be a whole number.")
    return number


def _ids(text: str) -> list[UUID]:
    ids = [pk for part in text.split(",")[:MAX_IDS] if (pk := lookup.as_uuid(part.strip()))]
    return list(dict.fromkeys(ids))
