"""Carries out ``agent`` steps: a coding agent works in the attempt's clone until it is done.

session known in this HOME ─ yes ─> resume it ─ refused ─┐
         └──────────────────  no ─> begin afresh <───────┘  with the briefing
its end: well ─> succeeded          a limit of the provider's ─> handed over, to wait
         else ─> failed             no program, no key        ─> a person is asked
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boards.workflows import storable
from workers.executors.contract import (
    TERMS,
    Ask,
    Assignment,
    Ending,
    HandOver,
    Lacking,
    Line,
    Refuse,
)
from workers.executors.shell import Result

from . import prompts, troubles
from .adapters import ADAPTERS, CLIS, Adapter, Plan
from .adapters.base import TOKEN_VARIABLE, PlainText, there
from .events import Event
from .recorder import TICK_SECONDS, Past, Recorder, session_file
from .troubles import Meaning

log = logging.getLogger(__name__)

MAX_PROMPT_BYTES = 64 * 1024
MAX_WORD_CHARS = 2000
MAX_WORDS = 100
MIN_BRIEFING_TOKENS, MAX_BRIEFING_TOKENS, DEFAULT_BRIEFING_TOKENS = 200, 50_000, 4000
CANT_BE_RUN = (126, 127)  # so says the shell
DONE = "done"  # the journal's key of the agent's good end
NEWS_TOKENS = 1500  # for an agent whose session has the briefing already
MAX_LINE_CHARS = 4 * 1024 * 1024
RESUME = ("auto", "never")
_FIELDS = ("cli", "prompt", "model", "args", "max_tokens_briefing", "resume", "command", "acp",
           "trust_repository")  # fmt: skip


class AgentCli:
    """A step that is a task for an agent; it succeeds if the agent says that it ended well.

    That is its word alone: a workflow has steps after it that check.
    """

    kind = "agent"
    model_driven = True

    @property
    def capabilities(self) -> Sequence[str]:
        """What cards may require: the agents whose programs are here."""
        here = [name for name, adapter in CLIS.items() if shutil.which(adapter.program)]
        return ("agent", *here)

    @property
    def variants(self) -> Mapping[str, str]:
        """The agents that a host may lack."""
        return {f"agent.cli={name}": name for name in CLIS}

    def available(self) -> str | None:
        """Any host can run some agent; one whose program lacks is asked for by its step."""
        return None

    def needs_network(self, given: Any) -> bool:
        """A program of one's own may have its model beside it; the known ones call theirs."""
        return given["cli"] not in ("command", "acp")

    def read(self, value: Any, refuse: Refuse) -> Any:
        if not isinstance(value, dict):
            refuse("", "must be an object such as {'cli': 'claude', 'prompt': 'Mend the tests'}.")
            return None
        for name in value:
            if name not in _FIELDS:
                refuse(str(name)[:100], f"is no field of an agent; use {', '.join(_FIELDS)}.")
        given = {
            "cli": _cli(value, refuse),
            "prompt": _text(value, "prompt", refuse, MAX_PROMPT_BYTES, required=True),
            "model": _text(value, "model", refuse, MAX_WORD_CHARS),
            "args": _words(value, "args", refuse),
            "max_tokens_briefing": _tokens(value, refuse),
            "resume": value.get("resume") or "auto",
            "command": _text(value, "command", refuse, MAX_PROMPT_BYTES),
            "acp": _words(value, "acp", refuse),
            "trust_repository": value.get("trust_repository") or False,
        }
        if given["resume"] not in RESUME:
            refuse("resume", f"must be one of {', '.join(RESUME)}.")
        if not isinstance(given["trust_repository"], bool):
            refuse("trust_repository", "must be true or false, without quotes.")
        for field, cli, what in (
            ("command", "command", "the command line of the agent"),
            ("acp", "acp", "the agent's command line as a list of words, ['opencode', 'acp']"),
        ):
            if given["cli"] == cli and not given[field]:
                refuse(field, f"must be {what}.")
            elif given["cli"] and given["cli"] != cli and given[field]:
                refuse(field, f"goes with the cli {cli} alone; remove one of them.")
        return given

    def carry_out(self, assignment: Assignment) -> Ending:
        return _Work(assignment).carry_out()


