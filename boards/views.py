"""The board's pages and the fragments that keep them current."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from boards import lookup, selectors, sentences
from boards.authentication import principal_of_user
from boards.models import Board
from events import log
from kernel.access import Principal, Role
from kernel.errors import Invalid

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
    if len(shown["boards"]) == 1:
        return redirect("boards:board", key=shown["boards"][0].key)
    return render(request, "boards/home.html", {**shown, "gists": selectors.gists(shown["boards"])})


@require_GET
@for_people
@ensure_csrf_cookie
def board(request: HttpRequest, key: str) -> HttpResponse:
    """The board with the first cards of every column."""
    boards = visible_boards(request)
    found = next((b for b in boards if b.key == key), None) or lookup.board(principal(request), key)
    wanted = _wanted(request)
    folded = request.COOKIES.get("folded")
    # Read first: a change in between is then replayed, never missed.
    cursor = log.last_seq(found.pk)
    shown = {
        **frame(request, found, boards),
        "overview": selectors.overview(
            found, wanted, rails=None if folded is None else folded.split("_")
        ),
        "wanted": wanted,
        "chips": [
            {"show": show, "words": words, "class": css, "icon": icon, "on": wanted.show == show}
            | {"href": wanted.query_showing("" if wanted.show == show else show)}
            for show, words, css, icon in CHIPS
        ],
        "cursor": cursor,
        "modules": MODULES,
    }
    return render(request, "boards/board.html", shown)


#: What the board's script is made of: a browser told early fetches all of it at once.
MODULES = [f"js/board/{name}.js" for name in (
    "cards", "columns", "compose", "dom", "drag", "feed", "keys", "menu", "moves",
)]  # fmt: skip


#: What the filters above the board show: which cards, in words, their colour and icon.
CHIPS = (
    ("needs", "Needs you", "need", "hand"),
    ("stalled", "Stalled", "fail", "alert"),
    ("running", "Running", "run", ""),
    ("review", "To review", "rev", "check"),
)


@require_GET
@for_people
def changes(request: HttpRequest, key: str) -> HttpResponse:
    """The named cards as they are now, and the counts of all columns, for a page to patch in.

    A card that is gone, or that the page's filter leaves out, is named in ``gone``. With
    ``said`` the answer tells who changed the first card last, and how.
    """
    found = lookup.board(principal(request), key)
    wanted, silent = _wanted(request), selectors.silent(found)
    ids = _ids(request.GET.get("ids", ""))
    shown = {"may_write": may_write(request, found)}
    faces = selectors.some(found, ids, wanted, silent)
    there = {f.card.pk for f in faces}
    tally = selectors.counted(found, wanted, silent)
    body: dict[str, Any] = {
        "cards": [
            {
                "id": str(f.card.pk),
                "column": str(f.card.column_id),
                "version": f.card.version,
                "html": render_to_string("boards/_card.html", {**shown, "face": f}, request),
            }
            for f in faces
        ],
        "gone": [str(pk) for pk in ids if pk not in there],
        "counts": tally.columns,
        "attention": tally.attention,
        "done": tally.done,
        "total": tally.total,
    }
    if ids and request.GET.get("said"):
        event = selectors.last_change(ids[0])
        if event is not None and event.board_id == found.pk:
            names = {str(c.pk): c.name for c in found.columns.all()}
            body["said"] = {
                "actor": event.actor.partition(":")[2] or event.actor,
                "did": sentences.told(event, names),
                "at": event.at.isoformat(),
            }
    return JsonResponse(body)


@require_GET
@for_people
def more(request: HttpRequest, key: str, column: UUID) -> HttpResponse:
    """The next cards of a column, below the place that ``group`` and ``rank`` name."""
    found = lookup.board(principal(request), key)
    place = lookup.column(found, column)
    group = _whole(request.GET.get("group", "0"), "group")
    rank = _whole(request.GET.get("rank", ""), "rank")
    wanted = _wanted(request)
    faces, left = selectors.rest_of(found, place, wanted, group, rank)
    shown = {
        "board": found,
        "column": place,
        "faces": faces,
        "left": left,
        "may_write": may_write(request, found),
    }
    return render(request, "boards/_more.html", shown)


def _whole(text: str, name: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if abs(number) >= 2**63:
        raise Invalid.field(name, "must be a whole number.")
    return number


def _wanted(request: HttpRequest) -> selectors.Wanted:
    """Return the filter that the address asks for; what makes no sense in it is left out."""
    show = request.GET.get("show", "")
    return selectors.Wanted(
        q=request.GET.get("q", "")[:200].replace("\x00", "").strip(),
        show=show if show in selectors.Wanted.SHOWS else "",
        goal=lookup.as_uuid(request.GET.get("goal", "")),
    )


def _ids(text: str) -> list[UUID]:
    ids = [pk for part in text.split(",")[:MAX_IDS] if (pk := lookup.as_uuid(part.strip()))]
    return list(dict.fromkeys(ids))
