"""Text that others wrote, set apart so that none of it can pass for the briefing itself.

Blocks stand between marks that carry a word derived from the text, which the text does not
contain; and whatever looks like such a mark inside is defused. The word hangs on the text and
the site's key alone: the same state gives the same bytes, and nobody outside can foretell it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from django.utils.crypto import salted_hmac

from checkpoints.tokens import most_that_fits, tokens_in

#: What a person asked for, and what anybody else wrote.
ASKED, QUOTE = "asked", "quote"

#: A block with less than this many characters of its text is hardly worth its marks, but where
#: characters are dear there may be this few.
LEAST, FEWEST = 60, 12

_LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels, so no words
_MARK = re.compile(r"<(?=\s*/?\s*(?:asked|quote)\b)", re.IGNORECASE)
# Controls, overrides of the writing direction, and characters that show nothing: none of them
# reaches a reader, and the last can carry instructions that no reviewer sees.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
    r"|[\U000e0000-\U000e0fff]"
)
_ANSI = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_QUOTATION = re.compile("[“”]")
_BREAKS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_GONE = "…[{:,} characters cut]…"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text as far as it was read: all of it, or its beginning and its end."""

    head: str
    tail: str = ""
    missing: int = 0  # characters between the two

    def __bool__(self) -> bool:
        return bool(self.head.strip() or self.tail.strip())

    @property
    def read(self) -> int:
        return len(self.head) + len(self.tail)

    @property
    def length(self) -> int:
        return self.read + self.missing

    def ends(self, keep: int) -> tuple[str, int]:
        """Return the text cut down to ``keep`` characters, and how many that leaves out.

        Two thirds from its beginning and one from its end: the last line of an error says most.
        """
        if keep >= self.read and not self.missing:
            return self.head + self.tail, 0
        keep = min(keep, self.read)
        last = keep // 3
        if self.missing:
            last = min(last, len(self.tail))
            first = min(keep - last, len(self.head))
            head, tail = self.head[:first], self.tail[len(self.tail) - last :]
        else:
            whole = self.head + self.tail
            head, tail = whole[: keep - last], whole[len(whole) - last :]
        cut = self.length - len(head) - len(tail)
        return f"{head.rstrip()} {_GONE.format(cut)} {tail.lstrip()}", cut


def block(excerpt: Excerpt, who: str, *, trusted: bool, tokens: int) -> tuple[str, int]:
    """Return the text between its marks in at most ``tokens``, and how much of it is cut.

    The empty text when not even FEWEST characters of it have room.
    """
    tag = ASKED if trusted else QUOTE
    by = inline(who, 12).replace("<", "‹").replace(">", "›") or "unknown"
    least = min(excerpt.read, LEAST)

    def marked(more: int) -> str:
        shown = defused(excerpt.ends(least + more)[0]).strip()
        word = _word(shown)
        return f"<{tag} {word} by={by}>\n{shown}\n</{tag} {word}>"

    more = most_that_fits(marked, excerpt.read - least, tokens)
    if more < 0:
        least = min(excerpt.read, FEWEST)
        more = most_that_fits(marked, min(excerpt.read, LEAST) - least, tokens)
    if more < 0:
        return "", excerpt.length
    return marked(more), excerpt.ends(least + more)[1]


def phrase(excerpt: Excerpt, who: str, *, tokens: int) -> tuple[str, int]:
    """Return the text on one line, in quotation marks it can't contain, and how much is cut."""
    by = f" ({inline(who, 12)})"
    line = inline(excerpt.head, max(4, tokens - tokens_in(by) - 4))
    shown = f"“{_QUOTATION.sub(chr(34), line)}”{by}"
    cut = max(0, excerpt.length - len(line)) if line.endswith("…") else 0
    if tokens_in(shown) > tokens or (cut and len(line) < LEAST // 2):
        return "", excerpt.length
    return shown, cut


def _word(text: str) -> str:
    for n in range(1000):
        digest = salted_hmac("checkpoints.briefing.mark", f"{n}:{text}", algorithm="sha256")
        number = int.from_bytes(digest.digest()[:8])
        word = ""
        for _ in range(6):
            number, letter = divmod(number, len(_LETTERS))
            word += _LETTERS[letter]
        if word not in text:
            return word
    raise AssertionError("unreachable: a text with a thousand words of its own digests")


def defused(text: str) -> str:
    """Return the text without hidden characters, and without anything like a mark in it."""
    return _MARK.sub("‹", _HIDDEN.sub("", _ANSI.sub("", _BREAKS.sub("\n", text))))


def inline(text: object, tokens: int = 80) -> str:
    """Return the text on one line, in about ``tokens``."""
    read = str(text)
    line = " ".join(defused(read[: 16 * tokens]).split())
    if len(line) * 4 <= tokens and len(read) <= 16 * tokens:
        return line  # no character takes more

    def cut(keep: int) -> str:
        whole = keep >= len(line) and len(read) <= 16 * tokens
        return line if whole else f"{line[:keep].rstrip()} …"

    keep = most_that_fits(cut, len(line), tokens)
    return cut(keep) if keep > 0 else "…"


def age(at: datetime, now: datetime) -> str:
    """Return how long ago that was, and when: "3 h ago (2026-11-22 10:15 UTC)"."""
    seconds = max(0.0, (now - at).total_seconds())
    if seconds < 2 * 3600:
        past = f"{seconds // 60:.0f} min"
    elif seconds < 48 * 3600:
        past = f"{seconds // 3600:.0f} h"
    else:
        past = f"{seconds // 86_400:.0f} days"
    return f"{past} ago ({at:%Y-%m-%d %H:%M} UTC)"
