"""How a subscription stays whole, against a source that does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from events import sources, tail
from events.entries import Row, event_json
from events.hints import parse, spell
from events.tail import Resync, Subscription, Tail

BOARD = UUID("6d693053-4125-47f2-b40a-40e48901d0df")
T0 = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def row(seq: int, board_id: UUID = BOARD) -> Row:
    return Row(board_id, seq, T0, "card.moved", "user:ada", uuid4(), {"n": seq})


class Scripted:
    """A source in memory that can be slow, fail and forget."""

    guesses = False

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.seen = -1
        self.opened = 0
        self.fails: Exception | None = None
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def commit(self, count: int = 1) -> None:
        last = self.rows[-1].seq if self.rows else 0
        self.rows += [row(last + n) for n in range(1, count + 1)]

    async def open(self) -> None:
        self._maybe_fail()
        self.opened += 1
        self.seen = -1

    async def close(self) -> None: ...

    async def stirred(self) -> bool:
        self._maybe_fail()
        stirred, self.seen = len(self.rows) != self.seen, len(self.rows)
        return stirred

    async def newest(self, board_id: UUID) -> int:
        self._maybe_fail()
        return max((r.seq for r in self.rows if r.board_id == board_id), default=0)

    async def read(self, board_id: UUID, after: int, limit: int) -> list[Row]:
        self._maybe_fail()
        self.reads += 1
        await self.gate.wait()
        found = [r for r in self.rows if r.board_id == board_id and r.seq > after]
        return found[:limit]

    def pause(self, **_: bool) -> float:
        return 0.001

    def _maybe_fail(self) -> None:
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr(sources, "source", lambda: scripted)
    monkeypatch.setattr("events.listeners.ears", lambda: [])
    return scripted


@pytest.fixture
async def running(source: Scripted) -> AsyncIterator[Tail]:
    started = Tail()
    started.start()
    yield started
    await started.stop()


async def collect(subscription: Subscription, last: int) -> list[int]:
    got: list[int] = []
    while not got or got[-1] < last:
        async with asyncio.timeout(60):
            got += [entry.seq for entry in await subscription.batch()]
    return got


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_subscription_replays_from_its_cursor_and_then_goes_on_live(
    running: Tail, source: Scripted
) -> None:
    source.commit(10)
    subscription = await running.subscribe(BOARD, 4)
    source.commit(3)
    assert await collect(subscription, 13) == list(range(5, 14))
    source.commit()
    assert await collect(subscription, 14) == [14]


async def test_without_a_cursor_only_what_is_recorded_from_now_on_comes(
    running: Tail, source: Scripted
) -> None:
    source.commit(10)
    subscription = await running.subscribe(BOARD)
    source.commit(2)
    assert await collect(subscription, 12) == [11, 12]


async def test_what_is_recorded_while_the_replay_is_read_comes_once(
    running: Tail, source: Scripted
) -> None:
    source.commit(5)
    early = await running.subscribe(BOARD)
    source.commit(700)
    await settle()
    late = asyncio.create_task(collect(await running.subscribe(BOARD, 0), 805))
    source.gate.clear()
    await settle()
    source.commit(100)
    source.gate.set()
    assert await late == list(range(1, 806))
    assert await collect(early, 805) == list(range(6, 806))


async def test_what_was_there_before_a_reader_came_is_no_news_to_it(
    running: Tail, source: Scripted
) -> None:
    early = await running.subscribe(BOARD)
    source.gate.clear()
    source.commit(3)
    await settle()
    late = await running.subscribe(BOARD)
    source.gate.set()
    assert await collect(early, 3) == [1, 2, 3]
    source.commit()
    assert await collect(late, 4) == [4]


async def test_a_hole_in_the_log_is_never_passed_over(running: Tail, source: Scripted) -> None:
    source.commit(2)
    subscription = await running.subscribe(BOARD)
    source.rows.append(row(4))
    with pytest.raises(Resync, match="4"):
        await subscription.batch()


async def test_a_reader_that_does_not_read_holds_little_and_misses_nothing(
    running: Tail, source: Scripted
) -> None:
    subscription = await running.subscribe(BOARD, 0)
    for _ in range(40):
        source.commit(100)
        await settle()
    assert sum(map(len, subscription._waiting)) <= tail.MAX_WAITING
    assert await collect(subscription, 4000) == list(range(1, 4001))


async def test_a_cursor_too_far_back_starts_afresh_and_goes_on(
    running: Tail, source: Scripted
) -> None:
    source.commit(tail.MAX_REPLAY + 1)
    subscription = await running.subscribe(BOARD, 0)
    with pytest.raises(Resync) as resync:
        await subscription.batch()
    assert json.loads(resync.value.text) == {"type": "resync", "last_seq": tail.MAX_REPLAY + 1}
    source.commit()
    assert await collect(subscription, tail.MAX_REPLAY + 2) == [tail.MAX_REPLAY + 2]


async def test_the_longest_gap_that_is_replayed_is_replayed_whole(
    running: Tail, source: Scripted
) -> None:
    source.commit(tail.MAX_REPLAY)
    subscription = await running.subscribe(BOARD, 0)
    assert await collect(subscription, tail.MAX_REPLAY) == list(range(1, tail.MAX_REPLAY + 1))


async def test_a_cursor_from_the_future_starts_afresh(running: Tail, source: Scripted) -> None:
    source.commit(3)
    subscription = await running.subscribe(BOARD, 7)
    with pytest.raises(Resync, match="3"):
        await subscription.batch()
    source.commit()
    assert await collect(subscription, 4) == [4]


async def test_pruned_events_start_afresh(running: Tail, source: Scripted) -> None:
    source.commit(10)
    del source.rows[:5]
    watching = await running.subscribe(BOARD)
    source.commit()
    await collect(watching, 11)
    subscription = await running.subscribe(BOARD, 2)
    with pytest.raises(Resync, match="11"):
        await subscription.batch()


async def test_a_store_that_goes_away_delays_and_loses_nothing(
    running: Tail, source: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    source.commit(2)
    subscription = await running.subscribe(BOARD, 0)
    assert await collect(subscription, 2) == [1, 2]
    source.fails = OSError("gone")
    source.commit(3)
    await settle()
    late = asyncio.create_task(running.subscribe(BOARD, 1))
    await asyncio.sleep(0.3)
    assert running.is_running
    assert not late.done()
    source.fails = None
    assert await collect(subscription, 5) == [3, 4, 5]
    assert await collect(await late, 5) == [2, 3, 4, 5]
    assert source.opened >= 2
    outage = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(outage) == 1


async def test_one_board_is_not_told_of_another(running: Tail, source: Scripted) -> None:
    other = uuid4()
    here, there = await running.subscribe(BOARD), await running.subscribe(other)
    source.rows += [row(1, other), row(1), row(2)]
    assert await collect(here, 2) == [1, 2]
    assert await collect(there, 1) == [1]


async def test_the_last_to_leave_a_board_ends_its_feed(running: Tail, source: Scripted) -> None:
    first, second = await running.subscribe(BOARD), await running.subscribe(BOARD)
    first.close()
    assert BOARD in running._feeds
    second.close()
    second.close()
    assert not running._feeds
    await settle()
    reads = source.reads
    source.commit(5)
    await settle()
    assert source.reads == reads


async def test_an_event_is_encoded_once_for_all_its_readers(
    running: Tail, source: Scripted
) -> None:
    readers = [await running.subscribe(BOARD) for _ in range(3)]
    source.commit()
    texts = [(await reader.batch())[0].text for reader in readers]
    assert texts[0] is texts[1] is texts[2]


async def test_whoever_waits_for_any_change_is_told(
    running: Tail, source: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_watchers", [])
    told = asyncio.Event()
    tail.watch(told.set, lambda: True)
    tail.watch(told.set, lambda: True)
    await settle()
    told.clear()
    await settle()
    assert not told.is_set()
    source.commit()
    await asyncio.wait_for(told.wait(), 60)


def test_an_event_looks_the_same_everywhere() -> None:
    subject = uuid4()
    fact: Any = Row(BOARD, 7, T0, "card.moved", "user:ada", subject, {"to": "Review"})
    assert event_json(fact) == {
        "seq": 7,
        "at": "2026-01-01T12:00:00.250000Z",
        "board": str(BOARD),
        "kind": "card.moved",
        "actor": "user:ada",
        "subject": str(subject),
        "data": {"to": "Review"},
    }


@pytest.mark.parametrize("text", ["", "x", f"{BOARD}", f"{BOARD}:", f"{BOARD}:x", "x:1"])
def test_a_hint_that_is_none_of_ours_is_none(text: str) -> None:
    assert parse(text) is None
    assert parse(spell(BOARD, 3)) == (BOARD, 3)
