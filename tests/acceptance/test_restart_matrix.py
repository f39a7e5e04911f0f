"""Processes are killed at random while agents and built-in workers work: nothing acknowledged
is lost, no step is recorded twice, and the store stays whole.

``CHAOS_KILLS`` says how often (12 unless told; nightly runs take hundreds) and ``CHAOS_SEED``
repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from kernel.digests import canonical, sha256
from tests.acceptance.onlookers import Api, Socket, eventually
from tests.runtime_site.installation import Installation, installation
from tests.serving import STORE, database

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

TOKEN = "restart-matrix-" + "t" * 32
KILLS = int(os.environ.get("CHAOS_KILLS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
CLIENTS = 4


@dataclass
class Acknowledged:
    """Everything that clients were told is stored."""

    cards: dict[str, str] = field(default_factory=dict)  # key -> title
    steps: dict[tuple[str, str], Any] = field(default_factory=dict)  # card, step -> result
    checkpoints: dict[str, str] = field(default_factory=dict)  # id -> digest
    completed: set[str] = field(default_factory=set)
    claims: dict[tuple[str, int], str] = field(default_factory=dict)  # card, fence -> worker
    replays: int = 0
    retries: int = 0


class Agent(threading.Thread):
    """Works as an agent should: every POST carries a key and is sent until it is answered."""

    def __init__(self, number: int, port: int, told: Acknowledged, over: threading.Event) -> None:
        super().__init__(name=f"agent-{number}", daemon=True)
        self.number, self.told, self.over = number, told, over
        self.random = random.Random(SEED + number)
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
            trust_env=False,
        )
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with self.client:
                while not self.over.is_set():
                    self.work()
        except BaseException as error:
            self.failed = error

    def post(self, path: str, body: dict[str, Any], lease: str = "") -> httpx.Response:
        """Return the answer to a request that is repeated until there is one."""
        headers = {"Idempotency-Key": uuid4().hex}
        if lease:
            headers["Lease-Token"] = lease
        ends = time.monotonic() + 120
        while True:
            try:
                answer = self.client.post(path, json=body, headers=headers)
                if answer.status_code not in (500, 502, 503) and not _busy(answer):
                    self.told.replays += "Idempotent-Replay" in answer.headers
                    return answer
                assert answer.status_code != 500, answer.text
            except httpx.TransportError:
                pass
            self.told.retries += 1
            assert time.monotonic() < ends, f"{path} was not answered in two minutes"
            time.sleep(self.random.uniform(0.02, 0.2))

    def work(self) -> None:
        title = f"card {uuid4().hex}"
        card = self.post("/cards", {"board": "CHAOS", "title": title, "column": "in_progress"})
        assert card.status_code == 201, card.text
        self.told.cards[card.json()["key"]] = title
        name = f"agent-{self.number}"
        body = {"worker": name, "boards": ["CHAOS"], "lease_seconds": 60}
        taken = self.post("/claims", {**body, "wait_seconds": 0})
        if taken.status_code == 204:
            return
        assert taken.status_code == 201, taken.text
        claim = taken.json()
        key, fence = claim["card"]["key"], claim["lease"]["fence"]
        assert self.told.claims.setdefault((key, fence), name) == name, "one fence, two holders"
        self.carry_out(f"/attempts/{claim['attempt']['id']}", key, claim["lease"]["token"])

    def carry_out(self, path: str, card: str, lease: str) -> None:
        for n in range(self.random.randrange(1, 5)):
            step, result = f"s{n}", {"value": uuid4().hex, "step": n}
            if self.random.random() < 0.5:
                begun = self.post(f"{path}/steps", {"key": step}, lease)
                if begun.status_code == 409:
                    return
                if "replay" in begun.json():
                    continue
                answer = self.post(f"{path}/steps/{step}/finish", _end(result), lease)
            else:
                answer = self.post(f"{path}/steps", {"key": step, **_end(result)}, lease)
            if answer.status_code == 409:  # lease_lost: another goes on from here
                return
            assert answer.status_code in (200, 201), answer.text
            stored = answer.json()
            if stored.get("replay"):
                continue
            assert stored["result"] == result
            assert self.told.steps.setdefault((card, step), result) == result
            self.told.checkpoints[stored["checkpoint"]["id"]] = stored["checkpoint"]["digest"]
        if self.random.random() < 0.7:
            done = self.post(f"{path}/complete", {"summary": "done"}, lease)
            if done.status_code == 200:
                self.told.completed.add(card)
        else:
            self.post(f"{path}/release", {"summary": "half", "next_step": "go on"}, lease)


def _end(result: Any) -> dict[str, Any]:
    return {"status": "succeeded", "result": result, "checkpoint": {"summary": "so far"}}


def _busy(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["code"] == "idempotency_key_busy"


class Killer:
    """Kills one process of the tree at a time and starts the command again when all is gone."""

    def __init__(self, installed: Installation) -> None:
        self.installed = installed
        self.process = installed.started()
        self.random = random.Random(SEED)
        self.killed: Counter[str] = Counter()

    def kill(self) -> None:
        running = self.installed.processes()
        # The supervisor takes everything with it: give it its turn among so many workers.
        roles = sorted(set(running.values()))
        role = self.random.choice(roles)
        pid = self.random.choice(sorted(p for p, r in running.items() if r == role))
        if role == "supervisor":  # a part that is just being started still looks like it
            pid = self.process.pid
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed[role] += 1
        if role == "supervisor":
            self.process.wait(60)
            eventually(lambda: not self.installed.processes())
            self.process = self.installed.started()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        eventually(lambda: not self.installed.processes())


@pytest.fixture(params=[STORE])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with database(request.param) as url:
        yield url


@pytest.fixture
def installed(url: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(
        tmp_path / "data",
        BOOTSTRAP_TOKEN=TOKEN,
        ALLOW_COMMANDS="1",
        WORKERS="2",
        LEASE_SECONDS="5",
        SLICE_SECONDS="2",
        DATABASE_URL=url,
    ) as made:
        yield made


def test_nothing_acknowledged_is_lost_whatever_is_killed(
    installed: Installation, url: str, tmp_path: Path
) -> None:
    sys.stderr.write(f"CHAOS_SEED={SEED} CHAOS_KILLS={KILLS}\n")
    killer = Killer(installed)
    told, over = Acknowledged(), threading.Event()
    counter = tmp_path / "counter.txt"
    with Api(installed.port, TOKEN) as api:
        api.post("/boards", {"key": "CHAOS", "name": "Chaos"})
        for n in range(3):
            api.post("/cards", built_in_card(n, counter))
        agents = [Agent(n, installed.port, told, over) for n in range(CLIENTS)]
        with Socket(api, "CHAOS") as socket:
            for agent in agents:
                agent.start()
            for _ in range(KILLS):
                time.sleep(killer.random.uniform(0.3, 1.5))
                killer.kill()
                assert not [a.failed for a in agents if a.failed], [a.failed for a in agents]
            killer.installed.until_ready(killer.process)
            over.set()
            for agent in agents:
                agent.join(180)
                assert not agent.is_alive()
                assert agent.failed is None, agent.failed
            built_in = [f"CHAOS-{n}" for n in (1, 2, 3)]
            eventually(
                lambda: all(api.get(f"/cards/{k}")["state"] == "completed" for k in built_in), 240
            )
            check_acknowledged(api, told)
            check_steps(api, built_in, counter)
            numbers = [event["seq"] for event in api.every("/events?board=CHAOS")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert socket.until(numbers[-1]) == numbers
    killer.stop()
    check_store(installed, url)
    assert len(told.steps) >= 10, "too little was under load to mean anything"
    sys.stderr.write(f"killed {dict(killer.killed)}; {summary(told)}\n")


def summary(told: Acknowledged) -> str:
    return (
        f"{len(told.cards)} cards, {len(told.claims)} claims, {len(told.steps)} steps and "
        f"{len(told.completed)} completions acknowledged; {told.retries} requests repeated, "
        f"{told.replays} of them had been done"
    )


def built_in_card(n: int, counter: Path) -> dict[str, Any]:
    """Return a card for the built-in workers, each step of which says that it ran."""
    run = f'echo "{n} $HOLDFAST_STEP $HOLDFAST_ATTEMPT" >> {counter}; sleep 0.4'
    return {
        "board": "CHAOS",
        "title": f"built in {n}",
        "column": "in_progress",
        "max_attempts": 1000,
        "priority": 4,
        "requires": ["shell"],  # agents have no capabilities: this is not for them
        "workflow": {"steps": [{"key": f"run-{s}", "run": run} for s in range(8)]},
    }


def check_acknowledged(api: Api, told: Acknowledged) -> None:
    """Everything that was acknowledged is there, as it was said."""
    cards = {card["key"]: card for card in api.every("/cards?board=CHAOS")}
    assert {key: cards[key]["title"] for key in told.cards} == told.cards
    assert {cards[key]["state"] for key in told.completed} <= {"completed"}
    checkpoints: dict[str, str] = {}
    stored: dict[tuple[str, str], Any] = {}
    for key in {card for card, _ in told.steps}:
        rows = api.every(f"/cards/{key}/steps")
        done = [row for row in rows if row["status"] == "succeeded"]
        assert len({row["key"] for row in done}) == len(done), f"{key} has a step recorded twice"
        stored |= {(key, row["key"]): row["result"] for row in done}
        parent: dict[str, Any] = {"id": None, "digest": ""}
        for checkpoint in reversed(api.every(f"/cards/{key}/checkpoints")):
            names = ("summary", "next_step", "state", "tests", "workspace", "artifacts")
            body = canonical({name: checkpoint[name] for name in names})
            assert checkpoint["parent"] == parent["id"]
            assert checkpoint["digest"] == sha256(parent["digest"].encode(), body)
            checkpoints[checkpoint["id"]] = checkpoint["digest"]
            parent = checkpoint
        fences = [a["number"] for a in api.every(f"/cards/{key}/attempts")]
        assert sorted(fences) == list(range(1, len(fences) + 1))
    assert {step: stored.get(step) for step in told.steps} == told.steps
    assert {c: checkpoints.get(c) for c in told.checkpoints} == told.checkpoints


def check_steps(api: Api, cards: list[str], counter: Path) -> None:
    """No recorded step of the built-in workers ran again after it was recorded."""
    ran = [line.split() for line in counter.read_text().splitlines()]
    for n, key in enumerate(cards):
        rows = api.every(f"/cards/{key}/steps")
        recorded = {row["key"]: row for row in rows if row["status"] == "succeeded"}
        assert len(recorded) == 8
        for step, row in recorded.items():
            attempts = [a for card, s, a in ran if (card, s) == (str(n), step)]
            assert attempts[-1] == row["attempt"], f"{key} {step} ran after it was recorded"
            tries = [r for r in rows if r["key"] == step]
            assert len(attempts) <= len(tries), "it ran without having been begun"
            assert row["in_doubt"] == (len(tries) > 1)


def check_store(installed: Installation, url: str) -> None:
    """The store itself finds nothing wrong, and nothing else is there than should be."""
    if url:
        with psycopg.connect(url) as connection:
            twice = connection.execute(_TWICE).fetchall()
            running = connection.execute(_RUNNING).fetchall()
    else:
        with sqlite3.connect(installed.folder / "holdfast.sqlite3") as store:
            # Constraints are part of the check, and one of them uses Django's REGEXP.
            store.create_function("REGEXP", 2, lambda shape, text: bool(re.search(shape, text)))
            assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert store.execute("PRAGMA foreign_key_check").fetchall() == []
            twice, running = store.execute(_TWICE).fetchall(), store.execute(_RUNNING).fetchall()
        store.close()
    assert twice == []
    assert running == []


_TWICE = """
SELECT card_id, line, key FROM checkpoints_step WHERE status = 'succeeded'
GROUP BY card_id, line, key HAVING COUNT(*) > 1
"""
_RUNNING = """
SELECT c.key FROM boards_card c LEFT JOIN boards_attempt a
ON a.card_id = c.id AND a.status = 'running'
GROUP BY c.id, c.key, c.state HAVING (c.state = 'running') <> (COUNT(a.id) = 1)
"""
