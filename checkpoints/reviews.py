"""Remarks on lines of a diff: what a reviewer asks for, told to whoever goes on.

A remark is a message that stands beside a line. It is open until somebody resolves it, and as
long as it is, every briefing of the card tells it with its file, line and the line's text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from boards import cards, placing
from boards.models import Card, Message
from checkpoints import differences
from checkpoints.git import GitFailed
from checkpoints.models import Checkpoint
from checkpoints.snapshots import SnapshotStore
from checkpoints.stores import store_of
from kernel.errors import Invalid, NotFound
from kernel.tx import transition

MAX_QUOTED_CHARS = 300
MAX_FILE_BYTES = 4 * 1024 * 1024
SHOWN = 500


@dataclass(slots=True)
class Remark:
    """A remark and where it stands in what is shown: ``outdated`` if its line changed since."""

    message: Message
    path: str
    side: str
    line: int
    outdated: bool = False


def remark(
    card_id: UUID, actor: str, text: str, *, checkpoint: int, path: str, side: str, line: int
) -> Message:
    """Return the remark, kept open on the card.

    ``side`` is "new" for the checkpoint's own file and "base" for what the card started from.
    Raises Invalid where there is no such line.
    """
    card = Card.objects.select_related("board").get(pk=card_id)
    try:
        point = differences.named(card, checkpoint)
    except NotFound as error:
        raise Invalid.field("checkpoint", str(error)) from None
    quoted = _line(card, point, path, side, line)
    with transition():
        card = cards.lock(card_id)
        if not Checkpoint.objects.kept().filter(pk=point.pk).exists():
            raise Invalid.field("checkpoint", "has no files any more to remark on.")
        made = Message.objects.create(
            card=card,
            kind=Message.Kind.REVIEW,
            actor=actor,
            text=text,
            place={
                "checkpoint": checkpoint,
                "path": path,
                "side": side,
                "line": line,
                "text": quoted[:MAX_QUOTED_CHARS],
            },
        )
        placing.note(card, "message.posted", actor, message=made.pk)
    return made


def resolve(message: Message, actor: str, resolved: bool) -> Message:
    """Return the remark, resolved or open again. Raises Invalid for any other message."""
    if message.place is None:
        raise Invalid.field("message", "is no remark on a line.")
    with transition():
        card = cards.lock(message.card_id)
        closed_at = timezone.now() if resolved else None
        same = Message.objects.filter(pk=message.pk, closed_at__isnull=resolved)
        if same.update(closed_at=closed_at):
            kind = "remark.resolved" if resolved else "remark.reopened"
            placing.note(card, kind, actor, message=message.pk)
        message.closed_at = closed_at
    return message


def beside(card: Card, old: Checkpoint | None, new: Checkpoint) -> list[Remark]:
    """Return the card's remarks as they stand in a difference, the oldest first.

    One whose file is neither of the two any more is outdated.
    """
    said = list(card.messages.exclude(place__isnull=True).order_by("id")[:SHOWN])
    if not said:
        return []
    blobs = _Blobs(store_of(card.board_id))
    places: list[dict[str, Any]] = [m.place or {} for m in said]
    numbers = {place["checkpoint"] for place in places}
    points = {p.number: p for p in Checkpoint.objects.filter(card=card, number__in=numbers)}
    found = []
    for message, place in zip(said, places, strict=True):
        made = Remark(message, place["path"], "new", place["line"])
        then = points.get(place["checkpoint"])
        blob = blobs.of(_commit(then, place["side"]), made.path) if then else ""
        if not blob or blob != blobs.of(_commit(new, "new"), made.path):
            before = _commit(old, "new") if old else _commit(new, "base")
            made.side = "old"
            made.outdated = not blob or blob != blobs.of(before, made.path)
        found.append(made)
    return found


def open_remarks(card: Card) -> int:
    """Return how many remarks nobody has resolved."""
    return card.messages.exclude(place__isnull=True).filter(closed_at=None).count()


def by_line(remarks: Iterable[Remark]) -> dict[tuple[str, str, int], list[Remark]]:
    """Return the remarks whose line is still as it was, by path, side and line."""
    found: dict[tuple[str, str, int], list[Remark]] = {}
    for made in remarks:
        if not made.outdated:
            found.setdefault((made.path, made.side, made.line), []).append(made)
    return found


class _Blobs:
    """What a file was at a checkpoint, by the name git gives its content."""

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store
        self._known: dict[tuple[str, str], str] = {}

    def of(self, commit: str, path: str) -> str:
        if not commit:
            return ""
        if (commit, path) not in self._known:
            try:
                name = self.store.line("rev-parse", "--verify", "-q", f"{commit}:{path}")
            except GitFailed:
                name = ""
            self._known[commit, path] = name
        return self._known[commit, path]


def _commit(point: Checkpoint, side: str) -> str:
    workspace: dict[str, Any] = point.workspace or {}
    return str(workspace.get("base" if side == "base" else "commit") or "")


def _line(card: Card, point: Checkpoint, path: str, side: str, line: int) -> str:
    """Return the text of the line. Raises Invalid."""
    store, commit = store_of(card.board_id), _commit(point, side)
    if not commit or not store.has(commit):
        raise Invalid.field("checkpoint", "has no files here to remark on.")
    try:
        size = int(store.line("cat-file", "-s", f"{commit}:{path}"))
        if size > MAX_FILE_BYTES:
            raise Invalid.field("path", "is too large to remark on.")
        lines = store.run("cat-file", "blob", f"{commit}:{path}").split(b"\n")
    except GitFailed:
        raise Invalid.field("path", "is no file of this checkpoint.") from None
    if not 1 <= line <= len(lines):
        raise Invalid.field("line", f"must be a line of {path}: 1 to {len(lines)}.")
    return lines[line - 1].decode("utf-8", "replace").rstrip("\r")
