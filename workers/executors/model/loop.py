"""Turn by turn, until the model is done.

    opening ─> turn ─> its calls ─> turn ─> … ─> an answer without calls
                 │
                 └ each on record before the next begins

Whoever takes the step over finds the turns in the journal, carries out what the last one still
asks for, and goes on. No turn that is on record is asked for again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from workers.executors.contract import Assignment, Ending, Entry, HandOver, Lacking
from workers.executors.model import conversation, endpoint
from workers.executors.model.conversation import Conversation, Turn
from workers.executors.model.tools import (
    LEAST_CONTENT_CHARS,
    MAX_CALLS,
    MAX_CONTENT_CHARS,
    MAX_TURN_CHARS,
    Toolbox,
)

log = logging.getLogger(__name__)

MAX_NUDGES = 3
MAX_SHRINKS = 4
WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30, 900
MAX_OUTAGES = 8  # in a row; a rate limit may be reached any number of times
SUMMARY_CHARS = 600
ANSWER_CHARS = 100_000
SHOWN_CHARS = 4_000

RULES = """\
You carry out one step of a card, on your own; nobody reads along, so do not ask in your answer \
and do not stop half-way. Your tools work in the card's workspace, a folder; paths are relative \
to it. Every answer and call of yours is on record, and files are kept as they are after each \
change, so a call that is told to have been interrupted may have had effects elsewhere: look \
before you make it again. When the task is done, say what you did and how you know, without \
calling a tool."""
RULES_OUTPUT = "When the task is done, give the result by calling final_answer."


