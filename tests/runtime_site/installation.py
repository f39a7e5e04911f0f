"""The real command on a folder and a port of its own, watched through /proc."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests import ports, schema

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
_OURS = ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "HOST", "DEBUG", "SECRET_KEY", "WORKERS")


def until(happened: Callable[[], T], seconds: float = 60.0) -> T:
    """Return the first true result. Raises AssertionError when there is none in time."""
    ends = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < ends, f"not within {seconds} s: {happened}"
        time.sleep(0.03)
    return result


class Installation:
    """A data folder with a port, and whatever runs on it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = ports.free()
        self.log = folder.parent / f"{folder.name}.log"
        self._environment = environment
        self._started: list[subprocess.Popen[bytes]] = []
        self._said_before = 0

    # -- starting ------------------------------------------------------------------------------

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start ``manage.py runtime`` in a session of its own."""
        plain = {name: value for name, value in os.environ.items() if name not in _OURS}
        environment = {
            **plain,
            "DATA_DIR": str(self.folder),
            "PORT": str(self.port),
            "DEMO": "0",
            **self._environment,
            **extra,
        }
        self._said_before = len(self.said())
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "runtime", *arguments],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def fail(self, *arguments: str, **extra: str) -> tuple[int, str]:
        """Start what can't start; return its exit status and what it said."""
        before = len(self.said())
        process = self.start(*arguments, **extra)
        status = process.wait(START_SECONDS)
        return status, self.said()[before:]

    def started(self, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start it and return once it is ready, on a store that has its schema."""
        store = self.folder / "holdfast.sqlite3"
        if not {**self._environment, **extra}.get("DATABASE_URL") and not store.exists():
            schema.copy_to(store)
        process = self.start(*arguments, **extra)
        self.until_ready(process)
        return process

    def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        def ready() -> bool:
            assert process.poll() is None, self.said()
            return self.get("/readyz")[0] == 200

        until(ready, START_SECONDS)

    # -- looking -------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of a GET, (0, None) when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as got:
                return got.status, json.loads(got.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None
        except (OSError, ValueError):
            return 0, None

    def said(self) -> str:
        """Return everything that was written to the terminal."""
        return self.log.read_text() if self.log.exists() else ""

    def link(self) -> str:
        """Return the path of the sign-in link that the newest start shows."""
        found = re.compile(r"(/accounts/enter/\S+)\s")
        return until(lambda: found.findall(self.said()[self._said_before :]))[-1]

    def processes(self) -> dict[int, str]:
        """Return this installation's processes and what they are."""
        mark = f"DATA_DIR={self.folder}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark not in (entry / "environ").read_bytes().split(b"\0"):
                        continue
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                except (OSError, ValueError):
                    continue
                if words != [""]:  # not a zombie
                    found[int(entry.name)] = _role(words)
        return found

    def pids(self, role: str) -> list[int]:
        """Return the processes of a part, its oldest (the leader) first."""
        return sorted((p for p, r in self.processes().items() if r == role), key=_started_at)

    def pool(self) -> dict[str, int]:
        """Return the newest cluster's members by what the log says they are."""
        alive = self.processes()
        found: dict[str, int] = {}
        for words, name in (
            (r"ready for work at (\d+)", "worker"),
            (r"monitoring at (\d+)", "monitor"),
            (r"pushing tasks at (\d+)", "pusher"),
        ):
            living = [int(pid) for pid in re.findall(words, self.said()) if int(pid) in alive]
            if living:
                found[name] = living[-1]
        leaders = self.pids("workers")
        sentinels = [pid for pid in leaders if _parent(pid) in leaders and _has_children(pid)]
        if sentinels:
            found["sentinel"] = sentinels[0]
        return found

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill whatever is left, so that a failed test leaves nothing."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@contextmanager
def installation(folder: Path, **environment: str) -> Iterator[Installation]:
    """A new installation, gone afterwards."""
    made = Installation(folder, **environment)
    try:
        yield made
    finally:
        made.close()


def _role(words: list[str]) -> str:
    if "runtime_site.supervisor" in words:
        return "supervisor"
    names = [word for word in words if word in ("web", "workers", "sweep", "runtime")]
    return names[0] if names else "other"


def _parent(pid: int) -> int:
    return _stat(pid, 1)


def _started_at(pid: int) -> tuple[int, int]:
    """Return what orders processes by age: the ids begin anew when they have run out."""
    return _stat(pid, 19), pid


def _stat(pid: int, field: int) -> int:
    """Return a number that /proc/PID/stat has after the name; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field])
    except (OSError, IndexError):
        return 0


def _has_children(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return False
