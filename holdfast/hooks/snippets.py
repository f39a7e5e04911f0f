"""The lines that install the hook in each command line, and the words for those without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Snippet:
    """Something to paste: what it is, the text, and the file that it belongs in."""

    title: str
    text: str
    path: str = ""


INSTRUCTIONS = """\
## Holdfast

You work on cards of a Holdfast board, through its MCP tools.

- Begin with claim_card and read the briefing that it answers with. Steps it lists as done are done.
- Call begin_step before each step and finish_step after it; a step in doubt is looked at first.
- Call heartbeat at least every five minutes of other work, and obey its directive and messages.
- Save a checkpoint (save_checkpoint) whenever somebody without your memory could go on from there.
- Never just stop. End with complete_card and evidence, block_card and a question for a person,
  fail_card and the lesson, or release_card with what is done and what comes next.
- After lease_lost another worker has the card: stop, and change nothing more for it.
"""


def has_hook(cli: str) -> bool:
    """True for the command lines that call a hook of ours."""
    return cli in _HOOKS


def snippets(cli: str) -> list[Snippet]:
    """Return what to paste for this command line; the plain instructions for any other."""
    return [*_HOOKS.get(cli, list)(), _instructions(_FILES.get(cli, "AGENTS.md"))]


def _instructions(path: str) -> Snippet:
    return Snippet("Tell the agent, in the project's instructions file", INSTRUCTIONS, path)


def _file(path: str, content: dict[str, Any]) -> Snippet:
    return Snippet("Add this to the settings", json.dumps(content, indent=2), path)


def _matched(cli: str, events: dict[str, bool], unit: int = 1) -> dict[str, Any]:
    """Return hooks as four command lines write them; the flag says that an event has tools.

    ``unit`` is how many of the command line's units of time are a second.
    """

    def run(event: str) -> dict[str, Any]:
        # The hook goes on by itself after a session; Codex allows it no more than this anyway.
        seconds = 3 if event == "SessionEnd" else 10
        command = f"holdfast hook {cli}"
        return {"type": "command", "command": command, "timeout": seconds * unit}

    return {
        "hooks": {
            event: [{**({"matcher": "*"} if tools else {}), "hooks": [run(event)]}]
            for event, tools in events.items()
        }
    }


#: A tool that fails, such as a test run, is an event of its own.
_EVENTS = {"PostToolUse": True, "PostToolUseFailure": True, "Stop": False, "SessionEnd": False}


def _claude() -> list[Snippet]:
    return [_file(".claude/settings.json", _matched("claude", _EVENTS))]


def _codex() -> list[Snippet]:
    events = {"PostToolUse": True, "Stop": False, "SessionEnd": False}
    return [
        _file("~/.codex/hooks.json", _matched("codex", events)),
        Snippet("Codex runs a hook only after you trusted it: in codex, once", "/hooks"),
    ]


def _qwen() -> list[Snippet]:
    return [_file(".qwen/settings.json", _matched("qwen", _EVENTS, 1000))]


def _gemini() -> list[Snippet]:
    events = {"AfterTool": True, "AfterAgent": False, "SessionEnd": False}
    return [_file(".gemini/settings.json", _matched("gemini", events, 1000))]


def _cursor() -> list[Snippet]:
    run = [{"command": "holdfast hook cursor"}]
    hooks = {"postToolUse": run, "stop": run, "sessionEnd": run}
    return [_file(".cursor/hooks.json", {"version": 1, "hooks": hooks})]


def _opencode() -> list[Snippet]:
    return [Snippet("Save this plugin", _OPENCODE, ".opencode/plugins/holdfast.js")]


_OPENCODE = """\
import { spawn, spawnSync } from "node:child_process";

// Tells `holdfast hook opencode` what happens; whatever fails there is ignored here.
const hook = (event) =>
  new Promise((done) => {
    const child = spawn("holdfast", ["hook", "opencode"], { stdio: ["pipe", "pipe", "ignore"] });
    let said = "";
    child.stdout.on("data", (part) => (said += part));
    child.on("error", () => done({}));
    child.on("close", () => {
      try {
        done(JSON.parse(said));
      } catch {
        done({});
      }
    });
    child.stdin.on("error", () => {});
    child.stdin.end(JSON.stringify(event));
  });

const sessions = new Set();

export const Holdfast = async ({ client, directory }) => {
  process.on("exit", () => {
    for (const session_id of sessions) {
      const event = { hook_event_name: "SessionEnd", session_id, cwd: directory };
      spawnSync("holdfast", ["hook", "opencode"], { input: JSON.stringify(event), timeout: 5000 });
    }
  });
  return {
    "tool.execute.after": async (input, output) => {
      sessions.add(input.sessionID);
      const { context } = await hook({
        hook_event_name: "PostToolUse",
        session_id: input.sessionID,
        cwd: directory,
        tool_name: input.tool,
        tool_input: input.args,
        tool_response: output,
      });
      if (!context) return;
      if (typeof output.output === "string") output.output += `\\n\\n${context}`;
      else if (Array.isArray(output.content)) output.content.push({ type: "text", text: context });
    },
    event: async ({ event }) => {
      if (event.type !== "session.idle") return;
      const id = event.properties.sessionID;
      const { followup } = await hook({ hook_event_name: "Stop", session_id: id, cwd: directory });
      const body = { parts: [{ type: "text", text: followup }] };
      if (followup) await client.session.prompt({ path: { id }, body });
    },
  };
};
"""

_HOOKS: dict[str, Callable[[], list[Snippet]]] = {
    "claude": _claude,
    "codex": _codex,
    "opencode": _opencode,
    "qwen": _qwen,
    "gemini": _gemini,
    "cursor": _cursor,
}

_FILES = {"claude": "CLAUDE.md", "qwen": "QWEN.md", "gemini": "GEMINI.md"}
