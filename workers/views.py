"""The page that connects an agent to a board: a new token, the lines to copy, the first call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from boards import lookup, tokens
from boards.models import Board
from boards.views import for_people, frame, principal
from kernel.access import Role
from workers.connect import calls
from workers.connect.recipes import Connection, recipes

View = Callable[..., HttpResponse]

ROLES = (("member", "Work on cards"), ("viewer", "Only read"))
LIVES = (("", "Until revoked"), ("1", "1 day"), ("30", "30 days"), ("90", "90 days"))


class TokenForm(forms.Form):
    """What a new token of the board is asked for."""

    name = forms.CharField(max_length=100)
    role = forms.ChoiceField(choices=ROLES)
    days = forms.ChoiceField(choices=LIVES, required=False)


def kept_nowhere(view: View) -> View:
    """Let no cache keep the answer: it may hold a token."""

    @wraps(view)
    def uncached(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    return uncached


@require_http_methods(["GET", "HEAD", "POST"])
@for_people
@kept_nowhere
def connect(request: HttpRequest, key: str) -> HttpResponse:
    """The page; a POST makes a token and shows it in this one answer, under the same address."""
    board = lookup.board(principal(request), key)
    if request.method != "POST":
        return render(request, "workers/connect.html", _page(request, board))
    principal(request).require(board.pk, Role.OPERATOR, "board")
    form = TokenForm(request.POST)
    shown = {"form": form}
    if form.is_valid():
        days = form.cleaned_data["days"]
        shown["issued"] = tokens.issue(
            form.cleaned_data["name"],
            roles={board.pk: Role[form.cleaned_data["role"].upper()]},
            expires_at=timezone.now() + timedelta(days=int(days)) if days else None,
        )
    template = "workers/_connecting.html" if request.htmx else "workers/connect.html"  # type: ignore[attr-defined]
    status = 200 if form.is_valid() else 422
    return render(request, template, _page(request, board, **shown), status=status)


@require_GET
@kept_nowhere
def connect_calls(request: HttpRequest, key: str) -> HttpResponse:
    """What the board's tokens have done so far, and whether the one in ``new`` has called.

    401 for whoever was signed out meanwhile: a page to sign in must not take the list's place.
    """
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    return _connect_calls(request, key)


@for_people
def _connect_calls(request: HttpRequest, key: str) -> HttpResponse:
    board = lookup.board(principal(request), key)
    new = lookup.as_uuid(request.GET.get("new", ""))
    return render(request, "workers/_calls.html", _calls(request, board, new))


@require_POST
@for_people
@kept_nowhere
def revoke(request: HttpRequest, key: str, token: UUID) -> HttpResponse:
    """Make the token worthless; the list then says so."""
    board = lookup.board(principal(request), key, Role.OPERATOR)
    tokens.revoke(lookup.token(principal(request), token).pk)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("workers:connect", key=board.key)
    new = lookup.as_uuid(request.POST.get("new", ""))
    return render(request, "workers/_calls.html", _calls(request, board, new))


def _page(
    request: HttpRequest,
    board: Board,
    *,
    form: TokenForm | None = None,
    issued: tokens.Issued | None = None,
) -> dict[str, Any]:
    form = form or TokenForm(initial={"name": f"{principal(request).name}'s agent"[:100]})
    token = {"token": issued.plaintext} if issued else {}
    connection = Connection(_address(request), board.key, **token)
    new = issued.token.pk if issued else None
    return {
        **frame(request, board),
        **_calls(request, board, new),
        "form": form,
        "issued": issued,
        "connection": connection,
        "recipes": recipes(connection),
        "agent": request.POST.get("agent", ""),
    }


def _calls(request: HttpRequest, board: Board, new: UUID | None) -> dict[str, Any]:
    who = principal(request)
    listed = calls.keys(board, who)
    role = who.role_on(board.pk)
    return {
        "board": board,
        "role": role.label if role else "",
        "may_issue": role is not None and role >= Role.OPERATOR,
        "keys": listed,
        "new": new,
        "first": calls.find(listed, new),
    }


def _address(request: HttpRequest) -> str:
    """Return the server's address as agents reach it: the public one, else the reader's own."""
    return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
