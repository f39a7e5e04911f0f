"""What a model and its tools said so far, rebuilt from the journal, and what of it is sent.

The journal is the truth; this is a view of it. Sent is what fits in ``history_tokens``:

    opening │ left out: one line a turn │ condensed: long passages cut │ whole: the newest turns

Both limits only ever move forward, by half of what may be sent at a time, and depend on nothing
but what is recorded: a worker that takes over sends what the one before would have sent, and
what a provider has cached stays a prefix of the next requests for many turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from workers.executors.contract import Entry
from workers.executors.model import tools

WHOLE_TURNS = 2  # the newest turns are never cut
SHORT_CHARS = 300
LONG_CHARS = 400
CHARS_PER_TOKEN = 3  # on the high side for English and code
MESSAGE_TOKENS = 8
LEFT_OUT_LINES, LEFT_OUT_CHARS = 60, 6_000

NOT_CARRIED_OUT = "Not carried out: the answer before it ended the conversation."
CUT_OFF = "Your answer was cut off at its limit of tokens. Go on, in smaller steps."
NOTHING = "You answered with nothing. Go on, or say what you have done."
BY_TOOL = "Give your result by calling final_answer; text alone is not taken."


def dump(messages: Sequence[ModelMessage]) -> list[Any]:
    """Return messages as JSON for the journal."""
    dumped: list[Any] = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    return dumped


def load(messages: Sequence[Any]) -> list[Any]:
    """Return messages that the journal has as JSON."""
    return list(ModelMessagesTypeAdapter.validate_python(list(messages)))


def turn_key(number: int) -> str:
    return f"turn-{number:04}"


def call_key(number: int, index: int) -> str:
    return f"call-{number:04}-{index}"


@dataclass
class Turn:
    """One answer of the model, what its calls returned, and what was said after it."""

    number: int
    response: ModelResponse
    wants_output: bool = False
    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    feedback: str = ""

    @cached_property
    def calls(self) -> list[ToolCallPart]:
        return [part for part in self.response.parts if isinstance(part, ToolCallPart)]

    @cached_property
    def text(self) -> str:
        parts = [part.content for part in self.response.parts if isinstance(part, TextPart)]
        return "\n".join(parts).strip()

    @property
    def nudge(self) -> str:
        """What the model must hear because its answer is none; empty if it is one."""
        if self.calls:
            return ""
        if self.response.finish_reason == "length":
            return CUT_OFF
        if self.wants_output:
            return BY_TOOL
        return "" if self.text else NOTHING

    def pending(self) -> list[int]:
        """Return which calls have no result yet; none once a result ended the conversation."""
        if self.ending() is not None:
            return []
        return [index for index in range(len(self.calls)) if index not in self.results]

    def ending(self) -> Mapping[str, Any] | None:
        """Return what ended the conversation in this turn, if anything did."""
        for result in self.results.values():
            if "answer" in result or "gave_up" in result:
                return result
        if not self.calls and not self.nudge:
            return {"answer": self.text}
        return None

    def headline(self) -> str:
        """Return the turn in one line."""
        done = [
            str(self.results.get(index, {}).get("title") or call.tool_name)
            for index, call in enumerate(self.calls)
        ]
        return f"turn {self.number}: {'; '.join(done) or self.text or 'nothing'}"[:160].replace(
            "\n", " "
        )

    def messages(self, *, condensed: bool) -> list[ModelMessage]:
        """Return the answer and what follows it, as the next request has them."""
        answer = _condensed(self.response) if condensed else self.response
        parts: list[Any] = []
        for index, call in enumerate(self.calls):
            result = self.results.get(index, {"content": NOT_CARRIED_OUT, "failed": True})
            content = str(result["content"])
            parts.append(
                ToolReturnPart(
                    tool_name=call.tool_name,
                    content=_short(content) if condensed else content,
                    tool_call_id=call.tool_call_id,
                )
            )
        said = self.feedback or self.nudge
        if said:
            parts.append(UserPromptPart(_short(said) if condensed else said))
        return [answer, ModelRequest(parts=parts)]

    def tokens(self, *, condensed: bool) -> int:
        """Return about how many tokens the turn takes, erring high."""
        return sum(_tokens(message) for message in self.messages(condensed=condensed))


class Conversation:
    """An opening and turns, and how far back they are sent whole."""

    def __init__(
        self, opening: Sequence[ModelMessage], limit_tokens: int, *, wants_output: bool = False
    ) -> None:
        self._opening = list(opening)
        self._opening_tokens = sum(map(_tokens, self._opening))
        self._wants_output = wants_output
        self.limit_tokens = limit_tokens
        self.turns: list[Turn] = []
        self._sizes: list[tuple[int, int]] = []  # of each turn before the last: whole, condensed
        self._condensed_to = self._left_out_to = 0

    @classmethod
    def recorded(
        cls,
        rounds: Sequence[Mapping[str, Entry]],
        limit_tokens: int,
        *,
        wants_output: bool = False,
    ) -> Conversation | None:
        """Return the conversation that the journals of the rounds so far have, None if none has.

        It is one conversation: turns are numbered on, and what is said between two rounds stands
        in the journal of the later one.
        """
        found: Conversation | None = None
        for entries in rounds:
            opening = entries.get("opening")
            if opening is not None and opening.replay:
                messages = load(opening.result["messages"])
                found = cls(messages, limit_tokens, wants_output=wants_output)
            feedback = entries.get("feedback")
            if found is not None and feedback is not None and feedback.replay:
                found.go_on(str(feedback.result["text"]))
            if found is not None:
                found._take(entries)
        return found

    def _take(self, entries: Mapping[str, Entry]) -> None:
        """Append the turns that one journal has."""
        while (entry := entries.get(turn_key(len(self.turns) + 1))) is not None and entry.replay:
            turn = self.add(load([entry.result["message"]])[0])
            for index in range(len(turn.calls)):
                called = entries.get(call_key(turn.number, index))
                if called is not None and called.replay:
                    card = called.result.get("card")
                    turn.results[index] = tools.proposed(card) if card else called.result

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    def turns_in_round(self) -> int:
        """Return how many turns there were since the last feedback."""
        count = 0
        for turn in reversed(self.turns):
            if turn.feedback:
                break
            count += 1
        return count

    def nudges(self) -> int:
        """Return how many answers in a row were none."""
        count = 0
        for turn in reversed(self.turns):
            if not turn.nudge:
                break
            count += 1
        return count

    def add(self, response: ModelResponse) -> Turn:
        """Append the model's next answer."""
        self._settle()
        turn = Turn(len(self.turns) + 1, response, self._wants_output)
        self.turns.append(turn)
        return turn

    def go_on(self, feedback: str) -> None:
        """Go on after an answer that was not good enough."""
        assert self.turns
        self.turns[-1].feedback = feedback

    def messages(self) -> list[ModelMessage]:
        """Return what the next request sends."""
        self._settle()
        sent: list[ModelMessage] = list(self._opening)
        if self._left_out_to:
            last = sent[-1]
            assert isinstance(last, ModelRequest)
            sent[-1] = ModelRequest(parts=[*last.parts, UserPromptPart(self._left_out())])
        for turn in self.turns[self._left_out_to :]:
            sent += turn.messages(condensed=turn.number <= self._condensed_to)
        return sent

    def tokens(self) -> int:
        """Return about how many tokens ``messages`` takes."""
        self._settle()
        return self._total()

    def shrink(self) -> None:
        """Send less from now on: the model could not take as much."""
        self.limit_tokens = max(1, self.tokens() * 2 // 3)

    def _settle(self) -> None:
        """Move the limits forward if what is sent has grown past ``limit_tokens``."""
        for turn in self.turns[len(self._sizes) :]:
            self._sizes.append((turn.tokens(condensed=False), turn.tokens(condensed=True)))
        if self._total() <= self.limit_tokens:
            return
        wanted = self.limit_tokens // 2
        newest = max(0, len(self.turns) - WHOLE_TURNS)
        while self._condensed_to < newest and self._total() > wanted:
            self._condensed_to += 1
        while self._left_out_to < self._condensed_to and self._total() > wanted:
            self._left_out_to += 1

    def _total(self) -> int:
        total = self._opening_tokens
        if self._left_out_to:
            total += LEFT_OUT_CHARS // CHARS_PER_TOKEN
        cut = self._sizes[self._left_out_to : self._condensed_to]
        whole = self._sizes[self._condensed_to :]
        return total + sum(short for _, short in cut) + sum(full for full, _ in whole)

    def _left_out(self) -> str:
        lines = [turn.headline() for turn in self.turns[: self._left_out_to][-LEFT_OUT_LINES:]]
        told = "\n".join(lines)[-LEFT_OUT_CHARS + 300 :]
        return (
            f"[The first {self._left_out_to} turns of this conversation are left out. The files "
            f"are as they left them; read again what you need. What was done in them:\n{told}]"
        )


def _condensed(response: ModelResponse) -> ModelResponse:
    """Return the answer with its long passages cut, and without what it was thought from.

    Identifiers of its parts go, too: a provider would look for the thoughts that went with them.
    """
    parts: list[Any] = []
    for part in response.parts:
        if isinstance(part, TextPart):
            parts.append(TextPart(_short(part.content)))
        elif isinstance(part, ToolCallPart):
            args = _short_values(part.args_as_dict())
            parts.append(ToolCallPart(part.tool_name, args, part.tool_call_id))
    return ModelResponse(parts=parts or [TextPart("…")], model_name=response.model_name)


def _short_values(value: Any) -> Any:
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, dict):
        return {name: _short_values(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_short_values(item) for item in value[:20]]
    return value


def _short(text: str) -> str:
    if len(text) <= LONG_CHARS:
        return text
    return f"{text[:SHORT_CHARS]}\n[… {len(text) - SHORT_CHARS} more characters are left out here]"


def _tokens(message: ModelMessage) -> int:
    return MESSAGE_TOKENS + sum(
        MESSAGE_TOKENS + len(_said(part)) // CHARS_PER_TOKEN for part in message.parts
    )


def _said(part: Any) -> str:
    if isinstance(part, ToolCallPart):
        return f"{part.tool_name}{part.args_as_json_str()}"
    content = getattr(part, "content", "")
    return content if isinstance(content, str) else json.dumps(content, default=str)


def opening(system: str, prompt: str) -> ModelRequest:
    """Return the first request of a conversation."""
    parts: list[Any] = [SystemPromptPart(system)] if system else []
    return ModelRequest(parts=[*parts, UserPromptPart(prompt)])
