"""Long-polls on real web processes: what waits holds up nobody and hears of everything."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.serving import STORE, Site, new_site


@pytest.fixture(scope="module", params=[STORE])
def site(request: Any) -> Iterator[Site]:
    with new_site(request.param) as site:
        site.serve()
        yield site


def test_news_from_another_process_ends_the_wait(site: Site) -> None:
    here, there = site.webs[0], site.serve()
    board = site.new_board()["key"]
    last = site.call("GET", f"/api/v1/events?board={board}").body["last_seq"]
    path = f"/api/v1/events?board={board}&after={last}&wait_seconds=20"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(site.call, "GET", path, web=here)
        time.sleep(0.5)
        began = time.monotonic()
        assert site.new_card(board, web=there).status == 201
        found = waiting.result().body["results"]
    assert time.monotonic() - began < 2.5
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
            assert time.monotonic() - began < 2
            assert not any(write.done() for write in writes)
            store.execute("ROLLBACK")
            assert {write.result().status for write in writes} == {201}


def test_many_waiting_workers_hold_up_nobody_and_one_gets_the_card(site: Site) -> None:
    board = site.new_board()["key"]
    ask = {"boards": [board], "wait_seconds": 20}
    with ThreadPoolExecutor(20) as pool:
        waiting = [
            pool.submit(
                site.call, "POST", "/api/v1/claims", {**ask, "worker": f"w{n}", "wait_seconds": 6}
            )
            for n in range(20)
        ]
        time.sleep(1)
        began = time.monotonic()
        assert site.call("GET", "/api/v1/boards").status == 200
        assert time.monotonic() - began < 1
        columns = site.call("GET", f"/api/v1/boards/{board}").body["columns"]
        running = next(column["id"] for column in columns if column["kind"] == "in_progress")
        card = site.new_card(board).body["key"]
        assert site.call("POST", f"/api/v1/cards/{card}/move", {"column": running}).status == 200
        answers = [future.result() for future in waiting]
    assert sorted(answer.status for answer in answers) == [201] + [204] * 19