class Work:
    """One step at a model."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment, self._journal = assignment, assignment.journal
        self._given: Mapping[str, Any] = assignment.given
        self._until = time.monotonic() + assignment.timeout_seconds
        self._toolbox = Toolbox(
            assignment, self._given["tools"], self._given["output"], self._remaining
        )

    def run(self) -> Ending:
        """Go on from what is recorded until the step has ended. Raises Ask, HandOver, LeaseLost."""
        model = self._given["model"]
        try:
            where = endpoint.address(
                model,
                self._assignment.env,
                keys=self._assignment.host.model_keys,
                allowed=self._assignment.host.model_endpoints,
            )
        except endpoint.Misconfigured as error:
            failed = _failed("could not begin", str(error), again=False)
            named = f"llm.model={model['provider']}:{model['name']}"
            raise Lacking(named, str(error), failed) from None
        if where.key_from:
            self._assignment.hide(where.key)
        asked = endpoint.Endpoint(
            self._given, where, self._assignment, list(self._toolbox.tools.values())
        )
        try:
            return self._go_on(asked)
        except endpoint.OutOfTime:
            return self._out_of_time()
        except endpoint.Rejected as error:
            return _failed("was refused by the model's provider", str(error), again=False)
        finally:
            asked.close()

    def _go_on(self, asked: endpoint.Endpoint) -> Ending:
        talk = self._begun()
        moved = False  # whoever takes the card gets somewhere before it makes room again
        while True:
            last = talk.last
            if last is not None:
                self._carry_out_calls(last)
                ending = last.ending()
                if ending is not None and not last.feedback:
                    return self._ended(talk, ending)
                if talk.nudges() > MAX_NUDGES:
                    return _failed(
                        f"got no usable answer in {MAX_NUDGES + 1} turns", last.text or last.nudge
                    )
            turns = talk.turns_in_round()
            if turns >= self._given["max_turns"]:
                return _failed(
                    f"was not done after {turns} turns, as many as it may have",
                    last.text or last.headline() if last else "",
                )
            self._assignment.check()
            if moved:
                self._assignment.make_room()
            self._take_turn(talk, asked)
            moved = True

    # What is on record.

    def _begun(self) -> Conversation:
        """Return the conversation as recorded, or with an opening that is recorded now."""
        earlier = range(1, self._assignment.round)
        rounds = [self._journal.recorded(number) for number in earlier]
        self._entries: dict[str, Entry] = self._journal.recorded()
        limit, output = self._given["history_tokens"], self._given["output"]
        talk = Conversation.recorded(
            [*rounds, self._entries], limit, wants_output=output is not None
        )
        if talk is None or talk.last is None:
            messages = self._opening()
            return Conversation(messages, limit, wants_output=output is not None)
        if not self._entries and self._assignment.feedback:
            told = self._assignment.redacted(_feedback(self._assignment.feedback))
            title = f"Round {self._assignment.round}"
            self._journal.record("feedback", {"text": told}, title=title, kind="llm")
            talk.go_on(told)
        else:
            self._assignment.note(
                f"Going on after turn {len(talk.turns)}; the turns before it are on record"
            )
        return talk

    def _opening(self) -> list[Any]:
        """Return the first messages, on record."""
        recorded = self._entries.get("opening")
        if recorded is not None and recorded.replay:
            return conversation.load(recorded.result["messages"])
        first = conversation.opening(self._system(), self._prompt())
        messages = self._assignment.redacted(conversation.dump([first]))
        self._journal.record("opening", {"messages": messages}, title="Opening", kind="llm")
        return conversation.load(messages)

    def _system(self) -> str:
        parts = [self._given["system"]]
        if self._toolbox.tools:
            parts.append(RULES)
        if self._given["output"] is not None:
            parts.append(RULES_OUTPUT)
        return "\n\n".join(part for part in parts if part)

    def _prompt(self) -> str:
        parts = [self._given["prompt"]]
        if self._given["briefing"]:
            parts.append(f"What is known of the card:\n\n{self._assignment.briefing()}")
        if self._assignment.round > 1 and self._assignment.feedback:
            parts.append(_feedback(self._assignment.feedback))
        return "\n\n".join(parts)

    # Turns and calls.

    def _take_turn(self, talk: Conversation, asked: endpoint.Endpoint) -> None:
        number = len(talk.turns) + 1
        self._assignment.progress(f"Turn {number}: the model thinks")
        # Begun first: a budget that is used up is heard of before the turn is paid for. A turn
        # in doubt was answered to nobody, so it is asked for again.
        key = conversation.turn_key(number)
        self._journal.begin(key, f"Turn {number}", "llm")
        reply = self._answer(number, talk, asked)
        self._journal.finish(key, {"message": reply.message}, usage=reply.usage)
        self._assignment.say("stdout", _shown(talk.add(reply.response)))

    def _answer(self, number: int, talk: Conversation, asked: endpoint.Endpoint) -> endpoint.Reply:
        for _ in range(MAX_SHRINKS):
            try:
                return asked.ask(talk.messages(), self._remaining)
            except endpoint.TooLong as error:
                self._assignment.note(f"The model can't take as much; less is sent. {error}")
                talk.shrink()
            except endpoint.Waiting as waiting:
                self._hand_over(number, waiting)
        raise endpoint.Rejected("The conversation is too long for the model, even when cut.")

    def _hand_over(self, number: int, waiting: endpoint.Waiting) -> None:
        """Give the card back for a while; a rate limit is no failure, an outage is one in time."""
        self._assignment.check()
        before = [key for key in self._entries if key.startswith(f"wait-{number:04}-")]
        if waiting.reason == "unavailable" and len(before) >= MAX_OUTAGES:
            raise endpoint.Rejected(f"Asked {len(before) + 1} times over. {waiting.because}")
        wait = min(WAIT_SECONDS * 2 ** len(before), LONGEST_WAIT_SECONDS)
        if waiting.retry_after_seconds is not None:
            wait = max(wait, min(math.ceil(waiting.retry_after_seconds), 24 * 3600))
        self._journal.record(
            f"wait-{number:04}-{len(before) + 1}",
            {"reason": waiting.reason, "because": waiting.because, "seconds": wait},
            title=f"Waits {wait} s: {waiting.because}",
            kind="wait",
        )
        raise HandOver(waiting.reason, waiting.because, wait)

    def _carry_out_calls(self, turn: Turn) -> None:
        room = MAX_TURN_CHARS - sum(len(str(r["content"])) for r in turn.results.values())
        for index in range(len(turn.calls)):
            if index not in turn.pending():
                continue
            self._assignment.check()
            if self._remaining() <= 0:
                raise endpoint.OutOfTime
            call = turn.calls[index]
            key = conversation.call_key(turn.number, index)
            self._assignment.progress(f"Turn {turn.number}: {call.tool_name}")
            if index >= MAX_CALLS:
                sentence = f"ERROR: Only {MAX_CALLS} calls of one turn are carried out."
                result = {"content": sentence, "failed": True}
                self._journal.record(key, result, title=call.tool_name, kind="tool")
            else:
                allowed = max(LEAST_CONTENT_CHARS, min(MAX_CONTENT_CHARS, room))
                result = self._toolbox.carry_out(key, call.tool_name, _args(call), allowed)
            if result.get("failed"):
                self._assignment.say("stdout", f"  {str(result['content'])[:300]}\n")
            room -= len(str(result["content"]))
            turn.results[index] = result

    # Ends.

    def _remaining(self) -> float:
        return self._until - time.monotonic()

    def _out_of_time(self) -> Ending:
        return _failed(f"ran into its timeout of {self._assignment.timeout_seconds:g} s", "")

    def _ended(self, talk: Conversation, ending: Mapping[str, Any]) -> Ending:
        detail: dict[str, Any] = {
            "turns": len(talk.turns),
            "calls": sum(len(turn.results) for turn in talk.turns),
            "model": f"{self._given['model']['provider']}:{self._given['model']['name']}",
        }
        if "gave_up" in ending:
            why = ending["gave_up"]
            return Ending(
                False,
                f"was given up by the model after {len(talk.turns)} turns",
                last_words="\n".join(part for part in (why["reason"], why["lesson"]) if part),
                detail={**detail, "gave_up": dict(why)},
            )
        answer = ending["answer"]
        words = talk.last.text if talk.last is not None else ""
        outputs = {"answer": answer[:ANSWER_CHARS]} if isinstance(answer, str) else dict(answer)
        return Ending(
            True,
            f"was answered in {len(talk.turns)} turns",
            summary=words[:SUMMARY_CHARS],
            detail={**detail, "answer": outputs["answer"] if isinstance(answer, str) else outputs},
            outputs=outputs,
        )


def _args(call: Any) -> Mapping[str, Any] | None:
    try:
        args = call.args_as_dict(raise_if_invalid=True)
    except (ValueError, AssertionError):
        return None
    return args if isinstance(args, dict) else None


def _feedback(said: str) -> str:
    return f"What was done is not good enough yet:\n\n{said}\n\nPut it right."


def _shown(turn: Turn) -> str:
    """Return the turn as people see it in the live log."""
    lines = [turn.text[:SHOWN_CHARS]] if turn.text else []
    for call in turn.calls:
        lines.append(f"→ {call.tool_name} {call.args_as_json_str()[:300]}")
    return "\n".join(lines or ["(nothing)"]) + "\n"


def _failed(how: str, last_words: str, *, again: bool = True) -> Ending:
    return Ending(False, how, last_words=last_words, again=again)
