"""Claude Code: ``claude -p --output-format stream-json``."""

from __future__ import annotations

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
from workers.executors.contract import Usage

from .base import SERVER, TOKEN_VARIABLE, JsonLines, Plan, Start

#: What it may use without asking: nobody is there to be asked.
_ALLOWED = "Bash,Edit,MultiEdit,Write,NotebookEdit,WebFetch,WebSearch"


class Claude:
    name, title, program = "claude", "Claude Code", "claude"
    names_sessions, resumes, connects = True, True, True
    loads: tuple[str, ...] = ()

    def start(self, plan: Plan) -> Start:
        server = {
            "type": "http",
            "url": plan.mcp_url,
            "headers": {"Authorization": f"Bearer ${{{TOKEN_VARIABLE}}}"},
        }
        config = plan.write("mcp.json", {"mcpServers": {SERVER: server}})
        argv = [self.program, "-p", "--output-format", "stream-json", "--verbose"]
        argv += ["--resume" if plan.resume else "--session-id", plan.session]
        argv += ["--model", plan.model] if plan.model else []
        argv += ["--mcp-config", str(config), "--permission-mode", "acceptEdits"]
        argv += ["--allowedTools", f"mcp__{SERVER},{_ALLOWED}"]
        if not plan.trusted:
            # No servers, hooks or settings that the repository brings.
            argv += ["--strict-mcp-config", "--setting-sources", "user"]
        env = {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "4",  # then the card waits instead of the worker
        }
        # The prompt comes last of all by standard input: --allowedTools takes any words after it.
        return Start([*argv, *plan.args], env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> ClaudeLines:
        return ClaudeLines()


class ClaudeLines(JsonLines):
    """Claude's stream-json, which others have taken over."""

    def __init__(self) -> None:
        self._session = ""
        self._messages: set[str] = set()

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        session = field(said, "session_id")
        if isinstance(session, str) and session and session != self._session:
            self._session = session
            yield Event(Kind.SESSION, id=session)
        kind, content = said.get("type"), field(said, "message", "content")
        blocks = content if isinstance(content, list) else []
        if kind == "assistant":
            yield from self._spent(said)
            for block in blocks:
                if field(block, "type") == "text" and words(block):
                    yield Event(Kind.SAID, text=words(block))
                elif field(block, "type") == "tool_use":
                    called = about(field(block, "input"))
                    name = str(field(block, "name"))
                    yield Event(Kind.CALLED, id=str(field(block, "id")), name=name, text=called)
        elif kind == "user":
            for block in blocks:
                if field(block, "type") == "tool_result":
                    yield Event(
                        Kind.RETURNED,
                        id=str(field(block, "tool_use_id")),
                        text=words(field(block, "content")),
                        ok=not field(block, "is_error"),
                    )
        elif kind == "system" and said.get("subtype") == "api_retry":
            told = f"{said.get('error_status') or ''} {words(said.get('error'))}".strip()
            yield Event(Kind.TROUBLE, text=f"The model can't be reached just now: {told}")
        elif kind == "result":
            yield from self._over(said)
        else:
            yield OTHER

    def _spent(self, said: dict[str, Any]) -> Iterable[Event]:
        """Every block of a message says again what the whole message cost."""
        message = str(field(said, "message", "id"))
        spent = field(said, "message", "usage")
        if isinstance(spent, dict) and message not in self._messages:
            self._messages.add(message)
            model = str(field(said, "message", "model") or "")
            yield Event(Kind.SPENT, usage=Usage(_read(spent), 0, model=model))

    def _over(self, said: dict[str, Any]) -> Iterable[Event]:
        spent = field(said, "usage") or {}
        models = field(said, "modelUsage")
        usage = Usage(
            _read(spent),
            number(field(spent, "output_tokens")),
            money(said.get("total_cost_usd")),
            next(iter(models), "") if isinstance(models, dict) else "",
        )
        ok = said.get("subtype") == "success" and not said.get("is_error")
        text = words(said.get("result")) or words(said.get("errors")) or words(said.get("error"))
        if not ok and not text:
            text = f"It ended with {said.get('subtype')}."
        yield Event(Kind.OVER, text=text, ok=ok, usage=usage)


def _read(spent: dict[str, Any]) -> int:
    """Return the tokens that the model read, from its cache or not."""
    parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(number(spent.get(name)) for name in parts)


CLAUDE = Claude()
