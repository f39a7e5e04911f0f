"""What was told to whom, and what of it did not arrive, for operators to look at."""

from __future__ import annotations

from django.contrib import admin

from boards.notices.models import CardWatch, Letter, Notice, NoticeCursor, NoticeRules
from events.admin_base import ViewOnly, one, pretty, short


@admin.register(Notice)
class NoticeAdmin(ViewOnly):
    """Notices, newest first; open while neither settled nor done."""

    list_display = ("kind", "about", "user", "board", "at", "read_at", "done_at", "settled_at")
    list_select_related = ("card", "goal", "board", "user")
    list_filter = ("kind",)
    search_fields = ("=card__key", "=user__username")
    search_help_text = "A card's key or a person's name."
    ordering = ("-id",)
    fields = (
        "kind", "user", "board", "card", "goal", "actor", "text", "cause", "at",
        "read_at", "snoozed_until", "done_at", "settled_at",
    )  # fmt: skip

    @admin.display(description="about")
    def about(self, notice: Notice) -> str:
        if notice.card_id is None:
            return one("goals_goal", notice.goal_id, notice.title)
        return one("boards_card", notice.card_id, notice.key)


@admin.register(Letter)
class LetterAdmin(ViewOnly):
    """E-mail: what waits, what went, what was given up and why."""

    list_display = ("user", "about", "state", "due_at", "tries", "trouble", "sent_at")
    list_select_related = ("user", "notice__card", "notice__goal")
    list_filter = ("state",)
    search_fields = ("=user__username", "=notice__card__key")
    ordering = ("-id",)
    fields = ("user", "notice", "batch", "state", "due_at", "tries", "error", "sent_at")

    @admin.display(description="about")
    def about(self, letter: Letter) -> str:
        return letter.notice.key or letter.notice.title

    @admin.display(description="error")
    def trouble(self, letter: Letter) -> str:
        return short(letter.error)


@admin.register(NoticeRules)
class NoticeRulesAdmin(ViewOnly):
    """What people want to hear of; they change it themselves."""

    list_display = ("user", "scope", "digest", "quiet_from", "quiet_to", "time_zone")
    list_select_related = ("user",)
    search_fields = ("=user__username",)
    ordering = ("user_id",)
    fields = (
        "user", "chosen_kinds", "scope", "boards", "digest", "digest_at",
        "quiet_from", "quiet_to", "time_zone", "urgent_passes",
    )  # fmt: skip

    @admin.display(description="kinds")
    def chosen_kinds(self, rules: NoticeRules) -> str:
        return pretty(rules.kinds)


@admin.register(CardWatch)
class CardWatchAdmin(ViewOnly):
    """Cards that people watch or keep silent about."""

    list_display = ("user", "card", "watching")
    list_select_related = ("user", "card")
    list_filter = ("watching",)
    search_fields = ("=user__username", "=card__key")
    ordering = ("-pk",)


@admin.register(NoticeCursor)
class NoticeCursorAdmin(ViewOnly):
    """How far into each board's log notices were made."""

    list_display = ("board", "seq")
    list_select_related = ("board",)
    search_fields = ("=board__key",)
    ordering = ("board_id",)
