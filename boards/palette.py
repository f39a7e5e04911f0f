"""What the command palette finds: cards, goals, boards, labels and workers one may see.

Always the same few statements, whatever is asked and however much there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Case, F, IntegerField, Q, Value, When
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from boards import lookup, selectors
from boards.models import Attempt, Board, Card
from boards.views import for_people, principal
from goals.models import Goal

LONGEST = 100
MOST_CARDS, MOST_OTHERS, MOST_BOARDS = 12, 6, 500
#: A worker is found if it had one of the newest so many attempts.
ATTEMPTS_READ = 400
#: Letters that may stand apart in a title; more of them are words.
LETTERS = range(3, 13)

Item = dict[str, Any]


@require_GET
@for_people
def search(request: HttpRequest) -> HttpResponse:
    """Sections of what ``q`` means on the boards one may see, what fits best first.

    ``#`` asks for labels and ``@`` for workers of the board ``board``. Without ``q`` the cards
    whose keys ``recent`` lists come, as far as they may still be seen.
    """
    who = principal(request)
    asked = " ".join(request.GET.get("q", "").replace("\0", "").split())[:LONGEST]
    key = request.GET.get("board", "")
    boards = {
        board.pk: board
        for board in Board.objects.visible_to(who.visible())
        .filter(archived_at=None)
        .order_by("key")[:MOST_BOARDS]
    }
    here = next((board for board in boards.values() if board.key == key.upper()), None)
    if key and here is None:
        here = lookup.board(who, key)
    sections: list[tuple[str, str, list[Item]]] = []
    if asked.startswith("#"):
        sections.append(("labels", _("Labels"), _labels(here, asked[1:].strip())))
    elif asked.startswith("@"):
        sections.append(("workers", _("Workers"), _workers(boards, here, asked[1:].strip())))
    elif asked:
        sections.append(("cards", _("Cards"), _cards(boards, here, asked)))
        sections.append(("goals", _("Goals"), _goals(boards, asked)))
        sections.append(("boards", _("Boards"), _boards(boards.values(), asked)))
        sections.append(("workers", _("Workers"), _workers(boards, here, asked)))
        sections.append(("everything", _("In everything"), [_everything(here, asked)]))
    else:
        recent = request.GET.get("recent", "").replace("\0", "").upper().split(",")[:MOST_CARDS]
        sections.append(("recent", _("Recent"), _recent(boards, recent)))
        others = [board for board in boards.values() if board is not here]
        sections.append(("boards", _("Boards"), _boards(others, "")))
    shown = [{"kind": k, "name": n, "items": items} for k, n, items in sections if items]
    return JsonResponse({"sections": shown}, headers={"Cache-Control": "no-store"})


def _cards(boards: dict[UUID, Board], here: Board | None, asked: str) -> list[Item]:
    """Exact keys first, then beginnings of keys and titles, words, and letters apart."""
    words = Q()
    for word in asked.split():
        words &= Q(title__icontains=word)
    number = asked.lstrip("0")
    tests = [
        Q(key__iexact=asked),
        Q(number=int(number)) if number.isdecimal() and len(number) < 9 else Q(pk=None),
        Q(key__istartswith=asked),
        Q(title__istartswith=asked),
        words,
    ]
    letters = re.sub(r"\W", "", asked)
    if len(letters) in LETTERS and " " not in asked:
        tests.append(Q(title__iregex=".*".join(map(re.escape, letters))))
    found = Q()
    for test in tests:
        found |= test
    rank = Case(
        *(When(test, then=Value(n)) for n, test in enumerate(tests)),
        default=Value(len(tests)),
        output_field=IntegerField(),
    )
    elsewhere = Case(
        When(board_id=here.pk if here else None, then=Value(0)),
        default=Value(1),
        output_field=IntegerField(),
    )
    cards = (
        Card.objects.filter(found, board_id__in=list(boards), archived_at=None)
        .order_by(rank, elsewhere, F("number").desc())
        .only("key", "title", "state", "board_id")
    )
    return [_card(card, boards) for card in cards[:MOST_CARDS]]


def _recent(boards: dict[UUID, Board], keys: list[str]) -> list[Item]:
    cards = Card.objects.filter(key__in=keys, board_id__in=list(boards))
    found = {card.key: card for card in cards.only("key", "title", "state", "board_id")}
    return [_card(found[key], boards) for key in keys if key in found]


def _card(card: Card, boards: dict[UUID, Board]) -> Item:
    return {
        "id": f"card-{card.key}",
        "key": card.key,
        "title": card.title,
        "detail": boards[card.board_id].name,
        "state": card.state,
        "href": reverse("checkpoints:card", args=[card.key]),
    }


def _goals(boards: dict[UUID, Board], asked: str) -> list[Item]:
    words = Q()
    for word in asked.split():
        words &= Q(title__icontains=word)
    goals = Goal.objects.filter(words, board_id__in=list(boards)).order_by("-created_at")
    return [
        {
            "id": f"goal-{goal.pk}",
            "title": goal.title,
            "detail": boards[goal.board_id].name,
            "icon": "target",
            "href": reverse("checkpoints:goal", args=[goal.pk]),
        }
        for goal in goals[:MOST_OTHERS]
    ]


def _boards(boards: Iterable[Board], asked: str) -> list[Item]:
    text = asked.casefold()
    fitting = [b for b in boards if text in b.name.casefold() or text in b.key.casefold()]
    fitting.sort(key=lambda b: (b.key.casefold() != text, not b.name.casefold().startswith(text)))
    return [
        {
            "id": f"board-{board.key}",
            "title": board.name,
            "detail": board.key,
            "icon": "board",
            "href": reverse("boards:board", args=[board.key]),
        }
        for board in fitting[:MOST_OTHERS]
    ]


def _labels(here: Board | None, asked: str) -> list[Item]:
    if here is None:
        return []
    address = reverse("boards:board", args=[here.key])
    labels = [x for x in selectors.labels_of(here) if asked.casefold() in x.casefold()]
    labels.sort(key=lambda label: not label.casefold().startswith(asked.casefold()))
    return [
        {
            "id": f"label-{n}",
            "title": label,
            "detail": here.name,
            "icon": "filter",
            "href": f"{address}?{urlencode({'label': label})}",
        }
        for n, label in enumerate(labels[:MOST_CARDS])
    ]


def _everything(here: Board | None, asked: str) -> Item:
    """The way to what has the words anywhere: in steps, decisions, messages and the rest."""
    query = {"q": asked, **({"board": here.key} if here else {})}
    return {
        "id": "everything",
        "title": _("Search everything for “%(text)s”") % {"text": asked},
        "detail": here.name if here else _("All boards"),
        "icon": "search",
        "href": f"{reverse('boards:search')}?{urlencode(query)}",
    }


def _workers(boards: dict[UUID, Board], here: Board | None, asked: str) -> list[Item]:
    scope = [here.pk] if here else list(boards)
    newest = Attempt.objects.filter(board_id__in=scope).order_by("-pk")
    found: dict[tuple[str, UUID], str] = {}
    for worker, board_id, status in newest.values_list("worker", "board_id", "status")[
        :ATTEMPTS_READ
    ]:
        if asked.casefold() in worker.casefold() and board_id in boards:
            found.setdefault((worker, board_id), status)
    return [
        {
            "id": f"worker-{n}",
            "title": worker,
            "detail": boards[board_id].name,
            "icon": "worker",
            "href": reverse("workers:worker", args=[boards[board_id].key, worker]),
        }
        for n, (worker, board_id) in enumerate(list(found)[:MOST_OTHERS])
    ]
