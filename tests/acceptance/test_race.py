"""Three ways to mend a real bug, at once, from the same checkpoint: the one that works is kept.

An agent fails without a plan. From what it had looked at, three cards race, each with an approach
of its own; a worker's checks say who is right. The winner is merged, the others are cancelled, and
whoever comes next is told what they tried.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import regression
from tests.acceptance.onlookers import Api, eventually
from tests.acceptance.project import Unavailable
from tests.acceptance.test_agent_step import PYTEST, merge_as_a_person
from tests.repositories import git
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "r" * 32
#: What each approach makes of the lines that are wrong.
APPROACHES = {
    "Take no text with a comma for a number": regression.RIGHT.replace(
        "if not", 'if "," in string or not'
    ),
    "Take out the commas first": regression.RIGHT.replace(
        "(float, string)", '(float, string.replace(",", ""))'
    ),
    "Only what float() takes is a number": regression.RIGHT,
}
GOOD = "Only what float() takes is a number"
#: The agent: it does what the approach in its prompt says, and nothing without one. The good one
#: waits until the others have made their change.
AGENT = f"""
import os, re, sys, time
from pathlib import Path
told = Path(os.environ["HOLDFAST_PROMPT_FILE"]).read_text()
approach = re.search("Approach to take here: (.+)", told)
if approach is None:
    sys.exit("no plan: say how to go about it")
ways = {APPROACHES!r}
way, done = approach[1].strip(), Path(sys.argv[1])
while way == {GOOD!r} and len(list(done.iterdir())) < 2:
    time.sleep(0.05)
file = Path({regression.FILE!r})
file.write_text(file.read_text().replace({regression.WRONG!r}, ways[way]))
(done / str(list(ways).index(way))).touch()
print("changed", file)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return regression.make(tmp_path_factory.mktemp("project"))
    except Unavailable as why:
        pytest.skip(f"the package index can't be reached: {why}")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(
        tmp_path / "data",
        BOOTSTRAP_TOKEN=TOKEN,
        ALLOW_COMMANDS="1",
        WORKERS="2",
        COMMAND_PATHS=tempfile.gettempdir(),
    ) as made:
        made.started()
        yield made


def plan(folder: Path) -> dict[str, Any]:
    (folder / "agent.py").write_text(AGENT)
    (folder / "done").mkdir()
    program = shlex.join([sys.executable, str(folder / "agent.py"), str(folder / "done")])
    task = {"cli": "command", "prompt": "Mend the code, not the test.", "command": program}
    look = {"key": "look", "run": f"{PYTEST} test/test_regression.py || true"}
    test = {"key": "test", "check": f"{PYTEST} test", "criterion": 1, "timeout_seconds": 300}
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"env": env, "steps": [look, {"key": "mend", "agent": task}, test]}


def test_of_three_approaches_the_one_that_mends_it_is_merged(
    installed: Installation, repository: Path, tmp_path: Path
) -> None:
    with Api(installed.port, TOKEN) as api:
        api.post("/boards", {"key": "TAB", "name": "Tabulate", "repository": str(repository)})
        criteria = [{"text": "All tests pass"}]
        goal = api.post("/goals", {"board": "TAB", "title": "Green", "criteria": criteria})
        body = {"board": "TAB", "title": "Mend it", "goal": goal["id"], "max_attempts": 1}
        api.post("/cards", {**body, "workflow": plan(tmp_path), "column": "in_progress"})
        eventually(lambda: api.get("/cards/TAB-1")["state"] == "blocked", 180)
        assert regression.FAILING in str(api.every("/cards/TAB-1/steps"))

        fork = {"checkpoint": 1, "approaches": list(APPROACHES)}
        racers = [c["key"] for c in api.post("/cards/TAB-1/fork", fork)["cards"]]
        by = dict(zip(APPROACHES, racers, strict=True))
        winner = by.pop(GOOD)

        def states() -> dict[str, str]:
            return {key: api.get(f"/cards/{key}")["state"] for key in racers}

        ended = {key: "completed" if key == winner else "cancelled" for key in racers}
        eventually(lambda: states() == ended, 240)

        # What was looked at before the race was looked at once.
        for key in racers:
            looks = [s for s in api.every(f"/cards/{key}/steps") if s["key"] == "look"]
            assert [look["inherited"] for look in looks] == [True]
        [criterion] = api.get(f"/goals/{goal['id']}")["criteria"]
        shown = criterion["evidence"][0]["card"]
        assert (criterion["met"], shown) == (True, api.get(f"/cards/{winner}")["id"])

        merge_as_a_person(installed, winner)
        branch = f"holdfast/{winner}"
        assert regression.WRONG not in git(repository, "show", f"{branch}:{regression.FILE}")

        told = api.get(f"/cards/{winner}/briefing")["markdown"]
        lost = told.partition("Tried in a race and lost")[2]
        for approach, key in by.items():
            assert approach in lost, told
            assert key in lost, told
