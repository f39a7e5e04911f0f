"""django-q's cluster, hardened: it may be killed piece by piece and goes on or starts anew.

```
workers (this)  ── sentinel ─┬─ pusher    takes nudges from the table
                             ├─ worker …  WORKERS of them, one nudge each
                             └─ monitor   deletes the nudges that are done
```

What was changed, and why: every lock they share is dropped by the kernel with its owner
(``robust_queue``); no process outlives its parent (``procs``); a nudge is taken only when a
worker is idle, so none waits behind a command that runs for hours; and this process watches:
when nudges lie untouched although a worker idles, it ends the whole and is started again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from datetime import timedelta
from multiprocessing.sharedctypes import RawArray
from typing import Any

import django_q.cluster
from django.conf import settings
from django.db import DatabaseError, connections
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signals import post_execute_in_worker, post_spawn

from workers import hosts, presence, procs, pulses, registry, stopping, tasks
from workers.qbroker import WakingBroker
from workers.robust_queue import Flag, Lock, RobustQueue, robust_value

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
BEAT_SECONDS = 10.0
#: How long nudges may lie beside an idle worker before the cluster counts as stalled.
STALL_SECONDS = 30.0


class Places:
    """Who works in this cluster and who is idle, in memory that all its processes share.

    A place is a process id and whether it is busy; the place of a dead process is free.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pids = RawArray("q", count)
        self._busy = RawArray("b", count)
        self._lock = Lock()
        self._mine = -1

    def enter(self) -> None:
        """Take a place for this process. With none left it works without one."""
        with self._lock:
            for place, pid in enumerate(self._pids):
                if not pid or not procs.is_alive(pid):
                    self._busy[place] = 0
                    self._pids[place] = os.getpid()
                    self._mine = place
                    return

    def mark(self, busy: bool) -> None:
        """Say whether this process is busy."""
        if self._mine >= 0:
            self._busy[self._mine] = busy

    def counted(self) -> tuple[int, int]:
        """Return how many are idle and how many busy."""
        alive = [self._busy[n] for n, pid in enumerate(self._pids) if pid and procs.is_alive(pid)]
        busy = sum(map(bool, alive))
        return len(alive) - busy, busy

    def alive(self) -> list[int]:
        """Return the process ids of those that live."""
        return [pid for pid in self._pids if pid and procs.is_alive(pid)]


class TaskQueue(RobustQueue):
    """The queue from pusher to workers; taking from it makes a worker busy."""

    places: Places | None = None

    def get(self, *args: Any, **kwargs: Any) -> Any:
        task = super().get(*args, **kwargs)
        if self.places is not None:
            self.places.mark(True)
        return task

    def is_clear(self) -> bool:
        """Whether everything that this process put in was taken out."""
        return not self._buffer and not self.holds_messages()


class Watchdog:
    """Finds a cluster that looks alive and moves nothing."""

    def __init__(self, places: Places, tasks: TaskQueue) -> None:
        self._places, self._tasks = places, tasks
        self._since: float | None = None

    def stalled(self, now: float) -> bool:
        """Whether work has lain beside an idle worker, at each look, for STALL_SECONDS."""
        if not self._lies_beside_an_idle_worker():
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= STALL_SECONDS

    def _lies_beside_an_idle_worker(self) -> bool:
        idle, _ = self._places.counted()
        if not idle or not hosts.quietly_open():
            return False
        if self._tasks.holds_messages():
            return True
        due = timezone.now() - timedelta(seconds=STALL_SECONDS)
        lying = OrmQ.objects.filter(key=settings.Q_CLUSTER["name"], lock__lte=due)
        return bool(lying.exists())


class _Cluster(django_q.cluster.Cluster):  # type: ignore[misc]
    """Stops within seconds: busy workers are asked to hand over, not waited for."""

    def sig_handler(self, *args: Any) -> None:
        stopping.ask()
        super().sig_handler(*args)


def run() -> int:
    """Run the cluster until SIGTERM or SIGINT and return the exit status for this process."""
    places = Places(4 * settings.Q_CLUSTER["workers"] + 4)
    queue = _harden(places)
    connections.close_all()
    cluster = _Cluster()
    cluster.start()
    name = f"workers:{socket.gethostname()}:{os.getpid()}"
    _quietly(hosts.seen)
    try:
        return _watch(cluster, places, Watchdog(places, queue), name)
    finally:
        _quietly(pulses.forget, name)


def _harden(places: Places) -> TaskQueue:
    """Replace, in this process and so in its forks, what a killed process would leave locked."""
    os.register_at_fork(after_in_child=procs.die_with_parent)
    # The sentinel makes its task queue first. Both are made here, so that this process can
    # look into the one; their limit is ``has_room``.
    queue = TaskQueue()
    queue.places = places
    made = iter([queue, RobustQueue()])
    module: Any = django_q.cluster
    module.Queue = lambda *_, **__: next(made)
    module.Event = Flag
    module.Value = robust_value
    WakingBroker.has_room = staticmethod(
        lambda: queue.is_clear() and places.counted()[0] > 0 and hosts.quietly_open()
    )
    post_spawn.connect(lambda **_: _enter(places), weak=False)
    post_execute_in_worker.connect(lambda **_: places.mark(False), weak=False)
    return queue


def _enter(places: Places) -> None:
    """Let this process be known as a worker, then let it be counted on."""
    _quietly(tasks.show_up)
    places.enter()


def _watch(cluster: Any, places: Places, watchdog: Watchdog, name: str) -> int:
    beat_at = 0.0
    while cluster.sentinel.is_alive():
        now = time.monotonic()
        idle, busy = places.counted()
        due = now >= beat_at and idle + busy
        if due and _quietly(pulses.beat, name, pid=os.getpid(), idle=idle, busy=busy):
            beat_at = now + BEAT_SECONDS
            _quietly(registry.still_here, [presence.named(pid) for pid in places.alive()])
        try:
            stalled = watchdog.stalled(now)
        except DatabaseError:
            stalled = False
        finally:
            connections.close_all()
        if stalled:
            log.critical("nudges lie beside idle workers; ending this cluster to start it anew")
            os.kill(cluster.sentinel.pid, signal.SIGKILL)
            return 1
        # Short while it starts, so that a first beat comes early.
        cluster.sentinel.join(LOOK_SECONDS if beat_at else 0.1)
    if cluster.stop_event is None:
        return 0
    log.error("the sentinel died; ending this cluster to start it anew")
    return 1


def _quietly(call: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        call(*args, **kwargs)
    except DatabaseError as error:
        log.warning("the store does not answer: %s", str(error).strip().partition("\n")[0])
        return False
    finally:
        connections.close_all()
    return True
