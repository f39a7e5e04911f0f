"""Every agent that speaks the Agent Client Protocol, version 1: JSON-RPC over its standard streams.

    initialize ─> session/new or session/load ─> session/prompt … updates … ─> stopReason

Source: agentclientprotocol.com, protocol version 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from workers.executors.agent_cli.events import (
    OTHER,
    Event,
    Kind,
    about,
    field,
    money,
    number,
    words,
)
from workers.executors.contract import Line, Usage

from .base import SERVER, JsonLines, Plan, Start
from .gemini import settings as gemini_settings
from .gemini import variables as gemini_variables
from .opencode import settings as opencode_settings
from .opencode import variables as opencode_variables

VERSION = 1
LEAVE_SECONDS = 3.0  # for an agent to end once it was told that nothing more comes
_NO_METHOD = -32601
_AUTH_REQUIRED = -32000
_GOOD_ENDS = ("end_turn",)


class Acp:
    name, title, program = "acp", "the agent", ""
    names_sessions, resumes, connects = False, True, True
    loads: tuple[str, ...] = ()

    def start(self, plan: Plan) -> Start:
        """The server and its token go over the line; settings only keep the repository's out."""
        program = plan.argv[0].rpartition("/")[2]
        env: dict[str, str] = {}
        if program == "opencode":
            config = opencode_settings(plan)
            del config["mcp"]
            env = opencode_variables(plan, config)
        elif program in ("gemini", "qwen"):
            config = gemini_settings(plan)
            del config["mcpServers"]
            if program == "gemini":
                env = gemini_variables(plan, config)
            else:
                env = {"QWEN_CODE_SYSTEM_SETTINGS_PATH": str(plan.write("settings.json", config))}
        return Start([*plan.argv, *plan.args], env=env)

    def parser(self, plan: Plan) -> AcpTalk:
        return AcpTalk(plan)


