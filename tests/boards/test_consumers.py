"""The live board as a client sees it: real web processes, real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.serving import BULK, POSTGRESQL, Site, Web, until

on_postgresql = pytest.mark.parametrize("site", [POSTGRESQL], indirect=True)

#: Eight threads write to one board, each transaction two events, one in six rolled back.
WRITERS = """
import random, sys, threading, uuid, django
django.setup()
from django.db import connection, transaction
from events import log
board, writers, each = uuid.UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
kept = []
def write(me):
    dice = random.Random(me)
    for n in range(each):
        try:
            with transaction.atomic():
                for half in (0, 1):
                    log.record("card.moved", board_id=board, subject_id=board, actor=f"user:{me}",
                               n=n, half=half)
                if dice.random() < 1 / 6:
                    raise ZeroDivisionError
            kept.append(2)
        except ZeroDivisionError:
            pass
    connection.close()
threads = [threading.Thread(target=write, args=(me,)) for me in range(writers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(kept))
"""


@asynccontextmanager
async def follow(
    site: Site,
    board: str,
    after: int | None = None,
    *,
    token: str | None = None,
    web: Web | None = None,
    headers: dict[str, str] | None = None,
    slash: str = "",
    more: str = "",
) -> AsyncIterator[ClientConnection]:
    port = (web or site.web).port
    query = "" if after is None else f"?after={after}{more}"
    if headers is None:
        headers = {"Authorization": f"Bearer {token or site.token}"}
    async with connect(
        f"ws://127.0.0.1:{port}/ws/boards/{board}{slash}{query}",
        additional_headers=headers,
        proxy=None,
        ping_interval=None,  # a test may be slow to read
    ) as opened:
        yield opened


async def received(live: ClientConnection, count: int, seconds: float = 60) -> list[dict[str, Any]]:
    frames = []
    async with asyncio.timeout(seconds):
        while len(frames) < count:
            frames.append(json.loads(await live.recv()))
    return frames


async def closed(live: ClientConnection, seconds: float = 60) -> int:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await live.recv()
            except ConnectionClosed:
                return live.close_code or 0


async def silent(live: ClientConnection, seconds: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await live.recv()
    except TimeoutError:
        return True
    return False


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames]


# -- what comes ------------------------------------------------------------------------------


async def test_a_socket_replays_from_its_cursor_and_then_goes_on_live(site: Site) -> None:
    board = site.new_board()
    site.new_card(board["id"])
    async with follow(site, board["key"], after=0) as live:
        assert numbers(await received(live, 2)) == [1, 2]
        site.new_card(board["id"], "seen live")
        (event,) = await received(live, 1)
        assert event["seq"] == 3
        assert event["kind"] == "card.created"
        assert event["board"] == board["id"]
        assert event["data"]["title"] == "seen live"
        assert event["at"].endswith("Z")
        assert set(event) == {"seq", "at", "board", "kind", "actor", "subject", "data"}


async def test_a_page_may_have_many_events_in_a_frame(site: Site) -> None:
    board = site.new_board()
    for n in range(20):
        site.new_card(board["id"], f"card {n}")
    async with follow(site, board["key"], after=0, more="&many=1") as live:
        site.new_card(board["id"], "seen live")
        frames, seqs = 0, []
        while len(seqs) < 22:
            (events,) = await received(live, 1)
            assert isinstance(events, list)
            seqs += [event["seq"] for event in events]
            frames += 1
    assert seqs == list(range(1, 23))
    assert frames < 22


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", ["id", "key"])
async def test_a_board_goes_by_id_or_key(site: Site, name: str, slash: str) -> None:
    board = site.new_board()
    async with follow(site, board[name], after=0, slash=slash) as live:
        assert numbers(await received(live, 1)) == [1]


async def test_without_a_cursor_only_news_come(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"]) as live:
        assert await silent(live)
        site.new_card(board["id"])
        assert numbers(await received(live, 1)) == [2]


async def test_every_reader_gets_every_event_once_and_in_order_whatever_happens(site: Site) -> None:
    board = site.new_board()
    writing = site.python(WRITERS, board["id"], "8", "25")
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def steady(after: int) -> list[int]:
        """Follow from the beginning, without a break."""
        async with follow(site, board["key"], after) as live:
            return await upto_last(live)

    async def restless() -> list[int]:
        """Leave and come back with the cursor, again and again."""
        seen: list[int] = []
        while not last.done() or seen[-1:] != [last.result()]:
            async with follow(site, board["key"], seen[-1] if seen else 0) as live:
                ends, before = time.monotonic() + 0.15, len(seen)
                # Not without having got on, however slow the server is.
                while (time.monotonic() < ends or len(seen) == before) and not (
                    last.done() and seen[-1:] == [last.result()]
                ):
                    try:
                        async with asyncio.timeout(0.1):
                            seen.append(json.loads(await live.recv())["seq"])
                    except TimeoutError:
                        pass
        return seen

    async def upto_last(live: ClientConnection) -> list[int]:
        seen: list[int] = []
        while not last.done() or (seen[-1] if seen else 0) < last.result():
            try:
                async with asyncio.timeout(0.2):
                    seen.append(json.loads(await live.recv())["seq"])
            except TimeoutError:
                pass
        return seen

    readers = [asyncio.create_task(steady(0)) for _ in range(3)]
    readers.append(asyncio.create_task(restless()))
    await asyncio.sleep(1)
    late = asyncio.create_task(steady(0))
    out, _ = await asyncio.to_thread(writing.communicate)
    last.set_result(1 + int(out))
    expected = list(range(1, 2 + int(out)))
    async with asyncio.timeout(180):
        for reader in [*readers, late]:
            assert await reader == expected
    listed: list[int] = []
    while len(listed) < len(expected):
        after = listed[-1] if listed else 0
        page = site.call("GET", f"/api/v1/events?board={board['key']}&after={after}&limit=200")
        listed += numbers(page.body["results"])
    assert listed == expected


async def test_a_gap_too_long_to_replay_is_said_and_then_it_goes_on(site: Site) -> None:
    board = site.new_board()
    last = int(site.run(BULK, board["id"], 5001, 1))
    async with follow(site, board["key"], after=0) as live:
        assert await received(live, 1) == [{"type": "resync", "last_seq": last}]
        site.new_card(board["id"])
        assert numbers(await received(live, 1)) == [last + 1]
    async with follow(site, board["key"], after=last - 4999) as live:
        assert numbers(await received(live, 5000)) == list(range(last - 4998, last + 2))


async def test_a_cursor_from_before_a_restored_backup_is_told_to_start_afresh(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"], after=900) as live:
        assert await received(live, 1) == [{"type": "resync", "last_seq": 1}]


async def test_what_another_web_process_commits_is_seen_here(site: Site) -> None:
    board = site.new_board()
    here, there = site.web, site.serve()
    try:
        async with follow(site, board["key"], web=here) as live:
            began = time.monotonic()
            assert site.new_card(board["id"], web=there).status == 201
            assert numbers(await received(live, 1)) == [2]
            assert time.monotonic() - began < 30
    finally:
        there.stop()


async def test_after_a_kill_the_reader_goes_on_elsewhere_at_its_cursor(site: Site) -> None:
    board = site.new_board()
    doomed = site.serve()
    async with follow(site, board["key"], after=0, web=doomed) as live:
        assert numbers(await received(live, 1)) == [1]
        doomed.kill()
        assert await closed(live) == 1006
    site.new_card(board["id"])
    async with follow(site, board["key"], after=1) as live:
        assert numbers(await received(live, 1)) == [2]


# -- who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["x" * 45, "holdfast_" + "y" * 38])
async def test_a_token_that_opens_nothing_is_refused(site: Site, token: str) -> None:
    board = site.new_board()
    async with follow(site, board["key"], headers={"Authorization": f"Bearer {token}"}) as live:
        assert await closed(live) == 4401


async def test_nobody_from_our_own_page_is_refused_in_words_a_browser_can_read(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"], headers={"Origin": site.web.origin}) as live:
        assert await closed(live) == 4401


@pytest.mark.parametrize("name", ["NOPE", "x" * 300, "00000000-0000-7000-8000-000000000000", "%00"])
async def test_a_board_that_is_not_there_is_not_found(site: Site, name: str) -> None:
    async with follow(site, name) as live:
        assert await closed(live) == 4404


async def test_a_board_out_of_sight_is_not_found(site: Site) -> None:
    mine, other = site.new_board(), site.new_board()
    token = site.new_token(mine["key"], "viewer")["token"]
    async with follow(site, mine["key"], after=0, token=token) as live:
        assert numbers(await received(live, 1)) == [1]
    async with follow(site, other["key"], after=0, token=token) as live:
        assert await closed(live) == 4404


@pytest.mark.parametrize("after", ["x", "-1", "1e3", "9" * 30, "1.5", "٣"])
async def test_a_cursor_that_is_no_number_is_refused(site: Site, after: Any) -> None:
    board = site.new_board()
    async with follow(site, board["key"], after=after) as live:
        assert await closed(live) == 4400


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"]
)
async def test_a_session_is_good_only_from_our_own_pages(site: Site, origin: str | None) -> None:
    board = site.new_board()
    headers = {"Cookie": site.cookie, **({"Origin": origin} if origin else {})}
    with pytest.raises(InvalidStatus) as refused:
        async with follow(site, board["key"], headers=headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_signed_in_person_follows_from_our_own_page(site: Site) -> None:
    board = site.new_board()
    headers = {"Cookie": site.cookie, "Origin": site.web.origin}
    async with follow(site, board["key"], after=0, headers=headers) as live:
        assert numbers(await received(live, 1)) == [1]


async def test_an_address_without_a_socket_is_refused_quietly(site: Site) -> None:
    before = site.log.read_text().count("Traceback")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws://127.0.0.1:{site.web.port}/ws/nothing",
            additional_headers={"Authorization": f"Bearer {site.token}"},
            proxy=None,
        ):
            pass
    assert refused.value.response.status_code == 403
    assert site.log.read_text().count("Traceback") == before


async def test_a_revoked_token_is_shown_out_at_once(site: Site) -> None:
    board = site.new_board()
    token = site.new_token(board["key"])
    async with follow(site, board["key"], after=0, token=token["token"]) as live:
        await received(live, 1)
        assert site.call("DELETE", f"/api/v1/tokens/{token['id']}").status == 204
        began = time.monotonic()
        assert await closed(live) == 4401
        assert time.monotonic() - began < 30


async def test_whoever_loses_the_membership_is_shown_out(site: Site) -> None:
    board = site.new_board()
    token = site.new_token(board["key"])
    async with follow(site, board["key"], after=0, token=token["token"]) as live:
        await received(live, 1)
        site.run(
            "import sys, django; django.setup()\nfrom boards.models import Membership\n"
            "Membership.objects.filter(token=sys.argv[1]).delete()",
            token["id"],
        )
        assert await closed(live) == 4404


async def test_whoever_signs_out_is_shown_out(site: Site) -> None:
    board = site.new_board()
    cookie = site.run(SIGN_IN)
    headers = {"Cookie": cookie, "Origin": site.web.origin}
    async with follow(site, board["key"], after=0, headers=headers) as live:
        await received(live, 1)
        assert await silent(live, 1.5)
        site.run(
            "import sys, django; django.setup()\n"
            "from django.contrib.sessions.models import Session\n"
            "Session.objects.filter(pk=sys.argv[1].split('=')[1]).delete()",
            cookie,
        )
        assert await closed(live) == 4401


SIGN_IN = """
import django; django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model
user = get_user_model().objects.get(username="ada")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session["_auth_user_id"] = str(user.pk)
session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.create()
print(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")
"""


# -- bad company -----------------------------------------------------------------------------


async def test_what_a_client_sends_means_nothing(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"]) as live:
        for frame in ("{", b"\x00\xff", "x" * 1_000_000, json.dumps({"type": "websocket.close"})):
            await live.send(frame)
        site.new_card(board["id"])
        assert numbers(await received(live, 1)) == [2]


async def test_a_frame_past_a_mebibyte_ends_the_socket(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"]) as live:
        try:
            await live.send("x" * (1024 * 1024 + 1))
        except ConnectionClosed:
            pass
        assert await closed(live) in (1006, 1009)


@pytest.mark.chaos
async def test_a_client_that_does_not_read_is_shown_out_and_costs_little_memory(site: Site) -> None:
    board = site.new_board()
    web = site.serve()
    try:
        await asyncio.to_thread(site.run, BULK, board["id"], 10, 1)
        async with follow(site, board["key"], after=0, web=web) as reads:
            await received(reads, 11)
            before = memory(web.pid)
            stuck = handshake(web, site.token, board["key"])
            reading = asyncio.create_task(received(reads, 4000, seconds=300))
            for _ in range(4):
                await asyncio.to_thread(site.run, BULK, board["id"], 1000, 8000)
            assert numbers(await reading) == list(range(12, 4012))
            assert memory(web.pid) - before < 50
            with stuck:
                await asyncio.to_thread(until, lambda: not connected(web, stuck), 120)
            assert memory(web.pid) - before < 50
        async with follow(site, board["key"], after=3000, web=web) as back:
            assert numbers(await received(back, 1011)) == list(range(3001, 4012))
    finally:
        web.stop()


def handshake(web: Web, token: str, board: str) -> socket.socket:
    """Return a socket that is upgraded and never read from again."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", web.port))
    raw.sendall(
        f"GET /ws/boards/{board}?after=0 HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
        f"Authorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw


def connected(web: Web, raw: socket.socket) -> bool:
    """Whether the server still has its end of the connection."""
    mine = raw.getsockname()[1]
    for line in Path(f"/proc/{web.pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        inode = rest[5]
        if local.endswith(f":{web.port:04X}") and remote.endswith(f":{mine:04X}"):
            return state == "01" and inode != "0"
    return False


def memory(pid: int) -> float:
    """Return the resident set in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


# -- bad days --------------------------------------------------------------------------------


@on_postgresql
async def test_losing_every_database_connection_delays_and_loses_nothing(site: Site) -> None:
    board = site.new_board()
    async with follow(site, board["key"], after=0) as live:
        await received(live, 1)
        for seq in range(2, 5):
            with psycopg.connect(site.database_url, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            async with follow(site, board["key"], after=0) as newcomer:
                assert numbers(await received(newcomer, 1)) == [1]
            until(lambda: site.new_card(board["id"]).status == 201)
            assert numbers(await received(live, 1)) == [seq]
        await asyncio.sleep(1)
        waits = []
        for _ in range(6):
            site.new_card(board["id"])
            began = time.monotonic()
            await received(live, 1)
            waits.append(time.monotonic() - began)
        # On the clock, who begins as soon as the last has come waits two seconds.
        assert min(waits[1:]) < 1, waits


@on_postgresql
async def test_without_its_ear_the_tail_follows_on_the_clock(site: Site) -> None:
    """A NOTIFY that never comes costs two seconds, never an event."""
    board = site.new_board()
    async with follow(site, board["key"], after=0) as live:
        await received(live, 1)
        with psycopg.connect(site.database_url) as other:
            other.execute(
                "INSERT INTO events_event (board_id, seq, at, kind, actor, subject_id, data)"
                " VALUES (%(b)s, 2, now(), 'card.moved', 'user:ada', %(b)s, '{}')",
                {"b": board["id"]},
            )
        assert numbers(await received(live, 1)) == [2]


async def test_without_redis_the_api_works_and_the_board_is_at_most_a_little_late(
    site: Site,
) -> None:
    board = site.new_board()
    web = site.serve(REDIS_URL="redis://127.0.0.1:1/0")
    try:
        async with follow(site, board["key"], after=0, web=web) as live:
            assert numbers(await received(live, 1)) == [1]
            for seq in range(2, 12):
                began = time.monotonic()
                assert site.new_card(board["id"], web=web).status == 201
                assert time.monotonic() - began < 15
                assert numbers(await received(live, 1)) == [seq]
            assert site.new_card(board["id"]).status == 201  # committed by another process
            assert numbers(await received(live, 1)) == [12]
    finally:
        web.stop()


@pytest.mark.redis
async def test_with_redis_another_process_is_heard(site: Site) -> None:
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        pytest.skip("TEST_REDIS_URL is not set: no Redis to test on")
    board = site.new_board()
    here, there = site.serve(REDIS_URL=url), site.serve(REDIS_URL=url)
    try:
        async with follow(site, board["key"], after=0, web=here) as live:
            await received(live, 1)
            assert site.new_card(board["id"], web=there).status == 201
            assert numbers(await received(live, 1)) == [2]
    finally:
        here.stop()
        there.stop()
