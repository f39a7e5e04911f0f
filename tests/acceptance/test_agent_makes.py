"""Every make of agent that a built-in worker can run, its worker killed in the middle of a turn.

They are large and slow to install, so all but Claude Code (``test_agent_step.py``) run where
ALL_AGENTS=1 asks for them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.onlookers import Api, eventually
from tests.agents.clis import CACHE, CLAUDE, CODEX, GEMINI, OPENCODE, QWEN, Cli
from tests.agents.model_server import Model, Turn, serving
from tests.processes import worker_above, working_for
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(os.environ.get("ALL_AGENTS") != "1", reason="set ALL_AGENTS=1"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "c" * 32
KEY = "sk-scripted-0123456789"
TASK = "Task: write two lines to notes.txt"
DECISION = "Notes are plain text"


class Mind:
    """Writes two lines, a call each, and thinks for ever between them until it is let go on."""

    def __init__(self) -> None:
        self.goes_on = False

    def __call__(self, turn: Turn) -> dict[str, Any]:
        told = "\n".join(text for kind, text in turn.history if kind == "told")
        done = [call for call in turn.calls if not re.search("tool_?search", call, re.IGNORECASE)]
        if not done:
            return {"shell": "echo first >> notes.txt"}
        if not self.goes_on:
            return {"hang": True}
        if len(done) == 1:
            return {"shell": "echo second >> notes.txt"}
        attempt = re.findall(r"pass attempt_id ([0-9a-f-]{36})", told)[-1]
        if len(done) == 2:
            args = {"attempt_id": attempt, "title": DECISION, "rationale": "Anything reads it."}
            return {"call": "record_decision", "args": args}
        return {"text": "Both lines are there."}


@pytest.fixture
def mind() -> Mind:
    return Mind()


@pytest.fixture
def model(mind: Mind) -> Iterator[Model]:
    with serving(mind) as model:
        yield model


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "agents").mkdir()
    with installation(
        tmp_path / "data",
        BOOTSTRAP_TOKEN=TOKEN,
        ALLOW_COMMANDS="1",
        WORKERS="2",
        COMMAND_PATHS=f"{tempfile.gettempdir()},{CACHE}:ro",
        PATH=f"{tmp_path / 'agents'}{os.pathsep}{os.environ['PATH']}",
    ) as made:
        made.started()
        yield made


def environment(model: Model) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_API_KEY": KEY,
        "OPENAI_MODEL": "scripted",
        "GOOGLE_GEMINI_BASE_URL": model.url,
        "GEMINI_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
    }


MAKES = {
    "claude": (CLAUDE, {"cli": "claude"}),
    "codex": (CODEX, {"cli": "codex", "model": "scripted"}),
    "opencode": (OPENCODE, {"cli": "opencode", "model": "scripted"}),
    "qwen": (QWEN, {"cli": "qwen", "model": "scripted"}),
    "gemini": (GEMINI, {"cli": "gemini", "model": "gemini-2.5-pro"}),
    "acp-opencode": (OPENCODE, {"acp": ["opencode", "acp"], "model": "scripted"}),
    "acp-qwen": (QWEN, {"acp": ["qwen", "--acp", "--auth-type", "openai"]}),
    "acp-gemini": (GEMINI, {"acp": ["gemini", "--acp", "-m", "gemini-2.5-pro"]}),
}


@pytest.mark.parametrize("make", MAKES)
def test_its_session_goes_on_after_its_worker_was_killed(
    installed: Installation, model: Model, mind: Mind, tmp_path: Path, make: str
) -> None:
    cli, agent = MAKES[make]
    assert isinstance(cli, Cli)
    cli.put(tmp_path / "agents")
    with Api(installed.port, TOKEN) as api:
        api.post("/boards", {"key": "NOTES", "name": "Notes", "allow_network": True})
        goal = api.post("/goals", {"board": "NOTES", "title": "Notes"})
        steps = [
            {"key": "write", "agent": {**agent, "prompt": TASK}, "timeout_seconds": 200},
            {"key": "check", "run": 'test "$(cat notes.txt)" = "$(printf "first\\nsecond")"'},
        ]
        work = {"steps": steps, "env": environment(model)}
        card = {"board": "NOTES", "title": "Two lines", "goal": goal["id"], "workflow": work}
        api.post("/cards", {**card, "column": "in_progress"})

        def seen() -> Any:
            found = api.get("/cards/NOTES-1")
            assert found["state"] not in ("blocked", "completed"), found["why_waiting"]
            return model.hung.is_set()

        eventually(seen, 120)
        eventually(lambda: api.get("/cards/NOTES-1/checkpoints")["results"])
        attempt = api.get("/cards/NOTES-1")["attempt"]["id"]
        mind.goes_on = True
        worker = eventually(lambda: worker_above(working_for(attempt)))
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: api.get("/cards/NOTES-1")["state"] in ("completed", "blocked"), 150)

        tries = api.every("/cards/NOTES-1/steps")
        shown = [(s["key"], s["status"], s["title"], s["error"]) for s in reversed(tries)]
        assert api.get("/cards/NOTES-1")["state"] == "completed", shown
        sessions = [s["result"]["session"] for s in tries if s["key"].endswith("-session")]
        assert len(sessions) == 1, shown
        told = "\n".join(text for kind, text in model.turns[-1].history if kind == "told")
        assert "You were interrupted" in told
        decisions = api.get(f"/goals/{goal['id']}/decisions")["results"]
        assert [d["title"] for d in decisions] == [DECISION]
        attempts = api.get("/cards/NOTES-1/attempts")["results"]
        assert [a["status"] for a in attempts] == ["succeeded", "expired"]
        if make != "acp-opencode":  # which counts dollars alone
            assert attempts[0]["usage"]["input_tokens"] >= 100, attempts[0]["usage"]
        assert "hfa_" not in str(tries)
        assert KEY not in str(tries)


def test_a_limit_of_the_provider_hands_the_card_over(
    installed: Installation, tmp_path: Path
) -> None:
    CLAUDE.put(tmp_path / "agents")
    limited = [{"status": 429, "times": 99}, {"text": "Done."}]
    with serving(limited) as model, Api(installed.port, TOKEN) as api:
        api.post("/boards", {"key": "NOTES", "name": "Notes", "allow_network": True})
        steps = [{"key": "it", "agent": {"cli": "claude", "prompt": TASK}}]
        work = {"steps": steps, "env": environment(model)}
        card = {"board": "NOTES", "title": "Wait", "workflow": work, "column": "in_progress"}
        api.post("/cards", card)

        def over() -> Any:
            return [a for a in api.get("/cards/NOTES-1/attempts")["results"] if a["finished_at"]]

        (attempt,) = eventually(over, 150)
        assert (attempt["status"], attempt["reason"]) == ("released", "rate_limited"), attempt
        waiting = api.get("/cards/NOTES-1")
        assert (waiting["state"], waiting["reason"]) == ("waiting", "backoff")
        assert model.refused <= 8  # then the card waits, not the worker


@pytest.mark.skipif(shutil.which("aider") is None, reason="aider is not on the PATH")
def test_aider_edits_in_its_own_way(installed: Installation, tmp_path: Path) -> None:
    edit = "notes.txt\n```\n<<<<<<< SEARCH\n=======\nfirst\n>>>>>>> REPLACE\n```\n"
    with serving([{"text": edit}]) as model, Api(installed.port, TOKEN) as api:
        model.asides = edit
        api.post("/boards", {"key": "NOTES", "name": "Notes", "allow_network": True})
        agent = {"cli": "aider", "model": "openai/scripted", "prompt": TASK}
        args = ["--edit-format", "diff", "--no-show-model-warnings"]
        steps = [
            {"key": "write", "agent": {**agent, "args": args}, "timeout_seconds": 200},
            {"key": "check", "run": "grep first notes.txt"},
        ]
        env = {**environment(model), "OPENAI_API_BASE": f"{model.url}/v1"}
        env["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch one
        card = {"board": "NOTES", "title": "One line", "workflow": {"steps": steps, "env": env}}
        api.post("/cards", {**card, "column": "in_progress"})
        eventually(lambda: api.get("/cards/NOTES-1")["state"] in ("completed", "blocked"), 150)
        assert api.get("/cards/NOTES-1")["state"] == "completed"
