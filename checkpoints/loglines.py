"""The output of an attempt read by lines: any stretch of it, what matches, or all of it raw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from checkpoints import terminal
from checkpoints.models import LogChunk

#: A stretch ends with the line that takes it past so many characters.
MAX_PAGE_CHARS = 1_000_000
#: A look for matches reads about so many characters, and tells at most so many lines.
SEARCH_CHARS = 8_000_000
MAX_MATCHES = 5_000
_BATCH = 64
_GROUP_CHARS = 512 * 1024


@dataclass(frozen=True, slots=True)
class Log:
    """What an attempt printed, or one step of it."""

    attempt_id: UUID
    step_key: str | None = None

    @property
    def chunks(self) -> QuerySet[LogChunk]:
        """The pieces in order."""
        rows = LogChunk.objects.filter(attempt_id=self.attempt_id)
        if self.step_key is not None:
            rows = rows.filter(step_key=self.step_key)
        return rows.order_by(self._line, "id")

    @property
    def _line(self) -> str:
        return "line" if self.step_key is None else "step_line"

    def pieces(self, first: int = 1) -> Iterator[Piece]:
        """Yield the pieces from the one in which line ``first`` begins, a batch at a time."""
        before = self.chunks.filter(**{f"{self._line}__lt": first}).order_by(
            f"-{self._line}", "-id"
        )
        found = before.values_list("id", self._line).first() if first > 1 else None
        at, line = (found[0] - 1, found[1]) if found else (0, 1)
        columns = [self._line if name == "begins" else name for name in Piece._fields]
        # A page is mostly in the first few pieces; who reads on reads all of it.
        batch = _BATCH // 4
        while True:
            following = self.chunks.filter(**{f"{self._line}__gte": line}, id__gt=at)
            rows = list(following.values_list(*columns)[:batch])
            yield from (Piece(*row) for row in rows)
            if len(rows) < batch:
                return
            at, line, batch = rows[-1][0], rows[-1][1], _BATCH

    def total(self) -> int:
        """Return how many lines there are, the unfinished one included."""
        newest = self.chunks.order_by(f"-{self._line}", "-id")
        last = newest.values_list(self._line, "breaks", "open_chars").first()
        return last[0] + last[1] - (last[2] == 0) if last else 0


class Piece(NamedTuple):
    """A stored piece, with the line of the log at hand in which it begins."""

    id: int
    begins: int
    breaks: int
    step_key: str
    stream: str
    style: str
    at: datetime
    text: str


@dataclass(slots=True)
class Line:
    """A line of output as it was printed, without its line feed.

    ``style`` is what was on when it began, see ``terminal``; ``at`` is when it began to arrive.
    """

    line: int
    step: str
    stream: str
    at: datetime
    text: str
    style: str


def stretch(log: Log, first: int, limit: int) -> list[Line]:
    """Return up to ``limit`` lines from line ``first`` on, fewer where they are very long."""
    found: list[Line] = []
    size = 0
    for piece in log.pieces(first):
        lines = piece.text.split("\n")
        if not lines[-1]:
            lines.pop()  # begins with the next piece
        skipped = max(0, first - piece.begins)
        style = piece.style
        if skipped:
            style = terminal.style_after(style, "\n".join(lines[:skipped]))
        for number, text in zip(
            count(piece.begins + skipped), lines[skipped : skipped + limit + 1], strict=False
        ):
            if found and found[-1].line == number:
                found[-1].text += text
            elif len(found) == limit or size > MAX_PAGE_CHARS:
                return found
            else:
                found.append(Line(number, piece.step_key, piece.stream, piece.at, text, style))
            size += len(text)
            style = terminal.style_after(style, text)
    return found


@dataclass(frozen=True, slots=True)
class Match:
    """A line that holds what was looked for, as it is seen."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Matches:
    """The lines that hold what was looked for, up to ``next_line``, where to look on."""

    found: list[Match]
    next_line: int | None

    @property
    def lines(self) -> list[int]:
        return [match.line for match in self.found]


def search(
    log: Log, words: str, first: int = 1, *, case: bool = False, most: int = MAX_MATCHES
) -> Matches:
    """Return the lines from ``first`` on that show ``words``, as far as one look reads.

    It is the visible text that counts: colours and what was written over are not in the way.
    """
    wanted = re.compile(re.escape(words), 0 if case else re.IGNORECASE)
    found: list[Match] = []
    read = 0
    for begins, text in _groups(log, first):
        read += len(text)
        found += (match for match in _matching(wanted, text, begins) if match.line >= first)
        if len(found) >= most:
            return Matches(found[:most], found[most - 1].line + 1)
        if read >= SEARCH_CHARS and text.endswith("\n"):
            return Matches(found, begins + text.count("\n"))
    return Matches(found, None)


def _matching(wanted: re.Pattern[str], text: str, line: int) -> Iterator[Match]:
    seen = terminal.plain(text)
    at = 0
    for match in wanted.finditer(seen):
        breaks = seen.count("\n", at, match.start())
        if breaks or not at:
            line += breaks
            end = seen.find("\n", match.end())
            begun = seen.rfind("\n", 0, match.start()) + 1
            yield Match(line, seen[begun : end if end >= 0 else len(seen)])
        at = max(match.start(), 1)


def _groups(log: Log, first: int) -> Iterator[tuple[int, str]]:
    """Yield whole lines by the half megabyte, each ended, with the number of their first."""
    parts: list[str] = []
    size = begins = here = 0
    for piece in log.pieces(first):
        if not parts:
            begins = here = piece.begins
        if piece.begins > here:
            parts.append("\n")
        parts.append(piece.text)
        here = piece.begins + piece.breaks
        size += len(piece.text)
        if size >= _GROUP_CHARS:
            whole, feed, rest = "".join(parts).rpartition("\n")
            if not feed:
                continue
            yield begins, whole + feed
            parts, size, begins = [rest], len(rest), here
    if size:
        yield begins, "".join(parts)


def raw(log: Log) -> Iterator[bytes]:
    """Yield all that was printed, as it was."""
    for piece in log.pieces():
        yield piece.text.encode()
