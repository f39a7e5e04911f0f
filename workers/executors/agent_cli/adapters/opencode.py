"""OpenCode: ``opencode run --format json``."""

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


class OpenCode:
    name, title, program = "opencode", "OpenCode", "opencode"
    names_sessions, resumes, connects = False, True, True
    loads: tuple[str, ...] = ()

    def start(self, plan: Plan) -> Start:
        argv = [self.program, "run", "--format", "json"]
        argv += ["-s", plan.session] if plan.resume else []
        env = variables(plan, settings(plan))
        return Start([*argv, *plan.args], env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> OpenCodeLines:
        return OpenCodeLines(plan.model)


def settings(plan: Plan) -> dict[str, Any]:
    """Return OpenCode's settings: it may do everything, and knows the server and the model."""
    server = {
        "type": "remote",
        "url": plan.mcp_url,
        "oauth": False,
        "headers": {"Authorization": f"Bearer {{env:{TOKEN_VARIABLE}}}"},
    }
    found: dict[str, Any] = {
        "permission": "allow",
        "autoupdate": False,
        "share": "disabled",
        "mcp": {SERVER: server},
    }
    model, base = plan.model, plan.env.get("OPENAI_BASE_URL")
    if base and model:
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "own",
            "options": {"baseURL": base, "apiKey": "{env:OPENAI_API_KEY}"},
            "models": {model: {"name": model}},
        }
        found["provider"] = {"own": provider}
        model = f"own/{model}"
    return {**found, "model": model} if model else found


def variables(plan: Plan, config: dict[str, Any]) -> dict[str, str]:
    """Write the settings and return the variables that make OpenCode read them."""
    env = {
        "OPENCODE_CONFIG": str(plan.write("opencode.json", config)),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }
    if not plan.trusted:
        env["OPENCODE_DISABLE_PROJECT_CONFIG"] = "1"
    return env


class OpenCodeLines(JsonLines):
    def __init__(self, model: str) -> None:
        self._model, self._session, self._last = model, "", ""

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        session, part = said.get("sessionID"), said.get("part")
        if isinstance(session, str) and session and session != self._session:
            self._session = session
            yield Event(Kind.SESSION, id=session)
        kind = said.get("type")
        if kind == "tool_use":
            yield from self._tool(part)
        elif kind == "text" and words(part):
            self._last = words(part)
            yield Event(Kind.SAID, text=self._last)
        elif kind == "step_finish":
            tokens = field(part, "tokens")
            read = number(field(tokens, "input"))
            read += number(field(tokens, "cache", "read")) + number(field(tokens, "cache", "write"))
            wrote = number(field(tokens, "output")) + number(field(tokens, "reasoning"))
            usage = Usage(read, wrote, money(field(part, "cost")), self._model)
            yield Event(Kind.SPENT, usage=usage)
            if field(part, "reason") == "stop":
                yield Event(Kind.OVER, text=self._last)
        elif kind == "error":
            error = said.get("error")
            told = f"{field(error, 'name') or ''} {field(error, 'data', 'statusCode') or ''}"
            text = f"{told} {words(field(error, 'data')) or words(error)}"
            yield Event(Kind.OVER, text=" ".join(text.split()), ok=False)
        else:
            yield OTHER

    def _tool(self, part: Any) -> Iterable[Event]:
        """A call is told of when it is over, both ends at once."""
        called, state = str(field(part, "callID")), field(part, "state")
        name = str(field(part, "tool"))
        yield Event(Kind.CALLED, id=called, name=name, text=about(field(state, "input")))
        ok = field(state, "status") != "error"
        text = words(field(state, "output")) or words(field(state, "error"))
        yield Event(Kind.RETURNED, id=called, text=text, ok=ok)


OPENCODE = OpenCode()
