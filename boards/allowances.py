"""Budgets as pages show them: what is used, and the form that raises them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from boards import bounds
from boards.bounds import Standing
from boards.models import Board, Card
from goals.models import Goal

#: What a form asks for, by the names that a budget has them under.
ASKED = {
    "cost_usd": _("US dollars"),
    "tokens": _("Tokens"),
    "minutes": _("Minutes of work"),
    "attempts": _("Attempts"),
    "follow_ups": _("Follow-up cards"),
}


def of_card(card: Card) -> list[dict[str, Any]]:
    """Return what the card, its goal and its board may use, and what they have used of it.

    The card comes first, and comes even without a budget: it can be given one.
    """
    found = bounds.standing(card=card.pk)
    if not any(standing.kind == "card" for standing in found):
        found.insert(0, _nothing("card", card))
    owners = {"card": card, "goal": card.goal, "board": card.board}
    return [_shown(standing, owners[standing.kind]) for standing in found]


def of_board(board: Board) -> dict[str, Any]:
    """Return what the board may use altogether, and what it has used."""
    found = bounds.standing(board=board.pk)
    return _shown(found[0] if found else _nothing("board", board), board)


def of_goal(goal: Goal) -> dict[str, Any]:
    """Return what all cards of the goal may use together, and what they have used."""
    found = bounds.standing(goal=goal.pk) if goal.budgets or goal.over else []
    return _shown(found[0] if found else _nothing("goal", goal), goal)


def _nothing(kind: str, owner: Any) -> Standing:
    return Standing(kind, owner.pk, str(owner), {}, {}, "")


def _shown(standing: Standing, owner: Any) -> dict[str, Any]:
    return {
        "of": standing.kind,
        "name": standing.name,
        "path": f"/{standing.kind}s/{owner.pk}",
        "was": json.dumps(owner.budgets),
        "over": standing.why,
        "rows": [_bound(standing, name) for name in bounds.UNITS if name in standing.limits],
        "fields": _fields(standing.limits),
    }


def _fields(limits: Mapping[str, Decimal]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "words": words,
            "value": f"{limits[name]:f}" if name in limits else "",
            "whole": name not in ("cost_usd", "minutes"),
        }
        for name, words in ASKED.items()
    ]


def _bound(standing: Standing, name: str) -> dict[str, Any]:
    used, limit = standing.used[name], standing.limits[name]
    return {
        "words": ASKED.get(name) or name.replace("_", " "),
        "used": _figure(used),
        "most": _figure(limit),
        "percent": min(100, int(used * 100 / limit)) if limit else 100,
        "over": standing.reached((name,)) is not None,
    }


def _figure(value: Decimal) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
