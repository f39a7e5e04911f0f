"""A worker that has only the server's address and a token, beside one that has the database."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.client.desk import Desk
from tests.client.elsewhere import Elsewhere
from tests.serving import until

pytestmark = pytest.mark.system

BUILT_IN = """
import sys, django
django.setup()
from django.utils import timezone
from boards import leases
from boards.models import Card
from workers import executors, runner
Card.objects.filter(key=sys.argv[1]).update(not_before=None)
leases.expire_lapsed()
attempt = leases.claim("builtin", card_id=Card.objects.get(key=sys.argv[1]).pk,
                       capabilities=executors.capabilities(), lease_seconds=2)
print("began", flush=True)
print(runner.run_slice(attempt), flush=True)
"""


def steps_of(here: Elsewhere) -> dict[str, Any]:
    """Three steps, the second of which waits for a gate."""
    at = here.folder
    wait = f"while [ ! -e {at}/gate ]; do sleep 0.05; done"
    one = "echo one > a.txt; printf '#!/bin/sh\\n' > run.sh; chmod +x run.sh; rm README.md"
    return {
        "steps": [
            {"key": "one", "run": f"echo x >> {at}/ones; {one}"},
            {"key": "two", "run": f"echo x >> {at}/twos; {wait}; cat a.txt; echo two > b.txt"},
            {"key": "all", "check": "test -x run.sh && test ! -e README.md && cat a.txt b.txt"},
        ]
    }


def changed(desk: Desk, card: str) -> dict[int, list[str]]:
    """Return the files that the first two checkpoints changed."""
    found = {n: desk.get(f"/cards/{card}/checkpoints/{n}/diff")["workspace"] for n in (1, 2)}
    return {n: sorted(f["path"] for f in files["files"]) for n, files in found.items()}


def test_a_killed_remote_worker_is_followed_by_a_built_in_one(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    card = desk.card(workflow=steps_of(elsewhere))
    worker = elsewhere.worker("--once", "--lease", "2", "--wait", "60")
    elsewhere.reached("twos")
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    (elsewhere.folder / "gate").touch()
    until(lambda: "completed" in desk.site.run(BUILT_IN, card))
    assert (elsewhere.count("ones"), elsewhere.count("twos")) == (1, 2)
    assert desk.steps(card) == [
        ("one", "succeeded"),
        ("two", "succeeded"),
        ("all", "succeeded"),
    ]
    tries = desk.get(f"/cards/{card}/steps")["results"]
    assert [s["in_doubt"] for s in tries if s["key"] == "two"] == [True, False]
    first = desk.get(f"/cards/{card}/checkpoints/1")
    assert first["summary"].startswith("Step one succeeded")
    assert changed(desk, card) == {1: ["README.md", "a.txt", "run.sh"], 2: ["b.txt"]}


def test_a_killed_built_in_worker_is_followed_by_a_remote_one(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    card = desk.card(workflow=steps_of(elsewhere), review_required=True)
    killed = desk.site.python(BUILT_IN, card)
    elsewhere.reached("twos")
    killed.kill()
    killed.communicate()
    (elsewhere.folder / "gate").touch()
    worker = elsewhere.worker("--once", "--wait", "60")
    out, _ = worker.communicate(timeout=180)
    assert worker.returncode == 0, out
    assert (elsewhere.count("ones"), elsewhere.count("twos")) == (1, 2), out
    assert desk.get(f"/cards/{card}")["state"] == "review", out
    log = desk.get(f"/cards/{card}/attempts/2/log?tail=50")["results"]
    assert "one\n" in "".join(line["text"] + "\n" for line in log)
    assert changed(desk, card) == {1: ["README.md", "a.txt", "run.sh"], 2: ["b.txt"]}


def test_a_drained_worker_ends_its_step_and_hands_the_card_over(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    card = desk.card(workflow=steps_of(elsewhere))
    worker = elsewhere.worker()
    elsewhere.reached("twos")
    worker.terminate()
    (elsewhere.folder / "gate").touch()
    out, _ = worker.communicate(timeout=180)
    assert worker.returncode == 0, out
    (attempt,) = desk.attempts(card)
    assert (attempt["status"], attempt["reason"]) == ("released", "drained"), out
    assert desk.steps(card) == [("one", "succeeded"), ("two", "succeeded")]


def test_a_worker_drained_from_afar_hands_its_card_over_and_stays(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    card = desk.card(workflow=steps_of(elsewhere))
    worker = elsewhere.worker("--lease", "2")
    elsewhere.reached("twos")
    drained = desk.site.call("POST", "/api/v1/workers/afar/drain")
    assert drained.body == {"worker": "afar", "host": None, "draining": True}
    beats: set[str] = set()

    def heard() -> bool:
        beats.add(desk.attempts(card)[0]["lease_expires_at"])
        return len(beats) > 2

    until(heard)
    (elsewhere.folder / "gate").touch()
    until(lambda: desk.attempts(card)[0]["status"] != "running")
    (attempt,) = desk.attempts(card)
    assert (attempt["status"], attempt["reason"]) == ("released", "drained")
    assert desk.steps(card) == [("one", "succeeded"), ("two", "succeeded")]
    assert worker.poll() is None
    assert desk.site.call("POST", "/api/v1/workers/afar/undrain").status == 200


def test_a_cancelled_card_is_let_go_and_what_it_left_is_kept(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    slow = f"echo half > half.txt; echo x >> {elsewhere.folder}/up; sleep 1000"
    card = desk.card(workflow={"steps": [{"key": "slow", "run": slow}]})
    worker = elsewhere.worker("--once", "--wait", "60", "--lease", "3")
    elsewhere.reached("up")
    desk.steer(card, "cancel")
    out, _ = worker.communicate(timeout=180)
    assert worker.returncode == 0, out
    (left,) = desk.get(f"/cards/{card}/salvages")["results"]
    files = desk.get(f"/cards/{card}/salvages/{left['id']}/diff")
    assert "half.txt" in str(files)
