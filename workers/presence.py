"""Which built-in workers of this data folder live, known to the kernel rather than to a clock.

Each worker process holds a lock on a file named for it. A process that is killed drops the
lock with everything else, so the sweep can end its leases at once instead of waiting for
them to lapse: a card goes on seconds after ``kill -9``. Workers of other hosts have no file
in this folder, and where the folder is shared, the lock is too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from boards import leases
from boards.models import Attempt
from workers import hosts, registry

_mine: tuple[int, str, int] | None = None  # process id, name, descriptor of the lock


def enter() -> str:
    """Return this process's worker name, from now on marked as alive."""
    global _mine
    if _mine is None or _mine[0] != os.getpid():
        name = f"{named(os.getpid())}{secrets.token_hex(2)}"
        descriptor = os.open(_folder() / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _mine = (os.getpid(), name, descriptor)
    return _mine[1]


def named(pid: int) -> str:
    """Return how the name of a worker that is this process of this host begins."""
    return f"builtin-{hosts.here()}-{pid}-"


def expire_attempts_of_the_dead() -> int:
    """End the attempts of workers that were killed; return how many. Safe to run anywhere.

    Being wrong would cost a retry and nothing else: ownership is decided by the attempt's row.
    """
    expired = 0
    for path in _dead():
        attempts = Attempt.objects.live().filter(worker=path.name, token=None)
        for attempt_id in attempts.values_list("pk", flat=True):
            expired += leases.expire(attempt_id, actor="system:sweep")
        registry.forget_idle(path.name)
        # Last: should this process be killed before, the next pass does it again.
        path.unlink(missing_ok=True)
    return expired


def _dead() -> Iterator[Path]:
    for path in sorted(_folder().iterdir()):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                # For the dead, free again before its attempts end: nobody enters by that name.
                os.close(descriptor)
            yield path


def _folder() -> Path:
    folder = Path(settings.DATA_DIR) / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
