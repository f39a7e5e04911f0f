"""What may be typed to find something: words, "phrases", beginnings*, and what narrows it.

    deadlock "advisory lock" migrat* kind:decision goal:… card:PAY-7 board:PAY by:ada after:7d

All words must be there. What is neither of these forms is words like any other: nothing that
can be typed is an error but a kind or an instant that there is none of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from goals.models import Discovery
from goals.search.models import Entry
from kernel.errors import Invalid

MAX_CHARS = 400
MAX_TERMS = 16
MAX_NAMES = 20
#: What narrows a search by a name.
NAMED = ("board", "goal", "card", "by")
#: By what it may be called: the tag of a kind.
KINDS = {
    **{kind.value: kind.value for kind in Entry.Kind},
    **{kind.value: kind.value.replace("_", "") for kind in Discovery.Kind},
    **{kind: kind for kind in ("note", "question", "answer", "review")},
}
_PIECE = re.compile(r'(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))')
_WORD = re.compile(r"[^\W_]+")
_AGO = re.compile(r"(\d{1,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Term:
    """Words that stand one after the other; of the last one perhaps only the beginning."""

    words: tuple[str, ...]
    begins: bool = False


@dataclass(slots=True)
class Asked:
    """What is looked for, and by whose names it is narrowed."""

    terms: list[Term] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    after: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.terms or self.kinds or self.names or self.after)


def parse(text: str) -> Asked:
    """Return what the text asks for. Raises Invalid naming ``q``."""
    if len(text) > MAX_CHARS or "\x00" in text:
        raise Invalid.field("q", f"must be up to {MAX_CHARS} plain characters.")
    asked = Asked()
    for name, quoted, plain in _PIECE.findall(text):
        value = quoted or plain
        if name == "kind" and value:
            asked.kinds += [kind(one) for one in value.split(",") if one]
        elif name == "after" and value:
            asked.after = instant(value)
        elif name in NAMED and value:
            asked.names.setdefault(name, []).append(value[:200])
        else:
            asked.terms += terms(value if not name else f"{name} {value}", whole=bool(quoted))
    asked.terms = asked.terms[:MAX_TERMS]
    if any(len(names) > MAX_NAMES for names in asked.names.values()):
        raise Invalid.field("q", f"names more than {MAX_NAMES} of one sort.")
    return asked


def terms(text: str, *, whole: bool = False) -> list[Term]:
    """Return the words of the text: one term each, or all one phrase where they are glued
    together (``test_retry``) or quoted (``whole``)."""
    found = []
    for piece in [text] if whole else text.split():
        words = tuple(word.lower() for word in _WORD.findall(piece))
        if words:
            found.append(Term(words, begins=piece.endswith("*") and not whole))
    return found


def kind(name: str) -> str:
    """Return the tag of a kind by its name, one or many of it. Raises Invalid naming ``kind``."""
    wanted = name.strip().lower().replace("-", "_")
    for spelled in (wanted, wanted.removesuffix("s"), wanted.removesuffix("ies") + "y"):
        if spelled in KINDS:
            return KINDS[spelled]
    raise Invalid.field("kind", f"must be one of {', '.join(KINDS)}.")


def instant(text: str) -> datetime:
    """Return the instant that the text names, as a date, an instant or so long ago (7d).

    Raises Invalid naming ``after``.
    """
    if ago := _AGO.fullmatch(text):
        return timezone.now() - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid.field(
            "after", "must be a date (2026-11-23), an instant, or so long ago (12h, 7d, 2w)."
        ) from None
