"""What of a board is found by its words: its cards, what was tried, and what was said."""

from __future__ import annotations

from goals.search.models import Entry
from goals.search.sources import TITLE, Source, register

_BOARD = "(SELECT c.board_id FROM boards_card AS c WHERE c.id = {r}.card_id)"

register(
    Source(
        Entry.Kind.CARD,
        "c",
        "boards_card",
        texts=("title", "description", "labels", "state"),
        title="{r}.key || ' ' || {r}.title",
        body=("description", "labels"),
        json=("labels",),
        board="{r}.board_id",
        card="{r}.id",
        actor="{r}.created_by",
        at="{r}.created_at",
        tags=(("s", "{r}.state"),),
    ),
    Source(
        Entry.Kind.ATTEMPT,
        "a",
        "boards_attempt",
        texts=("approach", "error", "lesson", "outcome", "next_step", "status"),
        title=f"substr({{r}}.approach, 1, {TITLE})",
        body=("approach", "error", "lesson", "outcome", "next_step"),
        board="{r}.board_id",
        card="{r}.card_id",
        number="{r}.number",
        actor="'worker:' || {r}.worker",
        at="{r}.started_at",
        tags=(("s", "{r}.status"),),
        wanted=(
            "({r}.approach <> '' OR {r}.error <> '' OR {r}.outcome <> '' OR {r}.next_step <> '')"
        ),
    ),
    Source(
        Entry.Kind.MESSAGE,
        "m",
        "boards_message",
        texts=("text",),
        title=f"substr({{r}}.text, 1, {TITLE})",
        body=("text",),
        board=_BOARD,
        card="{r}.card_id",
        number="{r}.id",
        actor="{r}.actor",
        at="{r}.at",
        tags=(("k", "{r}.kind"),),
        key_is_uuid=False,
    ),
)
