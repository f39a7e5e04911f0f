"""Queues, locks and flags between processes that survive ``kill -9`` of who uses them.

The standard ones rest on semaphores, which nobody releases for a process that was killed: an
idle worker of django-q holds its queue's read lock, so killing it wedged the whole cluster in
half of our trials, with everything looking alive (django-q2 issue 23). These rest on record
locks, which the kernel drops with their owner, and on plain shared memory.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import multiprocessing
import os
import tempfile
import time
from contextlib import AbstractContextManager
from multiprocessing.sharedctypes import RawValue
from types import TracebackType
from typing import Any, cast

from django_q.queues import Queue

# One unlinked file holds every lock, one byte each. A record lock belongs to a process, so the
# inherited descriptor serves all of them; it is never closed, for closing would drop the locks.
_file, _path = tempfile.mkstemp(prefix="holdfast-locks-")
os.unlink(_path)
_bytes = itertools.count()


class Lock(AbstractContextManager[bool]):
    """A lock between processes, free again when its owner dies.

    The owning process may take it again (it counts); its threads are not kept apart.
    Made before the fork of the processes that share it.
    """

    def __init__(self) -> None:
        self._byte = next(_bytes)
        self._held = (0, 0)  # by which process, how often

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        me = os.getpid()
        owner, count = self._held
        if owner == me and count:
            self._held = (me, count + 1)
            return True
        ends = None if timeout is None else time.monotonic() + timeout
        while not self._take(wait=block and ends is None):
            if not block or (ends is not None and time.monotonic() >= ends):
                return False
            time.sleep(0.01)
        self._held = (me, 1)
        return True

    def release(self) -> None:
        owner, count = self._held
        if owner != os.getpid() or not count:
            raise ValueError("released a lock that this process does not hold")
        self._held = (owner, count - 1)
        if count == 1:
            fcntl.lockf(_file, fcntl.LOCK_UN, 1, self._byte)

    def _take(self, *, wait: bool) -> bool:
        try:
            fcntl.lockf(_file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, self._byte)
        except OSError as error:
            # The kernel suspects deadlocks per process, not per thread, and may be wrong.
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Flag:
    """A ``multiprocessing.Event`` that is set once and takes no lock."""

    _LOOK_SECONDS = 0.2

    def __init__(self) -> None:
        self._raised = RawValue("b", 0)

    def set(self) -> None:
        self._raised.value = 1

    def is_set(self) -> bool:
        return bool(self._raised.value)

    def wait(self, timeout: float | None = None) -> bool:
        ends = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = self._LOOK_SECONDS if ends is None else ends - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, self._LOOK_SECONDS))
        return True


class _Count:
    """A queue's size for the statistics: it may be off by one, it never blocks."""

    def __init__(self) -> None:
        self._raw = RawValue("i", 0)

    def increment(self, n: int = 1) -> None:
        self._raw.value += n

    @property
    def value(self) -> int:
        return max(0, int(self._raw.value))


class RobustQueue(Queue):  # type: ignore[misc]
    """django-q's queue with locks that a killed reader or writer gives back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rlock = Lock()
        self._wlock = Lock()
        self.size = _Count()

    def holds_messages(self) -> bool:
        """Whether something lies in the queue that nobody has taken."""
        return bool(self._reader.poll(0))


def robust_value(typecode: str, initial: float) -> Any:
    """Return a shared number like ``multiprocessing.Value``, under a lock as above."""
    return multiprocessing.Value(typecode, initial, lock=cast(Any, Lock()))
