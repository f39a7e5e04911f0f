"""A scripted model on loopback: real agent programs run against it without any network.

It speaks the wire protocols Anthropic's Messages, OpenAI's Responses and Chat, and Gemini's, and
keeps no conversation: which step of the script comes next follows from the history in each
request, so an agent that was killed and begins again is answered from where its own transcript
stands.

A step of a script is one of
    {"call": "claim_card", "args": {…}}   the offered tool of that name, whatever prefix it has
    {"shell": "echo x >> notes.txt"}      the agent's own tool for commands
    {"hang": True}                        not answered: the agent waits until it is killed
    {"text": "Done."}                     words; the agent's turn ends
    {"status": 429, "times": 2}           so often this HTTP status, before the step that follows it
A text of the form {{claim_card.attempt_id}} in the args stands for that key in the tool's answer.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
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
    "bash": lambda command: {"command": command, "description": "run it"},
    "run_shell_command": lambda command: {
        "command": command,
        "description": "run it",
        "is_background": False,
    },
}
#: Answers, when asked, by its own light instead of from a script.
Mind = Callable[["Turn"], dict[str, Any]]


@dataclass
class Turn:
    """One request in plain terms: what is offered, what was called and what came of it.

    ``history`` is all of it in order: ``told`` by the user, ``called``, ``got``, ``said``.
    """

    history: list[tuple[str, str]] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)  # name → namespace, mostly empty
    calls: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    said: int = 0

    def called(self, name: str, with_what: str = "") -> None:
        self.calls.append(name)
        self.history.append(("called", f"{name} {with_what}"))

    def got(self, name: str, what: str) -> None:
        self.results.append((name, what))
        self.history.append(("got", what))

    @property
    def done(self) -> int:
        return sum(name not in SEARCH for name in self.calls) + self.said


class Model:
    """A script and what the agents asked while it was played."""

    def __init__(self, steps: list[dict[str, Any]] | Mind) -> None:
        self.mind = steps if callable(steps) else None
        self.steps: list[dict[str, Any]] = [] if callable(steps) else steps
        self.refused = 0
        self.asides = "ok"  # what it says where no tools are offered
        self.requests: list[str] = []  # bodies, as they came
        self.turns: list[Turn] = []
        self.hung = threading.Event()
        self.url = ""
        self.going_on = threading.Event()

    def answer(self, turn: Turn) -> dict[str, Any]:
        """Return ``{"tool", "args"}`` or ``{"text"}``."""
        if not turn.tools:
            return {"text": self.asides}  # a title, a summary: an aside that is no step
        if self.mind is not None:
            return self._do(self.mind(turn), turn)
        steps = [step for step in self.steps if "status" not in step]
        if turn.done >= len(steps):
            return {"text": "The script is over."}
        step = steps[turn.done]
        before = self.steps[self.steps.index(step) - 1] if self.steps.index(step) else {}
        if "status" in before and self.refused < before.get("times", 1):
            self.refused += 1
            return {"status": before["status"]}
        return self._do(step, turn)

    def _do(self, step: dict[str, Any], turn: Turn) -> dict[str, Any]:
        if step.get("hang"):
            self.hung.set()
            self.going_on.wait(120)
            return {"text": "Too late."} if step in self.steps else self.answer(turn)
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
                turn.called(block["name"], json.dumps(block.get("input")))
            elif block.get("type") == "tool_result":
                turn.got(names.get(block["tool_use_id"], ""), _flat(block.get("content")))
            elif message["role"] == "user":
                turn.history.append(("told", _flat(block)))
        if isinstance(message["content"], str) and message["role"] == "user":
            turn.history.append(("told", message["content"]))
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
            turn.called(item["name"], str(item.get("arguments") or item.get("input")))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            turn.got(names.get(item["call_id"], ""), _flat(item.get("output")))
        elif kind == "message" and item.get("role") == "user":
            turn.history.append(("told", _flat(item.get("content"))))
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


def read_chat(body: dict[str, Any]) -> Turn:
    turn, names = Turn(), {}
    turn.tools = {t["function"]["name"]: "" for t in body.get("tools") or [] if "function" in t}
    for message in body.get("messages", []):
        for call in message.get("tool_calls") or []:
            names[call["id"]] = call["function"]["name"]
            turn.called(call["function"]["name"], str(call["function"].get("arguments")))
        if message["role"] == "tool":
            turn.got(names.get(message.get("tool_call_id"), ""), _flat(message.get("content")))
        elif message["role"] == "user":
            turn.history.append(("told", _flat(message.get("content"))))
    return turn


def write_chat(answer: dict[str, Any], model: str) -> Iterator[tuple[str, Any]]:
    base = {"id": _id("chatcmpl"), "created": int(time.time()), "model": model}
    base["object"] = "chat.completion.chunk"
    delta: dict[str, Any] = {"role": "assistant", "content": answer.get("text")}
    if "tool" in answer:
        function = {"name": answer["tool"], "arguments": json.dumps(answer["args"])}
        call = {"index": 0, "id": _id("call"), "type": "function", "function": function}
        delta["tool_calls"] = [call]
    reason = "tool_calls" if "tool" in answer else "stop"
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    for choices in (
        [{"index": 0, "delta": delta, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": reason}],
    ):
        yield "", {**base, "choices": choices}
    yield "", {**base, "choices": [], "usage": usage}
    yield "", "[DONE]"


def whole_chat(answer: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the answer to a request that wants it in one piece."""
    message = {"role": "assistant", "content": answer.get("text") or "ok"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": _id("c"), "object": "chat.completion", "choices": [choice], "model": model,
            "usage": usage, "created": int(time.time())}  # fmt: skip


