"""Live output of a command: from bytes to batches of clean text, within bounds."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from typing import Protocol

#: Takes a batch of ``(stream, text)`` pieces in the order they were read.
OnOutput = Callable[[Sequence[tuple[str, str]]], None]

NOTE = "note"  # the stream of what the executor itself says about the output


class Filter(Protocol):
    """Changes a stream of text on its way, such as blotting out secrets.

    ``feed`` may hold text back until it knows how it goes on; ``close`` returns the rest.
    """

    def feed(self, text: str) -> str: ...

    def close(self) -> str: ...


class _Plain:
    def feed(self, text: str) -> str:
        return text

    def close(self) -> str:
        return ""


class Tail:
    """The last ``limit`` characters of everything added."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > 4 * self._limit:
            kept = self.text()
            self._parts, self._size = [kept], len(kept)

    def text(self) -> str:
        return "".join(self._parts)[-self._limit :] if self._limit else ""


class Output:
    """Both streams of one command, handed on in batches until the cap, drained ever after.

    Bytes that are no UTF-8 become U+FFFD, and so does NUL, which PostgreSQL can't store. Past
    ``cap_chars`` only the last ``tail_chars`` are kept; ``close`` hands them on behind a note
    that says how much is missing. Memory stays bounded whatever the command prints.
    ``on_text`` hears every piece at once and whole.
    """

    def __init__(
        self,
        on_output: OnOutput,
        *,
        new_filter: Callable[[], Filter] | None = None,
        on_text: Callable[[str, str], None] | None = None,
        flush_seconds: float = 0.2,
        flush_chars: int = 32 * 1024,
        cap_chars: int = 8 * 1024 * 1024,
        tail_chars: int = 16 * 1024,
    ) -> None:
        self._on_output, self._on_text = on_output, on_text
        self._new_filter: Callable[[], Filter] = new_filter or _Plain
        self._flush_seconds, self._flush_chars = flush_seconds, flush_chars
        self._cap, self._tail_chars = cap_chars, tail_chars
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._filters: dict[str, Filter] = {}
        self._pending: list[tuple[str, str]] = []
        self._pending_chars = self._handed_on = self._left_out = 0
        self._flushed_at = time.monotonic()
        self._tail = Tail(tail_chars)
        self._unhanded = Tail(tail_chars)
        self.bytes = 0

    @property
    def truncated(self) -> bool:
        return self._left_out > 0

    def tail(self) -> str:
        """Return the end of both streams together, in the order they were read."""
        return self._tail.text()

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes as they come; hands on a batch when one is full."""
        if stream not in self._decoders:
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
            self._filters[stream] = self._new_filter()
        self.bytes += len(data)
        self._take(
            stream,
            self._filters[stream].feed(_clean(self._decoders[stream].decode(data))),
        )
        if self._pending_chars >= self._flush_chars:
            self.flush()

    def end(self, stream: str) -> None:
        """Take what the decoder and the filter of an ended stream still held back."""
        decoder = self._decoders.pop(stream, None)
        if decoder is not None:
            last = self._filters.pop(stream)
            rest = last.feed(_clean(decoder.decode(b"", final=True)))
            self._take(stream, rest + last.close())

    def due_in(self) -> float | None:
        """Return in how many seconds a batch is due, or None when nothing waits."""
        if not self._pending:
            return None
        return max(0.0, self._flushed_at + self._flush_seconds - time.monotonic())

    def flush(self) -> None:
        """Hand on what waits. Whatever the callback raises comes through."""
        pending, self._pending, self._pending_chars = self._pending, [], 0
        self._flushed_at = time.monotonic()
        if pending:
            self._on_output(pending)

    def close(self) -> None:
        """Hand on the rest and, where output was left out, a note and the end of it."""
        for stream in list(self._decoders):
            self.end(stream)
        if self._left_out:
            kept = self._unhanded.text()
            missing = self._left_out - len(kept)
            if missing > 0:
                note = f"\n[{missing} characters of output were not stored]\n"
                self._pending.append((NOTE, note))
            self._pending.append(("stdout", kept))
        self.flush()

    def _take(self, stream: str, text: str) -> None:
        if not text:
            return
        self._tail.add(text)
        room = self._cap - self._handed_on
        now, later = text[:room], text[room:]
        if now:
            self._handed_on += len(now)
            self._pending_chars += len(now)
            if self._pending and self._pending[-1][0] == stream:
                self._pending[-1] = (stream, self._pending[-1][1] + now)
            else:
                self._pending.append((stream, now))
        if later:
            self._left_out += len(later)
            self._unhanded.add(later)
        if self._on_text is not None:
            self._on_text(stream, text)


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd")
