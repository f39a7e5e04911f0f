"""What the card page's tabs of words show: what was said, decided, learnt, and will be told."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from boards.members import people_of
from boards.models import Attempt, Card, Message
from checkpoints import briefing
from goals.models import Decision, Discovery
from kernel.limits import whole_number

SHOWN = 100
NAMES_OFFERED = 200
#: Unchanged lines that are shown around a changed one.
CONTEXT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing said: a question stands with its answers, an answer with nobody here else."""

    message: Message
    answers: list[Message]

    @property
    def newest(self) -> int:
        return max([self.message.pk, *(a.pk for a in self.answers)])


def thread(card: Card, before: str = "") -> dict[str, Any]:
    """Return the newest of what was said (of what is older than ``before``), newest first.

    An answer stands below its question where that is shown, too.
    """
    said = card.messages.select_related("answers").order_by("-pk")
    last = whole_number(before)
    rows = list((said.filter(pk__lt=last) if last is not None else said)[: SHOWN + 1])
    more, rows = len(rows) > SHOWN, rows[:SHOWN]
    answered: dict[int, list[Message]] = {}
    here = {m.pk for m in rows}
    for message in reversed(rows):
        if message.answers_id in here:
            answered.setdefault(message.answers_id, []).append(message)
    entries = [Entry(m, answered.get(m.pk, [])) for m in rows if m.answers_id not in here]
    return {
        "entries": entries,
        "older": rows[-1].pk if more else None,
        "names": names_on(card) if entries or last is None else [],
    }


def names_on(card: Card) -> list[str]:
    """Return whom a note may name: the people of the board, then the workers of late."""
    people = [
        m.user.get_username()
        for m in people_of(card.board_id).order_by("user__username")[:NAMES_OFFERED]
        if m.user
    ]
    recent = Attempt.objects.filter(board_id=card.board_id).order_by("-pk")
    workers = recent.values_list("worker", flat=True)[:NAMES_OFFERED]
    return list(dict.fromkeys([*people, *workers]))


def decisions(card: Card) -> dict[str, Any]:
    """Return the decisions taken at the card, newest first."""
    mine = Decision.objects.filter(card_id=card.pk).select_related("superseded_by")
    return {"decisions": mine.order_by("-at", "-pk")[:SHOWN]}


def discoveries(card: Card) -> dict[str, Any]:
    """Return what was learnt at the card, what is open first, then the newest."""
    mine = Discovery.objects.filter(card_id=card.pk)
    return {"discoveries": mine.order_by("status", "-at", "-pk")[:SHOWN]}


@dataclass(frozen=True, slots=True)
class Changed:
    """A line of what is told now beside what was told: the same, added, gone, or left out."""

    sign: str
    text: str

    @property
    def look(self) -> str:
        return {"+": "a", "-": "x", "…": "h"}.get(self.sign, "c")


def compared(old: str, new: str) -> list[Changed]:
    """Return the changed lines with those around them; nothing where both are alike."""
    shown: list[Changed] = []
    for group in difflib.SequenceMatcher(
        None, was := old.split("\n"), now := new.split("\n"), autojunk=False
    ).get_grouped_opcodes(CONTEXT):
        shown.append(Changed("…", ""))
        for kind, i1, i2, j1, j2 in group:
            if kind == "equal":
                shown += [Changed(" ", line) for line in was[i1:i2]]
                continue
            shown += [Changed("-", line) for line in was[i1:i2]]
            shown += [Changed("+", line) for line in now[j1:j2]]
    return shown


def told(card: Card, attempt: Attempt | None) -> dict[str, Any]:
    """Return what the attempt was told (None: what the next one will be), how long it is and
    how it differs from what the one before was told."""
    built = briefing.told(attempt) if attempt else briefing.build(card)
    earlier = card.attempts.exclude(briefing_sha256="").order_by("-number")
    if attempt:
        earlier = earlier.filter(number__lt=attempt.number)
    previous = earlier.first()
    before = briefing.told(previous) if previous else None
    lines = compared(before.markdown, built.markdown) if before and built else []
    most = briefing.DEFAULT_MAX_TOKENS
    return {
        "told_to": attempt,
        "built": built,
        "most": most,
        "meter": min(100, built.tokens * 100 // most) if built else 0,
        "sections": built.sections if isinstance(built, briefing.Built) else [],
        "previous": previous if before else None,
        "lines": lines,
        "added": sum(line.sign == "+" for line in lines),
        "gone": sum(line.sign == "-" for line in lines),
        "pinned": _pinned(card),
    }


def _pinned(card: Card) -> list[dict[str, Any]]:
    """Return what every briefing of the card tells before others, each with the way to it."""
    of_it = Q(card_id=card.pk) | (Q(goal_id=card.goal_id) if card.goal_id else Q(pk__in=[]))
    kept: list[dict[str, Any]] = [
        {"path": f"/cards/{card.pk}/messages/{m.pk}", "what": "message", "text": m.text}
        for m in card.messages.filter(pinned=True).order_by("-pk")[:SHOWN]
    ]
    in_force = Decision.objects.filter(of_it, pinned=True, superseded_by=None)
    kept += [
        {"path": f"/decisions/{d.pk}", "what": "decision", "text": d.title}
        for d in in_force.order_by("-at")[:SHOWN]
    ]
    still_open = Discovery.objects.filter(of_it, pinned=True, status=Discovery.Status.OPEN)
    kept += [
        {"path": f"/discoveries/{d.pk}", "what": "discovery", "text": d.title}
        for d in still_open.order_by("-at")[:SHOWN]
    ]
    return kept
