"""An agent that a built-in worker runs, on a real bug, with the worker killed twice on the way.

Claude Code itself, started by the server as people start it, reads, edits and runs the tests of a
real project; only the model behind it is scripted, and that answers from what it is told, so the
worker may be killed at any moment. What is there in the end: green tests, a branch, evidence
for the goal's criterion, and the whole lineage.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance import regression
from tests.acceptance.onlookers import Api, eventually
from tests.acceptance.project import Unavailable
from tests.agents.clis import CACHE, CLAUDE
from tests.agents.model_server import Model, Turn, serving
from tests.processes import worker_above, working_for
from tests.repositories import git
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "b" * 32
SEED = int(os.environ.get("KILL_SEED") or random.randrange(10**6))
TASK = "Task: one test of this project fails. Find out why and mend the code, not the test."
PYTEST = f"{shlex.quote(sys.executable)} -m pytest -q -p no:cacheprovider"
SESSION_LOST = "The session can't be resumed; a new one begins"
DECISION = "Only what float() takes is a number"


def mind(turn: Turn) -> dict[str, Any]:
    """Go on as somebody would who sees this history: look, mend, test, and again if need be."""
    begun = max(n for n, (kind, text) in enumerate(turn.history) if TASK in text and kind == "told")
    now = turn.history[begun:]
    tested = [n for n, (kind, text) in enumerate(now) if kind == "got" and "passed" in text]
    if not tested:
        return {"shell": f"pwd; {PYTEST} test/test_regression.py"}
    report, since = now[tested[-1]][1], now[tested[-1] :]
    called = [text.split()[0] for kind, text in since if kind == "called"]
    if re.search(r"\d+ failed", report):
        folder = re.search(r"^/\S+$", report, re.MULTILINE)
        assert folder
        path = f"{folder[0]}/{regression.FILE}"
        if "Read" not in called:
            return {"call": "Read", "args": {"file_path": path, "offset": 590, "limit": 60}}
        if "Edit" not in called:
            change = {"old_string": regression.WRONG, "new_string": regression.RIGHT}
            return {"call": "Edit", "args": {"file_path": path, **change}}
        return {"shell": f"pwd; {PYTEST} test/test_regression.py"}
    attempt = re.findall(r"pass attempt_id ([0-9a-f-]{36})", turn.history[begun][1])[-1]
    done = [text.split()[0].rpartition("__")[2] for kind, text in now if kind == "called"]
    if "record_decision" not in done:
        why = {"title": DECISION, "rationale": "It is float() that formats it."}
        return {"call": "record_decision", "args": {"attempt_id": attempt, **why}}
    if "complete_card" not in done:
        said = {"summary": "Commas between digits are no number any more."}
        return {"call": "complete_card", "args": {"attempt_id": attempt, **said}}
    return {"text": "The test passes now."}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return regression.make(tmp_path_factory.mktemp("project"))
    except Unavailable as why:
        pytest.skip(f"the package index can't be reached: {why}")


@pytest.fixture
def model() -> Iterator[Model]:
    with serving(mind) as model:
        yield model


@pytest.fixture
def installed(tmp_path: Path, model: Model) -> Iterator[Installation]:
    CLAUDE.put(tmp_path / "agents")
    with installation(
        tmp_path / "data",
        BOOTSTRAP_TOKEN=TOKEN,
        ALLOW_COMMANDS="1",
        WORKERS="2",
        PATH=f"{tmp_path / 'agents'}{os.pathsep}{os.environ['PATH']}",
        COMMAND_PATHS=f"{tempfile.gettempdir()},{CACHE}:ro",
        COMMAND_ENV="ANTHROPIC_API_KEY,ANTHROPIC_BASE_URL,NO_PROXY",
        ANTHROPIC_BASE_URL=model.url,
        ANTHROPIC_API_KEY="sk-scripted-0123456789",
        NO_PROXY="127.0.0.1",
    ) as made:
        made.started()
        yield made


def plan() -> dict[str, Any]:
    return {
        "env": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        "steps": [
            {"key": "mend", "agent": {"cli": "claude", "prompt": TASK}, "timeout_seconds": 300},
            {
                "key": "test",
                "run": f"{PYTEST} --junitxml=report.xml test",
                "junit": "report.xml",
                "criterion": 1,
                "timeout_seconds": 300,
            },
        ],
    }


def kill_the_worker(api: Api, model: Model, dice: random.Random) -> str:
    """Kill the worker at some moment of its agent's work; return the attempt that it had."""

    def at_work() -> Any:
        card = api.get("/cards/TAB-1")
        attempt = card["attempt"]
        return attempt and working_for(attempt["id"]) and attempt

    attempt = eventually(at_work, 120)
    asked = len(model.turns) + 1
    eventually(lambda: len(model.turns) >= asked, 120)
    time.sleep(dice.uniform(0, 0.4))  # it has few turns, and each takes less than a second
    # Between two programs of the attempt there is none for a moment.
    worker = eventually(lambda: worker_above(working_for(attempt["id"])))
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not working_for(attempt["id"]))
    return str(attempt["id"])


