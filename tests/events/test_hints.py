from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db import transaction

from events import hints, log

Heard = list[tuple[UUID, int]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard: Heard = []

    def listener(board_id: UUID, seq: int) -> None:
        heard.append((board_id, seq))

    hints.listen(listener)
    yield heard
    hints.unlisten(listener)


def move(board_id: UUID) -> int:
    return log.record("card.moved", board_id=board_id, subject_id=board_id, actor="user:ada")


@pytest.mark.django_db(transaction=True)
def test_a_commit_is_announced_after_it_can_be_read(heard: Heard) -> None:
    board_id = uuid4()
    with transaction.atomic():
        seq = move(board_id)
        assert not heard
    assert heard == [(board_id, seq)]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_announced(heard: Heard) -> None:
    with transaction.atomic():
        move(uuid4())
        transaction.set_rollback(True)
    assert not heard


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_speaks_for_nobody(heard: Heard) -> None:
    child = os.fork()
    if child == 0:
        os._exit(len(hints._listeners))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hints._listeners


def test_an_absent_redis_costs_the_caller_nothing(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    board_id, herald = uuid4(), hints._Herald()
    began = time.monotonic()
    for seq in range(1000):
        herald.tell(board_id, seq)
    assert time.monotonic() - began < 20
    assert len(herald._news) <= 1


@pytest.mark.redis
def test_redis_carries_the_newest_number_of_each_board(settings: Any) -> None:
    settings.REDIS_URL = os.environ.get("TEST_REDIS_URL", "")
    if not settings.REDIS_URL:
        pytest.skip("TEST_REDIS_URL is not set: no Redis to test on")
    board_id, herald = uuid4(), hints._Herald()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        with client.pubsub(ignore_subscribe_messages=True) as ear:
            ear.subscribe(hints.REDIS_CHANNEL)
            ear.get_message(timeout=30)
            for seq in range(1, 4):
                herald.tell(board_id, seq)
            said: set[tuple[UUID, int] | None] = set()
            ends = time.monotonic() + 60
            while (board_id, 3) not in said and time.monotonic() < ends:
                if message := ear.get_message(timeout=0.5):
                    said.add(hints.parse(message["data"].decode()))
            assert (board_id, 3) in said
