"""What each command line says on its hooks' stdin, and how it wants to be answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

JSON = dict[str, Any]

#: Tools after which the attempt that they name is over, if the server took them.
ENDING = frozenset({"complete_card", "fail_card", "block_card", "release_card"})
CLAIM = "claim_card"
_HOLDING = frozenset(
    {
        "heartbeat",
        "begin_step",
        "finish_step",
        "save_checkpoint",
        "record_decision",
        "record_discovery",
        "propose_card",
        "state_approach",
    }
)
# A tool of an MCP server comes as mcp__holdfast__claim_card, mcp_holdfast_claim_card,
# holdfast_claim_card, MCP:claim_card or bare; the server's name is the user's choice.
_TOOL = re.compile(rf"(?:^|[_:./-])({'|'.join(sorted(ENDING | _HOLDING | {CLAIM}))})$")
#: Fields by which one of our answers is known.
_SPOKEN = frozenset({"attempt_id", "attempt", "checkpoint"})
_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"


class Kind(Enum):
    """The moments that matter here."""

    TOOL = "a tool was used"
    STOP = "the agent means to stop"
    END = "the session is over"


_KINDS = {
    "posttooluse": Kind.TOOL,
    "posttoolusefailure": Kind.TOOL,
    "aftertool": Kind.TOOL,
    "stop": Kind.STOP,
    "afteragent": Kind.STOP,
    "sessionend": Kind.END,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One call of a hook, in our words. ``tool`` is ours, without prefix, or empty."""

    kind: Kind
    name: str
    session: str
    cwd: str = ""
    tool: str = ""
    input: Mapping[str, Any] | None = None
    response: Any = None
    last_words: str = ""
    busy: bool = False  # it stops, but not because it means to

    @property
    def attempt(self) -> str:
        """The attempt that the tool named, or that a claim was answered with; else empty."""
        if self.tool == CLAIM:
            return _found(self.response, rf'"attempt_id"\s*:\s*"({_UUID})"')
        given = str((self.input or {}).get("attempt_id") or "")
        return given if re.fullmatch(_UUID, given) else ""

    @property
    def card(self) -> str:
        """The key of the card that a claim was answered with, or empty."""
        return _found(self.response, r'"card"\s*:\s*"([A-Z][A-Z0-9]{1,9}-[0-9]{1,9})"')

    @property
    def lease_seconds(self) -> int:
        """How long a claim was given, or 0."""
        return int(_found(self.response, r'"lease_seconds"\s*:\s*([0-9]{1,5})\b') or 0)

    @property
    def saved(self) -> bool:
        """True if the tool saved a checkpoint, as the server's answer shows."""
        saving = self.tool in ("save_checkpoint", "finish_step")
        return saving and bool(_found(self.response, r'"checkpoint"\s*:\s*([0-9]+)'))

    @property
    def was_taken(self) -> bool:
        """True if the server took an ending tool, as its answer shows."""
        return bool(_found(self.response, r'"attempt"\s*:\s*"([a-z]+)"'))


@dataclass(frozen=True, slots=True)
class Dialect:
    """One command line. ``ends``: it tells when a session is over."""

    name: str
    ends: bool = True

    def event(self, told: Mapping[str, Any]) -> Event | None:
        """Return what the command line told, or None where it concerns nobody here."""
        name = str(told.get("hook_event_name") or "")
        kind = _KINDS.get(name.lower())
        session = str(told.get("session_id") or told.get("conversation_id") or "")
        if kind is None or not session:
            return None
        given = told.get("tool_input")
        if isinstance(given, str):
            given = _object(given)
        found = _TOOL.search(str(told.get("tool_name") or ""))
        words = told.get("last_assistant_message") or told.get("prompt_response") or ""
        return Event(
            kind,
            name,
            session,
            cwd=str(told.get("cwd") or _first(told.get("workspace_roots"))),
            tool=found[1] if found else "",
            input=given if isinstance(given, dict) else None,
            response=told.get("tool_response", told.get("tool_output")),
            last_words=words if isinstance(words, str) else "",
            # A turn that was broken off, and one that waits for its own background work.
            busy=told.get("status") in ("aborted", "error") or bool(told.get("background_tasks")),
        )

    def tell(self, event: Event, text: str) -> JSON:
        """Return the answer that lets the agent read ``text`` beside the tool's result."""
        if self.name == "cursor":
            return {"additional_context": text}
        if self.name == "opencode":
            return {"context": text}
        specific = {"hookEventName": event.name, "additionalContext": text}
        return {"hookSpecificOutput": specific}

    def ask(self, text: str) -> JSON:
        """Return the answer that makes the agent go on with ``text`` instead of stopping."""
        if self.name == "cursor":
            return {"followup_message": text}
        if self.name == "opencode":
            return {"followup": text}
        return {"decision": "block", "reason": text}


#: By the name that ``holdfast hook`` takes. Qwen Code does not tell the end of a session that ran
#: without a terminal.
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("claude"),
        Dialect("codex"),
        Dialect("gemini"),
        Dialect("qwen", ends=False),
        Dialect("cursor"),
        Dialect("opencode"),
    )
}


def _found(value: Any, pattern: str) -> str:
    """Return the first match in any text within, before what people and workers wrote."""
    for text in _texts(value):
        if match := re.search(pattern, text.partition('"briefing"')[0]):
            return match[1]
    return ""


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts of a tool's answer; objects in it count as the JSON that they are."""
    if isinstance(value, str):
        yield value
        # Some wrap the answer once more: a text in JSON in a text.
        if '\\"' in value and (inner := _object(value)) is not None:
            yield from _texts(inner, depth + 1)
    elif isinstance(value, dict):
        if not _SPOKEN.isdisjoint(value):
            yield json.dumps({k: v for k, v in value.items() if k != "briefing"})
        if depth < 6:
            for part in value.values():
                yield from _texts(part, depth + 1)
    elif isinstance(value, list) and depth < 6:
        for part in value:
            yield from _texts(part, depth + 1)


def _object(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None


def _first(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and values else ""
