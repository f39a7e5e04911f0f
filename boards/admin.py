from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import RegexValidator
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone

import boards.notices.admin
import boards.planning.admin
import boards.secrets.admin  # noqa: F401
from boards import cards, leases, members, tokens, workflow_templates
from boards.authentication import principal_of_user
from boards.models import (
    Attempt,
    Board,
    Card,
    Column,
    Dependency,
    Membership,
    Message,
    Presence,
    Race,
    Racer,
    SavedView,
    Spending,
    Split,
    Token,
    WorkflowTemplate,
)
from events.admin_base import (
    ByTransition,
    EditForm,
    ObjectField,
    OnBoard,
    RefusableForm,
    ViewOnly,
    actor_of,
    ago,
    links,
    one,
    pretty,
    rows_of,
    short,
)
from kernel.access import Role
from kernel.errors import DomainError


class BoardFilter(admin.SimpleListFilter):
    """Narrows rows that name their board by plain id."""

    title = "board"
    parameter_name = "on_board"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        keys = Board.objects.order_by("key").values_list("key", flat=True)[:200]
        return [(key, key) for key in keys]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(board_id__in=Board.objects.filter(key=self.value()).values("pk"))


OnBoard.filter_by_board = BoardFilter
OnBoard.key_of_board = Subquery(Board.objects.filter(pk=OuterRef("board_id")).values("key")[:1])


# ── boards and who is on them ────────────────────────────────────────────────────────────


