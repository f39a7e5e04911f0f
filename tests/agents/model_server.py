"""A scripted model on loopback: real agent programs run against it without any network.

It speaks two wire protocols, Anthropic's Messages and OpenAI's Responses, and keeps no
conversation: which step of the script comes next follows from the history in each request, so
an agent that was killed and begins again is answered from where its own transcript stands.

A step of a script is one of
    {"call": "claim_card", "args": {…}}   the offered tool of that name, whatever prefix it has
    {"shell": "echo x >> notes.txt"}      the agent's own tool for commands
    {"hang": True}                        not answered: the agent waits until it is killed
    {"text": "Done."}                     words; the agent's turn ends
A text of the form {{claim_card.attempt_id}} in the args stands for that key in the tool's answer.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Tools that look for tools: some agents offer those of a server only on demand.
SEARCH = ("ToolSearch", "tool_search")
SHELLS = {
    "Bash": lambda command: {"command": command, "description": "run it"},
    "exec_command": lambda command: {"cmd": command},
    "shell_command": lambda command: {"command": command},
    "shell": lambda command: {"command": ["bash", "-lc", command]},
}


@dataclass
class Turn:
    """One request in plain terms: what is offered, what was called and what came of it."""

    tools: dict[str, str] = field(default_factory=dict)  # name → namespace, mostly empty
    calls: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    said: int = 0

    @property
    def done(self) -> int:
        return sum(name not in SEARCH for name in self.calls) + self.said


class Model:
    """A script and what the agents asked while it was played."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.steps = steps
        self.requests: list[str] = []  # bodies, as they came
        self.turns: list[Turn] = []
        self.hung = threading.Event()
        self.url = ""
        self.going_on = threading.Event()

    def answer(self, turn: Turn) -> dict[str, Any]:
        """Return ``{"tool", "args"}`` or ``{"text"}``."""
        if not turn.tools:
            return {"text": "ok"}  # a title, a summary: an aside that is no step
        if turn.done >= len(self.steps):
            return {"text": "The script is over."}
        step = self.steps[turn.done]
        if step.get("hang"):
            self.hung.set()
            self.going_on.wait(120)
            return self.answer(turn) if self.steps[turn.done] != step else {"text": "Too late."}
        if "text" in step:
            return {"text": step["text"]}
        if "shell" in step:
            for name, arguments in SHELLS.items():
                if name in turn.tools:
                    return {"tool": name, "args": arguments(step["shell"])}
            return {"text": f"SCRIPT ERROR: no tool for commands among {sorted(turn.tools)}"}
        name = next((n for n in turn.tools if re.search(rf"(^|[_.]){step['call']}$", n)), None)
        if name is not None:
            return {"tool": name, "args": _filled(step.get("args", {}), turn)}
        search = next((n for n in SEARCH if n in turn.tools), None)
        if search is not None and not (turn.calls and turn.calls[-1] in SEARCH):
            return {"tool": search, "args": {"query": step["call"], "max_results": 5}}
        return {"text": f"SCRIPT ERROR: no tool {step['call']} among {sorted(turn.tools)}"}

    def go_on(self, steps: list[dict[str, Any]]) -> None:
        """Answer the turn that hangs, and those after it, from this script."""
        self.steps = steps
        self.going_on.set()

    def result_of(self, tool: str) -> str:
        """Return the last answer of a tool that some request gave back to the model."""
        for turn in reversed(self.turns):
            for name, result in reversed(turn.results):
                if name.endswith(tool):
                    return result
        raise AssertionError(f"no request holds an answer of {tool}")


def _filled(value: Any, turn: Turn) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, turn) for name, inner in value.items()}
    asked = re.fullmatch(r"\{\{(\w+)\.(\w+)\}\}", value) if isinstance(value, str) else None
    if asked is None:
        return value
    for name, result in reversed(turn.results):
        if name.endswith(asked[1]):
            text = result.replace('\\"', '"')
            found = re.search(rf'"{asked[2]}"\s*:\s*"([^"]*)"', text)
            if found:
                return found[1]
    return None


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(_flat, value))
    if isinstance(value, dict):
        inner = next((value[k] for k in ("text", "content", "output") if k in value), None)
        return _flat(inner) if inner is not None else json.dumps(value)
    return "" if value is None else str(value)


