"""Who looks at a board now, and which card each of them has open.

    socket ──looks──> Lookout ──one statement for all pages──> Presence rows
      ^                  │                                          │
      └──── changes ─────┴──────── one read for all boards <────────┘

A page has a row from when it comes until it leaves; without a beat for KEPT_SECONDS the row
counts no longer, whatever became of the process that wrote it. Each web process writes and
reads for all of its pages at once, so people on other processes are seen with nothing but the
store between them, and fifty viewers cost no more statements than one. Only changes are told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError
from django.utils import timezone

from boards.models import Presence
from boards.templatetags.holdfast import hue
from kernel.access import Principal
from kernel.offload import Offload

log = logging.getLogger(__name__)

#: A page says again that it is there.
BEAT_SECONDS = 20.0
#: A page that was not heard of for so long is gone.
KEPT_SECONDS = 60.0
#: How often those on other processes are looked for.
ROUND_SECONDS = 2.0
#: Between two rounds, however much happens here.
REST_SECONDS = 0.25
#: People told of at most.
MOST = 100

in_database = Offload("presence")

#: The people on a board: ``id``, ``name``, ``hue`` and the ``cards`` each has open.
Viewers = list[dict[str, Any]]


@dataclass(eq=False, slots=True)
class Page:
    """One open page of a board, followed by a person."""

    board_id: UUID
    user_id: str
    tell: Callable[[str], None]
    news: Callable[[], None]
    page: str = field(default_factory=lambda: str(uuid4()))
    card_id: UUID | None = None
    beat_at: float | None = None
    told: Viewers | None = None

    def look(self, card_id: UUID | None) -> None:
        """Have the others told that this page has the card open, or none."""
        if card_id != self.card_id:
            self.card_id = card_id
            self.beat_at = None
            self.news()


class _Lookout:
    """All pages that follow a board in this process, on one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pages: set[Page] = set()
        self.left: list[str] = []
        self.news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Go on until the last page has left."""
        self.news.set()
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        while self.pages or self.left:
            self.news.clear()
            try:
                await self._round()
            except DatabaseError as error:
                # Nothing is lost: the same beats are due again.
                log.debug("presence can't be kept: %s", error)
            except Exception:
                log.exception("presence can't be kept")
            await asyncio.sleep(REST_SECONDS)
            try:
                async with asyncio.timeout(ROUND_SECONDS):
                    await self.news.wait()
            except TimeoutError:
                pass

    async def _round(self) -> None:
        now = self.loop.time()
        due = [p for p in self.pages if p.beat_at is None or now - p.beat_at >= BEAT_SECONDS]
        beats = [
            Presence(board_id=p.board_id, user_id=p.user_id, page=p.page, card_id=p.card_id)
            for p in due
        ]
        shown = [p.card_id for p in due]
        left = list(self.left)
        boards = {p.board_id for p in self.pages}
        found = await in_database(_exchange, beats, left, boards)
        self.left = [page for page in self.left if page not in left]
        for page, card_id in zip(due, shown, strict=True):
            if page.card_id == card_id:
                page.beat_at = now
        for page in self.pages:
            viewers = found.get(page.board_id, [])
            if page.board_id in boards and viewers != page.told:
                page.told = viewers
                page.tell(_frame(viewers, page.user_id))


_lookout: _Lookout | None = None


@contextmanager
def present(
    principal: Principal, board_id: UUID, tell: Callable[[str], None]
) -> Iterator[Page | None]:
    """Have ``tell(frame)`` called with who is there, at first and after every change.

    Yields the person's page. A token is nobody who looks: it gets None and is told nothing.
    """
    global _lookout
    if not principal.is_person:
        yield None
        return
    if _lookout is None or _lookout.loop is not asyncio.get_running_loop():
        _lookout = _Lookout()
    lookout = _lookout
    page = Page(board_id, principal.id, tell, lookout.watch)
    lookout.pages.add(page)
    lookout.watch()
    try:
        yield page
    finally:
        lookout.pages.discard(page)
        lookout.left.append(page.page)
        lookout.watch()


def _exchange(
    beats: list[Presence], left: Collection[str], boards: Collection[UUID]
) -> dict[UUID, Viewers]:
    """Write who is here and who left, and return everybody on the boards."""
    now = timezone.now()
    horizon = now - timedelta(seconds=KEPT_SECONDS)
    if beats or left:
        for beat in beats:
            beat.seen_at = now
        if left:
            Presence.objects.filter(page__in=left).delete()
        if beats:
            Presence.objects.filter(board__in=boards, seen_at__lt=horizon).delete()
            _beat(beats)
    name = get_user_model().USERNAME_FIELD
    rows = Presence.objects.filter(board__in=boards, seen_at__gte=horizon)
    people: dict[UUID, dict[str, dict[str, Any]]] = {}
    for board, user, called, card in rows.order_by("user_id", "id").values_list(
        "board_id", "user_id", f"user__{name}", "card_id"
    ):
        viewer = people.setdefault(board, {}).setdefault(
            str(user), {"id": str(user), "name": called, "hue": hue(called), "cards": []}
        )
        if card is not None and str(card) not in viewer["cards"]:
            viewer["cards"].append(str(card))
    return {board: list(viewers.values())[:MOST] for board, viewers in people.items()}


def _beat(beats: list[Presence]) -> None:
    """Write the rows; where one's person or board is gone, the others all the same."""
    try:
        _write(beats)
    except IntegrityError:
        for beat in beats:
            try:
                _write([beat])
            except IntegrityError:
                log.debug("nobody is %s any more", beat.user_id)


def _write(beats: list[Presence]) -> None:
    Presence.objects.bulk_create(
        beats,
        update_conflicts=True,
        unique_fields=["board", "page"],
        update_fields=["card_id", "seen_at"],
    )


def _frame(viewers: Viewers, me: str) -> str:
    told = {"type": "presence", "me": me, "viewers": viewers}
    return json.dumps(told, separators=(",", ":"))
