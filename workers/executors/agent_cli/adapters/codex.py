"""Codex: ``codex exec --json``."""

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
    number,
    words,
)
from workers.executors.contract import Usage

from .base import SERVER, TOKEN_VARIABLE, JsonLines, Plan, Start

_WORK = ("command_execution", "mcp_tool_call", "file_change", "web_search", "collab_tool_call")


class Codex:
    name, title, program = "codex", "Codex", "codex"
    names_sessions, resumes, connects = False, True, True
    loads: tuple[str, ...] = ()

    def start(self, plan: Plan) -> Start:
        base = plan.env.get("OPENAI_BASE_URL", "")
        lines = []
        if plan.model:
            lines.append(f"model = {json.dumps(plan.model)}")
        if base:
            lines.append('model_provider = "own"')
        lines += [
            "check_for_update_on_startup = false",
            "",
            f"[mcp_servers.{SERVER}]",
            f"url = {json.dumps(plan.mcp_url)}",
            f'bearer_token_env_var = "{TOKEN_VARIABLE}"',
            "required = true",  # else it may begin without the tools
        ]
        if base:
            lines += [
                "",
                "[model_providers.own]",
                'name = "own"',
                f"base_url = {json.dumps(base)}",
                'env_key = "OPENAI_API_KEY"',
                'wire_api = "responses"',
            ]
        # A project's own settings count only where the file says that it is trusted.
        trust = "trusted" if plan.trusted else "untrusted"
        lines += ["", f"[projects.{json.dumps(str(plan.tree))}]", f'trust_level = "{trust}"', ""]
        plan.write("config.toml", "\n".join(lines))
        argv = [self.program, "exec"]
        argv += ["resume", "--json"] if plan.resume else ["--json"]
        # The workspace is sandboxed by the worker, as all commands are.
        argv += ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        argv += [*plan.args, *([plan.session] if plan.resume else []), "-"]
        env = {"CODEX_HOME": str(plan.own)}
        if not plan.env.get("CODEX_API_KEY") and plan.env.get("OPENAI_API_KEY"):
            env["CODEX_API_KEY"] = plan.env["OPENAI_API_KEY"]
        return Start(argv, env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> CodexLines:
        return CodexLines(plan.model)


class CodexLines(JsonLines):
    def __init__(self, model: str) -> None:
        self._model, self._last, self._error = model, "", ""

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        kind, item = str(said.get("type")), said.get("item")
        what = str(field(item, "type"))
        if kind == "thread.started":
            yield Event(Kind.SESSION, id=str(said.get("thread_id")))
        elif kind == "item.started" and what in _WORK:
            yield self._called(item, what)
        elif kind == "item.completed" and what in _WORK:
            if what == "file_change":  # it has no beginning
                yield self._called(item, what)
            yield self._returned(item)
        elif kind == "item.completed" and what == "agent_message":
            self._last = words(item)
            yield Event(Kind.SAID, text=self._last)
        elif kind == "item.completed" and what == "error":
            yield Event(Kind.TROUBLE, text=words(item))
        elif kind == "error":
            self._error = words(said)
            yield Event(Kind.TROUBLE, text=self._error)
        elif kind == "turn.completed":
            spent = said.get("usage")
            read, wrote = field(spent, "input_tokens"), field(spent, "output_tokens")
            total = Usage(number(read), number(wrote), model=self._model)
            yield Event(Kind.TOTAL, usage=total)
            yield Event(Kind.OVER, text=self._last)
        elif kind == "turn.failed":
            text = words(said.get("error")) or self._error or "The turn failed."
            yield Event(Kind.OVER, text=text, ok=False)
        else:
            yield OTHER

    def _called(self, item: Any, what: str) -> Event:
        name = {"command_execution": "shell", "file_change": "edit"}.get(what, what)
        arguments: Any = item
        if what == "mcp_tool_call":
            name = f"mcp__{field(item, 'server')}__{field(item, 'tool')}"
            arguments = field(item, "arguments")
        elif what == "file_change":
            changes = field(item, "changes") or []
            arguments = {"path": [str(field(change, "path")) for change in changes]}
        return Event(Kind.CALLED, id=str(field(item, "id")), name=name, text=about(arguments))

    def _returned(self, item: Any) -> Event:
        code = field(item, "exit_code")
        ok = field(item, "status") != "failed" and code in (None, 0)
        text = field(item, "aggregated_output") or words(field(item, "result"))
        text = text or words(field(item, "error"))
        if code not in (None, 0):
            text = f"exit code {code}\n{text}"
        return Event(Kind.RETURNED, id=str(field(item, "id")), text=str(text), ok=ok)


CODEX = Codex()
