"""Whether the workers of this cluster were asked to stop: one flag for all its processes.

django-q lets a busy worker finish its task, which may be a command of six hours. So whoever
works looks here, several times a second, and hands its card over.
"""

from __future__ import annotations

from workers.robust_queue import Flag

# In shared memory, made before the cluster forks.
_flag = Flag()


def ask() -> None:
    """Ask every worker of the cluster to hand over what it holds and stop."""
    _flag.set()


def asked() -> bool:
    """Return whether the workers were asked to stop."""
    return _flag.is_set()