class _Work:
    """One assignment: a run of the agent, or two if its session turns out to be lost."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment, self.given = assignment, assignment.given
        self.adapter: Adapter = ADAPTERS[self.given["cli"]]
        self.past = self._past()
        slot = hashlib.sha256(assignment.key.encode()).hexdigest()[:8]
        self.own = assignment.home / ".holdfast" / f"{self.adapter.name}-{slot}"
        self.said_before = assignment.agents_word()  # by another step of this attempt

    def carry_out(self) -> Ending:
        done = self.past.entries.get(DONE)
        if done is not None and done.replay:
            # The worker died between the agent's end and ours; the files are as it left them.
            return self._ending(True, str((done.result or {}).get("summary") or ""))
        self._see_whether_it_can_run()
        self.own.mkdir(parents=True, exist_ok=True)
        session = self._known_session()
        if session:
            try:
                return self._run(session, resume=True)
            except _SessionLost as lost:
                self.assignment.note(f"The session can't be resumed; a new one begins: {lost}")
                self.past = self._past()
        return self._run(str(uuid.uuid4()) if self.adapter.names_sessions else "", resume=False)

    def _past(self) -> Past:
        journal, rounds = self.assignment.journal, range(1, self.assignment.round)
        return Past(journal.recorded(), [journal.recorded(round) for round in rounds])

    def _see_whether_it_can_run(self) -> None:
        """Pass if the program is here and may read what it would obey. Raises Ask."""
        program = self.given["acp"][0] if self.given["acp"] else self.adapter.program
        path = self.assignment.env.get("PATH")
        if program and shutil.which(program, path=path) is None:
            because = (
                f"{self._title} can't be started: there is no program {program} on the PATH of "
                "this worker's host."
            )
            lacks = f"agent.cli={self.given['cli']}"
            raise Lacking(lacks, because, Ask(f"{because} Install it there, then answer."))
        obeyed = CLIS.get(self._title, self.adapter).loads  # by whichever door it is talked to
        loads = () if self.given["trust_repository"] else obeyed
        if found := there(self.assignment.tree, self._top, loads):
            raise Ask(
                f"{self._title} would obey {', '.join(found)} of the repository, which may run "
                "commands and can't be left out. Remove it, or say trust_repository: true in the "
                "step, then answer."
            )

    @property
    def _top(self) -> Path:
        return self.assignment.folder / "tree"

    @property
    def _title(self) -> str:
        if self.given["acp"]:
            return str(self.given["acp"][0]).rpartition("/")[2]
        return self.adapter.title

    def _known_session(self) -> str:
        """Return the session to go on with, if there is one whose files are in this HOME."""
        if self.given["resume"] != "auto" or not self.adapter.resumes:
            return ""
        session = self.past.session_of(self.adapter.name)
        home = self.assignment.home
        return (
            session if session and session_file(home, self.adapter.name, session).exists() else ""
        )

    def _run(self, session: str, *, resume: bool) -> Ending:
        assignment = self.assignment
        recorder = Recorder(assignment, self._title, self.adapter.name, self.past)
        interrupted = recorder.close_interrupted()
        plan = self._plan(session, resume, interrupted)
        if resume or self.adapter.names_sessions:
            recorder.begin_session(session)
        start = self.adapter.start(plan)
        parser = self.adapter.parser(plan)
        listener = _Listener(recorder, parser)
        run = start.shell or shlex.join(start.argv)
        if start.stdin is not None:
            run = f"{{ {run}\n}} < {shlex.quote(str(start.stdin))}"
        opening = getattr(parser, "opening", None)
        assignment.note(f"{self._title} {'resumes its session' if resume else 'begins'}")
        result = assignment.process(
            run,
            env={
                **assignment.env,
                **start.env,
                TOKEN_VARIABLE: assignment.token,
                "HOLDFAST_PROMPT_FILE": str(plan.prompt_file),
            },
            on_text=listener,
            tick_seconds=TICK_SECONDS,
            opening=opening() if opening is not None else None,
        )
        assignment.check()
        listener.end(result.exit_code)
        return self._ended(recorder, listener, result, resume)

    def _plan(self, session: str, resume: bool, interrupted: list[str]) -> Plan:
        assignment, given = self.assignment, self.given
        most = given["max_tokens_briefing"]
        if resume:
            prompt = prompts.again(
                given["prompt"],
                checkpoint=self._last_checkpoint(),
                interrupted=interrupted if self.past.entries else None,
                news=assignment.briefing(min(most, NEWS_TOKENS)),
                attempt=assignment.attempt,
                connected=self.adapter.connects,
                feedback=assignment.feedback,
            )
        else:
            prompt = prompts.first(
                assignment.briefing(most),
                given["prompt"],
                attempt=assignment.attempt,
                connected=self.adapter.connects,
                feedback=assignment.feedback,
            )
        prompt_file = self.own / "prompt.md"
        prompt_file.write_text(prompt)
        return Plan(
            home=assignment.home,
            own=self.own,
            top=self._top,
            tree=assignment.tree,
            prompt=prompt,
            prompt_file=prompt_file,
            session=session,
            resume=resume,
            model=given["model"],
            args=tuple(given["args"]),
            env=assignment.env,
            url=assignment.url,
            token=assignment.token,
            trusted=given["trust_repository"],
            command=given["command"],
            argv=tuple(given["acp"]),
        )

    def _last_checkpoint(self) -> str:
        calls = [
            key[5:] for key, entry in self.past.entries.items() if entry.replay and key[:1] != "d"
        ]
        return f"after {len(calls)} recorded pieces of work, the last {calls[-1]}" if calls else ""

    # How it ended.

    def _ended(
        self, recorder: Recorder, listener: _Listener, result: Result, resume: bool
    ) -> Ending:
        over = recorder.over
        if over is not None and over.ok and (result.exit_code == 0 or result.cancelled):
            return self._well(recorder, over.text or recorder.said)
        error = self._error(over, recorder, listener)
        meaning = Meaning.FAILED if result.timed_out else troubles.meaning_of(error)
        if meaning is Meaning.RATE_LIMITED:
            self._keep_cost(recorder)
            raise HandOver(
                "rate_limited",
                f"{self._title} may not go on for now: {_line(error)}",
                troubles.wait_seconds(error),
            )
        lost = resume and not recorder.heard_anything and not result.timed_out
        if lost and meaning is not Meaning.NOT_SIGNED_IN:
            raise _SessionLost(_line(error) or f"exit code {result.exit_code}")
        if meaning is Meaning.NOT_SIGNED_IN:
            self._keep_cost(recorder)
            raise Ask(
                f"{self._title} is not let in by its provider: {_line(error)} Make its key a "
                "secret of the board, or put it into the step's env, then answer."
            )
        broken = self._cant_be_run(recorder, result)
        again = not broken
        broken = broken or self._got_nowhere(recorder, listener, result, error)
        return self._badly(recorder, result, error, broken=broken, again=again)

    def _cant_be_run(self, recorder: Recorder, result: Result) -> bool:
        """True if the program of a known agent can't be run here, or is killed before its first
        word."""
        if self.adapter.name not in CLIS or recorder.heard_anything or result.timed_out:
            return False
        crashed = result.signal is not None and not result.cancelled
        return bool(result.error) or crashed or result.exit_code in CANT_BE_RUN

    def _got_nowhere(
        self, recorder: Recorder, listener: _Listener, result: Result, error: str
    ) -> bool:
        """True if a known agent ended badly by itself before it did or said anything, here or in
        an earlier run of the step, and not for what this step told it.

        One such end may have any reason; those of several cards in a row, alike, have one. Of an
        agent that tells nothing of what it does, the files say whether it did anything, and its
        last line is its error: what comes before names the model in any case.
        """
        told = [self.given["model"], *self.given["args"]]
        mute = isinstance(listener.parser, PlainText)
        error = "".join(error.splitlines()[-1:]) if mute else error
        return not (
            self.adapter.name not in CLIS
            or (mute and not self.assignment.files_are_as_recorded())
            or recorder.heard_anything
            or self.past.did_anything
            or result.timed_out
            or result.cancelled
            or any(word in error for word in told if len(word) > 1)
        )

    def _well(self, recorder: Recorder, summary: str) -> Ending:
        said = self.assignment.agents_word()
        if said is not None and said != self.said_before:
            if said["says"] in ("block", "release"):
                self._keep_cost(recorder)
            self._obey(said)
            if said["says"] == "fail":
                error = str(said.get("error") or "")
                last_words = f"{error}\n{said.get('lesson') or ''}".strip()
                detail = self._detail(recorder)
                return Ending(
                    False, "was given up by the agent", last_words, detail=detail,
                    usage=recorder.rest(), again=said.get("retryable", True) is not False,
                )  # fmt: skip
            summary = str(said.get("summary") or summary)
        self.assignment.journal.record(
            DONE,
            {"summary": summary[:4000]},
            title="The agent says that it is done",
            kind="turn",
            usage=recorder.rest(),
            checkpoint=f"{self._title} says that it is done with step {self.assignment.key}.",
        )
        return self._ending(True, summary, self._detail(recorder))

    def _obey(self, said: dict[str, Any]) -> None:
        """Do what the agent asked for that only the worker can. Raises Ask or HandOver."""
        if said["says"] == "block":
            options = [str(o) for o in said.get("options") or []]
            question = str(said.get("question") or said.get("reason") or "It needs a person.")
            raise Ask(question, options, **{n: said[n] for n in TERMS if said.get(n)})
        if said["says"] == "release":
            because = f"The agent hands over: {said.get('summary')} {said.get('next_step') or ''}"
            raise HandOver(
                str(said.get("reason") or "handed_over"),
                because.strip(),
                int(said.get("retry_after_seconds") or 0),
            )

    def _keep_cost(self, recorder: Recorder) -> None:
        """Record what the run cost, for it ends without a result."""
        if rest := recorder.rest():
            recorder.record_cost(rest)

    def _badly(
        self, recorder: Recorder, result: Result, error: str, *, broken: bool, again: bool
    ) -> Ending:
        took = f"{result.duration_seconds:.1f} s"
        if result.timed_out:
            how = f"ran into its timeout of {self.assignment.timeout_seconds:g} s"
        elif result.error:
            how = f"could not be run to its end: {result.error.rstrip('.')}"
        elif result.signal is not None:
            how = f"was ended by signal {result.signal} after {took}"
        elif recorder.over is None and result.exit_code == 0:
            how = f"ended after {took} without a word on how it went"
        elif recorder.over is not None and not recorder.over.ok:
            how = f"failed after {took}"
        else:
            how = f"failed with exit code {result.exit_code} after {took}"
        words = error or recorder.said or result.output_tail
        detail = {**self._detail(recorder), "exit_code": result.exit_code}
        return Ending(
            False, f"{how}, says {self._title}", words, detail=detail, usage=recorder.rest(),
            again=again, broken=broken,
        )  # fmt: skip

    def _error(self, over: Event | None, recorder: Recorder, listener: _Listener) -> str:
        """Return the words that tell why it did not end well; never what the model wrote."""
        told = over.text if over is not None and not over.ok else ""
        parts = [told, "" if told else recorder.troubles, listener.complaints]
        return "\n".join(part.strip() for part in parts if part.strip())[-4000:]

    def _detail(self, recorder: Recorder) -> dict[str, Any]:
        return {
            "cli": self.adapter.name,
            "session": recorder.session,
            "tool_calls": recorder.calls,
            "turns": recorder.turns,
        }

    def _ending(self, ok: bool, summary: str, detail: dict[str, Any] | None = None) -> Ending:
        short = " ".join(summary.split())
        return Ending(
            ok,
            f"was carried out by {self._title}",
            summary=short if len(short) <= 600 else f"{short[:600]}…",
            detail=detail or {"cli": self.adapter.name},
            outputs={"summary": summary[:4000]},
        )


class _SessionLost(Exception):
    """The agent doesn't know the session any more."""


