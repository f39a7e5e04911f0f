"""The piece of a text around what was found in it, and where in the piece that stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from goals.search.language import Term

LONGEST = 240
#: So much is shown before the first mark.
BEFORE = 60
MOST_MARKS = 40


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text; ``marks`` are the begins and ends of what was found in it."""

    text: str
    marks: list[tuple[int, int]]

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The piece in parts, each with whether it is marked."""
        found, at = [], 0
        for begin, end in self.marks:
            found += [(self.text[at:begin], False), (self.text[begin:end], True)]
            at = end
        return [part for part in [*found, (self.text[at:], False)] if part[0]]


def marked(text: str, terms: Sequence[Term], longest: int = LONGEST) -> Piece:
    """Return about ``longest`` characters of the text on one line, from where most of the terms
    stand close together."""
    line = " ".join(text.split())
    pattern = _pattern(terms)
    found = list(pattern.finditer(line)) if pattern else []
    start = 0
    if found and len(line) > longest:
        spans = [m.start() for m in found[:200]]
        best = max(spans, key=lambda at: (sum(at <= s < at + longest - BEFORE for s in spans), -at))
        start = max(0, min(best - BEFORE, len(line) - longest))
        if start:
            blank = line.find(" ", start, best)
            start = blank + 1 if blank >= 0 else start
    piece = line[start : start + longest]
    before, after = "… " if start else "", " …" if start + longest < len(line) else ""
    shift = len(before) - start
    marks = [
        (m.start() + shift, m.end() + shift)
        for m in found
        if m.start() >= start and m.end() <= start + len(piece)
    ]
    return Piece(f"{before}{piece.strip()}{after}", marks[:MOST_MARKS])


def _pattern(terms: Sequence[Term]) -> re.Pattern[str] | None:
    alternatives = [
        r"(?<![^\W_])"
        + r"[\W_]+".join(map(re.escape, t.words))
        + ("[^\\W_]*" if t.begins else "")
        + r"(?![^\W_])"
        for t in sorted(terms, key=lambda t: -len(" ".join(t.words)))
    ]
    return re.compile("|".join(alternatives), re.IGNORECASE) if alternatives else None
