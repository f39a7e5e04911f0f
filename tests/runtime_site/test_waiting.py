"""Long-polls on real web processes: what waits holds up nobody and hears of everything."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.serving import STORE, Site, Web, new_site


@pytest.fixture(scope="module", params=[STORE])
def site(request: Any) -> Iterator[Site]:
    with new_site(request.param) as site:
        site.serve()
        yield site


def test_news_from_another_process_ends_the_wait(site: Site) -> None:
    here, there = site.webs[0], site.serve()
    board = site.new_board()["key"]
    last = site.call("GET", f"/api/v1/events?board={board}").body["last_seq"]
    path = f"/api/v1/events?board={board}&after={last}&wait_seconds=30"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(site.call, "GET", path, web=here)
        time.sleep(0.5)
        began = time.monotonic()
        assert site.new_card(board, web=there).status == 201
        found = waiting.result().body["results"]
    assert time.monotonic() - began < 25
    assert found[0]["seq"] == last + 1


def test_while_the_store_is_locked_for_writing_it_can_be_read() -> None:
    with new_site("sqlite") as site:
        site.serve()
        board = site.new_board()["key"]
        store = sqlite3.connect(site.folder / "holdfast.sqlite3", isolation_level=None)
        with closing(store), ThreadPoolExecutor(8) as pool:
            store.execute("BEGIN IMMEDIATE")
            writes = [pool.submit(site.new_card, board, f"card {n}") for n in range(8)]
            time.sleep(0.5)
            began = time.monotonic()
            for _ in range(10):
                assert site.call("GET", f"/api/v1/boards/{board}").status == 200
            assert time.monotonic() - began < 10
            assert not any(write.done() for write in writes)
            store.execute("ROLLBACK")
            assert {write.result().status for write in writes} == {201}


def test_many_waiting_workers_hold_up_nobody_and_one_gets_the_card(site: Site) -> None:
    board = site.new_board()["key"]
    ask = {"boards": [board], "wait_seconds": 20}
    with ThreadPoolExecutor(20) as pool:
        waiting = [
            pool.submit(
                site.call, "POST", "/api/v1/claims", {**ask, "worker": f"w{n}", "wait_seconds": 20}
            )
            for n in range(20)
        ]
        time.sleep(1)
        began = time.monotonic()
        assert site.call("GET", "/api/v1/boards").status == 200
        assert time.monotonic() - began < 15
        columns = site.call("GET", f"/api/v1/boards/{board}").body["columns"]
        running = next(column["id"] for column in columns if column["kind"] == "in_progress")
        card = site.new_card(board).body["key"]
        assert site.call("POST", f"/api/v1/cards/{card}/move", {"column": running}).status == 200
        answers = [future.result() for future in waiting]
    assert sorted(answer.status for answer in answers) == [201] + [204] * 19


@pytest.mark.acceptance
def test_hundreds_of_waiting_workers_of_two_processes_share_the_cards_that_suit_them() -> None:
    """Each card goes to exactly one who can take it, and the store is not asked for the others."""
    with new_site("sqlite") as site:
        webs = [site.serve(), site.serve()]
        board = site.new_board()["key"]
        asyncio.run(_share(site, webs, board))


async def _share(site: Site, webs: list[Web], board: str) -> None:
    wants = {"boards": [board], "wait_seconds": 60}
    unable = [
        asyncio.create_task(_claim(site, webs[n % 2], {**wants, "worker": f"docs-{n}"}))
        for n in range(280)
    ]
    able = [
        asyncio.create_task(
            _claim(site, webs[n % 2], {**wants, "worker": f"py-{n}", "capabilities": ["python"]})
        )
        for n in range(20)
    ]
    await asyncio.sleep(5)
    threads = [len(list(Path(f"/proc/{web.pid}/task").iterdir())) for web in webs]
    assert max(threads) < 40, "who waits holds no thread"
    before = site.call("GET", f"/api/v1/events?board={board}").body["last_seq"]
    for n in range(10):
        card = {"board": board, "title": f"{n}", "column": "in_progress", "requires": ["python"]}
        made = await asyncio.to_thread(site.call, "POST", "/api/v1/cards", card)
        assert made.status == 201
    done: set[Any] = set()
    ends = time.monotonic() + 40
    while len(done) < 10 and time.monotonic() < ends:
        done, _ = await asyncio.wait(able, timeout=0.2)
    await asyncio.sleep(1)
    done, waiting = await asyncio.wait([*able, *unable], timeout=0)
    won = [task.result() for task in done]
    assert [status for status, _ in won] == [201] * 10
    assert len({body["card"]["key"] for _, body in won}) == 10
    assert {body["attempt"]["worker"][:3] for _, body in won} == {"py-"}
    # Ten cards made and claimed, and nothing else happened.
    after = site.call("GET", f"/api/v1/events?board={board}&after={before}").body["results"]
    assert [e["kind"] for e in after].count("card.claimed") == 10
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _claim(site: Site, web: Web, body: dict[str, Any]) -> tuple[int, Any]:
    sent = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    try:
        head = (
            "POST /api/v1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Authorization: Bearer {site.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(sent)}\r\n\r\n"
        )
        writer.write(head.encode() + sent)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, rest = answer.decode().partition("\r\n\r\n")
    return int(head.split(" ", 2)[1]), json.loads(rest) if rest else None
