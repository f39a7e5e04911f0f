"""What the cluster is given to do in tests. Each says in a file what it did."""

from __future__ import annotations

import os
import time
from pathlib import Path

from workers import stopping


def say(file: str, word: str) -> None:
    """Append a line, whole."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word} {os.getpid()}\n".encode())
    os.close(fd)


def hold(file: str, until: str) -> None:
    """Run until a file appears or the workers are asked to stop."""
    say(file, "began")
    while not Path(until).exists():
        if stopping.asked():
            say(file, "asked")
            return
        time.sleep(0.02)
    say(file, "ended")