def read_gemini(body: dict[str, Any]) -> Turn:
    turn = Turn()
    for tool in body.get("tools") or []:
        turn.tools |= {f["name"]: "" for f in tool.get("functionDeclarations") or []}
    for content in body.get("contents", []):
        for part in content.get("parts") or []:
            if "functionCall" in part:
                call = part["functionCall"]
                turn.called(call["name"], json.dumps(call.get("args")))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                turn.got(response.get("name", ""), _flat(response.get("response")))
            elif content.get("role") == "user":
                turn.history.append(("told", _flat(part)))
    return turn


def write_gemini(answer: dict[str, Any], model: str) -> Iterator[tuple[str, Any]]:
    part: dict[str, Any] = {"text": answer.get("text")}
    if "tool" in answer:
        part = {"functionCall": {"id": _id("fc"), "name": answer["tool"], "args": answer["args"]}}
    content = {"role": "model", "parts": [part]}
    counts = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
    yield (
        "",
        {
            "candidates": [{"index": 0, "content": content, "finishReason": "STOP"}],
            "modelVersion": model,
            "responseId": _id("r"),
            "usageMetadata": counts,
        },
    )


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


# ── serving ──────────────────────────────────────────────────────────────────────────────


READERS = {
    "messages": read_messages,
    "responses": read_responses,
    "completions": read_chat,
    "gemini": read_gemini,
}


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
        gemini = re.search(r"/models/([^/:]+):(stream)?[gG]enerateContent$", path)
        if not path.endswith(("/messages", "/responses", "/chat/completions")) and not gemini:
            self._json({"totalTokens": len(raw) // 4} if "countTokens" in path else {})
            return
        body = json.loads(raw)
        name = gemini[1] if gemini else str(body.get("model", ""))
        ending = path.rpartition("/")[2] if not gemini else "gemini"
        turn = READERS[ending](body)
        self.model.requests.append(raw.decode())
        self.model.turns.append(turn)
        answer = self.model.answer(turn)
        if "status" in answer:
            problem = {"type": "rate_limit_error", "message": f"scripted {answer['status']}"}
            self._json({"type": "error", "error": problem}, answer["status"])
            return
        if ending == "completions" and not body.get("stream"):
            self._json(whole_chat(answer, name))
            return
        if ending == "responses":
            events = write_responses(answer, name, turn.tools)
        else:
            writers = {"messages": write_messages, "completions": write_chat}
            events = writers.get(ending, write_gemini)(answer, name)
        if gemini and not gemini[2]:
            self._json(next(iter(events))[1])
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for kind, event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            name = f"event: {kind}\n" if kind else ""
            self.wfile.write(f"{name}data: {data}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(steps: list[dict[str, Any]] | Mind) -> Iterator[Model]:
    """Play the script, or ask the mind, on a free port of loopback until the end of the block."""
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
