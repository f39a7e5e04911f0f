"""A scripted model behind three HTTP APIs, each answer whole: OpenAI's two, and Anthropic's.

It keeps no conversation: a script is asked for the next answer with what the request tells of
the ones before. An answer is one of
    {"calls": [("read_file", {"path": "a"}), …], "text": "First I look."}
    {"text": "Done."}
    {"status": 429, "retry_after": "0", "message": "slow down"}
    {"hang": True}                  not answered until the client goes away
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents.model_server import _flat, read_messages, read_responses

#: The variables that lead each provider's steps to the server.
KEY = "sk-test-0123456789abcdef"
USAGE = (100, 10)


@dataclass
class Request:
    """What one request tells: the calls and words so far, in order, and what came of the calls."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    calls: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    said: int = 0

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def done(self) -> int:
        """How many calls and last words there were before."""
        return len(self.calls) + self.said

    @property
    def text(self) -> str:
        return json.dumps(self.body, ensure_ascii=False)


Answer = dict[str, Any]
Script = Callable[[Request], Answer]


def played(steps: Sequence[Answer]) -> Script:
    """Return a script that plays the answers one after the other."""

    def script(request: Request) -> Answer:
        before = 0
        for step in steps:
            if before == request.done:
                return step
            before += len(step.get("calls", ())) or 1
        return {"text": "The script is over."}

    return script


class Api:
    """The server: what it was asked, and how often each answer was given."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.answered: list[int] = []  # ``done`` of each request that got an answer
        self.hung = threading.Event()
        self.gone = threading.Event()  # the client of a request that hangs went away
        self.url = ""

    @property
    def env(self) -> dict[str, str]:
        return {
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": KEY,
        }


def _read(path: str, headers: dict[str, str], body: dict[str, Any]) -> Request:
    request = Request(path, headers, body)
    if path.endswith("/chat/completions"):
        names: dict[str, str] = {}
        for message in body["messages"]:
            if message["role"] == "assistant":
                for call in message.get("tool_calls") or ():
                    names[call["id"]] = call["function"]["name"]
                    request.calls.append(call["function"]["name"])
                request.said += not message.get("tool_calls")
            elif message["role"] == "tool":
                name = names.get(message["tool_call_id"], "")
                request.results.append((name, _flat(message["content"])))
        return request
    turn = read_messages(body) if path.endswith("/messages") else read_responses(body)
    request.calls, request.results = turn.calls, turn.results
    if path.endswith("/messages"):
        for message in body["messages"]:
            if message["role"] == "assistant":
                content = message["content"] if isinstance(message["content"], list) else []
                request.said += not any(block.get("type") == "tool_use" for block in content)
        return request
    items = body["input"] if isinstance(body["input"], list) else []
    for item, after in zip(items, [*items[1:], {}], strict=True):
        if item.get("role") == "assistant":
            request.said += after.get("type") != "function_call"
    return request


def _write(request: Request, answer: Answer) -> dict[str, Any]:
    calls: Sequence[tuple[str, Any]] = answer.get("calls", ())
    text = answer.get("text", "")
    incoming, outgoing = answer.get("usage", USAGE)
    cut = answer.get("cut", False)
    if request.path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = [
                {
                    "id": _id("call"),
                    "type": "function",
                    "function": {"name": name, "arguments": _args(args)},
                }
                for name, args in calls
            ]
        reason = "length" if cut else "tool_calls" if calls else "stop"
        return {
            "id": _id("chatcmpl"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {
                "prompt_tokens": incoming,
                "completion_tokens": outgoing,
                "total_tokens": incoming + outgoing,
            },
        }
    if request.path.endswith("/messages"):
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        for name, args in calls:
            content.append({"type": "tool_use", "id": _id("toolu"), "name": name, "input": args})
        return {
            "id": _id("msg"),
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": content,
            "stop_reason": "max_tokens" if cut else "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": incoming, "output_tokens": outgoing},
        }
    items: list[dict[str, Any]] = []
    if text:
        words = [{"type": "output_text", "text": text, "annotations": []}]
        items.append(
            {
                "type": "message",
                "id": _id("msg"),
                "role": "assistant",
                "status": "completed",
                "content": words,
            }
        )
    for name, args in calls:
        items.append(
            {
                "type": "function_call",
                "id": _id("fc"),
                "call_id": _id("call"),
                "name": name,
                "arguments": _args(args),
                "status": "completed",
            }
        )
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": request.model,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": incoming,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": outgoing,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": incoming + outgoing,
        },
    }


def _args(args: Any) -> str:
    return args if isinstance(args, str) else json.dumps(args)


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # the client was killed

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = _read(self.path.split("?")[0], headers, json.loads(raw))
        self.api.requests.append(request)
        answer = self.api.script(request)
        if answer.get("hang"):
            self.api.hung.set()
            self.connection.settimeout(60)
            if not self.rfile.read(1):
                self.api.gone.set()
            self.close_connection = True
            return
        if "status" in answer:
            body: Any = {"error": {"message": answer.get("message", ""), "type": "scripted"}}
            if request.path.endswith("/messages"):
                body["type"] = "error"
        else:
            body = _write(request, answer)
        data = json.dumps(body).encode()
        self.send_response(answer.get("status", 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if "location" in answer:
            self.send_header("Location", answer["location"])
        if "retry_after" in answer:
            self.send_header("Retry-After", answer["retry_after"])
        self.end_headers()
        self.wfile.write(data)
        if "status" not in answer:
            self.api.answered.append(request.done)


@contextmanager
def serving(script: Script) -> Iterator[Api]:
    """Answer on a free port of loopback until the end of the block."""
    api = Api(script)
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
