"""The product's main job: work that survives kill -9, on a real project, seen by everyone.

The command that people start is started, a person drags a card into In progress, and while
built-in workers carry out its twelve steps the worker is killed in the sixth and everything in
the ninth. Each step waits inside for leave from the test, so that what is killed is killed in
the middle, however slow the machine.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from kernel.digests import canonical, sha256
from tests.acceptance import project
from tests.acceptance.onlookers import SHOWN, Api, Eye, Poll, Socket, browser, eventually
from tests.processes import alive, worker_above
from tests.runtime_site.installation import Installation, installation

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="has a store of its own"),
]

TOKEN = "acceptance-" + "t" * 32
KILL_WORKER_IN, KILL_ALL_IN = 6, 9
PYTEST = f"{shlex.quote(sys.executable)} -m pytest -q -p no:cacheprovider"
PYTHON = shlex.quote(sys.executable)


def workflow(counter: Path, leave: Path, mend: str) -> dict[str, Any]:
    """Return twelve steps. Each counts itself outside the workspace, then waits for leave."""
    begin = (
        'echo "$HOLDFAST_STEP $HOLDFAST_ATTEMPT" >> "$COUNTER"; echo "begun: $HOLDFAST_STEP"\n'
        'while [ ! -e "$LEAVE/$HOLDFAST_STEP" ]; do sleep 0.05; done\n'
    )
    steps: list[dict[str, Any]] = [
        {
            "key": "inventory",
            "run": "git ls-files '*.py' | sort > inventory.txt; test -s inventory.txt",
            "artifacts": ["inventory.txt"],
        },
        {"key": "compile", "run": f"{PYTHON} -m compileall -q toolz tlz"},
        {"key": "collect", "run": f"{PYTEST} --collect-only toolz > collected.txt"},
        {
            "key": "test-seeded",
            "run": f"{PYTEST} --junitxml=before.xml toolz",
            "junit": "before.xml",
            "artifacts": ["before.xml"],
            "allow_failure": True,
        },
        {"key": "reproduce", "run": f"! {PYTEST} toolz/tests/test_itertoolz.py -k sliding_window"},
        {
            # Its first half is left behind by the kill; the second try must not find it.
            "key": "bisect",
            "run": "grep -n 'islice(it, i + 1)' toolz/itertoolz.py > suspect.txt && rm half-way",
        },
        {"key": "mend", "run": f"git apply <<'PATCH'\n{mend}PATCH\n"},
        {
            "key": "test-mended",
            "run": f"{PYTEST} --junitxml=after.xml toolz",
            "junit": "after.xml",
            "artifacts": ["after.xml"],
        },
        {
            "key": "soak",
            "run": f"for n in 1 2 3; do {PYTEST} toolz -k sliding_window || exit 1; done",
        },
        {
            "key": "package",
            "run": f"{PYTHON} -m zipfile -c toolz.zip toolz tlz",
            "artifacts": ["toolz.zip"],
        },
        {
            "key": "use",
            "run": f"cd / && PYTHONPATH=$OLDPWD/toolz.zip {PYTHON} -c 'import toolz; "
            "assert list(toolz.sliding_window(2, [1, 2, 3])) == [(1, 2), (2, 3)]'",
        },
        {
            "key": "report",
            "run": "cat suspect.txt inventory.txt collected.txt > report.txt",
            "artifacts": ["report.txt"],
        },
    ]
    for step in steps:
        first = begin
        if step["key"] == "bisect":
            first = "test ! -e half-way || exit 9\ntouch half-way\n" + begin
        step["run"] = first + step["run"]
        step["timeout_seconds"] = 300
    return {
        "steps": steps,
        "env": {
            "COUNTER": str(counter),
            "LEAVE": str(leave),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> project.Project:
    try:
        return project.make(tmp_path_factory.mktemp("project"))
    except project.Unavailable as why:
        pytest.skip(f"the package index can't be reached: {why}")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(
        tmp_path / "data",
        BOOTSTRAP_TOKEN=TOKEN,
        ALLOW_COMMANDS="1",
        WORKERS="2",
        LEASE_SECONDS="30",
    ) as made:
        yield made


def commands(mark: Path) -> list[int]:
    """Return the processes of commands of this test: all have the folder in their environment."""
    word = f"LEAVE={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word in (entry / "environ").read_bytes() and alive(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def counted(counter: Path) -> list[tuple[str, str]]:
    """Return the key and attempt of every time a step ran, in order."""
    if not counter.exists():
        return []
    return [(line.split()[0], line.split()[1]) for line in counter.read_text().splitlines()]


@pytest.fixture
def api(installed: Installation) -> Iterator[Api]:
    with Api(installed.port, TOKEN) as api:
        yield api


def test_a_card_survives_the_death_of_its_worker_and_of_everything(
    installed: Installation, api: Api, work: project.Project, tmp_path: Path
) -> None:
    counter, leave = tmp_path / "counter.txt", tmp_path / "leave"
    leave.mkdir()
    plan = workflow(counter, leave, work.mend)
    keys = [step["key"] for step in plan["steps"]]
    assert len(keys) == 12

    process = installed.started()
    board = api.post("/boards", {"key": "TLZ", "name": "Toolz", "repository": str(work.repository)})
    assert board["allow_commands"] is True
    card = api.post("/cards", {"board": "TLZ", "title": "Mend sliding_window", "workflow": plan})
    key = card["key"]

    with Socket(api, "TLZ") as socket, Poll(api, "TLZ") as poll, browser(api.origin) as eye:
        if eye:
            eye.sign_in(installed.link())
            eye.open("board", "/boards/TLZ")
            eye.open("steps", f"/cards/{key}")
            eye.open("activity", f"/cards/{key}?tab=activity")
            eye.sees(eye.card_in("Backlog", key))
            eye.drag(key, "In progress")
        else:
            api.post(f"/cards/{key}/move", {"column": "in_progress"})

        for number, step in enumerate(keys, start=1):
            eventually(lambda step=step: (step in [k for k, _ in counted(counter)]) or None)
            watch(eye, step, "live")
            if number == KILL_WORKER_IN:
                os.kill(eventually(lambda: worker_above(commands(leave))), signal.SIGKILL)
                begun_again(counter, step, times=2)
            if number == KILL_ALL_IN:
                for pid in installed.processes():
                    os.kill(pid, signal.SIGKILL)
                process.wait(60)
                eventually(lambda: not installed.processes() and not commands(leave))
                process = installed.started()
                begun_again(counter, step, times=2)
            if number in (KILL_WORKER_IN, KILL_ALL_IN):
                watch(eye, step, "live", "in doubt")
            (leave / step).touch()
            watch(eye, step, "failed" if step == "test-seeded" else "done")

        eventually(lambda: api.get(f"/cards/{key}")["state"] == "completed")
        if eye:
            eye.sees(eye.card_in("Completed", key))
            eye.sees(eye.steps.locator("#card-top").get_by_text("Completed"))
            expect(eye.steps.locator(SHOWN["done"])).to_have_count(11)
            expect(eye.steps.locator(SHOWN["failed"])).to_have_count(3)
            events = [e for e in api.every("/events?board=TLZ") if e["subject"] == card["id"]]
            eye.sees(eye.pages["activity"].locator(f"#e{events[-1]['seq']}"))
            for event in events:
                expect(eye.pages["activity"].locator(f"#e{event['seq']}")).to_have_count(1)
            eye.check_never_reloaded()

        check_events(api, [socket, poll])
        assert min(socket.cut, poll.cut) >= 1, "nobody noticed the death of everything"
    check_steps(api, key, keys, counter)
    check_checkpoints(api, key, keys)
    check_tests(api, key)
    check_artifacts(api, key)
    check_clean_end(installed, process, leave)


def watch(eye: Eye | None, step: str, shown: str, *words: str) -> None:
    """Wait until the open page shows the step like that."""
    if eye is None:
        return
    row = eye.step(step, shown)
    eye.sees(row)
    for word in words:
        expect(row).to_contain_text(word)
    if shown == "live":
        expect(row.get_by_role("region")).to_contain_text(f"begun: {step}")


def begun_again(counter: Path, step: str, *, times: int) -> None:
    eventually(lambda: [k for k, _ in counted(counter)].count(step) == times)


def check_steps(api: Api, key: str, keys: list[str], counter: Path) -> None:
    """Each recorded step ran once; only the two interrupted ones ran again, flagged in doubt."""
    interrupted = {keys[KILL_WORKER_IN - 1], keys[KILL_ALL_IN - 1]}
    ran = counted(counter)
    assert Counter(k for k, _ in ran) == {k: 1 + (k in interrupted) for k in keys}
    assert len(set(ran)) == len(ran), "no attempt ran a step twice"
    rows = list(reversed(api.every(f"/cards/{key}/steps")))
    recorded = [row for row in rows if not row["superseded"]]
    assert [row["key"] for row in recorded] == keys
    assert {row["key"] for row in recorded if row["in_doubt"]} == interrupted
    assert {row["key"] for row in rows if row["superseded"]} == interrupted
    assert len(rows) == 14
    expected = {k: "failed" if k == "test-seeded" else "succeeded" for k in keys}
    assert {row["key"]: row["status"] for row in recorded} == expected
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(set(numbers))
    who = {row["key"]: row["attempt"] for row in recorded}
    for k, attempt in ran:
        if [x for x, _ in ran].count(k) == 1:
            assert who[k] == attempt
    attempts = list(reversed(api.every(f"/cards/{key}/attempts")))
    assert [a["status"] for a in attempts if a["status"] != "released"] == [
        "expired",
        "expired",
        "succeeded",
    ]
    assert [a["number"] for a in attempts] == list(range(1, len(attempts) + 1))
    # The ground for going on: an attempt starts from the last checkpoint before it.
    assert attempts[-1]["resumed_from"] == KILL_ALL_IN - 1


def check_checkpoints(api: Api, key: str, keys: list[str]) -> None:
    """One checkpoint per step, each naming its parent and covering it with its digest."""
    chain = list(reversed(api.every(f"/cards/{key}/checkpoints")))
    assert [c["number"] for c in chain] == list(range(1, len(keys) + 1))
    parent: dict[str, Any] = {"id": None, "digest": ""}
    for checkpoint in chain:
        assert checkpoint["parent"] == parent["id"]
        names = ("summary", "next_step", "state", "tests", "workspace", "artifacts")
        body = canonical({name: checkpoint[name] for name in names})
        assert checkpoint["digest"] == sha256(parent["digest"].encode(), body)
        assert len(checkpoint["workspace"]["commit"]) == 40
        parent = checkpoint
    assert chain[-1]["state"] == {"steps_done": 12, "steps_total": 12}


def check_tests(api: Api, key: str) -> None:
    """The numbers on the checkpoints are those of the reports, which can be had."""
    seen = {}
    for checkpoint in api.every(f"/cards/{key}/checkpoints"):
        for artifact in checkpoint["artifacts"]:
            if artifact["name"].endswith(".xml"):
                content = api("GET", f"/artifacts/{artifact['sha256']}").content
                suite = ElementTree.fromstring(content).find("testsuite")
                assert suite is not None
                total, bad = int(suite.attrib["tests"]), int(suite.attrib["failures"])
                tests = checkpoint["tests"]
                assert (tests["passed"], tests["failed"]) == (total - bad, bad)
                assert total == project.TESTS
                seen[artifact["name"]] = tests
    assert seen["before.xml"]["failed"] >= 1
    assert any("sliding_window" in name for name in seen["before.xml"]["failing"])
    assert (seen["after.xml"]["failed"], seen["after.xml"]["passed"]) == (0, project.TESTS)


def check_artifacts(api: Api, key: str) -> None:
    """Every artifact comes back as the bytes that its name is the digest of."""
    names = set()
    for checkpoint in api.every(f"/cards/{key}/checkpoints"):
        for artifact in checkpoint["artifacts"]:
            content = api("GET", f"/artifacts/{artifact['sha256']}").content
            assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
            names.add(artifact["name"])
    assert names == {"inventory.txt", "before.xml", "after.xml", "toolz.zip", "report.txt"}


def check_events(api: Api, followers: list[Any]) -> None:
    """The log has no gap, and everyone who followed it has all of it, once and in order."""
    listed = api.every("/events?board=TLZ")
    numbers = [event["seq"] for event in listed]
    assert numbers == list(range(1, len(numbers) + 1))
    for follower in followers:
        assert follower.until(numbers[-1]) == numbers, follower.name
        for heard, kept in zip(follower.events, listed, strict=True):
            assert (heard["kind"], heard["data"]) == (kept["kind"], kept["data"])


def check_clean_end(installed: Installation, process: Any, leave: Path) -> None:
    """SIGTERM ends everything within ten seconds and leaves no process behind."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    eventually(lambda: not installed.processes() and not commands(leave))
