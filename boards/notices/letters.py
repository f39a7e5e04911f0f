"""Notices by e-mail: one letter for each, or one for all of a batch. At least once.

Who sends takes the letters first, for as long as a sending may last; if it is killed they are
free again after that. A letter that was sent but not yet recorded so goes out again with the
same Message-ID, by which mail programs tell that it is the same.
"""

from __future__ import annotations

import logging
import random
import smtplib
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core import signing
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from boards.authentication import principal_of_user
from boards.notices import links, rules
from boards.notices.models import Letter, Notice
from kernel.tx import transition

log = logging.getLogger(__name__)

LEASE_SECONDS = 90
PER_ROUND = 20
#: Notices that one digest spells out; the rest are counted.
IN_A_DIGEST = 50
MAX_TRIES = 8
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 3600.0
_SALT = "boards.notices.unsubscribe"


def is_set_up() -> bool:
    """True if this installation can send e-mail."""
    return bool(settings.EMAIL_URL)


def due(now: datetime) -> QuerySet[Letter]:
    """The letters that are to leave now and that nobody is sending."""
    return Letter.objects.filter(
        Q(taken_until=None) | Q(taken_until__lte=now),
        state=Letter.State.WAITING,
        due_at__lte=now,
    )


def deliver() -> int:
    """Send what is due, at most PER_ROUND letters or digests, and return how many went."""
    if not is_set_up():
        return 0
    sent = 0
    for _n in range(PER_ROUND):
        now = timezone.now()
        first = due(now).order_by("due_at", "id").first()
        if first is None:
            break
        sent += _deliver(first, now)
    return sent


def _deliver(first: Letter, now: datetime) -> bool:
    """Send the letter with those of its batch, if nobody else is at it; say whether it went."""
    me = uuid4()
    same = due(now).filter(user_id=first.user_id, batch=first.batch)
    ids = list((same if first.batch else same.filter(pk=first.pk)).values_list("pk", flat=True))
    lease = {"taken_by": me, "taken_until": now + timedelta(seconds=LEASE_SECONDS)}
    due(now).filter(pk__in=ids).update(**lease)
    mine = list(Letter.objects.filter(taken_by=me).select_related("user").order_by("notice_id"))
    if not mine:
        return False
    wanted = _still_wanted(mine)
    held = Letter.objects.filter(taken_by=me)
    free = {"taken_by": None, "taken_until": None}
    kept = [letter.pk for letter, _notice in wanted]
    held.exclude(pk__in=kept).update(state=Letter.State.DROPPED, **free)
    if not wanted:
        return False
    try:
        message_of(wanted[0][0].user, [notice for _letter, notice in wanted]).send()
    except (OSError, smtplib.SMTPException, ValueError) as error:
        _again(mine[0], held, error, now)
        return False
    held.update(state=Letter.State.SENT, sent_at=timezone.now(), error="", **free)
    return True


def _still_wanted(mine: list[Letter]) -> list[tuple[Letter, Notice]]:
    """Return the letters whose notice is true, unread, and on a board the person still sees."""
    user = mine[0].user
    visible = principal_of_user(user).visible() if user.is_active else frozenset[UUID]()
    found = Notice.objects.unsettled().true().filter(letter__in=mine, read_at=None)
    if visible is not None:
        found = found.filter(board_id__in=visible)
    notices = {n.pk: n for n in found.select_related("card", "goal", "board", "message")}
    if not rules.address_of(user):
        return []
    return [(letter, notices[letter.notice_id]) for letter in mine if letter.notice_id in notices]


def _again(letter: Letter, held: QuerySet[Letter], error: Exception, now: datetime) -> None:
    """Let the letters be tried later, or give them up where the server refused them for good."""
    tries = letter.tries + 1
    told = f"{type(error).__name__}: {error}"[:300]
    log.warning("a letter to user %s could not be sent: %s", letter.user_id, told)
    final = tries >= MAX_TRIES or (
        isinstance(error, smtplib.SMTPRecipientsRefused)
        and all(500 <= code < 600 for code, _text in error.recipients.values())
    )
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**tries) * random.uniform(0.8, 1.2)
    changed: dict[str, Any] = {"tries": tries, "error": told, "taken_by": None, "taken_until": None}
    if final:
        changed["state"] = Letter.State.FAILED
    else:
        # Waits by its lease, so that the batch it belongs to stays together.
        changed["taken_until"] = now + timedelta(seconds=pause)
    with transition():
        held.update(**changed)


# ── writing them ─────────────────────────────────────────────────────────────────────────


def message_of(user: AbstractBaseUser, notices: list[Notice]) -> EmailMultiAlternatives:
    """Return the letter about the notices: by itself in its card's thread, or as a digest."""
    single = notices[0] if len(notices) == 1 else None
    base = settings.BASE_URL
    leaving = base + reverse("boards:unsubscribe", args=[unsubscribing(user)])
    with translation.override(settings.LANGUAGE_CODE):
        shown = {
            "notices": [
                {"notice": n, "words": words(n), "url": f"{base}{n.path}"}
                | {"answer": links.to_answer(n)}
                for n in notices[:IN_A_DIGEST]
            ],
            "more": max(0, len(notices) - IN_A_DIGEST),
            "inbox": base + reverse("boards:inbox"),
            "settings": base + reverse("boards:notifications"),
            "leaving": leaving,
        }
        subject = (
            f"[{single.board.key}] {single.key} {words(single)}: {single.title}"
            if single
            else ngettext("{n} thing needs you", "{n} things need you", len(notices)).format(
                n=len(notices)
            )
        )
        text = render_to_string("boards/mail/notices.txt", shown)
        html = render_to_string("boards/mail/notices.html", shown)
    host = _host()
    headers = {
        "Message-ID": f"<{notices[0].pk.hex}.{len(notices)}@{host}>",
        "List-Unsubscribe": f"<{leaving}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"Holdfast <notices.{host}>",
        "Auto-Submitted": "auto-generated",
    }
    if single:
        about = single.card_id or single.goal_id
        kind = "card" if single.card_id else "goal"
        thread = f"<{about.hex if about else ''}.{kind}@{host}>"
        headers |= {"References": thread, "In-Reply-To": thread}
    letter = EmailMultiAlternatives(
        " ".join(subject.split())[:200],
        text,
        to=[rules.address_of(user)],
        headers=headers,
        connection=get_connection(),
    )
    letter.attach_alternative(html, "text/html")
    return letter


def words(notice: Notice) -> str:
    """Return what the notice is about, in a few words."""
    return str(
        {
            "question": _("asks a question"),
            "review": _("is ready for review"),
            "blocked": _("is blocked"),
            "stalled": _("has a silent worker"),
            "budget": _("is over budget"),
            "host": _("was failed by a host that now rests"),
            "goal": _("has news of its goal") if notice.card_id else _("News of the goal"),
            "mention": _("mentions you"),
        }[notice.kind]
    )


def _host() -> str:
    address = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    return address.rpartition("@")[2] or urlsplit(settings.BASE_URL).hostname or "localhost"


def unsubscribing(user: AbstractBaseUser) -> str:
    """Return what proves, in a link, that the person's own letter brought it."""
    return signing.dumps(user.pk, salt=_SALT)


def unsubscribed(token: str) -> AbstractBaseUser | None:
    """Return whose link it is, or None if it is nobody's."""
    try:
        pk = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        return None
    return get_user_model().objects.filter(pk=pk, is_active=True).first()