class _Listener:
    """Cuts what an agent prints into lines, has them understood and recorded."""

    def __init__(self, recorder: Recorder, parser: Any) -> None:
        self.recorder, self.parser = recorder, parser
        self.complaints = ""
        self._partial = ""
        self._talks = hasattr(parser, "answer_by")

    def __call__(self, line: Line, stream: str, text: str) -> None:
        if not stream:
            self.recorder.tick()
        elif stream == "stderr":
            self.complaints = (self.complaints + text)[-4000:]
        else:
            if self._talks:
                self.parser.answer_by(line)
            *whole, self._partial = (self._partial + text).split("\n")
            if len(self._partial) > MAX_LINE_CHARS:
                self._partial = ""  # no message is that long; it is in the live log
            for one in whole:
                self._understand(one, line)

    def end(self, exit_code: int | None) -> None:
        """Take the last line, which may lack its end, and what the exit says by itself."""
        rest, self._partial = self._partial, ""
        if rest.strip():
            self._understand(rest, _Gone())
        for event in self.parser.end(exit_code):
            self.recorder.take(event, _Gone())
        self.recorder.close()

    def _understand(self, text: str, line: Line) -> None:
        try:
            events = list(self.parser.feed(text.rstrip("\r")))
        except Exception:
            # Agents change their words from version to version; the live log has them anyway.
            log.warning("a line of an agent can't be understood", exc_info=True)
            return
        for event in events:
            self.recorder.take(event, line)


