"""A goal from three bugs to three proofs, whoever works on it and whatever is killed on the way.

A script, an agent and a plain REST worker each mend one bug of a real package. Each of them is
killed, at moments that a seed draws: it is printed, and STORY_SEED plays the same again.
Everything is stopped while a question stands open, what failed twice is not tried a third time,
and a later change breaks what was proven: the goal is active again and says whose change it was.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance import project
from tests.acceptance.onlookers import Api, eventually
from tests.acceptance.project import Unavailable
from tests.repositories import git
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "g" * 32
PYTHON = shlex.quote(sys.executable)
KILLS = 1
#: File, what is right, what was made of it, and how one tells.
BUGS = (
    (
        "dicttoolz",
        "if key in d2:",
        "if key not in d2:",
        "dissoc({'x': 1, 'y': 2, 'z': 3}, 'y').get('y', 1)",
    ),
    (
        "itertoolz",
        "islice(it, i), 0)",
        "islice(it, i + 1), 0)",
        "list(sliding_window(2, [1, 2]))[0][0]",
    ),
    ("itertoolz", "islice(seq, n)", "islice(seq, n + 1)", "len(list(take(1, [1, 2])))"),
)


def check(n: int) -> str:
    code = f"from toolz import *; assert {BUGS[n][3]} == 1; print('bug {n + 1} is gone')"
    return f"{PYTHON} -c {shlex.quote(code)}"


def mend(n: int) -> str:
    name, right, wrong, _ = BUGS[n]
    return f"sed -i {shlex.quote(f's/{wrong}/{right}/')} toolz/{name}.py"


def change(repository: Path, n: int, subject: str, card: str, *, well: bool) -> None:
    """Commit the bug's mending, or the bug again, as the card's work."""
    name, right, wrong, _ = BUGS[n]
    file = repository / "toolz" / f"{name}.py"
    old, new = (wrong, right) if well else (right, wrong)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    git(repository, "commit", "-qam", subject, "-m", f"Holdfast-Card: {card}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    try:
        archive = project.download(tmp_path, project.NAME, project.VERSION, project.SHA256)
    except Unavailable as why:
        pytest.skip(f"the package index can't be reached: {why}")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / f"{project.NAME}-{project.VERSION}"
    for name, right, wrong, _ in BUGS:
        file = folder / "toolz" / f"{name}.py"
        assert right in file.read_text()
        file.write_text(file.read_text().replace(right, wrong))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "with three bugs")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(
        tmp_path / "data", BOOTSTRAP_TOKEN=TOKEN, ALLOW_COMMANDS="1", WORKERS="2"
    ) as made:
        made.started()
        yield made


class Person:
    """Somebody signed in, who may approve."""

    def __init__(self, installed: Installation) -> None:
        self.origin = f"http://127.0.0.1:{installed.port}"
        self.client = httpx.Client(base_url=self.origin, trust_env=False, follow_redirects=True)
        self.client.get(installed.link())
        self.client.get("/boards/TOO")

    def merge(self, card: str) -> None:
        headers = {"X-CSRFToken": self.client.cookies["csrftoken"], "Origin": self.origin}
        answer = self.client.post(f"/api/v1/cards/{card}/merge", json={}, headers=headers)
        assert answer.is_success, answer.text


class Worker:
    """A program that speaks the API and nothing else, and holds no more than one attempt."""

    def __init__(self, api: Api, card: str) -> None:
        self.api, self.card = api, card
        self.path, self.lease = "", ""

    def claim(self, lease_seconds: int = 600) -> bool:
        asked = {"worker": "ada-7", "card": self.card, "boards": ["TOO"]}
        answer = self.api("POST", "/claims", {**asked, "lease_seconds": lease_seconds})
        if answer.is_success:
            got = answer.json()
            self.path = f"/attempts/{got['attempt']['id']}"
            self.lease = got["lease"]["token"]
        return answer.is_success

    def call(self, method: str, what: str, body: Any) -> httpx.Response:
        headers = {"Lease-Token": self.lease}
        return self.api(method, f"{self.path}{what}", body, **headers)

    def done(self, what: str, body: Any) -> None:
        answer = self.call("POST", what, body)
        assert answer.is_success, answer.text


class Fate:
    """Kills whoever works on a card, at moments that the seed draws."""

    def __init__(self, api: Api) -> None:
        seed = int(os.environ.get("STORY_SEED") or random.SystemRandom().randrange(10**6))
        print(f"STORY_SEED={seed}")  # noqa: T201 — told where it fails
        self.api, self.draw = api, random.Random(seed)

    def strikes(self, card: str, times: int = KILLS) -> None:
        """Kill the built-in worker that has the card, and whoever has it after that."""
        last = 0
        for _ in range(times):

            def held(last: int = last) -> dict[str, Any] | None:
                found: dict[str, Any] | None = self.api.get(f"/cards/{card}")["attempt"]
                return found if found and found["number"] > last else None

            attempt = eventually(held, 90)
            time.sleep(self.draw.uniform(0, 1))
            pid = int(attempt["worker"].split("-")[-2])  # builtin-host-pid-…
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            last = attempt["number"]

    def takes(self, worker: Worker) -> None:
        """Let a program of its own end somewhere on the way, so that its lease runs out."""
        assert worker.claim(lease_seconds=10)
        for method, what, body in (
            ("PATCH", "", {"approach": "look around first"}),
            ("POST", "/steps", {"key": "look"}),
            ("POST", "/checkpoints", {"summary": "It is in itertoolz."}),
        )[: self.draw.randint(0, 3)]:
            assert worker.call(method, what, body).is_success


def test_a_goal_is_proven_broken_and_proven_again(
    installed: Installation, repository: Path, tmp_path: Path
) -> None:
    with Api(installed.port, TOKEN) as api:
        board = {"key": "TOO", "name": "Toolz", "repository": str(repository)}
        api.post("/boards", {**board, "enforce_dead_ends": True})
        criteria = [{"text": f"Bug {n + 1} is gone", "check": check(n)} for n in range(3)]
        asked = {"board": "TOO", "title": "No bug", "criteria": criteria}
        goal = api.post("/goals", {**asked, "evidence_required": True, "achieves_itself": True})
        path = f"/goals/{goal['id']}"

        def met() -> list[bool | None]:
            return [c["met"] for c in api.get(path)["criteria"]]

        def card(title: str, **fields: Any) -> str:
            body = {"board": "TOO", "title": title, "goal": goal["id"], "max_attempts": 9}
            return str(api.post("/cards", {**body, "column": "in_progress", **fields})["key"])

        fate = Fate(api)

        # A script: its workers are killed in a step or between two, or as they begin.
        leave = tmp_path / "leave"
        wait = f"while [ ! -e {leave} ]; do sleep 0.05; done; "
        steps = [
            *({"key": f"look-{n}", "run": "sleep 0.1"} for n in range(2)),
            {"key": "mend", "run": wait + mend(0)},
            {"key": "look", "check": check(0), "criterion": 1},
        ]
        script = card("Keys", workflow={"steps": steps}, review_required=True)
        fate.strikes(script)
        leave.touch()

        # A plain worker: what failed twice is not tried a third time, and it asks.
        plain = card("Take", requires=["rest"])
        ada = Worker(api, plain)
        refused = api("POST", "/claims", {"worker": "ada-7", "card": plain, "boards": ["TOO"]})
        assert refused.status_code == 409
        api("PATCH", f"/cards/{plain}", {"requires": []})
        fate.takes(ada)
        eventually(ada.claim, 120)
        for n in range(2):
            assert n == 0 or ada.claim()
            ada.call("PATCH", "", {"approach": "slice the sequence by hand", "differs": "again"})
            ada.done("/fail", {"error": "iterators can't be sliced"})
            api.post(f"/cards/{plain}/retry")
        assert ada.claim()
        again = ada.call("PATCH", "", {"approach": "slice the sequence by hand"})
        assert (again.status_code, again.json()["code"]) == (409, "dead_end")
        ada.call("PATCH", "", {"approach": "let islice end one earlier"})
        ada.done("/block", {"reason": "unsure", "question": "May take() stay lazy?"})

        # Everything stops while the question stands open.
        [running] = [p for p in installed._started if p.poll() is None]
        running.send_signal(signal.SIGTERM)
        running.wait(60)
        installed.started()
        question = next(m for m in api.every(f"/cards/{plain}/messages") if m["kind"] == "question")
        api.post(f"/cards/{plain}/messages", {"text": "Yes.", "answers": question["id"]})
        assert ada.claim()
        refused = ada.call("POST", "/complete", {"summary": "done, I think"})
        assert (refused.status_code, refused.json()["code"]) == (422, "evidence_missing")
        assert "Bug 3 is gone" in refused.json()["detail"]
        change(repository, 2, "Take as many as asked", plain, well=True)
        ada.done("/complete", {"summary": "done", "evidence": [{"criterion": "3", "met": True}]})

        eventually(lambda: api.get(f"/cards/{script}")["state"] == "review", 180)
        person = Person(installed)
        person.merge(script)

        # An agent, which is told of every criterion's check, and killed as the script was.
        leave.unlink()
        task = {"cli": "command", "prompt": "Mend sliding windows.", "command": wait + mend(1)}
        steps = [{"key": "mend", "agent": task}]
        agent = card("Windows", workflow={"steps": steps}, review_required=True)
        fate.strikes(agent)
        leave.touch()
        eventually(lambda: api.get(f"/cards/{agent}")["state"] == "review", 180)
        person.merge(agent)
        person.client.close()
        eventually(lambda: api.get(path)["status"] == "achieved", 120)
        assert met() == [True, True, True]

        # A later change breaks what was proven.
        late = card("Tidy up")
        for n in range(3):
            git(repository, "commit", "-q", "--allow-empty", "-m", f"unrelated {n}")
        change(repository, 2, "Tidy up", late, well=False)
        git(repository, "commit", "-q", "--allow-empty", "-m", "unrelated as well")
        api.post(f"{path}/check")
        eventually(lambda: api.get(path)["status"] == "active", 120)
        assert met() == [True, True, False]

        def found() -> list[str]:
            events = api.every("/events?board=TOO")
            return [e["data"]["card"] for e in events if e["kind"] == "criterion.regressed"]

        eventually(lambda: found() == [late], 120)
        change(repository, 2, "Mend it again", late, well=True)
        eventually(lambda: api.get(f"{path}/checks")["results"][0]["status"] == "done", 120)
        api.post(f"{path}/check")
        shown = eventually(lambda: (g := api.get(path))["status"] == "achieved" and g, 120)

        # Whoever was killed had begun, and somebody else went on.
        ended = [e for e in api.every("/events?board=TOO") if e["kind"] == "attempt.expired"]
        assert {e["data"]["card"] for e in ended} == {script, plain, agent}

        # In the end a reader can follow each criterion to what was printed.
        head = git(repository, "rev-parse", "HEAD")
        for n, criterion in enumerate(shown["criteria"], 1):
            newest = criterion["evidence"][0]
            assert (newest["met"], newest["commit"]) == (True, head)
            printed = api("GET", f"/artifacts/{newest['artifact']}").text
            assert printed == f"bug {n} is gone\n"
