"""What a hook does: keep the lease, pass on the news, and leave nothing unsaid.

    claim_card ──> held ──any tool──> heartbeat when due ──> news goes to the agent
                    │ └──ending tool or lease lost──> forgotten
                    └──stop──> asked once ──stop──> checkpoint [+ release] ──end──> release

Nothing here raises for what a server or an agent may do.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from holdfast.hooks.dialects import CLAIM, ENDING, JSON, Dialect, Event, Kind
from holdfast.hooks.leftovers import leftovers
from holdfast.hooks.notes import Held, Notes, note
from holdfast.hooks.server import Refused, Server, Silent

#: A pause or a message waits no longer than this, however long the lease.
LONGEST_BETWEEN_BEATS = 60.0
RETRY_SECONDS = 15.0
#: An agent that works for so long without a checkpoint is reminded of one.
REMIND_SECONDS = 600.0
MESSAGE_CHARS = 4000
WORDS_KEPT = 2000
LOOK = "Look at what was left there, then go on"
#: What the server answers where the attempt is over, or is not this token's.
GONE = frozenset({"lease_lost", "not_found", "forbidden"})


class Keeper:
    """Handles the events of one session, given its notes."""

    def __init__(
        self,
        dialect: Dialect,
        notes: Notes,
        server: Server,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.dialect, self.notes, self.server, self.now = dialect, notes, server, now

    def handle(self, event: Event) -> JSON | None:
        """Return the answer for the command line, or None for silence."""
        if event.kind is Kind.TOOL:
            self._follow(event)
            news = "\n".join(self._beat_where_due() + self._reminders())
            return self.dialect.tell(event, news) if news else None
        if event.kind is Kind.STOP:
            return self._stop(event)
        for attempt in list(self.notes.held):
            self._leave(attempt, event, release=True)
        return None

    # ── while it works ───────────────────────────────────────────────────────────────────

    def _follow(self, event: Event) -> None:
        """Note what the tool means for the session: an attempt begun, ended or shown alive."""
        attempt = event.attempt
        for key, held in self.notes.held.items():
            held.fresh = key == attempt and event.saved
        if not attempt:
            return
        if event.tool in ENDING:
            if event.was_taken:
                self.notes.held.pop(attempt, None)
            return
        held = self.notes.held.setdefault(attempt, Held(saved_at=self.now()))
        held.beat_at = self.now()
        if held.fresh:
            held.saved_at = self.now()
        if event.tool == CLAIM:
            held.card, held.asked = event.card, False
            held.lease_seconds = event.lease_seconds or held.lease_seconds

    def _reminders(self) -> list[str]:
        late = []
        for held in self.notes.held.values():
            if self.now() - held.saved_at >= REMIND_SECONDS:
                held.saved_at = self.now()
                late.append(
                    f"Holdfast: no checkpoint of {_card(held)} for {REMIND_SECONDS / 60:.0f} "
                    "minutes. If somebody else could go on from here, call save_checkpoint now."
                )
        return late

    def _beat_where_due(self) -> list[str]:
        news: list[str] = []
        for attempt, held in list(self.notes.held.items()):
            between = min(held.lease_seconds / 3, LONGEST_BETWEEN_BEATS)
            since = self.now() - held.beat_at
            # A clock that was set back must not silence the heart.
            if since >= between or since < 0:
                news += self._beat(attempt, held, between) or []
        return news

    def _beat(self, attempt: str, held: Held, between: float) -> list[str] | None:
        """Renew the lease; return what the agent should know, or None without an answer.

        Forgets an attempt that is over.
        """
        seen = {"seen_message": held.seen_message} if held.seen_message else {}
        try:
            told = self.server.call("heartbeat", attempt_id=attempt, **seen)
        except Silent as error:
            note(error)
            held.beat_at = self.now() - between + min(RETRY_SECONDS, between)
            return None
        except Refused as error:
            if error.code not in GONE:
                note(error)
                held.beat_at = self.now()
                return None
            del self.notes.held[attempt]
            if not held.card:
                return []  # known from a call alone, which the server answered likewise
            return [
                f"Holdfast: {_card(held)} is no longer yours ({error}) "
                "Change nothing more for it; claim a card before you go on."
            ]
        held.beat_at = self.now()
        held.lease_seconds = _whole(told.get("lease_seconds")) or held.lease_seconds
        pending, held.pending = held.pending, []
        return list(dict.fromkeys(pending + _news(held, told)))

    # ── when it stops ────────────────────────────────────────────────────────────────────

    def _stop(self, event: Event) -> JSON | None:
        news: list[str] = []
        asking: list[str] = []
        for attempt, held in list(self.notes.held.items()):
            told = self._beat(attempt, held, RETRY_SECONDS)
            # Nobody to ask about, or nobody who would hear the answer.
            if attempt not in self.notes.held or told is None:
                continue
            if event.busy or held.asked:
                held.pending = told
            if event.busy:
                continue
            if held.asked:
                self._leave(attempt, event, release=not self.dialect.ends)
            else:
                held.asked = True
                news += told
                asking.append(f"{_card(held)} (attempt_id {attempt})")
        if not asking:
            return None
        then = "when the session ends" if self.dialect.ends else "when you stop again"
        return self.dialect.ask(
            "\n".join(
                [
                    f"You still hold the Holdfast card {' and '.join(asking)}. Before you stop, "
                    "call save_checkpoint with what is done and what comes next; then "
                    "complete_card with the evidence if its criteria are met, block_card if a "
                    "person must answer something first, or release_card so that another worker "
                    f"goes on. This is asked once: {then}, what can be seen from outside is "
                    "saved and the card handed over.",
                    *news,
                ]
            )
        )

    def _leave(self, attempt: str, event: Event, *, release: bool) -> None:
        """Save what can be seen from outside; with ``release`` let the card go as well.

        A checkpoint that the agent has just saved itself says more and stays the last one.
        """
        held = self.notes.held[attempt]
        held.words = event.last_words.strip()[-WORDS_KEPT:] or held.words
        left = leftovers(event.cwd, held.words)
        summary = f"Left without a handover of the agent's own. {left.text}"
        try:
            before = self.server.head(held.card) if held.card else None
            next_step = str((before or {}).get("next_step") or "")
            # Without the checkpoint before, another one would hide what only that one knows.
            if not held.fresh and before is not None:
                next_step = _next(next_step)
                content: JSON = {
                    "summary": summary,
                    "next_step": next_step,
                    "workspace": left.workspace or None,
                    "state": before.get("state"),
                    "artifacts": before.get("artifacts") or [],
                }
                # The same sight makes the same checkpoint, however often the agent stops.
                sight = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
                key = f"hook:{sight[:24]}"
                self.server.call("save_checkpoint", attempt_id=attempt, key=key, **content)
                held.fresh = True
                held.beat_at = held.saved_at = self.now()
            if release:
                self.server.call(
                    "release_card",
                    attempt_id=attempt,
                    summary=summary,
                    next_step=next_step or _next(""),
                    reason="session_ended",
                )
                del self.notes.held[attempt]
        except Silent as error:
            # The lease lapses by itself and the card goes on from its last checkpoint.
            note(error)
        except Refused as error:
            note(error)
            if error.code in GONE:
                del self.notes.held[attempt]


def _next(plan: str) -> str:
    """Return what comes next, given what the checkpoint before said that it was."""
    if plan.startswith(LOOK):
        return plan
    return f"{LOOK} as planned before: {plan}" if plan else f"{LOOK}."


def _news(held: Held, told: JSON) -> list[str]:
    """Return, in words, what a heartbeat was answered with and the agent has not been told."""
    card, news = _card(held), []
    directive = told.get("directive")
    if directive == "pause":
        news.append(
            f"Holdfast: a person paused {card}. Save a checkpoint, then call release_card with "
            "what is done and what comes next, and stop."
        )
    elif directive == "stop":
        news.append(f"Holdfast: stop working on {card} now; save a checkpoint and release it.")
    elif directive == "checkpoint_now":
        news.append(f"Holdfast: save a checkpoint of {card} now, then go on.")
    for message in told.get("messages") or []:
        number = _whole(message.get("id"))
        if number <= held.seen_message:
            continue
        text = str(message.get("text") or "")[:MESSAGE_CHARS]
        news.append(f"Holdfast: {message.get('actor')} says about {card}: {text}")
        # Acknowledged with the next heartbeat: should this answer be lost, it comes again.
        held.seen_message = number
    notices = told.get("notices") or []
    for notice in notices[held.noticed :]:
        changed = ", ".join(map(str, notice.get("changed") or []))
        what = str(notice.get("kind") or "something changed").replace("_", " ")
        news.append(f"Holdfast: {what} ({changed}); call get_briefing for {card} again.")
    held.noticed = len(notices)
    return news


def _card(held: Held) -> str:
    return held.card or "the card"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
