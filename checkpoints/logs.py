"""Live output of attempts, appended in order and read in pages."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from boards import leases
from checkpoints.models import LogChunk
from events import log
from kernel.tx import transition

MAX_CHUNK_CHARS = 256 * 1024


def append(attempt_id: UUID, chunks: Sequence[tuple[str, str, str]]) -> int:
    """Append ``(step_key, stream, text)`` pieces; return the id of the last. Raises LeaseLost.

    One event announces them all; the text itself is read from here, never from the event.
    """
    with transition():
        held = leases.hold(attempt_id)
        last = 0
        for step_key, stream, raw in chunks:
            text = storable(raw)
            for start in range(0, len(text), MAX_CHUNK_CHARS):
                last = LogChunk.objects.create(
                    attempt_id=attempt_id,
                    step_key=step_key,
                    stream=stream,
                    text=text[start : start + MAX_CHUNK_CHARS],
                ).pk
        if chunks:
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


def storable(text: str) -> str:
    """Return ``text`` with what no store takes (NUL, half surrogate pairs) replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
