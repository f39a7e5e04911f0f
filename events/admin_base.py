"""What the admin's pages have in common: they look, and they change things by transitions only.

The rules: a state is never a form field; what is history has no form at all; an edit calls
the same transition as the API, so that it is recorded and refused alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Expression, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince

from kernel.errors import DomainError

#: An action on more rows than this is refused: each row is a transaction of its own.
MAX_ROWS_PER_ACTION = 200


class BoundedPaginator(Paginator):
    """Counts no further than MAX_COUNT: counting millions takes longer than reading a page."""

    MAX_COUNT = 10_000

    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[: self.MAX_COUNT].count())


class Page(admin.ModelAdmin):
    """Base of every page: bounded lists, and actions that report row by row."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200
    #: The permission that actions with ``permissions=["steer"]`` need.
    steered_by = ""

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(self.steered_by))

    def each(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        transition: Callable[[Any], Any],
        done: str,
        named: Callable[[Any], str] = str,
    ) -> None:
        """Call ``transition`` on every row and say of each what came of it."""
        chosen = list(rows[: MAX_ROWS_PER_ACTION + 1])
        if len(chosen) > MAX_ROWS_PER_ACTION:
            self.message_user(
                request, f"Choose at most {MAX_ROWS_PER_ACTION} rows.", messages.ERROR
            )
            return
        for row in chosen:
            try:
                transition(row)
            except DomainError as refusal:
                self.message_user(request, f"{named(row)}: {refusal.detail}", messages.WARNING)
            else:
                self.message_user(request, f"{named(row)}: {done}.", messages.SUCCESS)
                self.log_change(request, row, f"{done.capitalize()}.")


class ViewOnly(Page):
    """Base of pages of history and of machine-kept rows: to be looked at, by nobody changed."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ByTransition(Page):
    """Base of pages with a form. ``save_model`` calls a transition; what it refuses is said
    above the form, with everything that was typed still there."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except DomainError as refusal:
            request.refusal = refusal.detail
            return super().changeform_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().delete_view(request, *args, **kwargs)
        except DomainError as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
            return HttpResponseRedirect(request.path.removesuffix("delete/") + "change/")

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[forms.Form]:
        form = super().get_form(request, obj, **kwargs)
        return type(form.__name__, (form,), {"refusal": getattr(request, "refusal", None)})


class RefusableForm(forms.ModelForm):
    """A form that says what a transition refused."""

    refusal: str | None = None

    def clean(self) -> dict[str, Any] | None:
        if self.refusal:
            raise forms.ValidationError(self.refusal)
        return super().clean()


class EditForm(RefusableForm):
    """A form of a row with a version: its edit is of the version that the person saw."""

    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["seen_version"].initial = self.instance.version

    def changes(self) -> dict[str, Any]:
        """Return what was edited, by field."""
        names = [n for n in self.changed_data if n != "seen_version"]
        return {name: self.cleaned_data[name] for name in names}


class ObjectField(forms.JSONField):
    """A JSON object, laid out in JSON; nothing counts as an empty one."""

    empty_values = [None, ""]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, **kwargs})

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if not isinstance(found, dict | None):
            raise forms.ValidationError('Enter a JSON object such as {"cost_usd": 5}.')
        return found or {}


class OnBoard(Page):
    """Base of pages whose rows name their board by plain id: goals and events know no boards.

    The app of boards, which is above, hands down how to read a board's key and the filter.
    """

    key_of_board: Expression | None = None
    filter_by_board: type[admin.SimpleListFilter] | None = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        key = OnBoard.key_of_board
        return rows if key is None else rows.annotate(board_key=key)

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        own = list(super().get_list_filter(request))
        return [OnBoard.filter_by_board, *own] if OnBoard.filter_by_board else own

    @admin.display(description="board", ordering="board_id")
    def on_board(self, row: Any) -> str:
        return getattr(row, "board_key", None) or str(row.board_id)


def actor_of(request: HttpRequest) -> str:
    """Return how the log names the person at the browser."""
    return f"user:{request.user.get_username()}"


def pretty(value: Any) -> str:
    """Return a JSON value laid out for reading, escaped."""
    if value in (None, {}, []):
        return "–"
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def short(text: str, length: int = 80) -> str:
    """Return the first line of ``text``, cut to fit a list."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= length else line[: length - 1] + "…"


def ago(at: Any) -> str:
    """Return an instant as an age (“5 minutes ago”) or as what is left (“in 40 seconds”)."""
    if at is None:
        return "–"
    seconds = (timezone.now() - at).total_seconds()
    if abs(seconds) < 60:
        words = f"{abs(seconds):.0f} s"
    else:
        words = timesince(min(at, timezone.now()), max(at, timezone.now()), depth=1)
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def rows_of(page: str, label: str, **lookups: Any) -> str:
    """Return a link to the admin's list ``page`` (``boards_card``) narrowed by ``lookups``."""
    url = f"{reverse(f'admin:{page}_changelist')}?{urlencode(lookups)}"
    return format_html('<a href="{}">{}</a>', url, label)


def links(*made: str) -> str:
    """Return links side by side."""
    return format_html(" · ".join("{}" for _ in made), *made)


def one(page: str, pk: Any, label: str) -> str:
    """Return a link to one row of the admin, or a dash where there is no row."""
    if not pk:
        return "–"
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[pk]), label)
