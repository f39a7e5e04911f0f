"""How an attempt goes about its card, and what became of that before, anywhere on the goal.

A failed attempt or a dead end that looks alike is told, with how it ended; where something that
it rested on has changed since, with that as well. ``same_failures`` says when a card has failed
in one way so often that the same again is no plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models.functions import Left

from boards import searching
from boards.faults import counts
from boards.models import Attempt, Card, Message
from goals import decisions, likeness
from goals.models import Amendment, Discovery
from goals.search import finding
from goals.search.finding import Narrowing, tag
from kernel.errors import DeadEnd

#: Of those that have a word of it, so many of the newest are compared.
COMPARED = 100
TOLD = 10
#: So many failures of one kind in a row ask for another approach, unless the board says else.
SAME_FAILURES = 3
#: Words that differ from one failure to the next although it is the same.
_VARYING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{7,}|\d+")

Status = Attempt.Status


def similar(card: Card, approach: str) -> list[dict[str, Any]]:
    """Return what failed before and looks like ``approach``, the most alike first.

    Failed attempts at any card of the goal, attempts at this card that vanished, and dead ends.
    ``because`` says what has changed since; it is empty where nothing is known to have. ``instead``
    says what this one puts in the place of what failed, where that is another choice.
    """
    wanted = likeness.terms(approach)
    narrowing = Narrowing()
    if card.goal_id:
        searching.of(narrowing, [card.goal_id])
    else:
        narrowing.to([tag("c", card.pk)])
    narrowing.to([tag("k", "attempt"), tag("k", "deadend")])
    narrowing.to(tag("s", state) for state in ("failed", "expired", "open", "revived"))
    refs = finding.newest(wanted, narrowing, COMPARED) if wanted else []
    tried = _attempts(card, approach, [UUID(ref[1:]) for ref in refs if ref[0] == "a"])
    met = _dead_ends(approach, [UUID(ref[1:]) for ref in refs if ref[0] == "f"])
    found = sorted([*tried, *met], key=lambda one: -one["similarity"])[:TOLD]
    _say_what_changed(card, [one for one in found if one["kind"] == "attempt"])
    return found


def _attempts(card: Card, approach: str, ids: list[UUID]) -> Iterable[dict[str, Any]]:
    # Those of this card are compared whether a word of them was found or not.
    own = Attempt.objects.filter(card_id=card.pk, status__in=[Status.FAILED, Status.EXPIRED])
    own = own.exclude(approach="").order_by("-number")[:200]
    others = Attempt.objects.filter(pk__in=ids, status=Status.FAILED).exclude(card_id=card.pk)
    for attempt in [*own.select_related("card"), *others.select_related("card")]:
        if ratio := likeness.alike(approach, attempt.approach):
            yield {
                "kind": "attempt",
                "card": attempt.card.key,
                "attempt": attempt.number,
                "approach": attempt.approach,
                "error": attempt.error,
                "lesson": attempt.lesson,
                "similarity": round(ratio, 2),
                "at": attempt.finished_at,
                "because": "",
                "instead": likeness.instead(attempt.approach, approach),
            }


def _dead_ends(approach: str, ids: list[UUID]) -> Iterable[dict[str, Any]]:
    standing = Discovery.objects.filter(pk__in=ids, status__in=["open", "revived"])
    for met in standing:
        alike = max(
            likeness.alike(approach, met.title), likeness.about_the_same(met.title, approach)
        )
        if alike:
            yield {
                "kind": "dead_end",
                "discovery": str(met.pk),
                "attempt": None,
                "approach": met.title,
                "error": met.detail,
                "lesson": "",
                "similarity": round(alike, 2),
                "at": met.at,
                "because": met.revived_because,
                "instead": likeness.instead(met.title, approach, titled=True),
            }


def _say_what_changed(card: Card, tried: list[dict[str, Any]]) -> None:
    if not tried or not card.goal_id:
        return
    amended = Amendment.objects.filter(goal_id=card.goal_id).order_by("-number").first()
    for one in tried:
        if amended is not None and one["at"] is not None and amended.at > one["at"]:
            one["because"] = f"the goal was amended since (amendment {amended.number})"


def in_force(attempt_id: UUID, approach: str) -> list[dict[str, Any]]:
    """Return the decisions in force that the attempt's approach is about, too."""
    card_id, goal_id = Attempt.objects.values_list("card_id", "card__goal_id").get(pk=attempt_id)
    return decisions.resembling(goal_id, card_id, approach)


