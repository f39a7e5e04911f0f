"""Live output of attempts, appended in order, each piece with the line it begins in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from boards import leases
from checkpoints import terminal
from checkpoints.models import LogChunk
from events import log
from kernel.tx import transition

#: A piece has at most so many characters, and so has a line: a longer one goes on as the next.
MAX_CHUNK_CHARS = 64 * 1024
MAX_LINE_CHARS = 16 * 1024
GONE = "dropped"  # the stream of what stands in for output that went


def append(attempt_id: UUID, chunks: Sequence[tuple[str, str, str]]) -> int:
    """Append ``(step_key, stream, text)`` pieces; return the id of the last. Raises LeaseLost.

    One event announces them all; the text itself is read from here, never from the event.
    However many pieces there are, it takes four statements.
    """
    with transition():
        held = leases.hold(attempt_id)
        if not chunks:
            return 0
        rows = Places(attempt_id, {step for step, _, _ in chunks}).placed(chunks)
        last = LogChunk.objects.bulk_create(rows)[-1].pk if rows else 0
        log.record(
            "log.appended",
            board_id=held.board_id,
            subject_id=held.card_id,
            actor=held.actor,
            attempt=held.number,
            step=chunks[-1][0],
            last=last,
        )
    return last


def replace(attempt_id: UUID, chunks: Sequence[tuple[str, str, str]]) -> None:
    """Make ``(step_key, stream, text)`` pieces all the output of an attempt that is over."""
    with transition():
        LogChunk.objects.filter(attempt_id=attempt_id).delete()
        steps = {step for step, _, _ in chunks}
        LogChunk.objects.bulk_create(Places(attempt_id, steps).placed(chunks))


@dataclass(slots=True)
class _End:
    """Where a log ends: the line that is open, or the one to be begun."""

    line: int = 1
    open_chars: int = 0
    step: str = ""
    stream: str = ""
    style: str = ""

    @classmethod
    def of(cls, chunk: LogChunk, line: int) -> _End:
        return cls(
            line + chunk.breaks, chunk.open_chars, chunk.step_key, chunk.stream, chunk.style_after
        )


class Places:
    """Gives pieces their places behind what is stored.

    The caller holds the attempt: nobody else appends to it before the commit.
    """

    def __init__(self, attempt_id: UUID, steps: set[str]) -> None:
        self._attempt_id = attempt_id
        self._whole = _End()
        self._steps: dict[str, _End] = {}
        mine = LogChunk.objects.filter(attempt_id=attempt_id)
        newest = mine.order_by("-line", "-id").values("pk")[:1]
        wanted = Q(pk__in=newest)
        for step in steps:
            of_step = mine.filter(step_key=step).order_by("-step_line", "-id")
            wanted |= Q(pk__in=of_step.values("pk")[:1])
        for chunk in LogChunk.objects.filter(wanted).defer("text").order_by("pk"):
            self._whole = _End.of(chunk, chunk.line)  # the last of them is the newest of all
            self._steps[chunk.step_key] = _End.of(chunk, chunk.step_line)

    def placed(self, chunks: Sequence[tuple[str, str, str]]) -> list[LogChunk]:
        return [
            self._place(step, stream, text)
            for step, stream, raw in chunks
            for text in self._cut(step, stream, storable(raw))
        ]

    def _cut(self, step: str, stream: str, text: str) -> Iterator[str]:
        end = self._steps.setdefault(step, _End())
        room = MAX_LINE_CHARS
        if _goes_on(end, stream, text):
            room -= end.open_chars
        begun = here = 0
        for line in text.split("\n"):
            left = len(line)
            while left > room:
                here += room
                left -= room
                yield text[begun:here]
                begun, room = here, MAX_LINE_CHARS
            here += left + 1
            room = MAX_LINE_CHARS
            if here - begun >= MAX_CHUNK_CHARS - MAX_LINE_CHARS:
                yield text[begun:here]
                begun = here
        if begun < len(text):
            yield text[begun:]

    def _place(self, step: str, stream: str, text: str) -> LogChunk:
        end, whole = self._steps[step], self._whole
        goes_on = _goes_on(end, stream, text)
        if end.open_chars and not goes_on:
            end.line, end.open_chars = end.line + 1, 0
        if whole.open_chars and not (goes_on and whole.step == step and whole.stream == stream):
            whole.line += 1
        breaks = text.count("\n")
        open_chars = len(text) - text.rfind("\n") - 1 if breaks else end.open_chars + len(text)
        chunk = LogChunk(
            attempt_id=self._attempt_id,
            step_key=step,
            stream=stream,
            text=text,
            line=whole.line,
            step_line=end.line,
            breaks=breaks,
            open_chars=open_chars,
            style=end.style,
            style_after=terminal.style_after(end.style, text),
        )
        self._whole = _End.of(chunk, chunk.line)
        self._steps[step] = _End.of(chunk, chunk.step_line)
        return chunk


def _goes_on(end: _End, stream: str, text: str) -> bool:
    """True when text of this stream goes on with the step's unfinished line."""
    full = end.open_chars >= MAX_LINE_CHARS and not text.startswith("\n")
    return bool(end.open_chars) and end.stream == stream and not full


def storable(text: str) -> str:
    """Return ``text`` with what no store takes (NUL, half surrogate pairs) replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
