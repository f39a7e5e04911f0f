"""A child process that works until it is killed with SIGKILL, at a random moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from django.db import connection


def say(told: Path, *words: object) -> None:
    """Write down what is done: from now on it must not be lost."""
    with told.open("a") as out:
        out.write(" ".join(map(str, words)) + "\n")
        out.flush()
        os.fsync(out.fileno())


def paced(work: Callable[[], None], quick_seconds: float) -> float:
    """Do the work; return how many times slower it was than a quick machine at rest is."""
    began = time.monotonic()
    work()
    return max(1.0, (time.monotonic() - began) / quick_seconds)


def killed(work: Callable[[], None], told: Path, rng: random.Random, *, pace: float = 1.0) -> None:
    """Let a child work for a moment and kill it, mostly with the git that it runs.

    ``pace`` is how many times slower this machine is than a quick one at rest, see ``paced``.
    """
    connection.close()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(told.with_name("errors"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    time.sleep(rng.uniform(0.1, 4) * pace)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    running = children.read_text().split() if children.exists() else []
    os.kill(pid, signal.SIGKILL)
    if rng.random() < 0.7:
        for git in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(git), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    errors = told.with_name("errors").read_text()
    assert os.WIFSIGNALED(status), errors
    assert os.WTERMSIG(status) == signal.SIGKILL
