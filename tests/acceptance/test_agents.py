"""Two agents of different makes, one card: what the first learned survives its death.

The real programs run against the real server; only the model behind them is scripted. The first
claims through MCP, works, records and is killed in the middle of a turn; the second, of another
make, is told all it needs and finishes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints.tokens import tokens_in
from tests.acceptance.onlookers import Api, eventually
from tests.agents.clis import CLAUDE, CODEX, Cli, Running
from tests.agents.model_server import Model, serving
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "a" * 32
LEASE_SECONDS = 20
DECISION = "Notes are plain text, one finding a line"
NEXT = "Add the second line to notes.txt, then complete the card"
MINE = "{{claim_card.attempt_id}}"

#: What the model has the first agent do before it dies in the middle of its next turn.
FIRST: list[dict[str, Any]] = [
    {"call": "claim_card", "args": {"worker": "one", "lease_seconds": LEASE_SECONDS}},
    {"call": "begin_step", "args": {"attempt_id": MINE, "key": "first-line"}},
    {"shell": "echo first >> notes.txt"},
    {
        "call": "finish_step",
        "args": {
            "attempt_id": MINE,
            "key": "first-line",
            "status": "succeeded",
            "result": {"lines": 1},
        },
    },
    {
        "call": "record_decision",
        "args": {"attempt_id": MINE, "title": DECISION, "rationale": "Anything can read it."},
    },
    {
        "call": "save_checkpoint",
        "args": {"attempt_id": MINE, "summary": "The first line stands", "next_step": NEXT},
    },
    {"hang": True},
]
SECOND: list[dict[str, Any]] = [
    {"call": "claim_card", "args": {"worker": "two"}},
    {"call": "begin_step", "args": {"attempt_id": MINE, "key": "first-line"}},
    {"shell": "echo second >> notes.txt"},
    {"call": "complete_card", "args": {"attempt_id": MINE, "summary": "Both lines stand"}},
    {"text": "The card is done."},
]


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "data", BOOTSTRAP_TOKEN=TOKEN, WORKERS="0") as made:
        made.started()
        yield made


@pytest.fixture
def api(installed: Installation) -> Iterator[Api]:
    with Api(installed.port, TOKEN) as api:
        api.post("/boards", {"key": "NOTES", "name": "Notes"})
        goal = api.post("/goals", {"board": "NOTES", "title": "Notes", "intent": "Write two lines"})
        api.post(
            "/cards",
            {"board": "NOTES", "title": "Two lines", "column": "in_progress", "goal": goal["id"]},
        )
        yield api


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def start(cli: Cli, model: Model, api: Api, work: Path) -> Running:
    home = work.parent / f"home-{cli.name}-{len(list(work.parent.glob('home-*')))}"
    home.mkdir()
    return cli.start(home, work, model.url, api.origin, TOKEN)


def play_first(cli: Cli, model: Model, api: Api, work: Path) -> Running:
    """Return the first agent, waiting for the model in the turn after its checkpoint."""
    agent = start(cli, model, api, work)
    for _ in range(600):
        if model.hung.wait(0.2):
            return agent
        if agent.process.poll() is not None:
            break
    agent.kill()
    raise AssertionError(f"it did not get there: {agent.said()[-3000:]}")


def until_free(api: Api) -> None:
    eventually(lambda: api.get("/cards/NOTES-1")["state"] == "waiting", 120)


@pytest.mark.parametrize(
    ("one", "two"), [(CLAUDE, CODEX), (CODEX, CLAUDE)], ids=["claude-codex", "codex-claude"]
)
def test_an_agent_of_another_make_goes_on_where_the_first_was_killed(
    one: Cli, two: Cli, api: Api, work: Path
) -> None:
    for cli in (one, two):
        cli.program()
    with serving(FIRST) as model:
        agent = play_first(one, model, api, work)
        agent.kill()
        agent.process.wait(60)
    assert (work / "notes.txt").read_text() == "first\n"
    until_free(api)

    with serving(SECOND) as model:
        said = start(two, model, api, work).wait()
        told = model.result_of("claim_card")
        again = model.result_of("begin_step")
    assert "SCRIPT ERROR" not in said
    for known in (DECISION, "The first line stands", NEXT, "Write two lines"):
        assert known in told
    assert '"replay": true' in again.replace('\\"', '"').replace('":true', '": true')
    assert (work / "notes.txt").read_text() == "first\nsecond\n"

    card = api.get("/cards/NOTES-1")
    assert card["state"] == "completed"
    attempts = api.get("/cards/NOTES-1/attempts")["results"]
    assert [(a["number"], a["worker"], a["status"]) for a in attempts] == [
        (2, "two", "succeeded"),
        (1, "one", "expired"),
    ]
    steps = api.get("/cards/NOTES-1/steps")["results"]
    assert [(s["key"], s["status"]) for s in steps] == [("first-line", "succeeded")]
    numbers = [event["seq"] for event in api.every("/events?board=NOTES")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_what_the_claim_adds_for_the_model_stays_within_the_briefing(api: Api, work: Path) -> None:
    for n in range(60):
        text = {"text": f"Note {n}: " + "all work and no play " * 200}
        api.post("/cards/NOTES-1/messages", text)
    with serving([SECOND[0], {"text": "Enough."}]) as model:
        start(CLAUDE, model, api, work).wait()
        told = json.loads(model.result_of("claim_card"))
    assert "Note 59" in told["briefing"]
    assert tokens_in(told["briefing"]) <= 4000
    assert tokens_in(json.dumps(told)) <= 4000 + 800  # with ids, keys and what JSON adds


def test_an_agent_that_wakes_up_late_is_refused_and_told_to_stop(api: Api, work: Path) -> None:
    late = {"attempt_id": MINE, "summary": "Too late", "next_step": "None"}
    script = [*FIRST[:-1], {"call": "save_checkpoint", "args": late}, {"text": "I stop."}]
    with serving(FIRST) as model:
        agent = play_first(CLAUDE, model, api, work)
        agent.kill(signal.SIGSTOP)
        until_free(api)
        with serving([*SECOND[:2], {"hang": True}]) as other:
            successor = play_first(CODEX, other, api, work)
            before = api.get("/cards/NOTES-1/checkpoints")["results"]
            model.go_on(script)
            agent.kill(signal.SIGCONT)
            agent.wait()
            assert api.get("/cards/NOTES-1/checkpoints")["results"] == before
            assert api.get("/cards/NOTES-1")["state"] == "running"
            successor.kill()
            successor.process.wait(60)
        refused = model.result_of("save_checkpoint")
    assert "lease_lost" in refused
    assert "stop" in refused.lower()
