"""Running a command for an attempt: its output passed on, kept, and logged to the card."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from holdfast import Attempt
from holdfast.cli.held import told
from holdfast.cli.printing import note
from holdfast.errors import Error, LeaseLost, Unreachable
from holdfast.texts import sayable

#: What of a command's output is kept as its result, and what of it an error quotes.
KEPT_BYTES = 128 * 1024
QUOTED_CHARS = 4_000
LOG_EVERY_SECONDS = 0.5
#: One call's worth, and what waits for a server that is away before some is left out.
LOG_CHARS = 100_000
PENDING_CHARS = 1_000_000
TERM_SECONDS = 10.0
#: For output of what a command left running behind it.
DRAIN_SECONDS = 1.0
LAST_LOG_SECONDS = 5.0
LOOK_SECONDS = 0.2
CANNOT_RUN = 127


@dataclass(frozen=True)
class Outcome:
    """How a command ended; ``stopped`` says why it was made to, if it was."""

    status: int
    stdout: bytes
    cut: bool
    quoted: str
    stopped: str = ""


class Guard:
    """Kills a command's group when this process is gone without having dismissed the guard.

    A killed worker can't end its command any more, and the next one may run it meanwhile.
    """

    def __init__(self, group: int) -> None:
        # In a session of its own: what kills our group must not kill the guard.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r over || kill -9 -{group}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        self._process.communicate(b"\n")


class Tail:
    """The last bytes of a stream."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self.cut = False

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._chunks and self._size - len(self._chunks[0]) >= self._most:
            self._size -= len(self._chunks.popleft())
            self.cut = True

    def bytes(self) -> bytes:
        whole = b"".join(self._chunks)
        if len(whole) > self._most:
            self.cut = True
        return whole[-self._most :]


class Journal:
    """Sends output to the card's log, some of it at a time, from a thread of its own.

    A server that is away does not hold the command up: what waits too long is left out.
    """

    def __init__(self, attempt: Attempt, step: str | None) -> None:
        self._attempt, self._step = attempt, step
        self._lock = threading.Lock()
        self._pending: deque[tuple[str, str]] = deque()
        self._size = 0
        self._left_out = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, name="holdfast-log", daemon=True)
        self._thread.start()

    def add(self, stream: str, text: str) -> None:
        with self._lock:
            self._pending.append((stream, text))
            self._size += len(text)
            while self._size > PENDING_CHARS and len(self._pending) > 1:
                _, lost = self._pending.popleft()
                self._size -= len(lost)
                self._left_out += len(lost)

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._over.set()
        self._thread.join(LAST_LOG_SECONDS)

    def _go(self) -> None:
        while True:
            over = self._over.wait(LOG_EVERY_SECONDS)
            try:
                while batch := self._batch():
                    self._send(*batch)
            except LeaseLost:
                return  # the attempt knows
            except Unreachable:
                pass  # it stays pending
            except Error as error:
                note(f"the output is not logged: {error}")
                return
            if over:
                return

    def _batch(self) -> tuple[str, str, int] | None:
        """Return stream, text and number of the next entries of one stream."""
        with self._lock:
            if not self._pending:
                return None
            stream, size = self._pending[0][0], 0
            parts: list[str] = []
            for name, text in self._pending:
                if name != stream or (parts and size + len(text) > LOG_CHARS):
                    break
                parts.append(text)
                size += len(text)
            text = "".join(parts)
            if self._left_out:
                text = f"[{self._left_out} characters left out]\n{text}"
            return stream, text, len(parts)

    def _send(self, stream: str, text: str, count: int) -> None:
        with self._lock:
            first, left_out = self._pending[0], self._left_out
        told(
            self._attempt,
            "/log",
            patience=0,
            text=sayable(text),
            stream=stream,
            step=self._step,
        )
        with self._lock:
            # Unless entries were left out meanwhile, those sent are still the first.
            if self._pending and self._pending[0] is first:
                for _ in range(count):
                    _, sent = self._pending.popleft()
                    self._size -= len(sent)
            self._left_out -= left_out


def run(
    command: Sequence[str],
    attempt: Attempt,
    *,
    step: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    stop_for: Callable[[], str],
) -> Outcome:
    """Run ``command`` to its end, or until ``stop_for`` gives a reason; return how it ended.

    It gets ``stdin``, or our own standard input. When this is left in any other way, even by
    SIGKILL, the command and whatever it started in its group are gone.
    """
    try:
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **(environment or {})},
            stdin=None if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Outcome(CANNOT_RUN, b"", False, f"{command[0]} can't be run: {why}.")
    guard = Guard(process.pid)
    kept, quoted = Tail(KEPT_BYTES), Tail(QUOTED_CHARS)
    journal = Journal(attempt, step)
    pumps = [
        threading.Thread(target=_pump, args=arguments, daemon=True)
        for arguments in (
            (process.stdout, sys.stdout, "stdout", journal, (kept, quoted)),
            (process.stderr, sys.stderr, "stderr", journal, (quoted,)),
        )
    ]
    if stdin is not None:
        feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
        feeder.start()
    for pump in pumps:
        pump.start()
    stopped = ""
    try:
        while process.poll() is None:
            if stopped := stop_for():
                _end(process)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
    except BaseException:
        _end(process)
        raise
    finally:
        for pump in pumps:
            pump.join(DRAIN_SECONDS)
        guard.dismiss()
        journal.close()
    words = quoted.bytes().decode("utf-8", "replace").strip()
    out = kept.bytes()
    return Outcome(process.returncode, out, kept.cut, words, stopped)


def _pump(
    source: IO[bytes], target: Any, name: str, journal: Journal, tails: Sequence[Tail]
) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    passing = True
    with source:
        while chunk := os.read(source.fileno(), 65536):
            for tail in tails:
                tail.add(chunk)
            if text := decoder.decode(chunk):
                journal.add(name, text)
            if passing:
                try:
                    target.buffer.write(chunk)
                    target.flush()
                except (OSError, ValueError):
                    passing = False  # nobody reads on; the work goes on


def _feed(target: IO[bytes], text: str) -> None:
    with contextlib.suppress(OSError, ValueError), target:
        target.write(text.encode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and its group: asked first, then made to."""
    _signal(process, signal.SIGTERM)
    ends = time.monotonic() + TERM_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def ended_with(status: int) -> str:
    """Return how a command ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
