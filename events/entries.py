"""What an event looks like to whoever reads the log: one shape for the list, SSE and sockets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID


class Fact(Protocol):
    """A row of the log, however it was read."""

    @property
    def board_id(self) -> UUID: ...
    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def subject_id(self) -> UUID: ...
    @property
    def data(self) -> Any: ...


class Row(NamedTuple):
    """A row of the log as the tail reads it, without the ORM."""

    board_id: UUID
    seq: int
    at: datetime
    kind: str
    actor: str
    subject_id: UUID
    data: Any


class Entry(NamedTuple):
    """An event encoded once for all who follow the board."""

    seq: int
    kind: str
    text: str


def event_json(fact: Fact) -> dict[str, Any]:
    """Return the event as the API gives it."""
    return {
        "seq": fact.seq,
        "at": fact.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "board": str(fact.board_id),
        "kind": fact.kind,
        "actor": fact.actor,
        "subject": str(fact.subject_id),
        "data": fact.data,
    }


def entry_of(fact: Fact) -> Entry:
    """Return the event encoded."""
    return Entry(fact.seq, fact.kind, json.dumps(event_json(fact), separators=(",", ":")))