def elsewhere(card: Card, words: str, most: int) -> list[UUID]:
    """Return the failed attempts at the goal's other cards that are about what the words say,
    the most alike first. Nothing is known to be alike by one word."""
    wanted = likeness.terms(words)
    if card.goal_id is None or not wanted:
        return []
    narrowing = Narrowing()
    searching.of(narrowing, [card.goal_id])
    narrowing.to([tag("k", "attempt")])
    narrowing.to([tag("s", "failed")])
    refs = finding.newest(wanted, narrowing, COMPARED)
    tried = Attempt.objects.filter(pk__in=[UUID(ref[1:]) for ref in refs]).exclude(card_id=card.pk)
    rows = tried.exclude(approach="").annotate(begins=Left("approach", 400))
    alike = [
        (likeness.about_the_same(row["begins"], words), row["started_at"], row["pk"])
        for row in rows.values("pk", "begins", "started_at")
    ]
    return [pk for score, _, pk in sorted(alike, reverse=True) if score][:most]


def dead_end(alike: list[dict[str, Any]]) -> DeadEnd | None:
    """Return the refusal of an approach that failed before, if it failed as it is: where something
    has changed since, or this is another choice, it is worth a try.

    It says what it was matched with, how that ended, and how to go on.
    """
    same = [one for one in alike if not one["because"] and not one["instead"]]
    if not same:
        return None
    worst = same[0]
    if worst["kind"] == "attempt":
        where = f"attempt {worst['attempt']} at {worst['card']}"
    else:
        where = "a dead end that was recorded"
    ended = worst["lesson"] or worst["error"]
    told = f"{_short(worst['approach'])}” ({where}" + (f": {_short(ended)})" if ended else ")")
    more = f", and {len(same) - 1} more" if len(same) > 1 else ""
    return DeadEnd(
        f"This failed before: “{told}{more}. Go about it in another way, or say in 'differs' what"
        " is different this time.",
        extra={"similar_failed": alike},
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:160]}…"


# ── the same failure again and again ─────────────────────────────────────────────────────


def signature(fault: str, error: str) -> str:
    """Return what is the same for failures of one kind."""
    return alike_by(f"{fault} {error[:400]}")


def alike_by(words: str) -> str:
    """Return the words without what differs from one time to the next: numbers, addresses."""
    return " ".join(_VARYING.sub("#", words.lower()).strip(" .!").split())


def allowed(card: Card) -> int:
    """Return how many failures of one kind in a row ask for another approach on this board."""
    return int(card.board.defaults.get("same_failures") or SAME_FAILURES)


def repeated(card: Card, attempt: Attempt) -> int:
    """Return how many attempts in a row, up to this one, failed in the same way.

    What a service or the host did counts for none, and what was before a person's last answer
    neither.
    """
    if attempt.number <= allowed(card) or not counts(attempt.fault, 1):
        return 0
    mine = signature(attempt.fault, attempt.error)
    rows = Attempt.objects.filter(card_id=card.pk, number__lt=attempt.number).order_by("-number")
    answered = Message.objects.filter(card_id=card.pk, kind=Message.Kind.ANSWER)
    last = answered.order_by("-pk").values_list("at", flat=True).first()
    if last is not None:
        rows = rows.filter(started_at__gt=last)
    found = 1
    newest = rows.exclude(status=Status.RELEASED)[: allowed(card) + 1]
    for status, fault, error in newest.values_list("status", "fault", "error"):
        if status != Status.FAILED or signature(fault, error) != mine:
            break
        found += 1
    return found


QUESTION = "{n} attempts in a row failed in the same way, although another approach was asked for."
HOW = "How shall it go on?"
HOW_TO_RACE = (
    "A race makes cards that begin at its last checkpoint, one for each line of the answer's "
    "reason, which is the approach there, or three that must differ; this card is paused."
)
RACE = "Race several approaches"
OPTIONS = ("I say below how to go about it", "Try once more as it is")


def asked_how(attempt: Attempt) -> tuple[str, tuple[str, ...]]:
    """Return what a person is asked, and the options: a race needs a checkpoint to begin at."""
    if not attempt.checkpoint_number:
        return HOW, OPTIONS
    return f"{HOW} {HOW_TO_RACE}", (OPTIONS[0], RACE, OPTIONS[1])
