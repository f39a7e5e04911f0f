"""Who is to hear of what, by which way, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q

from boards.models import Board, Card, Membership
from boards.notices import clock
from boards.notices.models import CardWatch, Notice, NoticeRules
from events.models import Webhook
from goals.models import Goal
from kernel.access import Role
from kernel.errors import Invalid, Stale
from kernel.tx import transition

Kind = Notice.Kind

#: The ways out of the page, in the order of the settings page.
CHANNELS = ("browser", "email", "webhook")
#: What somebody gets who has set nothing.
DEFAULT: Mapping[str, list[str] | None] = {kind.value: ["browser"] for kind in Kind}
#: What may be set, word for word.
SETTABLE = (
    "kinds",
    "scope",
    "boards",
    "digest",
    "digest_at",
    "quiet_from",
    "quiet_to",
    "time_zone",
    "urgent_passes",
)


@dataclass(slots=True)
class Reader:
    """Somebody on a board who may get notices of it."""

    user: AbstractBaseUser
    rules: NoticeRules
    role: Role
    #: The reader's own word on cards of the batch: True to watch, False to keep silent.
    watches: dict[UUID, bool] = field(default_factory=dict)
    #: Cards of the batch on which the reader was mentioned before.
    mentioned: set[UUID] = field(default_factory=set)

    @property
    def actor(self) -> str:
        """How the log names this person."""
        return f"user:{self.user.get_username()}"

    def wants(self, kind: str, about: Card | Goal) -> bool:
        """True if a notice of the kind about the card, or about the goal, is for this reader."""
        if self.watches.get(about.pk) is False:
            return False
        if self.rules.kinds.get(kind, ()) is None:
            return False
        if kind == Kind.MENTION or self.watches.get(about.pk):
            return True
        if self.role < Role.MEMBER:
            return False  # who may only look can neither answer nor approve
        if self.rules.scope == NoticeRules.Scope.CHOSEN:
            return str(about.board_id) in self.rules.boards
        if self.rules.scope == NoticeRules.Scope.MINE:
            return about.created_by == self.actor or about.pk in self.mentioned
        return True


def channels(rules: NoticeRules, kind: str) -> tuple[str, ...]:
    """Return the ways out of the page that notices of the kind take."""
    chosen = rules.kinds.get(kind, DEFAULT[kind])
    return tuple(chosen or ())


def is_quiet(rules: NoticeRules, kind: str, now: datetime) -> bool:
    """True if a notice of the kind is held back at the moment."""
    if rules.quiet_from is None or rules.quiet_to is None:
        return False
    if rules.urgent_passes and kind in Notice.URGENT:
        return False
    return clock.is_between(now, rules.quiet_from, rules.quiet_to, zone_of(rules))


def leaves_at(rules: NoticeRules, kind: str, now: datetime) -> tuple[datetime, str]:
    """Return when a notice made now leaves, and the batch it leaves in; "" if by itself."""
    at, batch = now, ""
    urgent = rules.urgent_passes and kind in Notice.URGENT
    if rules.digest == NoticeRules.Digest.HOURLY and not urgent:
        at, batch = clock.next_hour(now), "hourly"
    elif rules.digest == NoticeRules.Digest.DAILY and not urgent:
        at, batch = clock.next_at(now, rules.digest_at, zone_of(rules)), "daily"
    if rules.quiet_to is not None and is_quiet(rules, kind, at):
        at, batch = clock.next_at(at, rules.quiet_to, zone_of(rules)), "quiet"
    return at, f"{batch}:{at:%Y-%m-%dT%H:%M:%SZ}" if batch else ""


def zone_of(rules: NoticeRules) -> ZoneInfo:
    """Return the person's time zone; UTC for one that this host no longer knows."""
    try:
        return ZoneInfo(rules.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def of(user: AbstractBaseUser) -> NoticeRules:
    """Return the person's rules, the defaults where they have set none."""
    found = NoticeRules.objects.filter(user_id=user.pk).first()
    return found or NoticeRules(user_id=user.pk)


def change(
    user: AbstractBaseUser,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
) -> NoticeRules:
    """Return the person's rules with ``changes`` made. Raises Invalid, Stale."""
    with transition():
        NoticeRules.objects.get_or_create(user_id=user.pk)
        rules = NoticeRules.objects.select_for_update(no_key=True).get(user_id=user.pk)
        if expected_version is not None and rules.version != expected_version:
            raise Stale("Your rules were changed elsewhere meanwhile; load them again.")
        names = [name for name in SETTABLE if name in changes]
        for name in names:
            setattr(rules, name, changes[name])
        _check(rules)
        rules.version += 1
        rules.save(update_fields=[*names, "version"])
        if "email" in changes:
            user_model = get_user_model()
            user_model.objects.filter(pk=user.pk).update(email=changes["email"])
        rules.refresh_from_db()
    return rules


def _check(rules: NoticeRules) -> None:
    try:
        ZoneInfo(rules.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid.field("time_zone", "is no time zone, such as Europe/Berlin.") from None
    if (rules.quiet_from is None) != (rules.quiet_to is None):
        missing = "quiet_to" if rules.quiet_to is None else "quiet_from"
        raise Invalid.field(missing, "is needed: quiet hours have a beginning and an end.")
    if rules.quiet_from is not None and rules.quiet_from == rules.quiet_to:
        raise Invalid.field("quiet_to", "must differ from quiet_from.")


def stop_mail(user_id: int) -> None:
    """Take e-mail out of every kind of the person's rules."""
    with transition():
        NoticeRules.objects.get_or_create(user_id=user_id)
        rules = NoticeRules.objects.select_for_update(no_key=True).get(user_id=user_id)
        rules.kinds = {
            kind: chosen if chosen is None else [c for c in chosen if c != "email"]
            for kind, chosen in rules.kinds.items()
        }
        rules.version += 1
        rules.save(update_fields=["kinds", "version"])


def watch(user: AbstractBaseUser, card: Card, watching: bool | None) -> None:
    """Watch the card (True), keep silent about it (False), or leave it to the rules (None)."""
    with transition():
        if watching is None:
            CardWatch.objects.filter(user_id=user.pk, card=card).delete()
        else:
            CardWatch.objects.update_or_create(
                user_id=user.pk, card=card, defaults={"watching": watching}
            )


def address_of(user: AbstractBaseUser) -> str:
    """Return where the person gets e-mail; nothing where they gave no address."""
    return str(getattr(user, "email", ""))


def personal_webhook(user: AbstractBaseUser) -> Webhook | None:
    """Return the person's own webhook, if they have set one up."""
    return Webhook.objects.filter(user_id=user.pk).first()


def readers(board: Board, cards: Iterable[Card]) -> list[Reader]:
    """Return everybody on the board with their rules and their word on the cards."""
    users = get_user_model()
    roles = {
        user: Role(role)
        for user, role in Membership.objects.filter(board=board, user__isnull=False).values_list(
            "user_id", "role"
        )
    }
    people = users.objects.filter(Q(pk__in=roles) | Q(is_superuser=True), is_active=True)
    rules = {r.user_id: r for r in NoticeRules.objects.filter(user__in=people)}
    found = [
        Reader(
            user,
            rules.get(user.pk) or NoticeRules(user_id=user.pk),
            Role.OPERATOR if user.is_superuser else roles[user.pk],
        )
        for user in people.order_by("pk")
    ]
    by_id = {reader.user.pk: reader for reader in found}
    ids = [card.pk for card in cards]
    for watch in CardWatch.objects.filter(card_id__in=ids, user_id__in=by_id):
        by_id[watch.user_id].watches[watch.card_id] = watch.watching
    mentions = Notice.objects.filter(kind=Kind.MENTION, card_id__in=ids, user_id__in=by_id)
    for user, card in mentions.values_list("user_id", "card_id"):
        by_id[user].mentioned.add(card)
    return found
