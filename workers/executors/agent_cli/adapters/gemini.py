"""Gemini CLI: ``gemini -o stream-json``."""

from __future__ import annotations

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


def settings(plan: Plan) -> dict[str, Any]:
    """Return settings that outrank those in the repository; Qwen Code has the same."""
    server = {
        "httpUrl": plan.mcp_url,
        "headers": {"Authorization": f"Bearer ${TOKEN_VARIABLE}"},
        "trust": True,
    }
    found: dict[str, Any] = {
        "mcpServers": {SERVER: server},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
    }
    if not plan.trusted:
        found["mcp"] = {"allowed": [SERVER]}
        found["hooksConfig"] = {"enabled": False}
        found["disableAllHooks"] = True
    return found


def variables(plan: Plan, found: dict[str, Any]) -> dict[str, str]:
    """Write Gemini CLI's settings and return the variables that make it read them.

    It reads those that outrank the repository's only where nobody else may write to any folder
    above them; in HOME it reads them always.
    """
    if plan.env.get("GEMINI_API_KEY"):
        found["security"] = {"auth": {"selectedType": "gemini-api-key"}}
    config = plan.write("settings.json", found)
    usual = plan.home / ".gemini" / "settings.json"
    usual.parent.mkdir(exist_ok=True)
    usual.write_text(config.read_text())
    # It starts no server in a folder that it doesn't trust, not even one that we name. What it
    # would load from there is asked about before, see ``loads``.
    return {
        "GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(config),
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


class Gemini:
    name, title, program = "gemini", "Gemini CLI", "gemini"
    names_sessions, resumes, connects = True, True, True
    # What runs commands by itself and can't be outranked: tools found by a command.
    loads: tuple[str, ...] = (".gemini/settings.json",)

    def start(self, plan: Plan) -> Start:
        argv = [self.program, "-o", "stream-json", "--approval-mode", "yolo", "--skip-trust"]
        argv += ["--resume" if plan.resume else "--session-id", plan.session]
        argv += ["-m", plan.model] if plan.model else []
        env = variables(plan, settings(plan))
        return Start([*argv, *plan.args], env=env, stdin=plan.prompt_file)

    def parser(self, plan: Plan) -> GeminiLines:
        return GeminiLines(plan.model)


class GeminiLines(JsonLines):
    def __init__(self, model: str) -> None:
        self._model, self._saying, self._said = model, "", ""

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        kind = said.get("type")
        if kind == "message" and said.get("role") == "assistant":
            text = words(said.get("content"))
            self._saying = self._saying + text if said.get("delta") else text
            return
        if self._saying.strip():
            self._said, self._saying = self._saying, ""
            yield Event(Kind.SAID, text=self._said)
        if kind == "init":
            self._model = self._model or str(said.get("model") or "")
            yield Event(Kind.SESSION, id=str(said.get("session_id")))
        elif kind == "tool_use":
            name, called = str(said.get("tool_name")), about(said.get("parameters"))
            yield Event(Kind.CALLED, id=str(said.get("tool_id")), name=name, text=called)
        elif kind == "tool_result":
            text = words(said.get("output")) or words(said.get("error"))
            ok = said.get("status") == "success"
            yield Event(Kind.RETURNED, id=str(said.get("tool_id")), text=text, ok=ok)
        elif kind == "error":
            yield Event(Kind.TROUBLE, text=words(said))
        elif kind == "result":
            stats, ok = said.get("stats"), said.get("status") == "success"
            read, wrote = field(stats, "input_tokens"), field(stats, "output_tokens")
            usage = Usage(number(read), number(wrote), model=self._model)
            text = self._said if ok else words(said.get("error")) or "It ended in an error."
            yield Event(Kind.OVER, text=text, ok=ok, usage=usage)
        else:
            yield OTHER


GEMINI = Gemini()
