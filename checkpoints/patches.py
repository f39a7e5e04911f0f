"""A unified diff as it is read: numbered lines, changed words marked, the language coloured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, String, Token, _TokenType
from pygments.util import ClassNotFound

LINES_SHOWN = 400
MAX_COLOURED_CHARS = 200_000
MAX_LINE_CHARS = 2_000
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)")
#: Classes of the style sheet, by kind of token; the first that contains it counts.
_LOOKS = (
    (Comment, "cm"),
    (String, "st2"),
    (Keyword, "kw"),
    (Number, "nu"),
    (Name.Function, "fn"),
    (Name.Class, "fn"),
    (Name.Decorator, "fn"),
    (Name.Tag, "kw"),
)
#: Marking words helps only where a line was changed, not where it was replaced.
_ALIKE = 0.4

Span = tuple[str, str]  # class, text


@dataclass(slots=True)
class Line:
    """One line of a diff; ``look`` is h (a hunk begins), a (added), x (deleted) or c (context)."""

    look: str
    old: int | None
    new: int | None
    text: str
    spans: list[Span] = field(default_factory=list)
    marked: tuple[int, int] | None = None

    @property
    def sign(self) -> str:
        return {"a": "+", "x": "−"}.get(self.look, "")

    @property
    def side(self) -> str:
        """Which of the two files a remark on the line is about."""
        return "old" if self.look == "x" else "new"

    @property
    def number(self) -> int | None:
        return self.old if self.look == "x" else self.new

    @property
    def html(self) -> SafeString:
        """The text, escaped, with its colours and the changed words marked."""
        return _html(self.spans or [("", self.text)], self.marked)


@dataclass(slots=True)
class Pair:
    """One row of a diff read side by side; a side without a line is empty."""

    left: Line | None
    right: Line | None


def read(patch: str, path: str, most: int = LINES_SHOWN) -> tuple[list[Line], int]:
    """Return the first ``most`` lines of a unified diff, and how many are left out."""
    shown: list[Line] = []
    old = new = left_out = 0
    for text in patch.split("\n"):
        hunk = _HUNK.fullmatch(text)
        if hunk:
            old, new = int(hunk[1]), int(hunk[2])
            shown.append(Line("h", None, None, f"@@ {hunk[3]}".rstrip() + f" · line {new}"))
            continue
        if not shown or not text or text[0] not in " +-":
            continue
        if len(shown) >= most:
            left_out += 1
            continue
        line = text[1:][:MAX_LINE_CHARS]
        if text[0] == "+":
            shown.append(Line("a", None, new, line))
            new += 1
        elif text[0] == "-":
            shown.append(Line("x", old, None, line))
            old += 1
        else:
            shown.append(Line("c", old, new, line))
            old, new = old + 1, new + 1
    _mark(shown)
    _colour(shown, path)
    return shown, left_out


def beside(lines: list[Line]) -> Iterator[Pair]:
    """Yield the lines as they stand side by side: what replaced what in one row."""
    for deleted, added, other in _blocks(lines):
        for left, right in zip_longest(deleted, added):
            yield Pair(left, right)
        if other is not None:
            yield Pair(other, other)


def _blocks(lines: list[Line]) -> Iterator[tuple[list[Line], list[Line], Line | None]]:
    """Yield each run of deleted and added lines, and the line that ends it, if one does."""
    deleted: list[Line] = []
    added: list[Line] = []
    for line in lines:
        if line.look == "x" and not added:
            deleted.append(line)
        elif line.look == "a":
            added.append(line)
        elif line.look == "x":
            yield deleted, added, None
            deleted, added = [line], []
        else:
            yield deleted, added, line
            deleted, added = [], []
    yield deleted, added, None


def _mark(lines: list[Line]) -> None:
    for deleted, added, _ in _blocks(lines):
        for left, right in zip(deleted, added, strict=False):
            a, b = left.text, right.text
            start = 0
            while start < min(len(a), len(b)) and a[start] == b[start]:
                start += 1
            end = 0
            while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
                end += 1
            if start + end < _ALIKE * max(len(a), len(b), 1):
                continue
            left.marked, right.marked = (start, len(a) - end), (start, len(b) - end)


def _colour(lines: list[Line], path: str) -> None:
    """Give the lines their spans: each side of a hunk is read as one piece of the language."""
    if sum(len(line.text) for line in lines) > MAX_COLOURED_CHARS:
        return
    try:
        lexer = get_lexer_for_filename(path, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return
    hunk: list[Line] = []
    for line in [*lines, Line("h", None, None, "")]:
        if line.look != "h":
            hunk.append(line)
            continue
        _lex(lexer, [one for one in hunk if one.look != "a"])
        _lex(lexer, [one for one in hunk if one.look != "x"])
        hunk = []


def _lex(lexer: Lexer, lines: list[Line]) -> None:
    if not lines:
        return
    for line in lines:
        line.spans = []
    n = 0
    for kind, value in lexer.get_tokens("\n".join(line.text for line in lines)):
        look = _look(kind)
        for part, text in enumerate(value.split("\n")):
            n += part > 0
            if text and n < len(lines):
                lines[n].spans.append((look, text))


def _look(kind: _TokenType) -> str:
    if kind in Token.Text:
        return ""
    return next((look for token, look in _LOOKS if kind in token), "")


def _html(spans: list[Span], marked: tuple[int, int] | None) -> SafeString:
    start, end = marked or (0, 0)
    out, at = [], 0
    for look, text in spans:
        for piece, inside in _cut(text, start - at, end - at):
            shown = str(escape(piece))
            if look:
                shown = f'<span class="{look}">{shown}</span>'
            out.append(f"<mark>{shown}</mark>" if inside else shown)
        at += len(text)
    return mark_safe("".join(out))  # every piece of text was escaped


def _cut(text: str, start: int, end: int) -> Iterator[tuple[str, bool]]:
    a, b = max(0, min(len(text), start)), max(0, min(len(text), end))
    for piece, inside in ((text[:a], False), (text[a:b], True), (text[b:], False)):
        if piece:
            yield piece, inside
