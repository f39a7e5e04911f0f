"""What agents say while they work, whatever their make. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from workers.executors.contract import Line, Usage


class Kind(Enum):
    SESSION = "session"  # it named its session, in ``id``
    SAID = "said"  # words of the model, in ``text``
    CALLED = "called"  # a tool, ``name``, was called; ``text`` says with what
    RETURNED = "returned"  # what the tool call ``id`` brought, in ``text``
    SPENT = "spent"  # ``usage``, on top of what was spent before
    TOTAL = "total"  # ``usage`` of the whole session so far
    TROUBLE = "trouble"  # something went wrong, in ``text``; the agent may try again by itself
    OVER = "over"  # its last word: well if ``ok``, with ``text``
    OTHER = "other"  # anything else: nobody here needs it


@dataclass(frozen=True, slots=True)
class Event:
    """One thing an agent said. ``id`` ties the end of a tool call to its beginning."""

    kind: Kind
    id: str = ""
    name: str = ""
    text: str = ""
    ok: bool = True
    usage: Usage | None = None


OTHER = Event(Kind.OTHER)


class Parser(Protocol):
    """Understands one run of an agent. It keeps the state that this takes."""

    def feed(self, line: str) -> Iterable[Event]:
        """Return what a line of the agent's output says; a line it doesn't know is OTHER."""
        ...

    def end(self, exit_code: int | None) -> Iterable[Event]:
        """Return what the end of the output says by itself."""
        ...


class Talker(Parser, Protocol):
    """A parser that answers the agent."""

    def opening(self) -> str:
        """Return the first that the agent reads."""
        ...

    def answer_by(self, line: Line) -> None:
        """Use this line for answers."""
        ...


def field(value: Any, *path: str | int) -> Any:
    """Return what stands at the path in decoded JSON, or None if anything on the way lacks."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def number(value: Any) -> int:
    """Return the amount, 0 for what is none."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return max(0, int(value)) if real and value == value and abs(value) < 1e15 else 0


def money(value: Any) -> str:
    """Return an amount in dollars as a decimal number with six places at most."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.6f}" if real and 0 <= value < 1e6 else "0"


def words(value: Any) -> str:
    """Return the text in a message's content, whatever its form."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(words, value)))
    if isinstance(value, dict):
        for name in ("text", "content", "output", "message"):
            if value.get(name):
                return words(value[name])
    return ""


#: What a tool call is mostly about, in the order of preference.
_ABOUT = ("command", "cmd", "file_path", "filePath", "path", "pattern", "query", "url", "key",
          "title", "summary", "description", "prompt")  # fmt: skip


def about(arguments: Any) -> str:
    """Return in a line what a tool is called with."""
    if isinstance(arguments, dict):
        for name in _ABOUT:
            value = arguments.get(name)
            if isinstance(value, list):
                value = " ".join(map(str, value))
            if isinstance(value, str) and value.strip():
                return " ".join(value.split())[:200]
        return " ".join(map(str, arguments))[:200]
    return " ".join(str(arguments or "").split())[:200]