# ── the two protocols ────────────────────────────────────────────────────────────────────


def read_messages(body: dict[str, Any]) -> Turn:
    turn, names = Turn(), {}
    turn.tools = {t["name"]: "" for t in body.get("tools", []) if "input_schema" in t}
    for message in body.get("messages", []):
        content = message["content"] if isinstance(message["content"], list) else []
        for block in content:
            if block.get("type") == "tool_use":
                names[block["id"]] = block["name"]
                turn.calls.append(block["name"])
            elif block.get("type") == "tool_result":
                name = names.get(block["tool_use_id"], "")
                turn.results.append((name, _flat(block.get("content"))))
    return turn


def write_messages(answer: dict[str, Any], model: str) -> Iterator[tuple[str, Any]]:
    usage = {"input_tokens": 100, "output_tokens": 10}
    head = {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    if "tool" in answer:
        block = {"type": "tool_use", "id": _id("toolu"), "name": answer["tool"], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(answer["args"])}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": answer["text"]}
    reason = "tool_use" if "tool" in answer else "end_turn"
    for event in (
        {"type": "message_start", "message": head},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage},
        {"type": "message_stop"},
    ):
        yield str(event["type"]), event


def read_responses(body: dict[str, Any]) -> Turn:
    turn, names = Turn(), {}

    def offer(tools: Any, space: str = "") -> None:
        for tool in tools or []:
            if tool.get("type") == "namespace":
                offer(tool.get("tools"), tool["name"])
            elif tool.get("name"):
                turn.tools[tool["name"]] = space
            elif tool.get("type") == "tool_search":
                turn.tools["tool_search"] = ""

    offer(body.get("tools"))
    items = body.get("input") or []
    for item in items if isinstance(items, list) else []:
        kind = item.get("type", "message")
        if kind in ("function_call", "custom_tool_call"):
            names[item["call_id"]] = item["name"]
            turn.calls.append(item["name"])
        elif kind in ("function_call_output", "custom_tool_call_output"):
            turn.results.append((names.get(item["call_id"], ""), _flat(item.get("output"))))
        elif kind == "tool_search_call":
            turn.calls.append("tool_search")
        elif kind == "tool_search_output":
            offer(item.get("tools"))
    return turn


def write_responses(
    answer: dict[str, Any], model: str, tools: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    item: dict[str, Any]
    if answer.get("tool") == "tool_search":
        item = {
            "type": "tool_search_call",
            "id": _id("ts"),
            "call_id": _id("call"),
            "execution": "client",
            "arguments": answer["args"],
            "status": "completed",
        }
    elif "tool" in answer:
        item = {
            "type": "function_call",
            "id": _id("fc"),
            "call_id": _id("call"),
            "name": answer["tool"],
            "arguments": json.dumps(answer["args"]),
            "status": "completed",
        }
        if tools[answer["tool"]]:
            item["namespace"] = tools[answer["tool"]]
    else:
        words = [{"type": "output_text", "text": answer["text"], "annotations": []}]
        item = {
            "type": "message",
            "id": _id("msg"),
            "role": "assistant",
            "status": "completed",
            "content": words,
        }
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 110,
    }
    response = {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": model,
        "output": [item],
        "usage": usage,
    }
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    for number, event in enumerate(events):
        yield event["type"], {**event, "sequence_number": number}


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


# ── serving ──────────────────────────────────────────────────────────────────────────────


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # the agent was killed

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        if path.endswith("/count_tokens"):
            self._json({"input_tokens": len(raw) // 4})
            return
        if not path.endswith(("/messages", "/responses")):
            self._json({})
            return
        body = json.loads(raw)
        name = str(body.get("model", ""))
        turn = read_messages(body) if path.endswith("/messages") else read_responses(body)
        self.model.requests.append(raw.decode())
        self.model.turns.append(turn)
        answer = self.model.answer(turn)
        events = (
            write_messages(answer, name)
            if path.endswith("/messages")
            else write_responses(answer, name, turn.tools)
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for kind, event in events:
            self.wfile.write(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(steps: list[dict[str, Any]]) -> Iterator[Model]:
    """Play the script on a free port of loopback until the end of the block."""
    model = Model(steps)
    handler = type("Handler", (_Handler,), {"model": model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield model
    finally:
        model.going_on.set()
        server.shutdown()
        server.server_close()
