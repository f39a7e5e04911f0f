"""What needs a person, by whom it is known, and how it is to reach them."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from boards.planning.models import unplanned
from kernel.ids import uuid7

#: How the cause of a notice begins that tells of a new requirement; its discovery follows.
REQUIREMENT = "requirement:"
#: … and of what a goal lacks: its kind and the goal follow, see ``boards.missing``.
MISSING = "missing:"


class NoticeCursor(models.Model):
    """How far into a board's log notices were made."""

    board = models.OneToOneField("boards.Board", models.CASCADE, primary_key=True, related_name="+")
    seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.board_id} at {self.seq}"


class NoticeQuerySet(models.QuerySet["Notice"]):
    def unsettled(self) -> NoticeQuerySet:
        return self.filter(settled_at=None, done_at=None)

    def true(self) -> NoticeQuerySet:
        """Narrow to notices whose cause is still there, whatever is kept about them.

        Budgets are sums, hosts tell of their end, and what goals lack takes some counting; these
        are settled by ``raising`` alone.
        """
        stalled = Q(attempt__status="running", attempt__last_seen_at__lte=F("at")) | Q(
            attempt__status="expired", card__state="waiting", attempt__number=F("card__fence")
        )
        wanting = unplanned().filter(goal=OuterRef("goal"))
        return self.filter(
            Q(kind="mention")
            | Q(kind="question", message__closed_at=None, card__state="blocked")
            | Q(kind="review", card__state="review")
            | Q(kind="blocked", card__state="blocked")
            | Q(kind="stalled") & stalled
            | Q(kind="goal") & (~Q(cause__startswith=REQUIREMENT) | Exists(wanting))
            | Q(kind__in=["budget", "host"]),
            card__archived_at=None,
        )


class Notice(models.Model):
    """One thing that one person is to know of, open until its cause is gone or they are done.

    It is about a card or, with or without one that came to it, about a goal. ``cause`` names what
    it is about, an event's number or a row, so that it is made once.
    """

    class Kind(models.TextChoices):
        QUESTION = "question"
        REVIEW = "review"
        BLOCKED = "blocked"
        STALLED = "stalled"
        BUDGET = "budget"
        GOAL = "goal"
        HOST = "host"
        MENTION = "mention"

    #: Kinds that may be let through quiet hours: somebody or something waits.
    URGENT = (Kind.QUESTION, Kind.STALLED, Kind.BUDGET, Kind.HOST)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notices")
    board = models.ForeignKey("boards.Board", models.CASCADE, related_name="+")
    card = models.ForeignKey("boards.Card", models.CASCADE, null=True, related_name="notices")
    goal = models.ForeignKey("goals.Goal", models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=16, choices=Kind)
    cause = models.CharField(max_length=120)
    message = models.ForeignKey(
        "boards.Message", models.CASCADE, null=True, blank=True, related_name="+"
    )
    attempt = models.ForeignKey(
        "boards.Attempt", models.CASCADE, null=True, blank=True, related_name="+"
    )
    actor = models.CharField(max_length=200, blank=True)
    text = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = NoticeQuerySet.as_manager()

    if TYPE_CHECKING:
        user_id: int
        board_id: UUID
        card_id: UUID | None
        goal_id: UUID | None
        message_id: int | None

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "board", "kind", "cause"], name="one_notice_per_person_and_cause"
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "question",
                        "review",
                        "blocked",
                        "stalled",
                        "budget",
                        "goal",
                        "host",
                        "mention",
                    ]
                ),
                name="notice_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(card__isnull=False) | Q(kind="goal", goal__isnull=False),
                name="notice_about_something",
            ),
        ]
        indexes = [
            models.Index(
                fields=["user", "id"],
                condition=Q(settled_at=None, done_at=None),
                name="open_notice_of_user",
            ),
            models.Index(
                fields=["board", "kind"],
                condition=Q(settled_at=None, done_at=None),
                name="open_notice_of_board",
            ),
            models.Index(fields=["user", "-id"], name="notice_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text[:80]}"

    @property
    def title(self) -> str:
        """What the card, or else the goal, that it is about is called."""
        about = self.card or self.goal
        return about.title if about is not None else ""

    @property
    def key(self) -> str:
        """The key of its card, if it has one."""
        return self.card.key if self.card is not None else ""

    @property
    def path(self) -> str:
        """The page at which one sees what it is about."""
        return f"/cards/{self.key}" if self.card is not None else f"/goals/{self.goal_id}"


class NoticeRules(models.Model):
    """What one person wants to hear of, where, and when not. Without a row: the defaults."""

    class Scope(models.TextChoices):
        ALL = "all"
        CHOSEN = "chosen"
        MINE = "mine"  # cards they made, watch, or were mentioned on

    class Digest(models.TextChoices):
        OFF = "off"
        HOURLY = "hourly"
        DAILY = "daily"

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="notice_rules"
    )
    #: kind → channels beside the page itself; a kind that is None is wanted nowhere.
    kinds = models.JSONField(default=dict, blank=True)
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.ALL)
    boards = models.JSONField(default=list, blank=True)  # ids, where boards are chosen
    digest = models.CharField(max_length=8, choices=Digest, default=Digest.OFF)
    digest_at = models.TimeField(default=time(8))
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_to = models.TimeField(null=True, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    urgent_passes = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name_plural = "notice rules"
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from=None, quiet_to=None)
                | Q(quiet_from__isnull=False, quiet_to__isnull=False),
                name="quiet_hours_have_both_ends",
            )
        ]

    def __str__(self) -> str:
        return f"rules of {self.user_id}"


class CardWatch(models.Model):
    """A person's own word on one card, before their rules: watch it, or keep silent about it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    card = models.ForeignKey("boards.Card", models.CASCADE, related_name="watches")
    watching = models.BooleanField()

    class Meta:
        verbose_name_plural = "card watches"
        constraints = [models.UniqueConstraint(fields=["user", "card"], name="one_watch_per_card")]

    def __str__(self) -> str:
        return f"{self.user_id} {'watches' if self.watching else 'mutes'} {self.card_id}"


class Letter(models.Model):
    """A notice that is to leave by e-mail. Those of one person and batch make one letter."""

    class State(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        DROPPED = "dropped"  # its cause was gone before it left
        FAILED = "failed"  # given up

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    notice = models.OneToOneField(Notice, models.CASCADE, related_name="letter")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    batch = models.CharField(max_length=64, blank=True)  # the digest it goes with
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    due_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)
    taken_until = models.DateTimeField(null=True, blank=True)
    taken_by = models.UUIDField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    if TYPE_CHECKING:
        user_id: int
        notice_id: UUID

    class Meta:
        indexes = [models.Index(fields=["due_at"], condition=Q(state="waiting"), name="letter_due")]

    def __str__(self) -> str:
        return f"{self.state} letter to {self.user_id}"
