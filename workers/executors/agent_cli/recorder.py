"""From what an agent says to the step's journal: tool calls, words, costs, checkpoints.

Every tool call is begun when it is made and finished with what it brought; words of the model
are recorded as they come. A checkpoint keeps the files after a call that edits some, and after
others that may have changed some as soon as that costs no more than a tenth of the time: a kill
loses seconds of work.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from checkpoints.workspaces import WorkspaceError
from workers.executors.contract import Assignment, Entry, Line, Usage

from .events import Event, Kind

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
MIN_CHECKPOINT_SECONDS = 1.0
CHECKPOINT_SHARE = 10  # one part of the time in so many may go into checkpoints
LEAVE_SECONDS = 20.0  # for an agent to end after its last word
KEPT_CHARS = 4000
SHOWN_CHARS = 200
TROUBLES_CHARS = 4000

#: Tools that change no file, by the last part of their name in lower case. All others may.
_READING = re.compile(
    r"(^|_)(read|read_file|readfile|view|grep|glob|ls|list|list_directory|search|search_file_content"
    r"|grep_search|toolsearch|tool_search|todowrite|todo_write|todoread|webfetch|web_fetch|fetch"
    r"|websearch|web_search|google_web_search|think|search_history|get_briefing|heartbeat"
    r"|begin_step|finish_step|save_checkpoint|record_decision|record_discovery|propose_card"
    r"|state_approach"
    r"|complete_card|fail_card|block_card|release_card)$"
)
#: Tools that surely do.
_WRITING = re.compile(r"(edit|write|write_file|replace|patch|file_change|create|delete|move)$")
#: Entries of the journal that tell of no work.
_BESIDE = re.compile(r"\d{4}-(session|total|cost)$")
_TO_BE_DONE = "Go on with step {key}."


class Meter:
    """What a run cost, as it becomes known: by pieces, or by totals that only grow."""

    def __init__(self, session_total: Usage) -> None:
        self.session_total = session_total
        self._run = Usage()
        self._unrecorded = Usage()

    def spend(self, piece: Usage) -> None:
        """Take note of a piece's own cost."""
        self._run = _plus(self._run, piece)
        self._unrecorded = _plus(self._unrecorded, piece)

    def session(self, total: Usage) -> None:
        """Take note of what the session cost by now, earlier runs of it included."""
        self.spend(_minus(total, self.session_total))
        self.session_total = _most(total, self.session_total)

    def run(self, total: Usage) -> None:
        """Take note of what this run cost in all."""
        self.spend(_minus(total, self._run))

    def take(self) -> Usage | None:
        """Return what no record has yet, for the one about to be made."""
        piece, self._unrecorded = self._unrecorded, Usage(model=self._unrecorded.model)
        spent = piece.input_tokens or piece.output_tokens or Decimal(piece.cost_usd)
        return piece if spent else None


def _plus(a: Usage, b: Usage) -> Usage:
    return Usage(
        a.input_tokens + b.input_tokens,
        a.output_tokens + b.output_tokens,
        str(Decimal(a.cost_usd) + Decimal(b.cost_usd)),
        b.model or a.model,
    )


def _minus(a: Usage, b: Usage) -> Usage:
    return Usage(
        max(0, a.input_tokens - b.input_tokens),
        max(0, a.output_tokens - b.output_tokens),
        str(max(Decimal(0), Decimal(a.cost_usd) - Decimal(b.cost_usd))),
        a.model,
    )


