"""Live output of attempts as a file: what a bundle takes along of it, and what it may bring.

One JSON object a line, a piece of output each, in the order it arrived. Of an attempt that
printed more than its share the end is taken, with a word in front about the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.db.models import Count, Sum
from django.db.models.functions import Length

from checkpoints import logs
from checkpoints.models import LogChunk
from kernel.limits import load_json

#: Characters, each piece counted as PIECE more: of an attempt, of all attempts in a file.
MAX_OF_ATTEMPT = 2 * 1024 * 1024
MAX_IN_ALL = 16 * 1024 * 1024
PIECE = 200
_LONGEST_LINE = 8 * logs.MAX_CHUNK_CHARS  # bytes; every character may be an escape
_ROWS_AT_ONCE = 500
_STREAMS = ("stdout", "stderr", "log", "note", logs.GONE)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of output as a file has it, of the attempt called ``attempt`` there."""

    attempt: str
    step: str
    stream: str
    at: datetime
    text: str


def write(attempts: Iterable[UUID], path: Path) -> None:
    """Write the output of the attempts, the first of them first served where all is too much."""
    wanted = list(attempts)
    printed = LogChunk.objects.filter(attempt__in=wanted).values("attempt")
    told = printed.annotate(chars=Sum(Length("text")), pieces=Count("pk"))
    sizes = {row["attempt"]: row["chars"] + PIECE * row["pieces"] for row in told}
    left = MAX_IN_ALL
    with path.open("w", encoding="utf-8") as out:
        for pk in wanted:
            if size := sizes.get(pk, 0):
                for piece in _end_of(pk, size, min(left, MAX_OF_ATTEMPT)):
                    left -= PIECE + len(piece.text)
                    out.write(json.dumps(_as_json(piece), ensure_ascii=False) + "\n")


def _end_of(pk: UUID, size: int, room: int) -> Iterator[Piece]:
    """Yield what there is room for of an attempt's output."""
    chunks = LogChunk.objects.filter(attempt=pk)
    if size > room:
        room -= 2 * PIECE
        first, missing = None, 0
        lengths = chunks.order_by("-id").annotate(chars=Length("text")).values_list("id", "chars")
        for number, chars in lengths.iterator():
            room -= PIECE + chars
            if room >= 0:
                first = number
            else:
                missing += chars
        newest = chunks.order_by("-id")[0]
        begins = chunks.get(pk=first) if first else newest
        word = f"[{missing} characters before this stayed where the bundle was written.]\n"
        yield Piece(str(pk), begins.step_key, logs.GONE, begins.at, word)
        chunks = chunks.filter(pk__gte=first) if first else chunks.none()
    for row in chunks.order_by("id").iterator():
        yield Piece(str(pk), row.step_key, row.stream, row.at, row.text)


def _as_json(piece: Piece) -> dict[str, str]:
    at = piece.at.isoformat()
    return {"attempt": piece.attempt, "step": piece.step, "stream": piece.stream, "at": at,
            "text": piece.text}  # fmt: skip


def read(file: IO[bytes]) -> list[Piece]:
    """Return the pieces in a file. Raises ValueError or DomainError for any other content, and
    for too much."""
    found = []
    left = MAX_IN_ALL
    while line := file.readline(_LONGEST_LINE + 1):
        row = load_json(line) if len(line) <= _LONGEST_LINE else None
        if not isinstance(row, dict) or set(row) != {"attempt", "step", "stream", "at", "text"}:
            raise ValueError("a line of the output is none")
        piece = _piece(row)
        left -= PIECE + len(piece.text)
        if left < 0:
            raise ValueError("there is more output than a bundle holds")
        found.append(piece)
    return found


def _piece(row: Mapping[str, Any]) -> Piece:
    if not all(isinstance(value, str) for value in row.values()):
        raise ValueError("output is other than text")
    if row["stream"] not in _STREAMS or len(row["step"]) > 200:
        raise ValueError("output is of no step or stream")
    at = datetime.fromisoformat(row["at"])
    if at.tzinfo is None:
        raise ValueError("output has no time")
    return Piece(row["attempt"], row["step"], row["stream"], at, row["text"])


def store(pieces: Iterable[Piece], attempts: Mapping[str, UUID]) -> None:
    """Make the pieces the output of the attempts that they are called by. Raises KeyError."""
    ends: dict[str, logs.Places] = {}
    rows = (row for piece in pieces for row in _rows(piece, attempts, ends))
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        LogChunk.objects.bulk_create(some)


def _rows(
    piece: Piece, attempts: Mapping[str, UUID], ends: dict[str, logs.Places]
) -> Iterator[LogChunk]:
    if piece.attempt not in ends:
        ends[piece.attempt] = logs.Places(attempts[piece.attempt], set())
    for row in ends[piece.attempt].placed([(piece.step, piece.stream, piece.text)]):
        row.at = piece.at
        yield row
