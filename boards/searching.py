"""Looking for words in everything that the boards one sees remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import connection
from django.urls import reverse

from boards import lookup
from boards.models import Board, Card
from goals.models import Goal
from goals.search import finding, language, marking
from goals.search.finding import Narrowing, tag
from goals.search.language import Asked
from goals.search.models import Entry
from kernel.access import Principal
from kernel.errors import NotFound

Kind = Entry.Kind

#: The cards of a goal are looked through by name up to so many, and by a condition beyond.
CARDS_BY_NAME = 300
#: Goals that words of a title may mean.
GOALS_MEANT = 20


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry as it is shown: where it belongs, its title, and the piece with what was found."""

    entry: Entry
    score: float
    board: Board
    card: Card | None
    goal: Goal | None
    title: marking.Piece
    piece: marking.Piece
    href: str


@dataclass(frozen=True, slots=True)
class Results:
    """A page of hits, how many there are (``finding.CANDIDATES`` for more), and the next page."""

    hits: list[Hit]
    count: int
    following: str | None
    partly: bool


def search(
    principal: Principal,
    text: str,
    *,
    names: Mapping[str, Sequence[str]] | None = None,
    kinds: Sequence[str] = (),
    limit: int = 20,
    cursor: str | None = None,
) -> Results:
    """Return what the text means among what the principal may see.

    ``names`` and ``kinds`` narrow it further, as ``goal:``, ``card:``, ``board:``, ``by:`` and
    ``kind:`` within the text do. Raises Invalid for a kind or an instant that there is none of,
    and NotFound for a name in ``names`` that one may not see; within the text such a name finds
    nothing.
    """
    asked = language.parse(text)
    asked.kinds += [language.kind(name) for name in kinds]
    narrowing = Narrowing(after=asked.after)
    _see(principal, narrowing)
    for field, given in (names or {}).items():
        for name in given:
            _narrow(principal, narrowing, field, [name])
    for field, wanted in asked.names.items():
        try:
            _narrow(principal, narrowing, field, wanted)
        except NotFound:
            narrowing.to(())
    if asked.kinds:
        narrowing.to(tag("k", kind) for kind in asked.kinds)
    if asked.is_empty and not names:
        return Results([], 0, None, False)
    found = finding.find(asked.terms, narrowing, limit=limit, cursor=cursor)
    return Results(_shown(found, asked), found.count, found.following, found.partly)


def _see(principal: Principal, narrowing: Narrowing) -> None:
    """Narrow to what the principal may see."""
    if principal.scope is not None:
        goal = principal.scope.goal
        of_goal = [tag("g", goal)] if goal else []
        narrowing.to([tag("c", principal.scope.card), *of_goal])
        return
    boards = principal.visible()
    if boards is not None:
        narrowing.to(tag("b", board) for board in boards)


def _narrow(principal: Principal, narrowing: Narrowing, field: str, wanted: Sequence[str]) -> None:
    """Narrow to any of the names. Raises NotFound where none of them may be seen."""
    if field == "by":
        narrowing.to(tag("a", name.partition(":")[2] or name) for name in wanted)
    elif field == "board":
        narrowing.to(tag("b", lookup.board(principal, name).pk) for name in wanted)
    elif field == "card":
        narrowing.to(tag("c", lookup.card(principal, name).pk) for name in wanted)
    elif field == "goal":
        goals = [goal for name in wanted for goal in _goals(principal, name)]
        of(narrowing, goals)
    else:
        raise AssertionError(field)


def of(narrowing: Narrowing, goals: Sequence[UUID]) -> None:
    """Narrow to what these goals and their cards remember."""
    cards = list(
        Card.objects.filter(goal__in=goals).values_list("pk", flat=True)[: CARDS_BY_NAME + 1]
    )
    if len(cards) <= CARDS_BY_NAME:
        narrowing.to([*(tag("g", goal) for goal in goals), *(tag("c", card) for card in cards)])
        return
    slots = ", ".join(["%s"] * len(goals))
    of_them = f"SELECT c.id FROM boards_card AS c WHERE c.goal_id IN ({slots})"  # noqa: S608
    mine = [goal if connection.features.has_native_uuid_field else goal.hex for goal in goals]
    narrowing.where.append(
        (f"(e.goal_id IN ({slots}) OR e.card_id IN ({of_them}))", [*mine, *mine])
    )