class _Gone:
    """The other end of a command that is over."""

    def send(self, text: str) -> None:
        pass

    def hang_up(self, within_seconds: float) -> None:
        pass

    def flush(self) -> None:
        pass


# What a step says.


def _cli(value: dict[Any, Any], refuse: Refuse) -> str:
    cli = value.get("cli")
    if cli is None:
        cli = "acp" if value.get("acp") else "command" if value.get("command") else None
    if not isinstance(cli, str) or cli not in ADAPTERS:
        refuse("cli", f"must be one of {', '.join(ADAPTERS)}.")
        return ""
    return cli


def _text(
    value: dict[Any, Any], name: str, refuse: Refuse, most: int, *, required: bool = False
) -> str:
    text = value.get(name)
    if text is None and not required:
        return ""
    if not isinstance(text, str) or (required and not text.strip()):
        refuse(name, "must be text." if not required else "must say what the agent is to do.")
        return ""
    if storable(text, lambda _, sentence: refuse(name, sentence)) and len(text.encode()) > most:
        refuse(name, f"is longer than {most} bytes; put it into a file of the repository.")
    return text


def _words(value: dict[Any, Any], name: str, refuse: Refuse) -> list[str]:
    words = value.get(name) or []
    whole = isinstance(words, list) and len(words) <= MAX_WORDS
    if not whole or not all(isinstance(w, str) and len(w) <= MAX_WORD_CHARS for w in words):
        refuse(name, f"must be a list of up to {MAX_WORDS} words of a command line.")
        return []
    if not all(storable(w, lambda _, sentence: refuse(name, sentence)) for w in words):
        return []
    return list(words)


def _tokens(value: dict[Any, Any], refuse: Refuse) -> int:
    tokens = value.get("max_tokens_briefing")
    if tokens is None:
        return DEFAULT_BRIEFING_TOKENS
    whole = isinstance(tokens, int) and not isinstance(tokens, bool)
    if not whole or not MIN_BRIEFING_TOKENS <= tokens <= MAX_BRIEFING_TOKENS:
        refuse(
            "max_tokens_briefing",
            f"must be a whole number from {MIN_BRIEFING_TOKENS} to {MAX_BRIEFING_TOKENS}.",
        )
        return DEFAULT_BRIEFING_TOKENS
    return int(tokens)


def _line(text: str) -> str:
    """Return the text in a line that ends as a sentence does, if there is any."""
    short = " ".join(text.split())[:400]
    return short if not short or short[-1] in ".!?" else f"{short}."


EXECUTOR = AgentCli()