def _most(a: Usage, b: Usage) -> Usage:
    return Usage(
        max(a.input_tokens, b.input_tokens),
        max(a.output_tokens, b.output_tokens),
        str(max(Decimal(a.cost_usd), Decimal(b.cost_usd))),
        a.model or b.model,
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier runs of the step left in its journals: in this round's, and in those before."""

    entries: Mapping[str, Entry]
    before: Sequence[Mapping[str, Entry]] = ()

    @property
    def _newest_first(self) -> Iterator[Entry]:
        for journal in (self.entries, *reversed(self.before)):
            yield from reversed(list(journal.values()))

    @property
    def last_number(self) -> int:
        numbers = [int(key[:4]) for key in self.entries if re.match(r"\d{4}-", key)]
        return max(numbers, default=0)

    @property
    def did_anything(self) -> bool:
        """True if there are tool calls or words of the model among it."""
        return any(not _BESIDE.match(entry.key) for entry in self._newest_first)

    def session_of(self, cli: str) -> str:
        """Return the newest session with that agent, or nothing."""
        for entry in self._newest_first:
            if isinstance(entry.result, dict) and entry.result.get("cli") == cli:
                return str(entry.result.get("session") or "")
        return ""

    def total_of(self, session: str) -> Usage:
        """Return the newest total that was recorded of the session."""
        for entry in self._newest_first:
            result = entry.result if isinstance(entry.result, dict) else {}
            if result.get("session") == session and isinstance(result.get("total"), dict):
                return Usage(**result["total"])
        return Usage()

    def interrupted(self) -> list[str]:
        """Return the keys of what was begun and never ended."""
        return [e.key for e in self.entries.values() if not e.replay and not e.error]


class Recorder:
    """Records one run of an agent. ``over`` is its last word, ``troubles`` its complaints."""

    def __init__(self, assignment: Assignment, title: str, cli: str, past: Past) -> None:
        self._assignment, self._title, self._cli = assignment, title, cli
        self._journal = assignment.journal
        self._number = past.last_number
        self._past = past
        self._open: dict[str, tuple[str, str, str]] = {}
        self._meter = Meter(Usage())
        self._dirty = False
        self._due_at = self._due_soon_at = 0.0
        self._last_call = ""
        self.session = ""
        self.calls = 0
        self.turns = 0
        self.over: Event | None = None
        self.said = ""
        self.troubles = ""

    @property
    def heard_anything(self) -> bool:
        """True once the agent did or said something of its own."""
        return bool(self.calls or self.turns)

    def close_interrupted(self) -> list[str]:
        """Say of what earlier runs left open that it was interrupted; return it in words."""
        told = []
        for key in self._past.interrupted():
            title = str(key[5:])
            entry = self._journal.begin(key, title=f"Interrupted: {title}", kind="tool")
            if not entry.replay:
                self._journal.finish(key, error="Interrupted; how far it got is not known.")
            told.append(title)
        return told

    def begin_session(self, session: str) -> None:
        """Record which session of the agent this is, unless that is known."""
        if not session or session == self.session:
            return
        known = session == self._past.session_of(self._cli)
        self.session = session
        self._meter.session_total = self._past.total_of(session)
        mark = session_file(self._assignment.home, self._cli, session)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        if not known:
            result = {"cli": self._cli, "session": session}
            self._record("session", result, title=f"Session {session}", kind="session")

    def take(self, event: Event, line: Line) -> None:
        """Record what the agent says. Raises LeaseLost, HandOver."""
        handler = _HANDLERS.get(event.kind)
        if handler is not None:
            line.flush()  # first what it said, then what we make of it
            handler(self, event, line)

    def tick(self) -> None:
        """Take a checkpoint that is due; see whether work should go on. Raises HandOver."""
        if self._dirty and time.monotonic() >= self._due_at:
            self._checkpointing(
                lambda words: self._record(
                    "files", None, title="Files kept", kind="checkpoint", checkpoint=words
                )
            )
        self._assignment.check()

    def rest(self) -> Usage | None:
        """Return what the run cost that no record has yet."""
        return self._meter.take()

    def record_cost(self, usage: Usage) -> None:
        """Record a cost that goes with nothing else."""
        self._journal.record(
            self._next("cost"), None, title="What the run cost", kind="usage", usage=usage
        )

    def close(self) -> None:
        """Say of calls that never brought anything that they didn't."""
        for key, _, _ in self._open.values():
            self._journal.finish(key, error="The agent ended before it did.")
        self._open.clear()

    # One for each kind of event.

    def _session(self, event: Event, line: Line) -> None:
        self.begin_session(event.id)

    def _said(self, event: Event, line: Line) -> None:
        self.turns += 1
        self.said = event.text.strip()
        shown = " ".join(self.said.split())[:SHOWN_CHARS]
        self._assignment.progress(shown)
        self._record("said", {"text": self.said[:KEPT_CHARS]}, title=shown, kind="turn")

    def _called(self, event: Event, line: Line) -> None:
        self.calls += 1
        key = self._next(event.name)
        words = f"{event.name}: {event.text}" if event.text else event.name
        self._open[event.id] = (key, event.name, words)
        self._last_call = words[:SHOWN_CHARS]
        self._assignment.progress(self._last_call)
        self._journal.begin(key, title=words[:300], kind="tool")

    def _returned(self, event: Event, line: Line) -> None:
        if event.id not in self._open:
            return
        key, name, _ = self._open.pop(event.id)
        self._dirty = self._dirty or not _READING.search(name.lower())
        if _WRITING.search(name.lower()):
            self._due_at = min(self._due_at, self._due_soon_at)
        result = {"text": _short(event.text)}
        error = "" if event.ok else (_short(event.text, 500) or "It failed.")
        finish = self._journal.finish
        usage = self._meter.take()
        if self._dirty and time.monotonic() >= self._due_at:
            self._checkpointing(
                lambda words: finish(
                    key,
                    result,
                    error=error,
                    usage=usage,
                    checkpoint=words,
                    next_step=_TO_BE_DONE.format(key=self._assignment.key) if words else "",
                )
            )
        else:
            finish(key, result, error=error, usage=usage)
        self._assignment.check()

    def _spent(self, event: Event, line: Line) -> None:
        if event.usage is not None:
            self._meter.spend(event.usage)

    def _totalled(self, event: Event, line: Line) -> None:
        if event.usage is not None:
            self._meter.session(event.usage)
            total = self._meter.session_total.as_json()
            result = {"session": self.session, "total": total}
            self._record("total", result, title="What the session cost by now", kind="usage")

    def _trouble(self, event: Event, line: Line) -> None:
        self.troubles = f"{self.troubles}\n{event.text}"[-TROUBLES_CHARS:]
        self._assignment.note(event.text[:500])

    def _over(self, event: Event, line: Line) -> None:
        self.over = event
        if event.usage is not None:
            self._meter.run(event.usage)
        line.hang_up(LEAVE_SECONDS)

    # What they share.

    def _record(self, name: str, result: Any, **fields: Any) -> None:
        checkpoint = fields.get("checkpoint")
        if checkpoint:
            fields["next_step"] = _TO_BE_DONE.format(key=self._assignment.key)
        self._journal.record(self._next(name), result, usage=self._meter.take(), **fields)

    def _next(self, name: str) -> str:
        self._number += 1
        return f"{self._number:04d}-{re.sub('[^A-Za-z0-9._-]', '-', name)[:60] or 'call'}"

    def _checkpointing(self, write: Callable[[str], None]) -> None:
        """Have it written with a checkpoint, or without if the files can't be kept just now."""
        began = time.monotonic()
        words = f"{self._title} works on step {self._assignment.key}: {self.calls} tool calls"
        words += f", the last {self._last_call}." if self._last_call else "."
        try:
            write(words)
            self._dirty = False
        except WorkspaceError as error:
            log.warning("%s: no checkpoint between: %s", self._assignment.card, error)
            write("")
        now = time.monotonic()
        self._due_soon_at = now + (now - began)
        self._due_at = now + max(MIN_CHECKPOINT_SECONDS, CHECKPOINT_SHARE * (now - began))


_HANDLERS: dict[Kind, Callable[[Recorder, Event, Line], None]] = {
    Kind.SESSION: Recorder._session,
    Kind.SAID: Recorder._said,
    Kind.CALLED: Recorder._called,
    Kind.RETURNED: Recorder._returned,
    Kind.SPENT: Recorder._spent,
    Kind.TOTAL: Recorder._totalled,
    Kind.TROUBLE: Recorder._trouble,
    Kind.OVER: Recorder._over,
}


def session_file(home: Path, cli: str, session: str) -> Path:
    """Return the file whose being there says that the session was begun in this HOME."""
    name = hashlib.sha256(session.encode()).hexdigest()[:16]
    return home / ".holdfast" / "sessions" / f"{cli}-{name}"


def _short(text: str, most: int = KEPT_CHARS) -> str:
    """Return the text, or its first and last part if it is long."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n…[{len(text)} characters]…\n{text[-half:]}"