def _goals(principal: Principal, name: str) -> list[UUID]:
    """Return the goals with this id, or with these words in their titles. Raises NotFound."""
    if lookup.as_uuid(name) is not None:
        return [lookup.goal(principal, name).pk]
    if principal.scope is not None:
        raise NotFound("There is no such goal, or you may not see it.")
    titled = Goal.objects.on_boards(principal.visible()).filter(title__icontains=name)
    found = list(titled.order_by("-created_at").values_list("pk", flat=True)[:GOALS_MEANT])
    if not found:
        raise NotFound("There is no such goal, or you may not see it.")
    return found


# ── how a hit is shown ───────────────────────────────────────────────────────────────────


def _shown(found: finding.Found, asked: Asked) -> list[Hit]:
    entries = found.entries
    boards = Board.objects.in_bulk({e.board_id for e in entries})
    cards = Card.objects.only("key", "title", "state", "goal_id", "board_id").in_bulk(
        {e.card_id for e in entries if e.card_id}
    )
    goals = Goal.objects.only("title", "board_id").in_bulk(
        {e.goal_id for e in entries if e.goal_id} | {c.goal_id for c in cards.values() if c.goal_id}
    )
    hits = []
    for entry, score in zip(entries, found.scores, strict=True):
        card = cards.get(entry.card_id) if entry.card_id else None
        board = boards.get(entry.board_id)
        if board is None or (entry.card_id and card is None and entry.goal_id is None):
            continue  # deleted a moment ago
        goal = goals.get(entry.goal_id or (card.goal_id if card else None))
        title, body = _texts(entry)
        hits.append(
            Hit(
                entry,
                score,
                board,
                card,
                goal,
                marking.marked(title, asked.terms),
                marking.marked(body, asked.terms),
                href(entry, board, card),
            )
        )
    return hits


def _texts(entry: Entry) -> tuple[str, str]:
    """Return the entry's title and text, neither saying again what the other does."""
    title, body = entry.title.strip(), entry.body.strip()
    if body.startswith(title):
        body = body if len(body) > len(title) else ""
        title = "" if body else title
    return title, body


def id_of(entry: Entry) -> str:
    """Return the id of the entry's row as the API spells it."""
    key = entry.ref[1:]
    return str(UUID(key)) if len(key) == 32 else key


#: The tabs of a goal's page on which what belongs to no card of it stands, and its rows' ids.
_OF_GOALS = {Kind.DECISION: ("decisions", "d"), Kind.DISCOVERY: ("discoveries", "f")}


def href(entry: Entry, board: Board, card: Card | None) -> str:
    """Return the address of the very row on its card's page, or of what is nearest to it."""
    n, pk = entry.number, id_of(entry)
    if card is None:
        if entry.goal_id and (tab := _OF_GOALS.get(Kind(entry.kind))):
            name, letter = tab
            page = reverse("checkpoints:goal", args=[entry.goal_id])
            return f"{page}?{urlencode({'tab': name, 'at': pk})}#{letter}{pk}"
        return reverse("boards:board", args=[board.key])
    places: dict[Entry.Kind, tuple[dict[str, Any], str]] = {
        Kind.CARD: ({}, ""),
        Kind.ATTEMPT: ({"tab": "log", "attempt": n}, ""),
        Kind.STEP: ({"tab": "steps", "upto": n}, f"s{n}"),
        Kind.CHECKPOINT: ({"tab": "checkpoints", "c": n}, ""),
        Kind.MESSAGE: ({"tab": "messages", "before": (n or 0) + 1}, f"m{n}"),
        Kind.DECISION: ({"tab": "decisions"}, f"d{pk}"),
        Kind.DISCOVERY: ({"tab": "discoveries"}, f"f{pk}"),
    }
    query, anchor = places[Kind(entry.kind)]
    page = reverse("checkpoints:card", args=[card.key])
    return page + (f"?{urlencode(query)}" if query else "") + (f"#{anchor}" if anchor else "")
