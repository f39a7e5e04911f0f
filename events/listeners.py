"""Hears hints that other processes send: PostgreSQL's NOTIFY and, where it is set, Redis.

Both are ears only. While one is deaf the tail goes on by the clock; when it hears again,
everything counts as news, because what was said meanwhile is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
import redis.asyncio
import redis.exceptions
from django.conf import settings
from django.db import connection

from events import sources
from events.hints import REDIS_CHANNEL, parse
from events.log import CHANNEL

log = logging.getLogger(__name__)

#: Called with a board and the number its log has grown to, or with None: look everywhere.
Heard = Callable[[tuple[UUID, int] | None], None]
Ear = Callable[[Heard], Awaitable[None]]

QUIET_SECONDS = 15.0
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 4.0


def ears() -> list[tuple[str, Ear]]:
    """Return the ears that the settings call for, with their names."""
    wanted: list[tuple[str, Ear]] = []
    if connection.vendor == "postgresql":
        wanted.append(("PostgreSQL's notifications", _postgresql))
    if settings.REDIS_URL:
        wanted.append(("Redis", _redis))
    return wanted


async def listen(name: str, ear: Ear, heard: Heard) -> None:
    """Listen for ever, again after every failure."""
    pause, deaf = _FIRST_RETRY_SECONDS, False

    def hearing(hint: tuple[UUID, int] | None) -> None:
        nonlocal pause, deaf
        if deaf:
            log.info("%s can be heard again", name)
        pause, deaf = _FIRST_RETRY_SECONDS, False
        heard(hint)

    while True:
        try:
            await ear(hearing)
        except Exception as error:
            if not deaf:
                log.warning("%s can't be heard (%s); boards follow on the clock", name, error)
            deaf = True
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LAST_RETRY_SECONDS)


async def _postgresql(heard: Heard) -> None:
    async with await sources.connect() as listening:
        await listening.execute(f"LISTEN {CHANNEL}")
        heard(None)
        while True:
            async for notice in listening.notifies(timeout=QUIET_SECONDS):
                heard(parse(notice.payload))
            # Nothing for a while: silence and a dead connection sound the same.
            await asyncio.wait_for(_answers(listening), sources.PATIENCE_SECONDS)


async def _answers(listening: psycopg.AsyncConnection[object]) -> None:
    await listening.execute("SELECT 1")


async def _redis(heard: Heard) -> None:
    client = redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=QUIET_SECONDS
    )
    async with client, client.pubsub(ignore_subscribe_messages=True) as listening:
        await listening.subscribe(REDIS_CHANNEL)
        heard(None)
        while True:
            message = await listening.get_message(timeout=QUIET_SECONDS)
            if message is not None:
                heard(parse(message["data"].decode("ascii", "replace")))
