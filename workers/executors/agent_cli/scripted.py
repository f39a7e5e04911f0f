#!/usr/bin/env python3
"""An agent without a model, for the suite: it does what the last SCRIPT line of its prompt says.

    SCRIPT [{"say": "Let me see"}, {"run": "make"}, {"end": "Done"}]

Called ``claude`` it speaks stream-json, with ``--acp`` the Agent Client Protocol. Its sessions
are kept below HOME: one that is resumed goes on where it was. Steps are ``say``, ``run``,
``raw`` (a line as it is), ``hang``, ``exit``, and ``end`` or ``error`` with the last words.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

SESSIONS = Path(os.environ["HOME"]) / ".scripted"


def main() -> None:
    Acp().run() if "--acp" in sys.argv else Stream().run()


class Session:
    """How far a session got, known to whoever resumes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = SESSIONS / f"{name}.json"

    @property
    def known(self) -> bool:
        return self.path.exists()

    @property
    def done(self) -> int:
        return int(json.loads(self.path.read_text())) if self.known else 0

    def keep(self, done: int) -> None:
        SESSIONS.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(done))
        draft.replace(self.path)


def script_in(prompt: str) -> list[dict[str, Any]]:
    lines = re.findall(r"^SCRIPT (\[.*\])\s*$", prompt, re.MULTILINE)
    steps: list[dict[str, Any]] = json.loads(lines[-1])
    return steps


def ran(command: str) -> tuple[str, bool]:
    # Its errors are the command's to show; standard input may be a conversation.
    done = subprocess.run(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout + done.stderr, done.returncode == 0


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def emit(message: dict[str, Any]) -> None:
    show(json.dumps(message))


class Stream:
    """Speaks as ``claude -p --output-format stream-json`` does."""

    def run(self) -> None:
        prompt = sys.stdin.read()
        words = dict(zip(sys.argv, sys.argv[1:], strict=False))
        resumed = words.get("--resume")
        session = Session(resumed or words["--session-id"])
        if resumed and not session.known:
            sys.exit(f"No conversation found with session ID: {resumed}")
        self.name = session.name
        emit({"type": "system", "subtype": "init", "session_id": self.name})
        session.keep(session.done)
        for n, step in enumerate(script_in(prompt)):
            if n >= session.done:
                self.do(n, step)
                session.keep(n + 1)

    def do(self, n: int, step: dict[str, Any]) -> None:
        if "say" in step:
            self.message(n, {"type": "text", "text": step["say"]})
        elif "run" in step:
            call = {"type": "tool_use", "id": f"t{n}", "name": "Bash"}
            self.message(n, {**call, "input": {"command": step["run"]}})
            output, ok = ran(step["run"])
            block = {"type": "tool_result", "tool_use_id": f"t{n}", "content": output}
            content = [{**block, "is_error": not ok}]
            emit({"type": "user", "message": {"content": content}, "session_id": self.name})
        elif "raw" in step:
            show(step["raw"])
        elif "hang" in step:
            time.sleep(1000)
        elif "exit" in step:
            sys.exit(step["exit"])
        else:
            failed = "error" in step
            emit(
                {
                    "type": "result",
                    "subtype": "error_during_execution" if failed else "success",
                    "is_error": failed,
                    "result": step.get("error", step.get("end")),
                    "session_id": self.name,
                    "usage": {"input_tokens": 100, "output_tokens": 7},
                    "total_cost_usd": 0.01,
                }
            )
            sys.exit(1 if failed else 0)

    def message(self, n: int, block: dict[str, Any]) -> None:
        usage = {"input_tokens": 10, "output_tokens": 1}
        message: dict[str, Any] = {"id": f"m{self.name}{n}", "model": "scripted", "usage": usage}
        message["content"] = [block]
        emit({"type": "assistant", "message": message, "session_id": self.name})


class Acp:
    """Speaks the Agent Client Protocol, version 1, and asks for leave before it runs anything."""

    def run(self) -> None:
        self.asked = 0
        session = Session("")
        for line in sys.stdin:
            asked = json.loads(line)
            method, params = asked.get("method"), asked.get("params") or {}
            if method == "initialize":
                can = {"loadSession": True, "mcpCapabilities": {"http": True}}
                self.answer(asked, {"protocolVersion": 1, "agentCapabilities": can})
            elif method == "session/new":
                session = Session(f"acp-{uuid.uuid4()}")
                session.keep(0)
                self.answer(asked, {"sessionId": session.name})
            elif method == "session/load":
                session = Session(params["sessionId"])
                if session.known:
                    # All that was said is told again before the answer.
                    self.update(session, self.text("told again"))
                    self.answer(asked, None)
                else:
                    error = {"code": -32602, "message": "Unknown session"}
                    emit({"jsonrpc": "2.0", "id": asked["id"], "error": error})
            elif method == "session/prompt":
                prompt = "".join(block["text"] for block in params["prompt"])
                self.answer(asked, {"stopReason": self.work(session, script_in(prompt))})

    def work(self, session: Session, steps: list[dict[str, Any]]) -> str:
        for n, step in enumerate(steps):
            if n < session.done:
                continue
            if "say" in step:
                for word in re.findall(r"\S+\s*", step["say"]):
                    self.update(session, self.text(word))
            elif "run" in step:
                self.tool(session, f"t{n}", step["run"])
            elif "hang" in step:
                time.sleep(1000)
            elif "error" in step:
                return str(step["error"])
            else:
                self.update(session, self.text(str(step["end"])))
                cost = {"amount": 0.02, "currency": "USD"}
                self.update(session, {"sessionUpdate": "usage_update", "cost": cost})
            session.keep(n + 1)
        return "end_turn"

    def tool(self, session: Session, name: str, command: str) -> None:
        call: dict[str, Any] = {"toolCallId": name, "kind": "execute"}
        call["sessionUpdate"] = "tool_call"
        call = {**call, "title": command, "status": "pending"}
        if self.asked % 2:  # some tell of a call by asking for leave
            self.update(session, call)
        self.asked += 1
        options = [{"optionId": "no", "kind": "reject_once"}]
        options.append({"optionId": "for-good", "kind": "allow_always"})
        options.append({"optionId": "yes", "kind": "allow_once"})
        params = {"sessionId": session.name, "toolCall": call, "options": options}
        method = "session/request_permission"
        emit({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params})
        leave = json.loads(sys.stdin.readline())
        assert leave["id"] == self.asked, leave
        assert leave["result"]["outcome"]["optionId"] == "yes", leave
        output, ok = ran(command)
        done = {"sessionUpdate": "tool_call_update", "toolCallId": name}
        content = [{"type": "content", "content": {"type": "text", "text": output}}]
        status = "completed" if ok else "failed"
        self.update(session, {**done, "status": status, "content": content})

    def text(self, words: str) -> dict[str, Any]:
        content = {"type": "text", "text": words}
        return {"sessionUpdate": "agent_message_chunk", "content": content}

    def update(self, session: Session, update: dict[str, Any]) -> None:
        params = {"sessionId": session.name, "update": update}
        emit({"jsonrpc": "2.0", "method": "session/update", "params": params})

    def answer(self, asked: dict[str, Any], result: Any) -> None:
        emit({"jsonrpc": "2.0", "id": asked["id"], "result": result})


if __name__ == "__main__":
    main()
