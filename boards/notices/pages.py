"""The pages of the inbox, of the rules it follows, and of a board's webhooks."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods

from boards import lookup
from boards.notices import inbox, letters, rules
from boards.notices.models import CardWatch, Letter, Notice, NoticeRules
from boards.views import for_people, frame, principal
from events.models import Delivery, Webhook
from kernel.access import Role

Kind = Notice.Kind

#: What the groups of the inbox and its kinds are called.
HEADINGS = {
    "questions": _("Questions"),
    "reviews": _("Reviews"),
    "stalled": _("Stalled"),
    "budgets": _("Budgets"),
    "hosts": _("Hosts"),
    "goals": _("Goals"),
    "mentions": _("Mentions"),
}
KINDS = (
    (Kind.QUESTION, _("Questions"), _("A worker asks and waits for the answer")),
    (Kind.REVIEW, _("Reviews"), _("A card is ready for your review")),
    (Kind.BLOCKED, _("Blocked"), _("A card failed for good, or nobody can go on with it")),
    (Kind.STALLED, _("Stalled"), _("A worker has been silent for most of its lease")),
    (Kind.BUDGET, _("Budgets"), _("Attempts have used more than a card or goal allows")),
    (Kind.HOST, _("Hosts"), _("A host, or one kind of step there, rests after failing cards")),
    (
        Kind.GOAL,
        _("Goals"),
        _("A goal is met, met no more, to be planned again, or lacks something"),
    ),
    (Kind.MENTION, _("Mentions"), _("Somebody wrote your name after an @")),
)
CHANNELS = {
    "browser": _("Browser"),
    "email": _("E-mail"),
    "webhook": _("Webhook"),
}
SCOPES = (
    ("all", _("All boards"), _("Everything on the boards you may work on")),
    ("mine", _("My cards"), _("Cards you made, watch, or were mentioned on")),
    ("chosen", _("Chosen boards"), _("Everything on these boards")),
)
DIGESTS = (("off", _("At once")), ("hourly", _("Every hour")), ("daily", _("Once a day")))
#: How many deliveries the page shows of each webhook.
DELIVERIES = 20
NEWS = 5


@require_GET
@for_people
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """What needs the reader now, by what there is to do, on all of their boards."""
    who = principal(request)
    groups, more = inbox.grouped(who)
    shown = {
        **frame(request, None),
        "groups": [(HEADINGS[group.name], group) for group in groups],
        "more": more,
        "total": sum(len(group.entries) for group in groups) + more,
        "snoozed": inbox.snoozed(who),
    }
    return render(request, "boards/inbox.html", shown)


@require_GET
def count(request: HttpRequest) -> HttpResponse:
    """How much is open, and what a browser may pop up since the notice ``after``; 401 if nobody.

    Without ``after`` only the newest is named, so that a new browser starts from now.
    """
    if not request.user.is_authenticated:
        return JsonResponse({"count": 0}, status=401)
    return _counted(request)


@for_people
def _counted(request: HttpRequest) -> HttpResponse:
    who = principal(request)
    body: dict[str, Any] = {"count": inbox.count(who)}
    if "after" in request.GET:
        newest = inbox.of(who).order_by("-id").values_list("pk", flat=True).first() or UUID(int=0)
        after = lookup.as_uuid(request.GET["after"])
        body["newest"] = str(newest)
        body["news"] = _news(request, after) if after is not None and newest > after else []
    return JsonResponse(body)


def _news(request: HttpRequest, after: UUID) -> list[dict[str, str]]:
    own = rules.of(request.user)  # type: ignore[arg-type]
    now = timezone.now()
    fresh = inbox.current(principal(request)).filter(pk__gt=after, read_at=None)
    return [
        {
            "id": str(notice.pk),
            "title": f"{notice.key} {letters.words(notice)}".strip(),
            "body": notice.text or notice.title,
            "href": notice.path,
        }
        for notice in fresh.select_related("card", "goal").order_by("-id")[:NEWS]
        if "browser" in rules.channels(own, notice.kind)
        and not rules.is_quiet(own, notice.kind, now)
    ]


@require_GET
@for_people
@ensure_csrf_cookie
def notifications(request: HttpRequest) -> HttpResponse:
    """The reader's rules: what, from where, by which way, and when not."""
    own = rules.of(request.user)  # type: ignore[arg-type]
    shown = frame(request, None)
    who = principal(request)
    user_id = int(who.id)
    failed = Letter.objects.filter(user_id=user_id, error__gt="").order_by("-id").first()
    shown |= {
        "rules": own,
        "kinds": [
            {
                "name": kind.value,
                "title": title,
                "about": about,
                "wanted": own.kinds.get(kind, ()) is not None,
                "channels": [
                    (name, words, name in rules.channels(own, kind))
                    for name, words in CHANNELS.items()
                ],
            }
            for kind, title, about in KINDS
        ],
        "channels": list(CHANNELS.values()),
        "scopes": [(n, words, about, n == own.scope) for n, words, about in SCOPES],
        "chosen": [(b, str(b.pk) in own.boards) for b in shown["boards"]],
        "digests": [(n, words, n == own.digest) for n, words in DIGESTS],
        "zones": sorted(z for z in available_timezones() if "/" in z or z == "UTC"),
        "email": rules.address_of(request.user),  # type: ignore[arg-type]
        "mail_works": letters.is_set_up(),
        "mail_from": settings.DEFAULT_FROM_EMAIL,
        "failed": failed,
        "hook": Webhook.objects.filter(user_id=user_id).first(),
        "watches": _watches(request, user_id),
        "is_daily": own.digest == NoticeRules.Digest.DAILY,
        "operated": [b for b in shown["boards"] if (who.role_on(b.pk) or 0) >= Role.OPERATOR],
    }
    return render(request, "boards/notifications.html", shown)


def _watches(request: HttpRequest, user_id: int) -> list[CardWatch]:
    found = CardWatch.objects.filter(user_id=user_id).select_related("card")
    visible = principal(request).visible()
    if visible is not None:
        found = found.filter(card__board_id__in=visible)
    return list(found.order_by("-pk")[:50])


@require_GET
@for_people
@ensure_csrf_cookie
def webhooks(request: HttpRequest, key: str) -> HttpResponse:
    """The webhooks of a board, what was sent to them and what came of it; for operators."""
    found = lookup.board(principal(request), key, Role.OPERATOR)
    hooks = list(Webhook.objects.filter(board_id=found.pk).order_by("-id"))
    # The newest of each in one statement: their ids grow with time.
    sent: dict[Any, list[Delivery]] = {hook.pk: [] for hook in hooks}
    rows = Delivery.objects.filter(webhook__in=hooks).defer("body").order_by("-id")
    for row in rows[: DELIVERIES * max(1, len(hooks))]:
        if len(sent[row.webhook_id]) < DELIVERIES:
            sent[row.webhook_id].append(row)
    shown = {
        **frame(request, found),
        "hooks": [(hook, sent[hook.pk]) for hook in hooks],
        "now": timezone.now(),
    }
    return render(request, "boards/webhooks.html", shown)


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether e-mail is to stop; a POST, by a mail program too, stops it.

    The signed link is the proof: whoever reads the letter need not be signed in.
    """
    user = letters.unsubscribed(token)
    if user is not None and request.method == "POST":
        rules.stop_mail(user.pk)
    shown = {"user": user, "stopped": request.method == "POST"}
    status = 200 if user is not None else 404
    return render(request, "boards/unsubscribe.html", shown, status=status)
