"""Real agent programs: installed for the tests alone, run without the network or a home."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast-tests"
INSTALL_SECONDS = 300
PROMPT = "Work on the next Holdfast card until it is done or handed over."


@dataclass(frozen=True)
class Cli:
    """A make: its package, its program, and how it is told of the model and of the board."""

    name: str
    package: str
    version: str
    entry: str  # the script in the package that starts the program for this machine
    prepare: Callable[[Path, str, str], tuple[list[str], dict[str, str], str | None]] | None = None

    def program(self) -> Path:
        """Return the installed program. Skips the test where it can't be installed."""
        folder = CACHE / f"{self.name}-{self.version}"
        program = folder / "node_modules" / self.package / self.entry
        if program.exists():
            return program
        if shutil.which("npm") is None:
            pytest.skip("npm is not here: no agent can be installed")
        draft = CACHE / f"{self.name}-{self.version}.{os.getpid()}"
        draft.mkdir(parents=True, exist_ok=True)
        wanted = f"{self.package}@{self.version}"
        # A package's scripts are not ours to run, and none of these needs them.
        done = subprocess.run(
            [
                "npm",
                "install",
                "--prefix",
                str(draft),
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                wanted,
            ],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
        if done.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            pytest.skip(f"{wanted} can't be installed: {done.stderr.strip()[-200:]}")
        try:
            draft.rename(folder)
        except OSError:  # another run was quicker
            shutil.rmtree(draft, ignore_errors=True)
        return program

    def put(self, folder: Path) -> None:
        """Put the program into a folder of a PATH, by the name that people call it."""
        program = self.program()
        script = program.suffix in (".cjs", ".js", ".mjs")
        start = f'node "{program}"' if script else f'"{program}"'
        folder.mkdir(exist_ok=True)
        caller = folder / self.name
        caller.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        caller.chmod(0o755)

    def start(self, home: Path, work: Path, model: str, board: str, token: str) -> Running:
        """Start it in ``work``, in a process group of its own, with nothing of ours around it."""
        program = self.program()
        assert self.prepare is not None
        arguments, environment, stdin = self.prepare(home, model, board)
        output = (home / "output.txt").open("wb")
        process = subprocess.Popen(
            ["node", str(program), *arguments],
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "TMPDIR": str(home),
                "LANG": "C.UTF-8",
                "HOLDFAST_TOKEN": token,
                "NO_PROXY": "127.0.0.1",
                **environment,
            },
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        if process.stdin is not None:
            process.stdin.write((stdin or "").encode())
            process.stdin.close()
        return Running(process, home / "output.txt")


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    output: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the signal to the agent and to all it has started."""
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float = 120) -> str:
        """Return what it printed by the time it has ended by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still at work: {self.said()[-3000:]}") from None
        return self.said()

    def said(self) -> str:
        return self.output.read_text(errors="replace")


def _claude(home: Path, model: str, board: str) -> tuple[list[str], dict[str, str], str | None]:
    server: dict[str, Any] = {
        "type": "http",
        "url": f"{board}/mcp",
        "headers": {"Authorization": "Bearer ${HOLDFAST_TOKEN}"},
    }
    config = home / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"holdfast": server}}))
    arguments = [
        *("-p", "--output-format", "stream-json", "--verbose", "--model", "claude-sonnet-4-5"),
        *("--mcp-config", str(config), "--strict-mcp-config", "--permission-mode", "acceptEdits"),
        *("--allowedTools", "mcp__holdfast,Bash"),
    ]
    environment = {
        "ANTHROPIC_BASE_URL": model,
        "ANTHROPIC_API_KEY": "scripted",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return arguments, environment, PROMPT  # --allowedTools would swallow a prompt after it


def _codex(home: Path, model: str, board: str) -> tuple[list[str], dict[str, str], str | None]:
    (home / "config.toml").write_text(
        f"""
model = "scripted"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{model}/v1"
env_key = "MODEL_KEY"
wire_api = "responses"

[mcp_servers.holdfast]
url = "{board}/mcp"
bearer_token_env_var = "HOLDFAST_TOKEN"
required = true
"""
    )
    arguments = ["exec", "--json", "--skip-git-repo-check"]
    arguments += ["--dangerously-bypass-approvals-and-sandbox", PROMPT]
    return arguments, {"CODEX_HOME": str(home), "MODEL_KEY": "scripted"}, None


CLAUDE = Cli("claude", "@anthropic-ai/claude-code", "2.1.197", "cli-wrapper.cjs", _claude)
CODEX = Cli("codex", "@openai/codex", "0.169.0", "bin/codex.js", _codex)
_OPENCODE = f"../opencode-linux-{'arm64' if platform.machine() == 'aarch64' else 'x64-baseline'}"
OPENCODE = Cli("opencode", "opencode-ai", "1.18.33", f"{_OPENCODE}/bin/opencode")
QWEN = Cli("qwen", "@qwen-code/qwen-code", "0.15.10", "cli.js")
GEMINI = Cli("gemini", "@google/gemini-cli", "0.61.0", "bundle/gemini.js")
