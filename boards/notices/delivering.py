"""Sends what waits, in threads beside the sweep: other people's servers may take their time."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection
from django.utils import timezone

from boards.notices import letters
from events import webhooks

log = logging.getLogger(__name__)

#: How many webhooks are served at once; letters have a thread of their own.
AT_ONCE = 4
PRUNE_EVERY_SECONDS = 3600.0


class Deliverer:
    """One process's sending; ``tick`` starts what is due and returns at once."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._hooks: dict[UUID, Future[Any]] = {}
        self._letters: Future[Any] | None = None
        self._lock = threading.Lock()
        self._pruned_at = float("-inf")

    def tick(self) -> None:
        """Start sending to every webhook and person that something is due for."""
        now = timezone.now()
        hooks = webhooks.due(now)
        mail = letters.is_set_up() and letters.due(now).exists()
        with self._lock:
            self._hooks = {pk: f for pk, f in self._hooks.items() if not f.done()}
            for pk in hooks:
                if pk not in self._hooks:
                    self._hooks[pk] = self._start(webhooks.deliver, pk)
            if mail and (self._letters is None or self._letters.done()):
                self._letters = self._start(letters.deliver)
        if time.monotonic() - self._pruned_at > PRUNE_EVERY_SECONDS:
            self._pruned_at = time.monotonic()
            webhooks.prune(now)

    def _start(self, work: Any, *args: Any) -> Future[Any]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE + 1, thread_name_prefix="deliver")
        return self._pool.submit(_quietly, work, *args)


def _quietly(work: Any, *args: Any) -> None:
    try:
        work(*args)
    except DatabaseError as error:
        log.warning("the store does not answer: %s", str(error).strip().partition("\n")[0])
    except Exception:
        log.exception("a delivery failed")
    finally:
        connection.close()
