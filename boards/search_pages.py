"""The page that looks for words in everything boards remember."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from boards import lookup, searching
from boards.views import for_people, frame, principal
from goals.search import finding, language
from goals.search.models import Entry
from kernel.errors import Invalid

PAGE = 20
KINDS = [
    ("", gettext_lazy("Everything")),
    (Entry.Kind.CARD, gettext_lazy("Cards")),
    (Entry.Kind.ATTEMPT, gettext_lazy("Attempts")),
    (Entry.Kind.STEP, gettext_lazy("Steps")),
    (Entry.Kind.CHECKPOINT, gettext_lazy("Checkpoints")),
    (Entry.Kind.MESSAGE, gettext_lazy("Messages")),
    (Entry.Kind.DECISION, gettext_lazy("Decisions")),
    (Entry.Kind.DISCOVERY, gettext_lazy("Discoveries")),
]
ICONS = {
    Entry.Kind.CARD: "board",
    Entry.Kind.ATTEMPT: "worker",
    Entry.Kind.STEP: "play",
    Entry.Kind.CHECKPOINT: "dia",
    Entry.Kind.MESSAGE: "inbox",
    Entry.Kind.DECISION: "scale",
    Entry.Kind.DISCOVERY: "bulb",
}


@require_GET
@for_people
def search(request: HttpRequest) -> HttpResponse:
    """What ``q`` finds on the board ``board``, or on every board that one sees."""
    who = principal(request)
    text = request.GET.get("q", "").replace("\0", "")
    kind = request.GET.get("kind", "")
    kind = kind if kind in Entry.Kind.values else ""
    key = request.GET.get("board", "")
    board = lookup.board(who, key) if key else None
    results, problem = None, ""
    try:
        results = searching.search(
            who,
            text,
            names={"board": [board.key]} if board and text.strip() else {},
            kinds=[kind] if kind and text.strip() else [],
            limit=PAGE,
            cursor=request.GET.get("cursor") or None,
        )
    except Invalid as error:
        problem = _refused(error, text)
    asked = {"q": text, "kind": kind, "board": key}

    def href(**changes: Any) -> str:
        return "?" + urlencode({k: v for k, v in {**asked, **changes}.items() if v})

    shown = {
        **frame(request, board),
        "text": text,
        "kind": kind,
        "results": results,
        "problem": problem,
        "most": finding.CANDIDATES,
        "kinds": [(name, words, href(kind=name)) for name, words in KINDS],
        "hits": [(ICONS[Entry.Kind(h.entry.kind)], h) for h in results.hits] if results else [],
        "everywhere": href(board="") if board else "",
        "more": href(cursor=results.following) if results and results.following else "",
    }
    return render(request, "boards/search.html", shown, status=422 if problem else 200)


def _refused(error: Invalid, text: str) -> str:
    """Return in the reader's words why this can't be looked for, and what can."""
    field = next(iter(error.errors), "")
    if field == "q" and len(text) > language.MAX_CHARS:
        return _("This has %(n)s characters; up to %(most)s can be looked for.") % {
            "n": len(text),
            "most": language.MAX_CHARS,
        }
    if field == "q":
        return _("Up to %(most)s names of one sort can be given, such as board:.") % {
            "most": language.MAX_NAMES
        }
    if field == "kind":
        return _("There is no such kind; after kind: comes one of %(kinds)s.") % {
            "kinds": ", ".join(language.KINDS)
        }
    if field == "after":
        return _("after: takes a date (2026-11-23), an instant, or so long ago (12h, 7d, 2w).")
    if field == "cursor":
        return _("These results go no further from here; search again.")
    return error.detail
