"""The lines that connect each kind of agent to a board, as data and small functions.

A secret never stands in a file that these lines make: files name the environment variable,
and the shell line that sets it begins with a space, which keeps it out of most histories.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Stands in the lines where no token was made yet.
PLACEHOLDER = "<your token>"


@dataclass(frozen=True, slots=True)
class Connection:
    """What the lines are made of: the server's address, a board and perhaps a new token."""

    url: str
    board: str
    token: str = PLACEHOLDER

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"

    @property
    def prompt(self) -> str:
        """What to tell the agent. All else it learns from the server."""
        card = f"the next Holdfast card of board {self.board}"
        return f"Work on {card} until it is done or handed over."


@dataclass(frozen=True, slots=True)
class Block:
    """Something to copy: what to do with it, and the text. ``path`` is the file it belongs in."""

    title: str
    text: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of agent and the blocks that connect it, in order."""

    slug: str
    name: str
    blocks: tuple[Block, ...]
    note: str
    hooks: tuple[Block, ...] = ()  # what keeps a card's lease without being asked


def recipes(to: Connection) -> list[Recipe]:
    """Return the recipe of every kind of agent, filled in for the connection."""
    return [
        Recipe(slug, name, tuple(make(to)), note, _hooks(slug)) for slug, name, make, note in _KINDS
    ]


def _hooks(slug: str) -> tuple[Block, ...]:
    # Late: the client's package brings an HTTP library that the server needs nowhere else.
    from holdfast.hooks.snippets import has_hook, snippets

    if not has_hook(slug):
        return ()
    return tuple(Block(found.title, found.text, found.path) for found in snippets(slug))


# ── what they share ──────────────────────────────────────────────────────────────────────


def _environment(to: Connection) -> Block:
    return Block(
        "Set the address and the token, in the shell that starts the agent",
        f" export HOLDFAST_URL={shlex.quote(to.url)} HOLDFAST_TOKEN={shlex.quote(to.token)}",
    )


def _file(path: str, content: Mapping[str, Any], title: str = "Put this in a file") -> Block:
    return Block(title, json.dumps(content, indent=2), path)


def _start(line: str) -> Block:
    return Block("Start it", line)


# ── each kind of agent ───────────────────────────────────────────────────────────────────


def _claude(to: Connection) -> list[Block]:
    return [
        _environment(to),
        Block(
            "Add the server to the project (it writes .mcp.json, without the token)",
            f"claude mcp add --scope project --transport http holdfast {shlex.quote(to.mcp)} "
            "--header 'Authorization: Bearer ${HOLDFAST_TOKEN}'",
        ),
        _start(f"claude --allowedTools mcp__holdfast -- {shlex.quote(to.prompt)}"),
    ]


def _codex(to: Connection) -> list[Block]:
    server = "\n".join(
        (
            "[mcp_servers.holdfast]",
            f"url = {json.dumps(to.mcp)}",
            'bearer_token_env_var = "HOLDFAST_TOKEN"',
            "required = true",
        )
    )
    return [
        _environment(to),
        Block("Put this in a file", server, "~/.codex/config.toml"),
        _start(f"codex {shlex.quote(to.prompt)}"),
    ]


def _opencode(to: Connection) -> list[Block]:
    server = {
        "type": "remote",
        "url": to.mcp,
        "oauth": False,
        "headers": {"Authorization": "Bearer {env:HOLDFAST_TOKEN}"},
    }
    config = {"$schema": "https://opencode.ai/config.json", "mcp": {"holdfast": server}}
    return [
        _environment(to),
        _file("opencode.json", config),
        _start(f"opencode run {shlex.quote(to.prompt)}"),
    ]


def _gemini_like(to: Connection, command: str, folder: str) -> list[Block]:
    server = {
        "httpUrl": to.mcp,
        "headers": {"Authorization": "Bearer $HOLDFAST_TOKEN"},
        "trust": True,
    }
    return [
        _environment(to),
        _file(f"{folder}/settings.json", {"mcpServers": {"holdfast": server}}),
        _start(f"{command} -i {shlex.quote(to.prompt)}"),
    ]


def _qwen(to: Connection) -> list[Block]:
    return _gemini_like(to, "qwen", ".qwen")


def _gemini(to: Connection) -> list[Block]:
    return _gemini_like(to, "gemini", ".gemini")


def _cursor(to: Connection) -> list[Block]:
    server = {"url": to.mcp, "headers": {"Authorization": "Bearer ${env:HOLDFAST_TOKEN}"}}
    return [
        _environment(to),
        _file(".cursor/mcp.json", {"mcpServers": {"holdfast": server}}),
        _start(f"cursor-agent {shlex.quote(to.prompt)}"),
    ]


def _curl(to: Connection) -> list[Block]:
    claim = json.dumps({"worker": "curl-1", "boards": [to.board], "lease_seconds": 900})
    claiming = (
        'curl -sS "$HOLDFAST_URL/api/v1/claims" -H "Authorization: Bearer $HOLDFAST_TOKEN" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(claim)} | tee claim.json"
    )
    finishing = (
        'ATTEMPT=$(python3 -c \'import json; print(json.load(open("claim.json"))'
        '["attempt"]["id"])\')\n'
        'LEASE=$(python3 -c \'import json; print(json.load(open("claim.json"))'
        '["lease"]["token"])\')\n'
        'curl -sS "$HOLDFAST_URL/api/v1/attempts/$ATTEMPT/complete" '
        '-H "Authorization: Bearer $HOLDFAST_TOKEN" -H "Lease-Token: $LEASE" '
        "-H 'Content-Type: application/json' -d '{\"summary\": \"Done by hand\"}'"
    )
    return [
        _environment(to),
        Block("Claim the next card; the answer holds the briefing and the lease", claiming),
        Block("Complete it, with the lease that the claim gave", finishing),
    ]


def _python(to: Connection) -> list[Block]:
    code = f"""\
from holdfast import Client, step

@step  # its result is recorded: whoever comes next gets it without running this again
def work(part):
    return part * part  # stands for an hour of work

with Client() as client:
    for attempt in client.work("python-1", boards=[{json.dumps(to.board)}]):
        with attempt:  # a thread keeps the lease; an exception in here is recorded as a failure
            print(attempt.briefing)
            squares = [work(part) for part in range(1, 9)]
            attempt.complete(f"The sum is {{sum(squares)}}.", result=squares)
"""
    return [
        _environment(to),
        Block("Claim cards, work on them, complete them", code, "worker.py"),
        _start("python worker.py"),
    ]


_TRUST = "It reads the project's settings once you have trusted the folder."
_PACKAGE = "The holdfast package comes with the server: pip install its checkout or its wheel."

#: In the order in which the page shows them.
_KINDS: tuple[tuple[str, str, Callable[[Connection], list[Block]], str], ...] = (
    ("claude", "Claude Code", _claude, "Without a terminal: claude -p, with the same options."),
    ("codex", "Codex", _codex, "Without a terminal: codex exec, with the same words."),
    ("opencode", "OpenCode", _opencode, ""),
    ("qwen", "Qwen Code", _qwen, _TRUST),
    ("gemini", "Gemini CLI", _gemini, _TRUST),
    ("cursor", "Cursor", _cursor, "Started from that shell with cursor . the editor has it too."),
    ("curl", "curl", _curl, ""),
    ("python", "Python", _python, _PACKAGE),
)
