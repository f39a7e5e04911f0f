"""Saved views: a board's filter, sorting and lanes that a person keeps under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import QueryDict

from boards.models import Board, SavedView
from boards.wanted import asked
from kernel.access import Principal, hidden
from kernel.errors import Forbidden, Invalid, TransitionRefused
from kernel.tx import transition

MAX_VIEWS = 50
MAX_QUERY = 1000


def seen_by(board: Board, who: Principal) -> QuerySet[SavedView]:
    """Return the views of the board that are shared, and a person's own."""
    seen = Q(shared=True) | Q(owner_id=who.id) if who.is_person else Q(shared=True)
    return SavedView.objects.filter(seen, board=board).select_related("owner")


def find(board: Board, who: Principal, pk: UUID) -> SavedView:
    """Return the person's own view. Raises NotFound if they can't see it, else Forbidden."""
    found = SavedView.objects.filter(board=board, pk=pk).select_related("owner").first()
    if found is None or not (found.shared or str(found.owner_id) == who.id):
        raise hidden("view")
    if str(found.owner_id) != who.id:
        raise Forbidden(f"Only {found.owner} may change this view; save one of your own.")
    return found


def keep(board: Board, who: Principal, name: str, query: str, shared: bool) -> SavedView:
    """Return the new view. Raises Invalid for a name taken, TransitionRefused for too many."""
    with transition():
        own = SavedView.objects.filter(board=board, owner_id=int(who.id))
        if own.count() >= MAX_VIEWS:
            raise TransitionRefused(f"You have {MAX_VIEWS} views here; delete one first.")
        _refuse_twin(own, name)
        return SavedView.objects.create(
            board=board, owner_id=int(who.id), name=name, query=readable(query), shared=shared
        )


def edit(view: SavedView, changes: Mapping[str, Any]) -> SavedView:
    """Return the view with ``changes`` made. Raises Invalid for a name taken."""
    changes = dict(changes)
    if "query" in changes:
        changes["query"] = readable(changes["query"])
    with transition():
        if "name" in changes:
            own = SavedView.objects.filter(board_id=view.board_id, owner_id=view.owner_id)
            _refuse_twin(own.exclude(pk=view.pk), changes["name"])
        for name, value in changes.items():
            setattr(view, name, value)
        view.save(update_fields=list(changes))
    return view


def delete(view: SavedView) -> None:
    """Forget the view."""
    with transition():
        view.delete()


def readable(query: str) -> str:
    """Return the part of an address that makes sense, as addresses spell it.

    Raises Invalid if that is too long to keep.
    """
    found = asked(QueryDict(query.removeprefix("?"))).query
    if len(found) > MAX_QUERY:
        raise Invalid.field("query", f"is longer than {MAX_QUERY} characters; filter by less.")
    return found


def _refuse_twin(own: Any, name: str) -> None:
    if own.filter(name=name).exists():
        raise Invalid.field("name", "is taken by another view of yours; choose another.")
