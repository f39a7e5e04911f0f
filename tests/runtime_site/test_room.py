"""The room where long-polls wait: who is called for what, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest

from runtime_site import waiting

LOOKS: list[dict[object, int]] = []
#: What there is: the skills that a card takes, by its name.
CARDS: dict[str, set[str]] = {}
NEWS: list[int] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    for kept in (LOOKS, CARDS, NEWS):
        kept.clear()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Skills:
    """Waits for a card that takes no other skills."""

    skills: frozenset[str]
    shared: ClassVar[bool] = False

    @staticmethod
    def look(wants: Mapping[Skills, int]) -> dict[Skills, list[str]]:
        LOOKS.append(dict(wants))
        return {
            want: [name for name, takes in CARDS.items() if takes <= want.skills] for want in wants
        }


@dataclass(frozen=True)
class News:
    """Waits for anything."""

    shared: ClassVar[bool] = True

    @staticmethod
    def look(wants: Mapping[News, int]) -> dict[News, list[int]]:
        LOOKS.append(dict(wants))
        return dict.fromkeys(wants, NEWS)


class Worker:
    """Waits for one card as a parked request does, and says what it got."""

    def __init__(self, *skills: str, seconds: float = 60) -> None:
        self.asked = 0
        self.got: str | None = None
        self.work = asyncio.ensure_future(self._wait(frozenset(skills), seconds))

    async def _wait(self, skills: frozenset[str], seconds: float) -> None:
        ends = asyncio.get_running_loop().time() + seconds
        mark = waiting.mark()
        with waiting.guest(Skills(skills)) as guest:
            while await guest.called(mark, ends - asyncio.get_running_loop().time()):
                mark = waiting.mark()
                self.asked += 1
                await asyncio.sleep(0.05)  # as long as a claim takes
                self.got = next((n for n, takes in CARDS.items() if takes <= skills), None)
                if self.got is not None:
                    del CARDS[self.got]
                    waiting.announce()
                    return


async def _done(*workers: Worker) -> None:
    await asyncio.wait_for(asyncio.gather(*(w.work for w in workers)), 60)


async def _stop(*workers: Worker) -> None:
    for worker in workers:
        worker.work.cancel()
    await asyncio.gather(*(w.work for w in workers), return_exceptions=True)
    assert not waiting.anybody_waits()


def _put(name: str, *takes: str) -> None:
    CARDS[name] = set(takes)
    waiting.announce()


async def test_a_card_calls_one_of_five_hundred_and_that_is_who_came_first() -> None:
    workers = [Worker() for _ in range(500)]
    await asyncio.sleep(0.1)
    for n in range(10):
        _put(f"card {n}")
        await _done(workers[n])
    assert [w.got for w in workers[:11]] == [*(f"card {n}" for n in range(10)), None]
    assert sum(w.asked for w in workers) == 10
    assert all(len(look) == 1 for look in LOOKS), "what all want is looked for once"
    await _stop(*workers[10:])


async def test_many_cards_at_once_call_as_many() -> None:
    workers = [Worker() for _ in range(50)]
    await asyncio.sleep(0.1)
    for n in range(30):
        CARDS[f"card {n}"] = set()
    waiting.announce()
    await _done(*workers[:30])
    assert sum(w.asked for w in workers) == 30
    await _stop(*workers[30:])


async def test_who_could_not_take_the_card_is_not_called_for_it() -> None:
    others = [Worker("docs") for _ in range(100)]
    able = Worker("docs", "python")
    await asyncio.sleep(0.1)
    _put("needs python", "python")
    await _done(able)
    assert able.got == "needs python"
    assert not any(w.asked for w in others)
    await _stop(*others)


async def test_who_waits_longest_is_called_first_whatever_else_others_want() -> None:
    first, second = Worker("python"), Worker()
    await asyncio.sleep(0.1)
    _put("for anybody")
    await _done(first)
    assert (first.got, second.asked) == ("for anybody", 0)
    _put("another")
    await _done(second)


async def test_who_leaves_when_called_leaves_the_card_to_the_next() -> None:
    leaves, stays = Worker(), Worker()
    await asyncio.sleep(0.1)
    _put("a card")
    while not leaves.asked:
        await asyncio.sleep(0.001)
    leaves.work.cancel()
    await _done(stays)
    assert stays.got == "a card"


async def test_who_comes_too_late_keeps_its_place() -> None:
    first, second = Worker(), Worker()
    await asyncio.sleep(0.1)
    _put("taken elsewhere")
    while not first.asked:
        await asyncio.sleep(0.001)
    CARDS.clear()
    await asyncio.sleep(0.3)
    assert (first.got, second.asked) == (None, 0)
    _put("the next")
    await _done(first)
    assert first.got == "the next"
    await _stop(second)


async def test_a_card_that_nobody_can_be_given_is_not_asked_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "COOL_SECONDS", 0.5)

    async def refused() -> int:
        asked = 0
        with waiting.guest(Skills(frozenset())) as guest:
            while await guest.called(waiting.mark(), 60):
                asked += 1
                if asked == 3:
                    return asked
        return asked

    CARDS["locked"] = set()
    waiting.announce()
    began = asyncio.get_running_loop().time()
    assert await refused() == 3
    assert asyncio.get_running_loop().time() - began > 0.9


async def test_what_was_committed_while_it_asked_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "LOOK_ANYWAY_SECONDS", 600)  # not by the clock
    mark = waiting.mark()
    CARDS["just now"] = set()
    waiting.announce()  # nobody waits yet
    with waiting.guest(Skills(frozenset())) as guest:
        assert await guest.called(mark, 60)


async def test_what_becomes_possible_by_time_alone_is_found() -> None:
    worker = Worker()
    await asyncio.sleep(0.05)
    CARDS["backed off"] = set()  # and nobody announces it
    await _done(worker)
    assert worker.got == "backed off"


async def test_news_are_told_to_all() -> None:
    async def follow() -> bool:
        with waiting.guest(News()) as guest:
            return await guest.called(waiting.mark(), 60)

    following = [asyncio.ensure_future(follow()) for _ in range(50)]
    await asyncio.sleep(0.05)
    NEWS.append(1)
    waiting.announce()
    assert all(await asyncio.gather(*following))


async def test_time_being_over_asks_nobody() -> None:
    worker = Worker(seconds=0.2)
    await _done(worker)
    assert (worker.asked, worker.got) == (0, None)


async def test_a_look_that_fails_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(wants: Mapping[Skills, int]) -> dict[Skills, list[str]]:
        monkeypatch.undo()
        raise OSError("the store is away")

    monkeypatch.setattr(Skills, "look", staticmethod(broken))
    worker = Worker()
    await asyncio.sleep(0.05)
    _put("a card")
    await _done(worker)
    assert worker.got == "a card"


async def test_while_nobody_waits_nobody_looks() -> None:
    await _stop(Worker())
    await asyncio.sleep(0.1)
    LOOKS.clear()
    waiting.announce()
    await asyncio.sleep(0.1)
    assert LOOKS == []
