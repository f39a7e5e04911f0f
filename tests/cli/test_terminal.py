"""The command line on terminals of all kinds, in pipes, and interrupted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from holdfast.cli.exits import Exit
from holdfast.cli.printing import clean
from tests import serving
from tests.serving import until


class Terminal:
    """A process on a pseudo-terminal of so many columns and rows."""

    def __init__(self, environment: dict[str, str], words: list[str], columns: int, rows: int):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            env={**os.environ, "PYTHONPATH": str(serving.ROOT), "TERM": "xterm", **environment},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        os.set_blocking(self.leader, False)
        self.seen = b""

    def read(self) -> str:
        """Return everything that was written so far."""
        with contextlib.suppress(OSError):
            while chunk := os.read(self.leader, 65536):
                self.seen += chunk
        return self.seen.decode("utf-8", "replace")

    def finish(self) -> str:
        """Return everything, once the process is over."""
        ends = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < ends
            self.read()
            time.sleep(0.02)
        return self.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.leader)


@contextlib.contextmanager
def terminal(
    desk, *words: str, columns: int = 80, rows: int = 24, **told: str
) -> Iterator[Terminal]:
    plain = {"LANG": "C.UTF-8", "COLUMNS": "", "LINES": "", "NO_COLOR": ""}
    opened = Terminal({**plain, **desk.environment, **told}, list(words), columns, rows)
    try:
        yield opened
    finally:
        opened.close()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("columns", [30, 44, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_key_is_cut(desk, columns):
    keys = [desk.card("A title of quite some length, " * 3) for _ in range(2)]
    with terminal(desk, "board", columns=columns, rows=50) as screen:
        lines = plain(screen.finish()).splitlines()
    assert screen.process.returncode == 0
    assert max(len(line) for line in lines) <= columns
    for key in keys:
        assert any(key in line for line in lines)
    # Folded, not cut.
    words = "".join("".join(line.split()) for line in lines)
    assert "quite" in words


def test_colours_are_for_terminals_that_want_them(desk):
    desk.card()
    with terminal(desk, "card", "list") as screen:
        assert "\x1b[33m" in screen.finish()
    with terminal(desk, "card", "list", NO_COLOR="1") as screen:
        assert "\x1b[33m" not in screen.finish()
    assert b"\x1b" not in desk.real("card", "list").stdout


def test_nothing_from_the_server_steers_a_terminal(desk):
    desk.card("Fix\x1b]0;owned\x07 \x1b[2J\x9b31m [red]it[/red]")
    with terminal(desk, "card", "list", NO_COLOR="1", columns=200) as screen:
        shown = screen.finish()
    assert "[red]it[/red]" in shown
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown


def test_clean_leaves_text_and_takes_what_steers():
    assert clean("größer\n\ta 日本 👍") == "größer\n\ta 日本 👍"
    assert clean("a\x1b[31mb\x1b[0mc\x1b]8;;http://x\x1b\\d\x1b]0;t\x07e\x1bcf") == "abcdef"
    assert clean("\x9b31mx\x9d0;t\x9cy\x90q\x9cz") == "xyz"
    assert clean("a\r\nb\rc\x00\x08\x7f\u202egnp\u2066\ud800") == "a\nbcgnp"
    assert clean("a\x1b[999") == "a"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_has_no_unicode_gets_what_it_can_show(desk, encoding):
    desk.card("größer 日本 …")
    for words in (("card", "list"), ("board",), ("doctor",)):
        ran = desk.real(*words, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in ran.stderr
        assert ran.returncode in (0, 1)
    with terminal(desk, "board", PYTHONIOENCODING=encoding) as screen:
        assert "Traceback" not in screen.finish()
    assert screen.process.returncode == 0


def test_a_reader_that_has_had_enough_is_no_error(desk):
    desk.card()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        for words in (("card", "list", "--json"), ("board",)):
            ran = subprocess.run(
                [sys.executable, "-m", "holdfast", *words],
                env={**os.environ, "PYTHONPATH": str(serving.ROOT), **desk.environment},
                stdout=gone,
                stderr=subprocess.PIPE,
                timeout=60,
            )
            assert (ran.returncode, ran.stderr) == (Exit.BROKEN_PIPE, b""), words


def test_ctrl_c_ends_without_a_traceback(desk):
    with terminal(desk, "watch") as screen:
        until(lambda: "No card runs" in screen.read())
        screen.process.send_signal(signal.SIGINT)
        assert "Traceback" not in screen.finish()
    assert screen.process.returncode == Exit.INTERRUPTED


def test_a_live_board_shows_what_happens(desk):
    with terminal(desk, "watch", columns=100, rows=40) as screen:
        until(lambda: "No card runs" in screen.read())
        card = desk.card("Watch me")
        told = desk.claimed("--card", card, "--worker", "ada")
        desk("step", "begin", "pack", **told)
        until(lambda: re.search(rf"{card} +ada +pack +\d+ s", plain(screen.read())))
        desk("complete", "Done.", **told)
        until(lambda: "card.completed" in plain(screen.read()))
        until(lambda: "1 completed" in plain(screen.read()))
        screen.process.send_signal(signal.SIGTERM)
        screen.finish()
    assert screen.process.returncode == Exit.TERMINATED