class AcpTalk(JsonLines):
    """One conversation with an agent."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._line: Line | None = None
        self._number = 0
        self._asked: dict[int, str] = {}
        self._session = ""
        self._replaying = False
        self._saying, self._said = "", ""
        self._called: set[str] = set()

    def opening(self) -> str:
        return self._request(
            "initialize",
            {
                "protocolVersion": VERSION,
                "clientCapabilities": {
                    "fs": {"readTextFile": False, "writeTextFile": False},
                    "terminal": False,
                },
                "clientInfo": {"name": "holdfast", "version": "1"},
            },
        )

    def answer_by(self, line: Line) -> None:
        self._line = line

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        method, id_ = said.get("method"), said.get("id")
        if method is None and isinstance(id_, int) and id_ in self._asked:
            asked = self._asked.pop(id_)
            if said.get("error") is not None:
                yield from self._refused(asked, said["error"])
            else:
                yield from self._answered(asked, said.get("result"))
        elif method == "session/update":
            yield from self._update(field(said, "params", "update"))
        elif method == "session/request_permission":
            yield from self._begun(field(said, "params", "toolCall"))
            self._answer(id_, self._permitted(field(said, "params", "options")))
        elif method is not None and id_ is not None:
            error = {"code": _NO_METHOD, "message": f"There is no {str(method)[:100]} here."}
            self._send({"id": id_, "error": error})
        else:
            yield OTHER

    def _answered(self, asked: str, result: Any) -> Iterable[Event]:
        if asked == "initialize":
            if field(result, "protocolVersion") != VERSION:
                spoken = field(result, "protocolVersion")
                text = f"It speaks version {spoken} of the Agent Client Protocol, not {VERSION}."
                yield from self._over(text, ok=False)
                return
            can = field(result, "agentCapabilities")
            servers = self._servers(can)
            place = {"cwd": str(self._plan.tree), "mcpServers": servers}
            if self._plan.resume and field(can, "loadSession"):
                self._replaying = True  # it tells all of the session again before it answers
                self._session = self._plan.session
                self._ask("session/load", {"sessionId": self._session, **place})
            elif self._plan.resume:
                yield from self._over("session not found: it can't load one.", ok=False)
            else:
                self._ask("session/new", place)
        elif asked in ("session/new", "session/load"):
            self._replaying = False
            self._saying = ""
            self._session = str(field(result, "sessionId") or self._session)
            yield Event(Kind.SESSION, id=self._session)
            prompt = [{"type": "text", "text": self._plan.prompt}]
            self._ask("session/prompt", {"sessionId": self._session, "prompt": prompt})
        elif asked == "session/prompt":
            yield from self._finish_saying()
            counted = field(result, "_meta", "quota", "token_count") or field(result, "usage")
            yield from self._spent(counted)
            reason = str(field(result, "stopReason"))
            ok = reason in _GOOD_ENDS
            yield from self._over(self._said if ok else f"It stopped: {reason}.", ok=ok)

    def _refused(self, asked: str, error: Any) -> Iterable[Event]:
        text = f"{asked}: {words(error)} {words(field(error, 'data'))}".strip()
        if field(error, "code") == _AUTH_REQUIRED and asked.startswith("session/"):
            text = f"auth_required: {text}"
        elif asked == "session/load":
            text = f"session not found: {text}"
        yield from self._over(text, ok=False)

    def _over(self, text: str, *, ok: bool) -> Iterable[Event]:
        yield Event(Kind.OVER, text=text, ok=ok)
        if self._line is not None:
            self._line.hang_up(LEAVE_SECONDS)

    def _update(self, update: Any) -> Iterable[Event]:
        if self._replaying:
            return
        kind = field(update, "sessionUpdate")
        if kind == "agent_message_chunk":
            self._saying += words(field(update, "content"))
            yield from self._spent(field(update, "_meta", "usage"))
            return
        if kind == "agent_thought_chunk":
            return
        yield from self._finish_saying()
        if kind == "tool_call":
            yield from self._begun(update)
            yield from self._ended(update)
        elif kind == "tool_call_update":
            yield from self._ended(update)
        elif kind == "usage_update":
            cost = field(update, "cost")
            if field(cost, "currency") in (None, "USD"):
                # What the session cost by now; what it read and wrote is told elsewhere.
                amount = money(field(cost, "amount"))
                yield Event(Kind.TOTAL, usage=Usage(cost_usd=amount))
        else:
            yield OTHER

    def _begun(self, call: Any) -> Iterable[Event]:
        """Tell of a call by whatever names it first: itself, a request for leave, or its end."""
        called = str(field(call, "toolCallId"))
        if called not in self._called:
            self._called.add(called)
            yield from self._finish_saying()
            name = str(field(call, "_meta", "toolName") or field(call, "kind") or "tool")
            text = about(field(call, "rawInput")) or str(field(call, "title") or "")
            yield Event(Kind.CALLED, id=called, name=name, text=text)

    def _spent(self, counted: Any) -> Iterable[Event]:
        read = field(counted, "input_tokens") or field(counted, "inputTokens")
        wrote = field(counted, "output_tokens") or field(counted, "outputTokens")
        if number(read) or number(wrote):
            yield Event(Kind.SPENT, usage=Usage(number(read), number(wrote)))

    def _ended(self, update: Any) -> Iterable[Event]:
        status = field(update, "status")
        if status in ("completed", "failed"):
            yield from self._begun(update)
            text = words(field(update, "content")) or words(field(update, "rawOutput"))
            called = str(field(update, "toolCallId"))
            yield Event(Kind.RETURNED, id=called, text=text, ok=status == "completed")

    def _finish_saying(self) -> Iterable[Event]:
        if self._saying.strip():
            self._said, self._saying = self._saying.strip(), ""
            yield Event(Kind.SAID, text=self._said)

    def _servers(self, can: Any) -> list[dict[str, Any]]:
        if not field(can, "mcpCapabilities", "http"):
            return []
        header = {"name": "Authorization", "value": f"Bearer {self._plan.token}"}
        return [{"type": "http", "name": SERVER, "url": self._plan.mcp_url, "headers": [header]}]

    def _permitted(self, options: Any) -> dict[str, Any]:
        """Allow what is asked for: nobody is there to be asked, and the sandbox is ours.

        Once and again: what is allowed for good may be kept in a file of the repository.
        """
        offered = [o for o in options or [] if isinstance(o, dict)]
        for kind in ("allow_once", "allow_always"):
            for option in offered:
                if option.get("kind") == kind:
                    return {"outcome": {"outcome": "selected", "optionId": option["optionId"]}}
        return {"outcome": {"outcome": "cancelled"}}

    def _ask(self, method: str, params: dict[str, Any]) -> None:
        if self._line is not None:
            self._line.send(self._request(method, params))

    def _request(self, method: str, params: dict[str, Any]) -> str:
        self._number += 1
        self._asked[self._number] = method
        return _encoded({"id": self._number, "method": method, "params": params})

    def _answer(self, id_: Any, result: dict[str, Any]) -> None:
        self._send({"id": id_, "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        if self._line is not None:
            self._line.send(_encoded(message))


def _encoded(message: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", **message}) + "\n"


ACP = Acp()
