"""What an agent is told. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

_HOUSE = """\
You work alone: nobody answers questions or permits anything. Work in the current folder, which
is yours; commit if you like, never push, and leave nothing running when you end. What you did is
checked afterwards by running it, so check it yourself first. End with a short summary of what you
did and what you found."""

_RUNTIME = """\
The MCP server `holdfast` keeps what outlives you: pass attempt_id {attempt}. Record decisions,
discoveries and checkpoints that somebody without your memory would need. If a person must decide
something, say so with block_card and end. The card is already yours: there is nothing to claim."""

_INTERRUPTED = """\
You were interrupted: the program that ran you was ended. The files are as they were at the last
checkpoint, which may be older than your last edit: look before you rely on one."""


def first(briefing: str, task: str, *, attempt: str, connected: bool, feedback: str = "") -> str:
    """Return what an agent without a memory of the card is told."""
    parts = [
        briefing.strip(),
        f"# What you are to do\n\n{task.strip()}",
        _house(attempt, connected),
    ]
    if feedback:
        parts.append(_found_wanting(feedback))
    return "\n\n".join(parts) + "\n"


def again(
    task: str,
    *,
    attempt: str,
    connected: bool,
    checkpoint: str,
    interrupted: Sequence[str] | None,
    feedback: str = "",
    news: str = "",
) -> str:
    """Return what an agent is told whose session goes on.

    ``interrupted`` names what was under way when it was; None if its last run ended by itself.
    """
    parts = []
    if feedback:
        parts.append(_found_wanting(feedback))
    if interrupted is not None:
        told = _INTERRUPTED
        if checkpoint:
            told += f"\nThe last checkpoint says: {checkpoint}"
        for what in interrupted:
            told += f"\nUnder way when you were ended, so look at what it left: {what}"
        parts.append(told)
    parts.append(f"Go on with what you are to do:\n\n{task.strip()}")
    if news:
        parts.append(f"# What is known of the card now\n\n{news.strip()}")
    parts.append(_house(attempt, connected))
    return "\n\n".join(parts) + "\n"


def _house(attempt: str, connected: bool) -> str:
    return f"{_HOUSE}\n\n{_RUNTIME.format(attempt=attempt)}" if connected else _HOUSE


def _found_wanting(feedback: str) -> str:
    return f"# What the checks found wrong with your work\n\n{feedback.strip()}\n\nMend that."