def test_an_agent_mends_a_real_bug_though_its_worker_is_killed_twice(
    installed: Installation, model: Model, repository: Path
) -> None:
    dice = random.Random(SEED)
    with Api(installed.port, TOKEN) as api:
        board = {"key": "TAB", "name": "Tabulate", "repository": str(repository)}
        api.post("/boards", {**board, "allow_network": True})
        criteria = [{"text": "All tests pass"}]
        goal = api.post("/goals", {"board": "TAB", "title": "Green", "criteria": criteria})
        body = {"board": "TAB", "title": "Mend it", "goal": goal["id"], "workflow": plan()}
        api.post("/cards", {**body, "column": "in_progress", "requires": ["claude"]})
        try:
            killed = [kill_the_worker(api, model, dice) for _ in range(2)]
            eventually(lambda: api.get("/cards/TAB-1")["state"] == "completed", 300)
            check(installed, api, goal["id"], killed, model, repository)
        except BaseException as error:
            error.add_note(f"KILL_SEED={SEED}")
            raise


def printed(api: Api, number: int) -> str:
    return json.dumps(api.get(f"/cards/TAB-1/attempts/{number}/log?limit=1000"), ensure_ascii=False)


def merge_as_a_person(installed: Installation, card: str) -> None:
    origin = f"http://127.0.0.1:{installed.port}"
    with httpx.Client(base_url=origin, trust_env=False, follow_redirects=True) as person:
        person.get(installed.link())
        person.get("/boards/TAB")
        answer = person.post(
            f"/api/v1/cards/{card}/merge",
            json={"strategy": "branch"},
            headers={"X-CSRFToken": person.cookies["csrftoken"], "Origin": origin},
        )
    assert answer.is_success, answer.text


def check(
    installed: Installation,
    api: Api,
    goal: str,
    killed: list[str],
    model: Model,
    repository: Path,
) -> None:
    # The lineage: two attempts that died, one that went on from what they left.
    attempts = api.get("/cards/TAB-1/attempts")["results"]
    assert [a["status"] for a in attempts] == ["succeeded", "expired", "expired"]
    assert [a["id"] for a in attempts[:0:-1]] == killed
    tries = api.every("/cards/TAB-1/steps")
    steps = {s["key"]: s for s in reversed(tries)}
    parts = [key.rpartition("/")[2] for key in steps if key.startswith("mend/")]
    # A kill may come before the agent had kept anything of its session: then another begins.
    lost = [SESSION_LOST in printed(api, number) for number in (1, 2, 3)]
    assert not lost[0]
    assert sum(part.endswith("-session") for part in parts) == 1 + sum(lost), parts
    assert sum(part.endswith("-Edit") for part in parts) >= 1, parts
    assert steps["mend"]["result"]["session"]
    assert sum(a["usage"]["input_tokens"] for a in attempts) > 0

    # The session went on, or the briefing made up for it: the last that was asked was told.
    whole = [text for kind, text in model.turns[-1].history if kind == "told" and TASK in text]
    resumed = 2 - max(number for number in range(3) if number == 0 or lost[number])
    assert 1 <= len(whole) <= 1 + resumed
    interrupted = ["You were interrupted" in text for text in whole]
    assert interrupted == [False, *[True] * (len(whole) - 1)]
    assert interrupted[-1] == bool(resumed)
    assert "hfa_" not in "".join(model.requests)

    # Green, checked by the worker, not by the agent's word.
    tests = api.get("/cards/TAB-1/checkpoints")["results"][0]["tests"]
    assert (tests["failed"], tests["passed"]) == (0, regression.PASSED)
    (criterion,) = api.get(f"/goals/{goal}")["criteria"]
    assert criterion["met"]
    assert "passed" in json.dumps(criterion)
    decisions = api.get(f"/goals/{goal}/decisions")["results"]
    assert DECISION in [d["title"] for d in decisions]

    # A branch with exactly the mending, without the report of the tests.
    merge_as_a_person(installed, "TAB-1")
    changed = git(repository, "diff", "--name-only", "main", "holdfast/TAB-1").splitlines()
    assert changed == [regression.FILE]
    mended = git(repository, "show", f"holdfast/TAB-1:{regression.FILE}")
    assert regression.WRONG not in mended

    numbers = [event["seq"] for event in api.every("/events?board=TAB")]
    assert numbers == list(range(1, len(numbers) + 1))
    log = api.every("/cards/TAB-1/steps")
    assert "sk-scripted-0123456789" not in json.dumps(log)
