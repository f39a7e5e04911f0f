"""What an agent's error means for the card: wait, ask a person, or plainly fail."""

from __future__ import annotations

import re
import time
from enum import Enum


class Meaning(Enum):
    RATE_LIMITED = "rate_limited"
    NOT_SIGNED_IN = "not_signed_in"
    SESSION_LOST = "session_lost"
    FAILED = "failed"


DEFAULT_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 6 * 3600

_RATE_LIMITED = re.compile(
    r"\b(429|529)\b|rate.?limit|overloaded|too many requests|resource.?exhausted"
    r"|(usage|quota|session|weekly|hourly|5-hour) limit|limit (reached|exceeded)"
    r"|exceeded your current quota|insufficient_quota",
    re.IGNORECASE,
)
_NOT_SIGNED_IN = re.compile(
    r"\b401\b|unauthori[sz]ed|invalid (api )?key|invalid x-api-key|incorrect api key"
    r"|invalid auth method|authentication[ _](error|failed|required)|auth_required"
    r"|not logged in|/login\b"
    r"|please (log|sign) in|(api key|auth method|credentials?)\b.{0,60}"
    r"\b(missing|not set|not found|required|must be set|invalid)"
    r"|(set|specify|provide|no)\b.{0,40}\b(api[ _]key|auth method)|OAuth token (has )?expired",
    re.IGNORECASE,
)
_SESSION_LOST = re.compile(
    r"no conversation found|session .{0,80}(not found|does not exist|unknown|invalid)"
    r"|(no|invalid|unknown) (saved )?(session|thread|rollout)|error resuming"
    r"|thread .{0,80}not found"
    r"|no rollout found|resource.?not.?found|could not (find|load) .{0,30}session",
    re.IGNORECASE,
)
_UNTIL = re.compile(r"limit reached\|(\d{10})\b")
_AFTER = re.compile(
    r"(?:retry|try again|reset)\D{0,40}?(\d+(?:\.\d+)?)\s*"
    r"(ms|milliseconds?|s\b|sec|m\b|min|h\b|hour)",
    re.IGNORECASE,
)
_SECONDS = {"ms": 0.001, "mi": 60, "s": 1, "se": 1, "m": 60, "h": 3600, "ho": 3600}


def meaning_of(error: str) -> Meaning:
    """Return what the error asks for. Waiting comes first: its text may name other things, too."""
    if _RATE_LIMITED.search(error):
        return Meaning.RATE_LIMITED
    if _SESSION_LOST.search(error):
        return Meaning.SESSION_LOST
    if _NOT_SIGNED_IN.search(error):
        return Meaning.NOT_SIGNED_IN
    return Meaning.FAILED


def wait_seconds(error: str, now: float | None = None) -> int:
    """Return how long the error asks to wait, or a minute if it doesn't say."""
    wait = float(DEFAULT_WAIT_SECONDS)
    if found := _UNTIL.search(error):
        wait = int(found[1]) - (time.time() if now is None else now)
    elif found := _AFTER.search(error):
        unit = found[2].lower()
        factor = 0.001 if unit.startswith("mil") else _SECONDS[unit[:2] if unit != "s" else "s"]
        wait = float(found[1]) * factor
    return int(min(MAX_WAIT_SECONDS, max(5, wait + 0.999)))