class MembershipForm(RefusableForm):
    """Whose role it is stays; a membership of somebody else is another one."""

    class Meta:
        model = Membership
        fields = ("board", "user", "token", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            for name in ("board", "user", "token"):
                if name in self.fields:
                    self.fields[name].disabled = True


class MembershipInline(admin.TabularInline):
    model = Membership
    form = MembershipForm
    autocomplete_fields = ("board", "user", "token")
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("board", "user", "token")


class WithMembers(ByTransition):
    """A page with memberships on it; they are granted and taken by ``boards.members``."""

    inlines: tuple[type, ...] = (MembershipInline,)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        # Who becomes an operator before who no longer is one: a board keeps at least one.
        for row in sorted(formset.save(commit=False), key=lambda row: -row.role):
            _grant(request, row)
        for row in formset.deleted_objects:
            members.remove(row.pk, actor_of(request))


def _grant(request: HttpRequest, row: Membership) -> Membership:
    return members.grant(
        row.board_id,
        actor_of(request),
        Role(row.role),
        user_id=row.user_id,
        token_id=row.token_id,
    )


class ColumnInline(admin.TabularInline):
    """The columns as they stand; they change on the board or through the API."""

    model = Column
    fields = readonly_fields = ("position", "name", "kind", "wip_limit")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class BoardForm(EditForm):
    key = forms.CharField(
        max_length=10,
        validators=[
            RegexValidator(
                r"^[A-Z][A-Z0-9]{1,9}\Z", "Use 2 to 10 capitals and digits, a letter first."
            )
        ],
    )

    budgets = ObjectField()
    caps = ObjectField(
        help_text='{"labels": {"gpu": 1}, "workers": {"ada-*": 2, "agent": 4}, "each_worker": 1}'
    )

    class Meta:
        model = Board
        fields = (
            "key",
            "name",
            "repository",
            "pull",
            "allow_commands",
            "allow_network",
            "enforce_dead_ends",
            "answer_by_link",
            "budgets",
            "share",
            "max_running",
            "caps",
            "ageing_seconds",
        )


@admin.register(Board)
class BoardAdmin(WithMembers):
    form = BoardForm
    list_display = (
        "key",
        "name",
        "running",
        "waiting",
        "blocked",
        "in_review",
        "pull",
        "allow_commands",
        "archived_at",
    )
    list_filter = ("pull", "allow_commands", ("archived_at", admin.EmptyFieldListFilter))
    search_fields = ("=key", "name", "repository")
    ordering = ("key",)
    inlines = (ColumnInline, MembershipInline)
    readonly_fields = (
        "over",
        "defaults_laid_out",
        "version",
        "archived_at",
        "created_at",
        "history",
    )

    def get_fields(self, request: HttpRequest, obj: Board | None = None) -> tuple[str, ...]:
        edited = ("key", *BoardForm.Meta.fields[1:])
        return edited if obj is None else (*edited, *self.readonly_fields, "seen_version")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        kept = self.readonly_fields if obj is None else ("key", *self.readonly_fields)
        # The same rule as the API's: it lets the board run programs on this machine.
        return kept if request.user.is_superuser else (*kept, "allow_commands", "allow_network")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {
            "allow_commands": settings.ALLOW_COMMANDS,
            "allow_network": settings.ALLOW_NETWORK,
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        states = ("running", "waiting", "blocked", "review")
        counts = {f"n_{s}": Count("cards", filter=Q(cards__state=s)) for s in states}
        return super().get_queryset(request).annotate(**counts)

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[type, ...]:
        return () if obj is None else self.inlines

    def save_model(self, request: HttpRequest, obj: Board, form: Any, change: bool) -> None:
        if not change:
            fields = {n: v for n, v in form.cleaned_data.items() if n in BoardForm.Meta.fields}
            made = cards.create_board(principal_of_user(request.user), **fields)
            obj.pk = made.pk
            obj._state.adding = False
        elif changes := form.changes():
            cards.edit_board(
                obj.pk,
                actor_of(request),
                changes,
                expected_version=form.cleaned_data["seen_version"],
            )

    @admin.display(ordering="n_running")
    def running(self, board: Any) -> str:
        return _counted(board, board.n_running, "running")

    @admin.display(ordering="n_waiting")
    def waiting(self, board: Any) -> str:
        return _counted(board, board.n_waiting, "waiting")

    @admin.display(ordering="n_blocked")
    def blocked(self, board: Any) -> str:
        return _counted(board, board.n_blocked, "blocked")

    @admin.display(description="review", ordering="n_review")
    def in_review(self, board: Any) -> str:
        return _counted(board, board.n_review, "review")

    @admin.display(description="defaults")
    def defaults_laid_out(self, board: Board) -> str:
        return pretty(board.defaults)

    @admin.display(description="see also")
    def history(self, board: Board) -> str:
        return links(
            rows_of("boards_card", "cards", board__id__exact=board.pk),
            rows_of("goals_goal", "goals", on_board=board.key),
            rows_of("boards_attempt", "attempts", board__id__exact=board.pk),
            rows_of("events_event", "events", on_board=board.key),
        )


def _counted(board: Board, count: int, state: str) -> str:
    if not count:
        return "0"
    return rows_of("boards_card", str(count), board__id__exact=board.pk, state__exact=state)


@admin.register(Column)
class ColumnAdmin(ViewOnly):
    list_display = ("name", "board", "kind", "position", "wip_limit")
    list_filter = ("kind", "board")
    list_select_related = ("board",)
    search_fields = ("name", "=board__key")
    ordering = ("board__key", "position")


@admin.register(Spending)
class SpendingAdmin(OnBoard, ViewOnly):
    """What ended attempts used, summed for each card, goal and board."""

    list_display = ("owner_id", "on_board", "cost_usd", "input_tokens", "output_tokens", "attempts")
    search_fields = ("=owner_id",)
    ordering = ("-cost_usd",)


@admin.register(SavedView)
class SavedViewAdmin(ViewOnly):
    list_display = ("name", "board", "owner", "shared", "query", "created_at")
    list_filter = ("shared", "board")
    list_select_related = ("board", "owner")
    search_fields = ("name", "=board__key", "owner__username")
    ordering = ("board__key", "name")


@admin.register(Race)
class RaceAdmin(ViewOnly):
    """Cards that compete from one checkpoint; they are started and decided at the card."""

    list_display = ("source", "board", "choose", "started_by", "started_at", "winner", "decided_at")
    list_filter = ("choose", ("decided_at", admin.EmptyFieldListFilter), "board")
    list_select_related = ("source", "board", "winner")
    search_fields = ("=source__key", "=winner__key", "=board__key", "started_by")
    ordering = ("-started_at",)


@admin.register(Racer)
class RacerAdmin(ViewOnly):
    """What each card of a race scored, and why it lost."""

    list_display = ("card", "number", "told_approach", "score", "problem", "lost")
    list_select_related = ("card",)
    search_fields = ("=card__key", "approach", "lost")
    ordering = ("-card_id",)

    @admin.display(description="approach")
    def told_approach(self, racer: Racer) -> str:
        return short(racer.approach) or "–"


@admin.register(Split)
class SplitAdmin(ViewOnly):
    """Cards whose work was handed to part-cards; they are joined at the card."""

    list_display = ("card", "checkpoint", "actor", "at", "joined_as", "joined_at")
    list_filter = (("joined_at", admin.EmptyFieldListFilter),)
    list_select_related = ("card",)
    search_fields = ("=card__key", "actor")
    ordering = ("-id",)


class TemplateForm(EditForm):
    class Meta:
        model = WorkflowTemplate
        fields = ("board", "name", "description", "source", "seen_version")
        widgets = {"source": forms.Textarea(attrs={"rows": 24, "cols": 100, "spellcheck": "false"})}


@admin.register(WorkflowTemplate)
class WorkflowTemplateAdmin(ByTransition):
    form = TemplateForm
    list_display = ("name", "board", "description", "version", "updated_at")
    list_filter = ("board",)
    list_select_related = ("board",)
    search_fields = ("name", "description", "=board__key")
    autocomplete_fields = ("board",)
    ordering = ("board__key", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("board",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        actor = actor_of(request)
        if change:
            seen = form.cleaned_data.get("seen_version")
            kept = workflow_templates.edit(obj.pk, actor, form.changes(), expected_version=seen)
        else:
            fields = {n: form.cleaned_data[n] for n in ("name", "description", "source")}
            kept = workflow_templates.make(obj.board, actor, **fields)
        obj.pk, obj.workflow, obj.version = kept.pk, kept.workflow, kept.version

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        workflow_templates.delete(obj, actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for template in queryset:
            workflow_templates.delete(template, actor_of(request))


@admin.register(Presence)
class PresenceAdmin(ViewOnly):
    """Whose page of which board was open a moment ago."""

    list_display = ("user", "board", "seen_at")
    list_filter = ("board",)
    list_select_related = ("board", "user")
    search_fields = ("=board__key", "user__username")
    ordering = ("-seen_at",)


@admin.register(Membership)
class MembershipAdmin(ByTransition):
    form = MembershipForm
    list_display = ("board", "user", "token", "role")
    list_filter = ("role", "board")
    list_select_related = ("board", "user", "token")
    search_fields = ("=board__key", "user__username", "token__name")
    autocomplete_fields = ("board", "user", "token")
    ordering = ("board__key", "id")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("boards.delete_membership"))

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        if form.changed_data:
            obj.pk = _grant(request, obj).pk
            obj._state.adding = False

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        members.remove(obj.pk, actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            try:
                members.remove(row.pk, actor_of(request))
            except DomainError as refusal:
                self.message_user(request, f"{row}: {refusal.detail}", messages.WARNING)


# ── tokens ───────────────────────────────────────────────────────────────────────────────


class TokenState(admin.SimpleListFilter):
    """Whether a token still opens anything."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "live"), ("expired", "expired"), ("revoked", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        lapsed = Q(expires_at__isnull=False, expires_at__lte=now)
        match self.value():
            case "live":
                return queryset.filter(revoked_at=None).exclude(lapsed)
            case "expired":
                return queryset.filter(lapsed, revoked_at=None)
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


class TokenForm(RefusableForm):
    """What is asked for a new token."""

    boards = forms.ModelMultipleChoiceField(Board.objects.order_by("key"), required=False)
    role = forms.TypedChoiceField(
        choices=[(role.value, role.label) for role in Role],
        coerce=lambda value: Role(int(value)),
        initial=Role.MEMBER.value,
        help_text="On the chosen boards.",
    )

    class Meta:
        model = Token
        fields = ("name", "everywhere", "expires_at", "owner", "carries_secrets")
        help_texts = {
            "carries_secrets": "A worker on another host is told the boards' secrets with it.",
            "everywhere": "A role on every board, those to come included.",
            "owner": "The token is worth nothing while this account is inactive.",
        }

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        if not cleaned.get("boards") and cleaned.get("everywhere") is None:
            self.add_error("boards", "Choose the boards that the token is for.")
        return cleaned


@admin.register(Token)
class TokenAdmin(WithMembers):
    """Tokens are made here, shown once, and revoked; they are neither edited nor deleted."""

    list_display = (
        "name",
        "ends_in",
        "state",
        "owner",
        "everywhere",
        "on_boards",
        "last_used_at",
        "expires_at",
    )
    list_filter = (TokenState, "everywhere")
    list_select_related = ("owner",)
    search_fields = ("name", "=hint", "owner__username")
    autocomplete_fields = ("owner",)
    ordering = ("-created_at",)
    actions = ("revoke",)
    steered_by = "boards.change_token"
    asked = ("name", "boards", "role", "everywhere", "expires_at", "owner", "carries_secrets")
    kept = (
        "name",
        "owner",
        "everywhere",
        "carries_secrets",
        "expires_at",
        "ends_in",
        "state",
        "created_at",
        "last_used_at",
        "revoked_at",
        "history",
    )

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[forms.Form]:
        kwargs["form"] = TokenForm if obj is None else RefusableForm
        return super().get_form(request, obj, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Token | None = None) -> tuple[str, ...]:
        if obj is not None:
            return self.kept
        # A role on every board is not for somebody to hand out who has none.
        return tuple(n for n in self.asked if n != "everywhere" or request.user.is_superuser)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else self.kept

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[type, ...]:
        return () if obj is None else self.inlines

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("memberships__board")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            return
        everywhere = form.cleaned_data.get("everywhere")
        if everywhere is not None and not request.user.is_superuser:
            raise PermissionDenied
        giver = principal_of_user(request.user)
        for board in form.cleaned_data["boards"]:
            giver.require(board.pk, Role.OPERATOR)  # the same rule as the API's
        issued = tokens.issue(
            form.cleaned_data["name"],
            owner=form.cleaned_data.get("owner"),
            roles={board.pk: form.cleaned_data["role"] for board in form.cleaned_data["boards"]},
            everywhere=Role(everywhere) if everywhere is not None else None,
            expires_at=form.cleaned_data.get("expires_at"),
            carries_secrets=form.cleaned_data["carries_secrets"],
        )
        for field in Token._meta.concrete_fields:
            setattr(obj, field.attname, getattr(issued.token, field.attname))
        obj._state.adding = False
        obj.plaintext = issued.plaintext

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        """Show the plaintext in this one answer: no message, cookie or row ever holds it."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Token {obj.name}",
            "opts": self.opts,
            "token": obj,
            "plaintext": obj.plaintext,
        }
        response = TemplateResponse(request, "admin/boards/token/issued.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.display(description="ends in", ordering="hint")
    def ends_in(self, token: Token) -> str:
        return f"…{token.hint}"

    @admin.display
    def state(self, token: Token) -> str:
        if token.revoked_at:
            return "revoked"
        return "expired" if token.expires_at and token.expires_at <= timezone.now() else "live"

    @admin.display(description="boards")
    def on_boards(self, token: Any) -> str:
        roles = [f"{m.board.key} {m.get_role_display()}" for m in token.memberships.all()]
        return ", ".join(sorted(roles)) or "–"

    @admin.display(description="see also")
    def history(self, token: Token) -> str:
        return links(
            rows_of("workers_worker", "workers", token__id__exact=token.pk),
            rows_of("boards_attempt", "attempts", token__id__exact=token.pk),
        )

    @admin.action(description="Revoke the chosen tokens", permissions=["steer"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.each(request, queryset, lambda token: tokens.revoke(token.pk), "revoked")


# ── cards and attempts ───────────────────────────────────────────────────────────────────


class CardForm(EditForm):
    budgets = ObjectField()

    class Meta:
        model = Card
        fields = (
            "title",
            "description",
            "goal",
            "priority",
            "max_attempts",
            "review_required",
            "due_at",
            "budgets",
        )


@admin.register(Card)
class CardAdmin(ByTransition):
    """Cards: where each stands and why. States move by the actions, never by the form."""

    form = CardForm
    list_display = ("key", "title", "state", "why", "held_by", "failed", "since", "priority")
    list_filter = (
        "state",
        "board",
        "paused",
        ("over", admin.EmptyFieldListFilter),
        "priority",
        "review_required",
    )
    search_fields = ("=key", "title", "description")
    autocomplete_fields = ("goal",)
    date_hierarchy = "created_at"
    ordering = ("-id",)
    actions = ("cancel", "retry", "pause", "resume")
    steered_by = "boards.change_card"
    standing = (
        "key",
        "board",
        "column",
        "state",
        "why",
        "held_by",
        "paused",
        "over",
        "failed",
        "not_before",
        "depends_on",
        "history",
    )
    work = ("workflow_laid_out", "inputs_laid_out", "labels", "requires")
    record = (
        "fence",
        "line",
        "origin_checkpoint",
        "race",
        "unmet_dependencies",
        "version",
        "created_by",
        "created_at",
        "updated_at",
        "state_since",
        "archived_at",
    )
    readonly_fields = (*standing, *work, *record)
    fieldsets = (
        ("Where it stands", {"fields": standing}),
        ("What is asked", {"fields": (*CardForm.Meta.fields, "seen_version")}),
        ("How", {"fields": work}),
        ("Record", {"fields": record, "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        live = Attempt.objects.live().filter(card=OuterRef("pk"))
        return (
            super()
            .get_queryset(request)
            .annotate(
                holder=Subquery(live.values("worker")[:1]),
                lease_until=Subquery(live.values("lease_expires_at")[:1]),
            )
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a card begins on its board

    def save_model(self, request: HttpRequest, obj: Card, form: Any, change: bool) -> None:
        if changes := form.changes():
            cards.edit(
                obj.pk,
                actor_of(request),
                changes,
                expected_version=form.cleaned_data["seen_version"],
            )

    @admin.display(description="why it stands there")
    def why(self, card: Card) -> str:
        if card.state == Card.State.WAITING:
            return cards.why_waiting(card)[1]
        if card.state == Card.State.BLOCKED:
            return short(card.blocked_reason, 120)
        return "Paused." if card.paused else "–"

    @admin.display(description="held by")
    def held_by(self, card: Any) -> str:
        return f"{card.holder}, lease {_lease(card.lease_until)}" if card.holder else "–"

    @admin.display(description="failures", ordering="failures")
    def failed(self, card: Card) -> str:
        return f"{card.failures} of {card.max_attempts}"

    @admin.display(description="for", ordering="state_since")
    def since(self, card: Card) -> str:
        return ago(card.state_since).removesuffix(" ago")

    @admin.display(description="workflow")
    def workflow_laid_out(self, card: Card) -> str:
        return pretty(card.workflow)

    @admin.display(description="inputs")
    def inputs_laid_out(self, card: Card) -> str:
        return pretty(card.inputs)

    @admin.display(description="see also")
    def history(self, card: Card) -> str:
        return links(
            rows_of("boards_attempt", "attempts", card__id__exact=card.pk),
            rows_of("checkpoints_step", "steps", card__id__exact=card.pk),
            rows_of("checkpoints_checkpoint", "checkpoints", card__id__exact=card.pk),
            rows_of("boards_message", "messages", card__id__exact=card.pk),
            rows_of("events_event", "events", subject_id__exact=card.pk),
        )

    @admin.action(description="Cancel the chosen cards", permissions=["steer"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._steer(request, queryset, cards.cancel, "cancelled")

    @admin.action(description="Retry the chosen cards", permissions=["steer"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._steer(request, queryset, cards.retry, "waiting for a worker again")

    @admin.action(description="Pause the chosen cards", permissions=["steer"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._steer(request, queryset, cards.pause, "paused")

    @admin.action(description="Resume the chosen cards", permissions=["steer"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._steer(request, queryset, cards.resume, "resumed")

    def _steer(
        self, request: HttpRequest, queryset: QuerySet[Any], transition: Any, done: str
    ) -> None:
        actor = actor_of(request)
        self.each(request, queryset, lambda card: transition(card.pk, actor), done)


@admin.register(Dependency)
class DependencyAdmin(ViewOnly):
    list_display = ("card", "depends_on", "state")
    list_filter = ("card__board",)
    list_select_related = ("card", "depends_on")
    search_fields = ("=card__key", "=depends_on__key")

    @admin.display(description="which is")
    def state(self, dependency: Dependency) -> str:
        return dependency.depends_on.state


class Lapsed(admin.SimpleListFilter):
    """Live attempts by whether their lease has run out."""

    title = "lease"
    parameter_name = "lease"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("held", "held"), ("lapsed", "lapsed, to be expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "held":
                return queryset.live().filter(lease_expires_at__gt=timezone.now())
            case "lapsed":
                return queryset.lapsed(timezone.now())
        return queryset


@admin.register(Attempt)
class AttemptAdmin(ViewOnly):
    """Tries at cards: who, since when, how far, at what cost."""

    list_display = (
        "card",
        "number",
        "worker",
        "status",
        "lease",
        "seen",
        "steps_done",
        "cost_usd",
        "started_at",
        "finished_at",
    )
    list_filter = ("status", Lapsed, "board")
    list_select_related = ("card",)
    search_fields = ("=card__key", "worker", "error", "lesson")
    date_hierarchy = "started_at"
    ordering = ("-id",)
    actions = ("expire",)
    steered_by = "boards.change_attempt"
    fields = (
        "card",
        "number",
        "status",
        "worker",
        "token",
        "lease",
        "lease_seconds",
        "lease_expires_at",
        "last_seen_at",
        "started_at",
        "finished_at",
        "note",
        "percent",
        "approach",
        "differs",
        "outcome",
        "next_step",
        "reason",
        "error",
        "lesson",
        "result_laid_out",
        "resumed_from",
        "steps_done",
        "line",
        "follow_ups",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "briefing",
        "history",
    )

    @admin.display(ordering="lease_expires_at")
    def lease(self, attempt: Attempt) -> str:
        if attempt.status != Attempt.Status.RUNNING:
            return "–"
        return _lease(attempt.lease_expires_at)

    @admin.display(description="last seen", ordering="last_seen_at")
    def seen(self, attempt: Attempt) -> str:
        return ago(attempt.last_seen_at)

    @admin.display(description="result")
    def result_laid_out(self, attempt: Attempt) -> str:
        return pretty(attempt.result)

    @admin.display
    def briefing(self, attempt: Attempt) -> str:
        sha256 = attempt.briefing_sha256
        return one("checkpoints_briefing", sha256, f"{attempt.briefing_tokens} tokens")

    @admin.display(description="see also")
    def history(self, attempt: Attempt) -> str:
        return links(
            rows_of("checkpoints_step", "steps", attempt__id__exact=attempt.pk),
            rows_of("checkpoints_checkpoint", "checkpoints", attempt__id__exact=attempt.pk),
            rows_of("checkpoints_logchunk", "log", attempt__id__exact=attempt.pk),
        )

    @admin.action(description="Expire the lease of the chosen attempts now", permissions=["steer"])
    def expire(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def expire_one(attempt: Attempt) -> None:
            if not leases.expire(attempt.pk, actor=actor_of(request)):
                raise leases.LeaseLost("it is over already.")

        self.each(
            request,
            queryset.select_related("card"),
            expire_one,
            "expired; the card may be claimed again",
            named=lambda attempt: f"{attempt.card.key} {attempt}",
        )


def _lease(expires_at: Any) -> str:
    left = ago(expires_at)
    return f"runs out {left}" if left.startswith("in ") else f"ran out {left}"


@admin.register(Message)
class MessageAdmin(ViewOnly):
    """What was said about cards; people answer on the card's page."""

    list_display = ("card", "kind", "asks", "actor", "says", "is_open", "due_at", "via", "at")
    list_filter = ("kind", "asks", ("closed_at", admin.EmptyFieldListFilter), "card__board")
    list_select_related = ("card",)
    search_fields = ("=card__key", "text", "actor")
    date_hierarchy = "at"
    ordering = ("-id",)

    @admin.display(description="text")
    def says(self, message: Message) -> str:
        return short(message.text)

    @admin.display(description="open", boolean=True)
    def is_open(self, message: Message) -> bool | None:
        if message.kind != Message.Kind.QUESTION:
            return None
        return message.closed_at is None
