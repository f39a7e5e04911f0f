"""A board's log over HTTP: list, long-poll, server-sent events, on a real web process."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.serving import Answer, Site, until


def events(site: Site, board: str, query: str = "", **more: Any) -> Answer:
    return site.call("GET", f"/api/v1/events?board={board}{query}", **more)


class Stream:
    """A stream of server-sent events, read by a thread."""

    def __init__(self, site: Site, path: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", site.web.port, timeout=120)
        self.connection.connect()
        self.socket = self.connection.sock
        headers = {"Accept": "text/event-stream", **headers}
        headers.setdefault("Authorization", f"Bearer {site.token}")
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.messages: list[dict[str, str]] = []
        self.comments: list[str] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for raw in self.response:
                line = raw.decode().rstrip("\n")
                if not line:
                    if "data" in fields:
                        self.messages.append(fields)
                    fields = {}
                elif line.startswith(":"):
                    self.comments.append(line)
                else:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass
        self.ended.set()

    def wait_for(self, count: int, seconds: float = 60) -> list[dict[str, str]]:
        until(lambda: len(self.messages) >= count, seconds)
        return self.messages[:count]

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.response.close()
        self.connection.close()


@contextmanager
def streaming(site: Site, board: str, query: str = "", **headers: str) -> Iterator[Stream]:
    stream = Stream(site, f"/api/v1/events?board={board}{query}", **headers)
    try:
        yield stream
    finally:
        stream.close()


# -- the list --------------------------------------------------------------------------------


def test_the_list_is_in_order_and_pages_without_a_gap(site: Site) -> None:
    board = site.new_board()
    for n in range(6):
        site.new_card(board["id"], f"card {n}")
    whole = events(site, board["key"]).body
    assert [event["seq"] for event in whole["results"]] == [1, 2, 3, 4, 5, 6, 7]
    assert whole["next"] is None
    assert whole["last_seq"] == 7
    first = events(site, board["id"], "&limit=3").body
    assert [event["seq"] for event in first["results"]] == [1, 2, 3]
    assert first["last_seq"] == 7
    second = events(site, board["key"], f"&limit=3&cursor={first['next']}").body
    third = events(site, board["key"], f"&limit=3&after={second['next']}").body
    assert [*first["results"], *second["results"], *third["results"]] == whole["results"]
    assert third["next"] is None


def test_past_the_newest_the_list_is_empty_and_says_where_the_log_ends(site: Site) -> None:
    board = site.new_board()
    assert events(site, board["key"], "&after=1").body == {
        "results": [],
        "next": None,
        "last_seq": 1,
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "board"),
        ("board=", "board"),
        ("board={}&after=x", "after"),
        ("board={}&after=-1", "after"),
        ("board={}&after=99999999999999999999", "after"),
        ("board={}&cursor=abc", "cursor"),
        ("board={}&limit=0", "limit"),
        ("board={}&limit=many", "limit"),
        ("board={}&wait_seconds=-1", "wait_seconds"),
        ("board={}&wait_seconds=nan", "wait_seconds"),
        ("board={}&wait_seconds=soon", "wait_seconds"),
    ],
)
def test_what_can_not_be_asked_is_refused_by_name(site: Site, query: str, field: str) -> None:
    board = site.new_board()
    answer = site.call("GET", f"/api/v1/events?{query.format(board['key'])}")
    assert answer.status == 422
    assert field in answer.body["errors"]
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_board_out_of_sight_is_not_found(site: Site, accept: str) -> None:
    mine, other = site.new_board(), site.new_board()
    token = site.new_token(mine["key"], "viewer")["token"]
    headers = {"Accept": accept}
    assert events(site, other["key"], token=token, headers=headers).status == 404
    assert events(site, "NOPE", token=token, headers=headers).status == 404
    assert events(site, mine["key"], token=token).status == 200
    assert events(site, mine["key"], token="nobody" * 8, headers=headers).status == 401


# -- the long-poll ---------------------------------------------------------------------------


def test_a_long_poll_returns_with_the_next_event(site: Site) -> None:
    board = site.new_board()
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        waiting = pool.submit(events, site, board["key"], "&after=1&wait_seconds=30")
        time.sleep(0.5)
        assert not waiting.done()
        site.new_card(board["id"])
        answer = waiting.result(60)
        assert time.monotonic() - began < 25
    assert [event["seq"] for event in answer.body["results"]] == [2]


def test_a_long_poll_in_which_nothing_happens_returns_empty_when_its_time_is_up(site: Site) -> None:
    board = site.new_board()
    began = time.monotonic()
    answer = events(site, board["key"], "&after=1&wait_seconds=1.2")
    assert answer.body == {"results": [], "next": None, "last_seq": 1}
    assert 1.1 < time.monotonic() - began < 25


def test_a_long_poll_with_news_does_not_wait(site: Site) -> None:
    board = site.new_board()
    began = time.monotonic()
    assert len(events(site, board["key"], "&wait_seconds=30").body["results"]) == 1
    assert time.monotonic() - began < 25


def test_whoever_waits_keeps_nobody_else_waiting(site: Site) -> None:
    board = site.new_board()
    with ThreadPoolExecutor(60) as pool:
        waiting = [
            pool.submit(events, site, board["key"], "&after=1&wait_seconds=30") for _ in range(60)
        ]
        time.sleep(1)
        began = time.monotonic()
        for _ in range(5):
            assert site.call("GET", f"/api/v1/boards/{board['key']}").status == 200
        assert time.monotonic() - began < 25
        site.new_card(board["id"])
        for answer in waiting:
            assert [event["seq"] for event in answer.result(60).body["results"]] == [2]


# -- the stream ------------------------------------------------------------------------------


def test_a_stream_replays_and_then_goes_on_live(site: Site) -> None:
    board = site.new_board()
    with streaming(site, board["key"], "&after=0") as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        (first,) = stream.wait_for(1)
        began = time.monotonic()
        site.new_card(board["id"])
        second = stream.wait_for(2)[1]
        assert time.monotonic() - began < 25
    assert first["id"] == "1"
    assert first["event"] == "board.created"
    assert second["id"] == "2"
    listed = events(site, board["key"]).body["results"]
    assert [json.loads(first["data"]), json.loads(second["data"])] == listed


def test_a_stream_goes_on_after_the_last_event_that_arrived(site: Site) -> None:
    board = site.new_board()
    for _ in range(3):
        site.new_card(board["id"])
    with streaming(site, board["key"], "&after=0", **{"Last-Event-ID": "2"}) as stream:
        assert [message["id"] for message in stream.wait_for(2)] == ["3", "4"]


def test_a_stream_without_a_cursor_begins_when_it_is_answered(site: Site) -> None:
    board = site.new_board()
    with streaming(site, board["key"]) as stream:
        site.new_card(board["id"])
        assert [message["id"] for message in stream.wait_for(1)] == ["2"]


def test_a_stream_that_can_not_go_on_says_so(site: Site) -> None:
    board = site.new_board()
    with streaming(site, board["key"], "&after=500") as stream:
        (message,) = stream.wait_for(1)
        assert message["event"] == "resync"
        assert json.loads(message["data"]) == {"type": "resync", "last_seq": 1}
        site.new_card(board["id"])
        assert stream.wait_for(2)[1]["id"] == "2"


def test_a_last_event_that_is_no_number_is_refused(site: Site) -> None:
    board = site.new_board()
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "x"}
    answer = events(site, board["key"], headers=headers)
    assert answer.status == 422
    assert "Last-Event-ID" in answer.body["errors"]


def test_a_stream_ends_when_its_token_is_revoked(site: Site) -> None:
    board = site.new_board()
    token = site.new_token(board["key"], "viewer")
    bearer = {"Authorization": f"Bearer {token['token']}"}
    with streaming(site, board["key"], "&after=0", **bearer) as stream:
        stream.wait_for(1)
        assert site.call("DELETE", f"/api/v1/tokens/{token['id']}").status == 204
        assert stream.ended.wait(60)


def test_a_signed_in_person_may_stream(site: Site) -> None:
    board = site.new_board()
    cookie = {"Authorization": "", "Cookie": site.cookie}
    with streaming(site, board["key"], "&after=0", **cookie) as stream:
        stream.wait_for(1)
        assert not stream.ended.wait(1.5)


def test_a_hundred_streams_keep_nobody_waiting(site: Site) -> None:
    board = site.new_board()
    with ExitStack() as stack:
        streams = [
            stack.enter_context(streaming(site, board["key"], "&after=0")) for _ in range(100)
        ]
        for stream in streams:
            stream.wait_for(1)
        began = time.monotonic()
        assert site.new_card(board["id"]).status == 201
        assert time.monotonic() - began < 25
        for stream in streams:
            assert [message["id"] for message in stream.wait_for(2)] == ["1", "2"]


async def test_a_quiet_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    from boards.api import events as door
    from boards.audience import Guest
    from kernel.access import SYSTEM
    from kernel.ids import uuid7

    class Quiet:
        async def batch(self) -> list[Any]:
            await asyncio.sleep(60)
            return []

        def close(self) -> None:
            self.closed = True

    quiet = Quiet()

    async def subscribe(*_: Any) -> Any:
        return quiet

    monkeypatch.setattr(door, "KEEP_ALIVE_SECONDS", 0.01)
    monkeypatch.setattr("events.tail.subscribe", subscribe)
    pieces = door.stream(Guest.of(SYSTEM, None, uuid7()), 0)
    assert await anext(pieces) == "retry: 2000\n\n"
    assert (await anext(pieces)).startswith(": ")
    assert (await anext(pieces)).startswith(": ")
    await pieces.aclose()
    assert quiet.closed
