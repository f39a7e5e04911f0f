"""What a session holds, noted between its hooks in a file that only the user can read.

One file per session, below the user's state folder; it names attempts, and never a token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: two hooks at once may cost a heartbeat
    fcntl = None  # type: ignore[assignment]

KEPT_SECONDS = 7 * 24 * 3600
WAIT_SECONDS = 2.0


@dataclass(slots=True)
class Held:
    """An attempt that the session holds, as far as is known here."""

    card: str = ""
    lease_seconds: int = 60
    beat_at: float = 0.0  # when the server last heard of it
    saved_at: float = 0.0  # its last checkpoint, or when the agent was reminded of one
    asked: bool = False  # the agent was asked to end it, once
    seen_message: int = 0
    noticed: int = 0  # notices passed on
    fresh: bool = False  # a checkpoint of the agent's own is the last that was done
    words: str = ""  # the agent's last ones, when it last stopped
    pending: list[str] = field(default_factory=list)  # news that nobody could be told yet


@dataclass(slots=True)
class Notes:
    """The attempts of one session, by id."""

    held: dict[str, Held] = field(default_factory=dict)


def folder() -> Path:
    """Return the folder of the notes, made for the user alone."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home())
    else:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base) / "holdfast" / "hooks"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def opened(cli: str, session: str) -> Iterator[Notes]:
    """Give the session's notes, alone, and keep what was changed. Raises TimeoutError."""
    name = hashlib.sha256(f"{cli}:{session}".encode()).hexdigest()[:32]
    path = folder() / f"{name}.json"
    with _alone(path.with_suffix(".lock")):
        before = _read(path)
        notes = Notes({key: Held(**asdict(held)) for key, held in before.held.items()})
        try:
            yield notes
        finally:
            if notes != before:
                _write(path, notes)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        ends = time.monotonic() + WAIT_SECONDS
        while fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise TimeoutError("another hook of this session is still at it") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> Notes:
    """Return the notes in the file; none where it is missing or spoilt."""
    try:
        told = json.loads(path.read_bytes())
        return Notes({str(key): Held(**held) for key, held in told["held"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Notes()


def _write(path: Path, notes: Notes) -> None:
    if not notes.held:
        path.unlink(missing_ok=True)
        _tidy(path.parent)
        return
    # mkstemp: mode 0600 from the beginning, and never half a file under the name.
    descriptor, made = tempfile.mkstemp(dir=path.parent, suffix=".new")
    with open(descriptor, "w") as file:
        json.dump({"held": {key: asdict(held) for key, held in notes.held.items()}}, file)
    os.replace(made, path)


def _tidy(among: Path) -> None:
    """Drop what sessions left that ended long ago, or unheard."""
    horizon = time.time() - KEPT_SECONDS
    for path in among.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < horizon:
                path.unlink()


def note(text: Any) -> None:
    """Say something short where a person may look for it; agents do not read it."""
    print(f"holdfast hook: {str(text)[:300]}", file=sys.stderr)  # noqa: T201
