"""The page behind the link in a letter: it shows one question, and a POST answers it.

Previews and scanners of mail fetch addresses; what they fetch here changes nothing.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from boards import asking, cards, questions
from boards.authentication import principal_of_user
from boards.models import Message
from boards.notices import links
from kernel.access import Role
from kernel.errors import DomainError, Forbidden, TransitionRefused

#: As much as the API takes.
MAX_ANSWER_CHARS = 200_000
MAX_REASON_CHARS = 20_000


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, token: str) -> HttpResponse:
    """Show the question of the link; a POST answers it, as whoever is signed in or it is for.

    Without signing in only where the board allows it. A link that is no longer good says so,
    in the same words whatever made it so. An answer is kept as it was written or not at all, and
    then it stands on the page.
    """
    text, reason = (_written(request, name) for name in ("text", "reason"))
    found = links.named(token)
    # What was to be a secret is never shown again, nor what may have been meant for one.
    shows = found is not None and found.question.asks != asking.SECRET
    typed = {"text": text, "reason": reason} if shows else {}
    if "standing" in request.GET:
        return _standing(request, found)
    if found is None or not found.is_open:
        return _sent_before(request, found, text) or _shown(request, 404, typed=typed)
    card = found.question.card
    if request.user.is_authenticated:
        who = principal_of_user(request.user)
        if (who.role_on(card.board_id) or 0) < Role.MEMBER:
            return _shown(request, 404, typed=typed)
    elif card.board.answer_by_link and found.question.asks != asking.SECRET:
        who = found.person
    else:
        return redirect_to_login(request.get_full_path())
    shown: dict[str, Any] = {"q": found.question, "card": card, "who": who, "typed": typed}
    if request.method != "POST":
        return _shown(request, **shown)
    if wrong := _unkeepable(text, reason):
        return _shown(request, 400, problem=wrong, **shown)
    try:
        questions.check_may_answer(who, found.question)
        cards.say(card.pk, who.actor, text, answers=found.question.pk, reason=reason, via="link")
    except TransitionRefused:
        if again := _sent_before(request, found, text):
            return again
        return _shown(request, 409, late=_why_closed(found.question), card=card, typed=typed)
    except DomainError as refusal:
        problem = _refused(refusal, found.question)
        return _shown(request, refusal.status, problem=problem, **shown)
    return _shown(request, done=True, card=card)


def _standing(request: HttpRequest, found: links.Opened | None) -> HttpResponse:
    """Tell the page of a question what became of it since: ``{open, words}``; 404 to others."""
    if found is None or not _may_see(request, found):
        return JsonResponse({}, status=404)
    words = "" if found.is_open else _why_closed(found.question)
    return JsonResponse({"open": found.is_open, "words": words})


def _may_see(request: HttpRequest, found: links.Opened) -> bool:
    """True for whoever would be shown the question."""
    card = found.question.card
    if request.user.is_authenticated:
        return (principal_of_user(request.user).role_on(card.board_id) or 0) >= Role.MEMBER
    return card.board.answer_by_link and found.question.asks != asking.SECRET


def _sent_before(
    request: HttpRequest, found: links.Opened | None, text: str
) -> HttpResponse | None:
    """Return the page that says so where this very answer was sent by a link already."""
    if found is None or request.method != "POST":
        return None
    card = found.question.card
    if not request.user.is_authenticated and not card.board.answer_by_link:
        return None
    said = found.question.answered_by.filter(via="link").first()
    if said is None or said.text.strip().casefold() != text.strip().casefold():
        return None
    return _shown(request, done=True, card=card)


def _written(request: HttpRequest, name: str) -> str:
    # A form sends each end of a line as two characters.
    return request.POST.get(name, "").replace("\r\n", "\n")


def _unkeepable(text: str, reason: str) -> str:
    """Return in the reader's words why this is not kept; "" where it is."""
    if not text.strip():
        return _("Write or choose an answer first.")
    for said, most in ((text, MAX_ANSWER_CHARS), (reason, MAX_REASON_CHARS)):
        if len(said) > most:
            return _("This has %(n)s characters; up to %(most)s are kept. Make it shorter.") % {
                "n": number_format(len(said), force_grouping=True),
                "most": number_format(most, force_grouping=True),
            }
        if "\0" in said:
            return _("This holds a character that is none (NUL); take it out.")
    return ""


def _refused(refusal: DomainError, question: Message) -> str:
    """Return in the reader's words why this is no answer, or not theirs to give."""
    if isinstance(refusal, Forbidden) and question.asks == asking.SECRET:
        return _("Only an operator of the board gives a secret.")
    if not isinstance(refusal, asking.NoAnswer):
        return refusal.detail
    takes = {
        asking.CHOICE: _("This is none of the options; choose one of them."),
        asking.APPROVE: _("This is neither a yes nor a no; choose one."),
        asking.NUMBER: _("This is no number, such as 12 or 0.5."),
        asking.DATE: _("This is no date, such as 2030-01-31."),
    }
    return takes.get(question.asks, refusal.detail)


def _why_closed(question: Message) -> str:
    said = question.answered_by.order_by("-pk").first()
    if said is None and question.lapsed_at is not None:
        return _("Its time was up before anybody answered.")
    if said is None:
        return _("It is asked no more: the card was moved on without an answer.")
    who = said.actor.partition(":")[2] or said.actor
    return _("%(who)s has answered: “%(text)s”") % {"who": who, "text": said.text[:200]}


def _shown(request: HttpRequest, status: int = 200, **shown: Any) -> HttpResponse:
    response = render(request, "boards/answer.html", shown, status=status)
    # Not "no-referrer": with that a browser names no origin, and the form would be refused.
    response["Referrer-Policy"] = "same-origin"
    response["X-Robots-Tag"] = "noindex"
    return response
