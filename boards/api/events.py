"""A board's log over HTTP: a list, a long-poll, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from boards import audience, lookup
from boards.audience import Guest
from events import log, tail
from events.endpoint import Endpoint, limit_of
from events.entries import Entry, event_json
from events.models import Event
from events.receipts import Answer
from kernel.errors import Invalid
from kernel.limits import whole_number

STREAM = "text/event-stream"
MAX_WAIT_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 15.0
#: How long a browser rests before it opens a broken stream again.
RETRY_MILLISECONDS = 2000
MAX_SEQ = 2**63 - 1


class EventOut(serializers.Serializer[Event]):
    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    board = serializers.UUIDField()
    kind = serializers.CharField()
    actor = serializers.CharField()
    subject = serializers.UUIDField()
    data = serializers.JSONField()


class EventList(serializers.Serializer[Any]):
    results = EventOut(many=True)
    next = serializers.CharField(allow_null=True)
    last_seq = serializers.IntegerField()


class EventQuery(serializers.Serializer[Any]):
    board = serializers.CharField(max_length=64, help_text="Id or key of the board.")
    after = serializers.IntegerField(
        min_value=0, max_value=MAX_SEQ, required=False, help_text="Events past this number."
    )
    cursor = serializers.IntegerField(
        min_value=0, max_value=MAX_SEQ, required=False, help_text="`next` of the page before."
    )
    wait_seconds = serializers.FloatField(
        min_value=0, required=False, default=0, help_text="Wait so long, at most 30, for one."
    )

    def validate_wait_seconds(self, value: float) -> float:
        if not math.isfinite(value):
            raise serializers.ValidationError("A valid number is required.")
        return min(value, MAX_WAIT_SECONDS)


@dataclass(frozen=True, slots=True)
class News:
    """What a long-poll waits for: an event of the board past this number."""

    board_id: UUID
    after: int

    #: What happened is told to all who wait for it.
    shared: ClassVar[bool] = True

    @staticmethod
    def look(wants: Mapping[News, int]) -> dict[News, list[int]]:
        """Return, for each who would find news now, the board's newest number."""
        newest = {board_id: log.last_seq(board_id) for board_id in {w.board_id for w in wants}}
        return {w: [newest[w.board_id]] for w in wants if newest[w.board_id] > w.after}


class EventsView(Endpoint):
    """The log of a board, in order and without a gap."""

    @extend_schema(
        operation_id="list_events",
        parameters=[
            EventQuery,
            OpenApiParameter("limit", int, description="Page size, 1 to 200; 50 unless told."),
            OpenApiParameter(
                "Last-Event-ID",
                int,
                OpenApiParameter.HEADER,
                description="Where a stream goes on; comes before `after`.",
            ),
        ],
        responses={
            (200, "application/json"): EventList,
            (200, STREAM): OpenApiResponse(
                OpenApiTypes.STR, "One `id`, `event` and `data` per event, then live."
            ),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        query = self.query(EventQuery)
        board = lookup.board(self.principal, query["board"])
        after = query.get("cursor", query.get("after"))
        if STREAM in request.headers.get("Accept", ""):
            return self._stream(request, board.pk, after)
        return self._list(request, board.pk, after or 0, query["wait_seconds"])

    def _list(
        self, request: Request, board_id: UUID, after: int, wait_seconds: float
    ) -> HttpResponseBase:
        limit = limit_of(request)
        found = list(Event.objects.of_board(board_id).after(after)[: limit + 1])
        more = len(found) > limit
        results = [event_json(event) for event in found[:limit]]
        last_seq = log.last_seq(board_id) if more or not results else results[-1]["seq"]
        response = self.respond(
            Answer(
                200,
                {
                    "results": results,
                    "next": str(results[-1]["seq"]) if more else None,
                    "last_seq": last_seq,
                },
            )
        )
        if not results and wait_seconds:
            # The handler parks the request and asks again when there is news.
            response.ask_again_seconds = wait_seconds
            response.ask_again_when = News(board_id, after)
        return response

    def _stream(self, request: Request, board_id: UUID, after: int | None) -> StreamingHttpResponse:
        resumed = request.headers.get("Last-Event-ID", "").strip()
        if resumed:
            after = whole_number(resumed, 18)
            if after is None:
                raise Invalid.field("Last-Event-ID", "must be the number of an event.")
        if after is None:
            # From now on, where "now" is before the client hears that it is connected.
            after = log.last_seq(board_id)
        session = request.session.session_key if self.principal.is_person else None
        guest = Guest.of(self.principal, session, board_id)
        return StreamingHttpResponse(
            stream(guest, after),
            content_type=STREAM,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


async def stream(guest: Guest, after: int) -> AsyncIterator[str]:
    """Yield the board's events as they happen, until the guest may no longer follow."""
    dismissed = asyncio.Event()
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    subscription = await tail.subscribe(guest.board_id, after)
    leaving = asyncio.ensure_future(dismissed.wait())
    reading: asyncio.Task[list[Entry]] | None = None
    try:
        with audience.seated(guest, lambda _: dismissed.set()):
            while True:
                if reading is None:
                    reading = asyncio.ensure_future(subscription.batch())
                await asyncio.wait(
                    {reading, leaving},
                    timeout=KEEP_ALIVE_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if leaving.done():
                    return
                if not reading.done():
                    yield ": still here\n\n"
                    continue
                reading, done = None, reading
                try:
                    entries = done.result()
                except tail.Resync as resync:
                    yield f"event: resync\nid: {resync.last_seq}\ndata: {resync.text}\n\n"
                    continue
                yield "".join(f"id: {e.seq}\nevent: {e.kind}\ndata: {e.text}\n\n" for e in entries)
    finally:
        subscription.close()
        leaving.cancel()
        if reading is not None:
            reading.cancel()
