"""The inbox of one person: what is open for them, and what they say about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from boards.notices.models import Notice, NoticeQuerySet
from boards.secrets.models import Secret
from kernel.access import Principal, Role, hidden
from kernel.errors import Forbidden
from kernel.tx import transition

Kind = Notice.Kind

#: What the inbox counts up to.
MOST = 100
#: What the page lists; the rest is counted.
SHOWN = 100

#: The groups of the page by what is to be done, most pressing first.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("questions", (Kind.QUESTION, Kind.BLOCKED)),
    ("reviews", (Kind.REVIEW,)),
    ("stalled", (Kind.STALLED,)),
    ("budgets", (Kind.BUDGET,)),
    ("hosts", (Kind.HOST,)),
    ("goals", (Kind.GOAL,)),
    ("mentions", (Kind.MENTION,)),
)


def of(who: Principal) -> NoticeQuerySet:
    """Return the notices on boards that the principal sees: their own, for a person.

    For a token: one for each thing that waits for any person.
    """
    found = Notice.objects.all()
    visible = who.visible()
    if visible is not None:
        found = found.filter(board_id__in=visible)
    if who.is_person:
        return found.filter(user_id=int(who.id))
    same = Notice.objects.unsettled().filter(
        board=OuterRef("board"), kind=OuterRef("kind"), cause=OuterRef("cause")
    )
    earlier = same.filter(pk__lt=OuterRef("pk"))
    return found.exclude(kind=Kind.MENTION).filter(~Exists(earlier))


def current(who: Principal, now: datetime | None = None) -> NoticeQuerySet:
    """Return what is open and still true, but for what is put off until later."""
    now = now or timezone.now()
    awake = Q(snoozed_until=None) | Q(snoozed_until__lte=now)
    return of(who).unsettled().true().filter(awake)


def count(who: Principal) -> int:
    """Return how much is open, MOST at the most, in one statement."""
    return current(who)[:MOST].count()


@dataclass(slots=True)
class Entry:
    """One notice as the page shows it."""

    notice: Notice
    may_act: bool
    may_hold_secrets: bool = False  # the files that it is about: its board has some

    @property
    def options(self) -> list[str]:
        """The answers to choose from."""
        message = self.notice.message
        return [str(o) for o in message.options] if message is not None else []


@dataclass(slots=True)
class Group:
    """What is to be done in one way."""

    name: str
    entries: list[Entry] = field(default_factory=list)


def grouped(who: Principal) -> tuple[list[Group], int]:
    """Return the open notices by what to do, newest first, and how many more there are."""
    rows = current(who).select_related(
        "card", "card__column", "goal", "board", "message", "attempt"
    )
    rows = rows.defer("card__description", "card__workflow", "card__inputs", "card__budgets")
    found = list(rows.order_by("-id")[: SHOWN + 1])
    reviewed = {n.board_id for n in found if n.kind == Kind.REVIEW}
    kept = Secret.objects.filter(board_id__in=reviewed).values_list("board_id", flat=True)
    sealed = set(kept.distinct()) if reviewed else set()
    entries = [Entry(n, _may_act(who, n), n.board_id in sealed) for n in found[:SHOWN]]
    groups = []
    for name, kinds in GROUPS:
        group = Group(name, [e for e in entries if e.notice.kind in kinds])
        if group.entries:
            groups.append(group)
    return groups, current(who).count() - SHOWN if len(found) > SHOWN else 0


def _may_act(who: Principal, notice: Notice) -> bool:
    role = who.role_on(notice.board_id)
    return role is not None and role >= Role.MEMBER


def snoozed(who: Principal) -> list[Notice]:
    """Return what is put off until later, the next first."""
    later = of(who).unsettled().true().filter(snoozed_until__gt=timezone.now())
    return list(later.select_related("card", "goal", "board").order_by("snoozed_until")[:20])


def find(who: Principal, pk: UUID) -> Notice:
    """Return the person's own notice. Raises NotFound, and Forbidden for whom it is not."""
    notice = Notice.objects.filter(pk=pk).select_related("card", "goal", "board").first()
    if notice is None or who.role_on(notice.board_id) is None:
        raise hidden("notice")
    if not who.is_person:
        raise Forbidden("An inbox is a person's; sign in to it in a browser.")
    if str(notice.user_id) != who.id:
        raise hidden("notice")
    return notice


def mark(pk: UUID, changes: dict[str, Any]) -> Notice:
    """Return the notice read, done with, or put off, as ``changes`` says; each can be undone."""
    now = timezone.now()
    with transition():
        notice = Notice.objects.select_for_update(no_key=True).get(pk=pk)
        if "read" in changes:
            notice.read_at = (notice.read_at or now) if changes["read"] else None
        if "done" in changes:
            notice.done_at = (notice.done_at or now) if changes["done"] else None
        if "snoozed_until" in changes:
            notice.snoozed_until = changes["snoozed_until"]
        notice.save(update_fields=["read_at", "done_at", "snoozed_until"])
    return notice
