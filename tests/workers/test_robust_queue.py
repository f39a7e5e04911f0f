from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.robust_queue import Flag, Lock, RobustQueue, robust_value

fork = multiprocessing.get_context("fork")


class Others:
    """Processes of this test, gone after it."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def start(self, call: Callable[..., object], *args: object) -> Any:
        process = fork.Process(target=call, args=args, daemon=True)
        process.start()
        self.started.append(process)
        return process

    def kill(self, process: Any) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()


@pytest.fixture
def others() -> Iterator[Others]:
    made = Others()
    yield made
    for process in made.started:
        if process.is_alive():
            made.kill(process)


def until(happened: Callable[[], object], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.01)


def hold(lock: Lock, held: Flag) -> None:
    with lock:
        held.set()
        time.sleep(60)


def test_a_lock_keeps_other_processes_out(others: Others) -> None:
    lock, held = Lock(), Flag()
    others.start(hold, lock, held)
    assert held.wait(60)
    assert not lock.acquire(block=False)
    assert not lock.acquire(timeout=0.05)


@pytest.mark.chaos
def test_a_lock_is_free_when_its_owner_was_killed(others: Others) -> None:
    lock, held = Lock(), Flag()
    owner = others.start(hold, lock, held)
    assert held.wait(60)
    others.kill(owner)
    assert lock.acquire(timeout=60)
    lock.release()


def test_a_lock_may_be_taken_again_by_its_owner(others: Others) -> None:
    lock, got = Lock(), Flag()
    with lock:
        with lock:
            pass
        others.start(lambda: lock.acquire() and got.set())
        assert not got.wait(0.2)
    assert got.wait(60)
    with pytest.raises(ValueError, match="does not hold"):
        lock.release()


def test_locks_do_not_get_in_each_other_s_way(others: Others) -> None:
    one, other, held = Lock(), Lock(), Flag()
    others.start(hold, one, held)
    assert held.wait(60)
    assert other.acquire(block=False)
    other.release()


@pytest.mark.chaos
def test_a_killed_reader_leaves_the_queue_to_the_others(others: Others) -> None:
    tasks: Any = RobustQueue()
    done: Any = RobustQueue()

    def work() -> None:
        for task in iter(tasks.get, "STOP"):
            done.put(task)

    for round_number in range(5):
        idle = others.start(work)  # waits, holding the read lock
        time.sleep(0.05)
        others.kill(idle)
        worker = others.start(work)
        tasks.put(round_number)
        assert done.get(timeout=60) == round_number
        others.kill(worker)


def test_a_queue_knows_whether_something_lies_in_it() -> None:
    queue: Any = RobustQueue()
    assert not queue.holds_messages()
    queue.put(1)
    until(queue.holds_messages)
    assert queue.get() == 1
    assert not queue.holds_messages()


@pytest.mark.chaos
def test_a_shared_number_outlives_who_was_changing_it(others: Others) -> None:
    number, held = robust_value("f", -1), Flag()

    def change() -> None:
        with number.get_lock():
            number.value = 5
            held.set()
            time.sleep(60)

    process = others.start(change)
    assert held.wait(60)
    others.kill(process)
    with number.get_lock():
        number.value -= 1
    assert number.value == 4


def test_a_flag_is_seen_by_other_processes(others: Others) -> None:
    go, seen = Flag(), Flag()
    others.start(lambda: go.wait() and seen.set())
    assert not seen.wait(0.1)
    go.set()
    assert seen.wait(60)
