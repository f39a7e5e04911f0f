"""The only way to write an event.

``record`` is the last write of a transition: on PostgreSQL it takes the board's counter row,
whose lock then lasts until commit, so the order of ``seq`` is the order of commits and has
no gap. A database sequence has neither property: its numbers commit out of order, and a
reader of ``seq > last_seen`` loses rows.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Avg, Max, TextField
from django.db.models.functions import Cast, Length
from django.utils import timezone

from events import hints
from events.models import Event
from kernel import tx

#: PostgreSQL channel on which a commit announces ``<board id>:<seq>``.
CHANNEL = "holdfast_events"
ROW_BYTES, SAMPLE = 200, 500  # see size_bytes

# One statement each: the number, the row and (PostgreSQL) the wake-up, which is sent at commit.
_POSTGRESQL = """
WITH counter AS (
    INSERT INTO events_stream AS s (board_id, last_seq)
    VALUES (%(board)s,
            (SELECT COALESCE(MAX(seq), 0) + 1 FROM events_event WHERE board_id = %(board)s))
    ON CONFLICT (board_id) DO UPDATE SET last_seq = s.last_seq + 1
    RETURNING last_seq
), entry AS (
    INSERT INTO events_event (board_id, seq, at, kind, actor, subject_id, data)
    SELECT %(board)s, last_seq, %(at)s, %(kind)s, %(actor)s, %(subject)s, %(data)s::jsonb
    FROM counter
    RETURNING seq
)
SELECT seq, pg_notify(%(channel)s, %(board)s::text || ':' || seq) FROM entry
"""
_SQLITE = """
INSERT INTO events_event (board_id, seq, at, kind, actor, subject_id, data)
SELECT %(board)s, COALESCE(MAX(seq), 0) + 1, %(at)s, %(kind)s, %(actor)s, %(subject)s, %(data)s
FROM events_event WHERE board_id = %(board)s
RETURNING seq
"""


def record(kind: str, *, board_id: UUID, subject_id: UUID, actor: str, **data: Any) -> int:
    """Append an event and return its ``seq`` on the board.

    Raises RuntimeError outside a transaction: an event must commit or roll back with the
    change it reports. ``data`` must be JSON and small: what changed, never a payload.
    """
    if not connection.in_atomic_block:
        raise RuntimeError(f"record({kind!r}) outside transaction.atomic()")
    tx.catch_up()
    on_postgresql = connection.vendor == "postgresql"
    adapt = connection.ops.adapt_datetimefield_value
    params: dict[str, Any] = {
        "board": board_id if on_postgresql else board_id.hex,
        "subject": subject_id if on_postgresql else subject_id.hex,
        "at": adapt(timezone.now()),
        "kind": kind,
        "actor": actor[:200],
        "data": json.dumps(data, default=str),
    }
    if on_postgresql:
        params["channel"] = CHANNEL
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRESQL if on_postgresql else _SQLITE, params)
        (row,) = cursor.fetchall()
    seq = int(row[0])
    transaction.on_commit(partial(hints.announce, board_id, seq), robust=True)
    return seq


def last_seq(board_id: UUID) -> int:
    """Return the number of the board's newest event, 0 where there is none."""
    newest = Event.objects.of_board(board_id).aggregate(seq=Max("seq"))["seq"]
    return int(newest or 0)


def size_bytes(board_id: UUID) -> int:
    """Return about what the board's log takes up, guessed from its newest events.

    It has no gaps, so that nothing need be counted; a row and its places in the indexes take about
    ROW_BYTES besides its text.
    """
    number = last_seq(board_id)
    newest = Event.objects.filter(board_id=board_id, seq__gt=number - SAMPLE)
    text = Length("kind") + Length("actor") + Length(Cast("data", TextField()))
    found = newest.aggregate(chars=Avg(text))["chars"] or 0
    return int(number * (ROW_BYTES + found))
