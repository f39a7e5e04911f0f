"""What of a card's work is found by its words: steps that ended, and checkpoints."""

from __future__ import annotations

from goals.search.models import Entry
from goals.search.sources import TITLE, Source, register

_BOARD = "(SELECT a.board_id FROM boards_attempt AS a WHERE a.id = {r}.attempt_id)"
_WORKER = "(SELECT 'worker:' || a.worker FROM boards_attempt AS a WHERE a.id = {r}.attempt_id)"

register(
    Source(
        Entry.Kind.STEP,
        "s",
        "checkpoints_step",
        texts=("status", "title", "result", "error"),
        title="{r}.key || ' ' || {r}.title",
        body=("error", "result"),
        json=("result",),
        board=_BOARD,
        card="{r}.card_id",
        number="{r}.number",
        actor=_WORKER,
        at="{r}.finished_at",
        tags=(("s", "{r}.status"),),
        # One that is under way is found once it ends; what a line inherits, where it was done.
        wanted="({r}.status <> 'started' AND NOT {r}.inherited)",
        key_is_uuid=False,
        later=True,
    ),
    Source(
        Entry.Kind.CHECKPOINT,
        "p",
        "checkpoints_checkpoint",
        texts=("summary", "next_step", "state", "tests"),
        title=f"substr({{r}}.summary, 1, {TITLE})",
        body=("summary", "next_step", "state", "tests"),
        json=("state", "tests"),
        board=_BOARD,
        card="{r}.card_id",
        number="{r}.number",
        actor=_WORKER,
        at="{r}.at",
        later=True,
    ),
)
