"""Wake-ups after a commit: at once to this process, through Redis to the others.

A hint may be lost, late or doubled and costs nothing but time: whoever is woken reads the
log, and looks on a clock as well. So nothing here waits, and nothing here fails.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from uuid import UUID

import redis
from django.conf import settings

log = logging.getLogger(__name__)

#: Redis channel that carries the same ``<board id>:<seq>`` as PostgreSQL's.
REDIS_CHANNEL = "holdfast:events"
_REDIS_PATIENCE_SECONDS = 1.0
_REDIS_RETRY_SECONDS = 2.0

Listener = Callable[[UUID, int], None]

_listeners: set[Listener] = set()


def listen(listener: Listener) -> None:
    """Have ``listener(board_id, seq)`` called, from any thread, after each commit here."""
    _listeners.add(listener)


def unlisten(listener: Listener) -> None:
    """Stop calling ``listener``."""
    _listeners.discard(listener)


def announce(board_id: UUID, seq: int) -> None:
    """Tell whoever follows that the board's log has grown to ``seq``. Called after commit."""
    for listener in tuple(_listeners):
        listener(board_id, seq)
    if settings.REDIS_URL:
        _herald.tell(board_id, seq)


def spell(board_id: UUID, seq: int) -> str:
    """Return a hint as it travels."""
    return f"{board_id}:{seq}"


def parse(text: str) -> tuple[UUID, int] | None:
    """Return what a hint says, or None if it is none of ours."""
    board, _, seq = text.partition(":")
    try:
        return UUID(board), int(seq)
    except ValueError:
        return None


class _Herald:
    """Publishes from a thread of its own, so that a slow or absent Redis delays nobody.

    Only the newest number of each board is kept for it, so an outage can't fill the memory.
    """

    def __init__(self) -> None:
        self._news: dict[UUID, int] = {}
        self._some = threading.Condition()
        self._thread: threading.Thread | None = None

    def tell(self, board_id: UUID, seq: int) -> None:
        with self._some:
            self._news[board_id] = seq
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()
            self._some.notify()

    def _run(self) -> None:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_REDIS_PATIENCE_SECONDS,
            socket_connect_timeout=_REDIS_PATIENCE_SECONDS,
        )
        away = False
        while True:
            with self._some:
                self._some.wait_for(lambda: bool(self._news))
                news, self._news = self._news, {}
            try:
                for board_id, seq in news.items():
                    client.publish(REDIS_CHANNEL, spell(board_id, seq))
            except (redis.RedisError, OSError) as error:
                if not away:
                    log.warning("Redis is away (%s); boards follow on the clock", error)
                away = True
                time.sleep(_REDIS_RETRY_SECONDS)
            else:
                if away:
                    log.info("Redis is back")
                away = False


_herald = _Herald()


def _forget_parent() -> None:
    """In a forked child neither the parent's event loop nor its threads exist."""
    global _herald
    _listeners.clear()
    _herald = _Herald()


os.register_at_fork(after_in_child=_forget_parent)
