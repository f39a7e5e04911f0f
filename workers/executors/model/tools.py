"""What a model may do, and how each kind of call is recorded.

===========  =================================================================================
reading      done, then recorded; done again if the worker died in between
changing     done, then recorded with the files; if the worker died in between, the next one
             finds the files as they were and does it again
a command    begun on record, run, recorded with the files; if the worker died in between, it is
             not run again: nobody knows what else it did, so the model is told to look
remembering  recorded together with what it remembers, in one transaction
===========  =================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.executors.contract import Ask, Assignment, Refused
from workers.executors.model import files, schemas
from workers.executors.model.files import Mistake
from workers.executors.shell.executor import told

MAX_CALLS = 32  # of one turn
MAX_CONTENT_CHARS = 16_000
MAX_TURN_CHARS = 48_000
LEAST_CONTENT_CHARS = 500
COMMAND_SECONDS, MAX_COMMAND_SECONDS = 120, 3_600
HEAD_CHARS = 4_000
LOG_CHARS = 400_000
KIND = "tool"

INTERRUPTED = (
    "INTERRUPTED: a worker began this command and died before it could say how it ended. The "
    "files are as they were before it; what it did elsewhere is not known. Inspect before "
    "retrying."
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: where it is recorded, and how much may come of it."""

    key: str
    name: str
    args: Mapping[str, Any]
    title: str
    room: int


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the model is told of it, and who carries it out."""

    name: str
    about: str
    parameters: Mapping[str, Any]
    carry_out: Callable[[Call], dict[str, Any]]


def form(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def text(about: str, longest: int = 0, choices: Sequence[str] = ()) -> dict[str, Any]:
    said: dict[str, Any] = {"type": "string", "description": about}
    if longest:
        said["maxLength"] = longest
    if choices:
        said["enum"] = list(choices)
    return said


class Toolbox:
    """The tools of one step."""

    def __init__(
        self,
        assignment: Assignment,
        groups: Sequence[str],
        output: Mapping[str, Any] | None,
        remaining: Callable[[], float],
    ) -> None:
        self._assignment, self._journal = assignment, assignment.journal
        self._root = assignment.tree
        self._remaining = remaining
        made = {
            "files": self._files,
            "search": self._search,
            "shell": self._shell,
            "runtime": self._runtime,
        }
        tools = [tool for group in groups for tool in made[group]()]
        if tools:
            tools.append(
                Tool(
                    "give_up",
                    "End without a result, because the task can't be done. Say honestly why, and "
                    "what the next one to try should know.",
                    form({"reason": text("Why."), "lesson": text("What to know.")}),
                    self._give_up,
                )
            )
        if output is not None:
            tools.append(
                Tool("final_answer", "Give the result and end.", output, self._final_answer)
            )
        self.tools = {tool.name: tool for tool in tools}

    def carry_out(
        self, key: str, name: str, args: Mapping[str, Any] | None, room: int
    ) -> dict[str, Any]:
        """Carry a call out and return what is recorded of it: ``content`` is for the model.

        ``args`` is None where they were no JSON. Raises Ask, HandOver and LeaseLost, with the
        call begun or not at all.
        """
        tool = self.tools.get(name)
        if tool is None:
            there = ", ".join(self.tools) or "none"
            return self._wrong(key, name, f"There is no tool {name}; there are: {there}.")
        if args is None:
            return self._wrong(key, name, "The arguments are not a JSON object.")
        wrong = schemas.problems(tool.parameters, args)
        if wrong:
            return self._wrong(key, name, "; ".join(wrong) + ".")
        call = Call(key, name, args, _title(name, args), room)
        try:
            return tool.carry_out(call)
        except Mistake as mistake:
            return self._wrong(key, call.title, str(mistake))

    # Recording.

    def _wrong(self, key: str, title: str, sentence: str) -> dict[str, Any]:
        result = {
            "title": title[:120],
            "content": self._assignment.redacted(f"ERROR: {sentence}")[:2_000],
            "failed": True,
        }
        self._journal.record(key, result, title=title, kind=KIND)
        return result

    def _result(self, call: Call, content: str, **more: Any) -> dict[str, Any]:
        shown = cut(self._assignment.redacted(content), call.room)
        return {"title": call.title, "content": shown, **more}

    def _read(self, call: Call, content: str, seconds: float = 0.0) -> dict[str, Any]:
        result = self._result(call, content)
        self._journal.record(call.key, result, title=call.title, kind=KIND, seconds=seconds)
        return result

    def _changed(self, call: Call, content: str) -> dict[str, Any]:
        result = self._result(call, content)
        self._journal.record(
            call.key, result, title=call.title, kind=KIND, checkpoint=f"{call.title}."
        )
        return result

    # The tools.

    def _files(self) -> list[Tool]:
        path = text("Path in the workspace, with / between folders.", 1_000)
        whole = {"type": "integer", "minimum": 1}
        return [
            Tool(
                "read_file",
                "Read a text file of the workspace, or some of its lines.",
                form(
                    {"path": path},
                    {
                        "first_line": {**whole, "description": "Default 1."},
                        "lines": {**whole, "description": "How many; as many as fit by default."},
                    },
                ),
                lambda call: self._read(
                    call,
                    files.read(
                        self._root,
                        call.args["path"],
                        int(call.args.get("first_line", 1)),
                        int(call.args.get("lines", files.MAX_LINES)),
                    ),
                ),
            ),
            Tool(
                "list_files",
                "List files of the workspace by a pattern: * and ? within a name, ** for any "
                "number of folders. Hidden files match only when spelled out.",
                form({}, {"pattern": text("Such as src/**/*.py; all files by default.", 1_000)}),
                lambda call: self._read(
                    call, files.names(self._root, call.args.get("pattern", "**"))
                ),
            ),
            Tool(
                "write_file",
                "Write a whole file of the workspace, new or in place of the old one.",
                form({"path": path, "content": text("All that the file is to hold.")}),
                lambda call: self._changed(
                    call, files.write(self._root, call.args["path"], call.args["content"])
                ),
            ),
            Tool(
                "edit_file",
                "Replace a passage of a file. The passage must stand there exactly once, unless "
                "every is true.",
                form(
                    {
                        "path": path,
                        "old": text("The passage, exactly as it stands there."),
                        "new": text("What is to stand there."),
                    },
                    {"every": {"type": "boolean", "description": "Replace it everywhere."}},
                ),
                lambda call: self._changed(
                    call,
                    files.edit(
                        self._root,
                        call.args["path"],
                        call.args["old"],
                        call.args["new"],
                        every=bool(call.args.get("every")),
                    ),
                ),
            ),
        ]

    def _search(self) -> list[Tool]:
        def search(call: Call) -> dict[str, Any]:
            began = time.monotonic()
            found = files.search(self._root, call.args["pattern"], call.args.get("files", "**"))
            return self._read(call, found, time.monotonic() - began)

        return [
            Tool(
                "search_files",
                "Find the lines of the workspace's files that match a regular expression.",
                form(
                    {"pattern": text("The regular expression, as in Python.", 1_000)},
                    {"files": text("Which files, such as src/**/*.py; all by default.", 1_000)},
                ),
                search,
            )
        ]

    def _shell(self) -> list[Tool]:
        return [
            Tool(
                "run_command",
                "Run a command with /bin/sh in the workspace, to its end. It has no input; what "
                "it leaves running is ended with it.",
                form(
                    {"command": text("The command.", 64 * 1024)},
                    {
                        "timeout_seconds": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": MAX_COMMAND_SECONDS,
                            "description": f"Default {COMMAND_SECONDS}.",
                        }
                    },
                ),
                self._command,
            )
        ]

    def _command(self, call: Call) -> dict[str, Any]:
        entry = self._journal.begin(call.key, call.title, KIND, dict(call.args))
        if entry.in_doubt:
            self._assignment.note("This command was cut off before; the model is told so")
            result = self._result(call, INTERRUPTED, failed=True)
            self._journal.finish(call.key, result)
            return result
        head: list[str] = []

        def listen(batch: Sequence[tuple[str, str]]) -> None:
            for stream, said in batch:
                if stream in ("stdout", "stderr") and sum(map(len, head)) < HEAD_CHARS:
                    head.append(said)

        allowed = min(
            float(call.args.get("timeout_seconds", COMMAND_SECONDS)), max(1.0, self._remaining())
        )
        ran = self._assignment.process(
            call.args["command"], on_output=listen, timeout_seconds=allowed, cap_chars=LOG_CHARS
        )
        if ran.cancelled:
            self._assignment.check()
        printed = ran.output_tail
        if ran.output_bytes > len(printed.encode()) + HEAD_CHARS:
            printed = f"{''.join(head)[:HEAD_CHARS]}\n[… more was printed …]\n{printed}"
        said = f"The command {told(ran, allowed)}."
        content = f"{said}\n{printed}" if printed.strip() else said
        result = self._result(call, cut(content, call.room, head=call.room // 3))
        if not ran.succeeded:
            result["failed"] = True
        self._journal.finish(call.key, result, checkpoint=f"{call.title}: {said[12:]}")
        return result

    def _runtime(self) -> list[Tool]:
        title = text("In a few words.", 300)
        return [
            Tool(
                "save_checkpoint",
                "Keep the files as they are now as a point to go on from, and say where things "
                "stand for somebody without your memory.",
                form(
                    {"summary": text("What is done.", 2_000)},
                    {"next_step": text("What comes next.", 2_000)},
                ),
                self._checkpoint,
            ),
            Tool(
                "record_decision",
                "Record a decision that later work must respect.",
                form(
                    {"title": title, "rationale": text("Why.", 8_000)},
                    {"alternatives": {"type": "array", "items": {"type": "string"}}},
                ),
                self._decision,
            ),
            Tool(
                "record_discovery",
                "Record something learnt that the next worker must know; dead_end for a way that "
                "failed.",
                form(
                    {
                        "kind": text(
                            "What it is.",
                            choices=(
                                "failing_test",
                                "architecture_issue",
                                "new_requirement",
                                "dead_end",
                                "fact",
                            ),
                        ),
                        "title": title,
                    },
                    {
                        "detail": text("All there is to know.", 8_000),
                        "severity": text("", choices=("low", "medium", "high", "critical")),
                    },
                ),
                self._discovery,
            ),
            Tool(
                "propose_card",
                "Propose follow-up work that is not part of this task, as a card in the backlog.",
                form({"title": title, "description": text("What is to be done.", 20_000)}),
                self._propose,
            ),
            Tool(
                "ask_person",
                "Ask a person something that only a person can decide. The work stops until the "
                "answer is there, which can take days.",
                form(
                    {"question": text("With all that one must know to answer it.", 4_000)},
                    {"options": {"type": "array", "items": {"type": "string"}, "maxItems": 10}},
                ),
                self._ask,
            ),
        ]

    def _checkpoint(self, call: Call) -> dict[str, Any]:
        result = self._result(call, "Kept.")
        self._journal.record(
            call.key,
            result,
            title=call.title,
            kind=KIND,
            checkpoint=call.args["summary"] or "Kept.",
            next_step=call.args.get("next_step", ""),
        )
        return result

    def _decision(self, call: Call) -> dict[str, Any]:
        return self._remember(call, f"Decided: {call.args['title']}", decisions=(call.args,))

    def _discovery(self, call: Call) -> dict[str, Any]:
        return self._remember(call, f"Learnt: {call.args['title']}", discoveries=(call.args,))

    def _remember(
        self,
        call: Call,
        sentence: str,
        decisions: Sequence[Mapping[str, Any]] = (),
        discoveries: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        result = self._result(call, "Recorded.")
        self._journal.record(
            call.key,
            result,
            title=call.title,
            kind=KIND,
            checkpoint=sentence,
            decisions=decisions,
            discoveries=discoveries,
        )
        return result

    def _propose(self, call: Call) -> dict[str, Any]:
        try:
            card = self._journal.propose(call.key, call.args["title"], call.args["description"])
        except Refused as refused:
            raise Mistake(str(refused)) from None
        return proposed(card)

    def _ask(self, call: Call) -> dict[str, Any]:
        self._journal.begin(call.key, call.title, KIND, dict(call.args))
        try:
            answer = self._assignment.ask(call.args["question"], key=call.key)
        except Ask as asking:
            # The options are offered, but a model understands other answers, too.
            raise Ask(asking.question, call.args.get("options", ())) from None
        result = self._result(call, f"A person answered: {answer}")
        self._journal.finish(call.key, result)
        return result

    def _give_up(self, call: Call) -> dict[str, Any]:
        result = self._result(call, "Noted.", gave_up=dict(call.args))
        self._journal.record(call.key, result, title=call.title, kind=KIND)
        return result

    def _final_answer(self, call: Call) -> dict[str, Any]:
        result = self._result(call, "Accepted.", answer=dict(call.args))
        self._journal.record(call.key, result, title=call.title, kind=KIND)
        return result


def proposed(card: str) -> dict[str, Any]:
    """Return what the model is told of a card that the journal has as proposed."""
    return {"title": f"propose_card {card}", "content": f"Proposed as {card}.", "card": card}


def cut(content: str, room: int, head: int | None = None) -> str:
    """Return about ``room`` characters of the text, its middle left out where it is longer."""
    if len(content) <= room + LEAST_CONTENT_CHARS:
        return content
    head = room * 2 // 3 if head is None else head
    left_out = len(content) - room
    middle = f"\n[… {left_out} characters are left out here …]\n"
    return f"{content[:head]}{middle}{content[-(room - head) :]}"


def _title(name: str, args: Mapping[str, Any]) -> str:
    for told_by in ("path", "command", "pattern", "title", "question", "summary", "reason"):
        if isinstance(args.get(told_by), str):
            return f"{name} {args[told_by]}".replace("\n", " ")[:120]
    return name
