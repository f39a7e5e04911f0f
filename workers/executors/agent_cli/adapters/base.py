"""What an adapter is: all that is peculiar to one agent. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workers.executors.agent_cli.events import OTHER, Event, Kind, Parser, Talker

SERVER = "holdfast"  # what agents know the MCP server by
TOKEN_VARIABLE = "HOLDFAST_TOKEN"  # no file holds the token, agents put it in where it is due


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of an agent, in the folder ``tree`` of the workspace ``top``.

    ``session`` is the one to go on with if ``resume``, else its name for a new one where the
    agent lets us name it. ``own`` is a folder of the agent's in HOME.
    """

    home: Path
    own: Path
    top: Path
    tree: Path
    prompt: str
    prompt_file: Path
    session: str
    resume: bool
    model: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    url: str
    token: str
    trusted: bool
    command: str = ""
    argv: tuple[str, ...] = ()

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    def write(self, name: str, content: Any) -> Path:
        """Write a file for the agent alone, JSON unless it is text; return its path."""
        path = self.own / name
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(text)
        draft.chmod(0o600)
        draft.replace(path)
        return path


@dataclass(frozen=True, slots=True)
class Start:
    """How to start an agent: words of its command line, or ``shell`` if it is a person's own.

    ``stdin`` is the file it reads the prompt from, if it does that.
    """

    argv: Sequence[str] = ()
    shell: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Path | None = None


class Adapter(Protocol):
    """All that is peculiar to one agent. It keeps nothing between two calls.

    ``names_sessions``: it takes the session's name from us. ``resumes``: it can go on with one.
    ``connects``: it is told of the MCP server. ``loads`` are files of a repository that it would
    obey and can't be told to leave alone.
    """

    name: str
    title: str
    program: str
    names_sessions: bool
    resumes: bool
    connects: bool
    loads: tuple[str, ...]

    def start(self, plan: Plan) -> Start:
        """Write the agent's files, and return how to start it."""
        ...

    def parser(self, plan: Plan) -> Parser | Talker:
        """Return who understands this run."""
        ...


class JsonLines:
    """A parser of lines that are JSON objects; anything else says nothing."""

    def feed(self, line: str) -> Iterable[Event]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return [OTHER]
        if not isinstance(said, dict):
            return [OTHER]
        return self.understand(said)

    def understand(self, said: dict[str, Any]) -> Iterable[Event]:
        raise NotImplementedError

    def end(self, exit_code: int | None) -> Iterable[Event]:
        return []


class PlainText:
    """A parser of output meant for people: the exit code is the last word."""

    def __init__(self, session: str = "") -> None:
        self._last: list[str] = []

    def feed(self, line: str) -> Iterable[Event]:
        if line.strip():
            self._last = [*self._last, line.rstrip()][-20:]
        return [OTHER]

    def end(self, exit_code: int | None) -> Iterable[Event]:
        return [Event(Kind.OVER, text="\n".join(self._last), ok=exit_code == 0)]


def there(tree: Path, top: Path, names: Sequence[str]) -> list[str]:
    """Return those of the files that stand in the folder or one above it, up to ``top``."""
    found: list[str] = []
    for folder in (tree, *tree.parents):
        found += [name for name in names if os.path.lexists(folder / name)]
        if folder == top:
            break
    return sorted(set(found))
