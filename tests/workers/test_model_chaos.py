"""Workers at a language model killed with -9 again and again: no turn is paid for twice.

CI rides a short way. The long one, over every protocol:
    CHAOS_TURNS=60 CHAOS_KILLS=10 python -m pytest -s tests/workers/test_model_chaos.py
"""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.serving import STORE, Site, new_site
from tests.workers.model_api import Answer, Api, Request, serving

pytestmark = pytest.mark.chaos

TURNS = int(os.environ.get("CHAOS_TURNS", "16"))
KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
PROVIDERS = ("openai", "openai-responses", "anthropic")
MOST_SECONDS = 0.4  # from a request to the kill: into the answer, its record, the call, the files

CARD = """
import json, sys, django
django.setup()
from boards import cards
from boards.models import Board, Column
from kernel.access import SYSTEM
board = cards.create_board(SYSTEM, key="PAY", name="Payments")
Board.objects.filter(pk=board.pk).update(allow_commands=True)
board.refresh_from_db()
column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
card = cards.create(board, SYSTEM.actor, title="work", column=column, max_attempts=20,
                    workflow=json.loads(sys.argv[1]))
print(card.key)
"""

#: A worker that takes the card over at once: nobody waits for a dead one's lease here.
WORKER = """
import sys, django
django.setup()
from boards import leases
from boards.models import Attempt, Card
from kernel.access import SYSTEM
from workers import executors, runner
card = Card.objects.get(key=sys.argv[1])
for attempt in Attempt.objects.filter(card=card, status="running"):
    leases.expire(attempt.pk, actor=SYSTEM.actor)
Card.objects.filter(pk=card.pk).update(not_before=None)
attempt = leases.claim("worker", card_id=card.pk, capabilities=executors.capabilities())
print(runner.run_slice(attempt))
"""

INTERRUPTED = "INTERRUPTED"


def script(effects: Path) -> Any:
    """Return a script that writes, edits and runs commands; each turn follows from its number."""

    def answer(request: Request) -> Answer:
        n = request.done + 1
        if n > TURNS:
            return {"text": "All is done."}
        if n == 1:
            return {"calls": [("write_file", {"path": "log.txt", "content": "END"})]}
        if n % 4 == 0:
            command = f"echo {n} >> {effects}; echo {n} >> ran.txt; sleep 0.1"
            return {"calls": [("run_command", {"command": command})]}
        edit = {"path": "log.txt", "old": "END", "new": f"{n}\nEND"}
        return {"calls": [("edit_file", edit)]}

    return answer


def recorded(site: Site) -> dict[int, str]:
    """Return the turns that the store has, by number, with what their calls returned."""
    query = (
        "SELECT key, CAST(result AS TEXT) FROM checkpoints_step"
        " WHERE status = 'succeeded' AND (key LIKE '%/turn-%' OR key LIKE '%/call-%')"
    )
    rows = _rows(site, query)
    turns = {}
    for key, _ in rows:
        if found := re.search(r"/turn-(\d+)$", key):
            turns[int(found[1])] = ""
    for key, result in rows:
        if found := re.search(r"/call-(\d+)-0$", key):
            turns[int(found[1])] = result
    return turns


def _rows(site: Site, query: str) -> list[tuple[str, ...]]:
    if site.database_url:
        with psycopg.connect(site.database_url) as store:
            return store.execute(query.replace("%", "%%")).fetchall()
    with closing(sqlite3.connect(next(site.folder.glob("*.sqlite3")))) as store:
        return store.execute(query).fetchall()


def _completed(site: Site) -> bool:
    return _rows(site, "SELECT state FROM boards_card") == [("completed",)]


class Killer:
    """Kills the worker a random while after it asks for a random one of the coming turns."""

    def __init__(self, dice: random.Random, answer: Any) -> None:
        self._dice, self._answer = dice, answer
        self._asked = threading.Event()
        self.at = 0

    def script(self, request: Request) -> Answer:
        if request.done + 1 >= self.at:
            self._asked.set()
        return dict(self._answer(request))

    def kill(self, process: Any, at: int) -> bool:
        """Kill the worker after it asked for turn ``at``; return whether it was still at work."""
        self.at = at
        self._asked.clear()
        while not self._asked.wait(0.1):
            if process.poll() is not None:
                return False
        time.sleep(self._dice.uniform(0, MOST_SECONDS))
        was_at_work = process.poll() is None
        process.kill()
        process.wait()
        return was_at_work


@pytest.mark.parametrize("provider", PROVIDERS if TURNS > 16 else PROVIDERS[:1])
@pytest.mark.parametrize("store", [STORE])
def test_no_turn_on_record_is_asked_for_again_however_often_the_worker_is_killed(
    store: str, provider: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    killer = Killer(dice, script(effects))
    with new_site(store) as site, serving(killer.script) as api:
        card = _card(site, api, provider)
        kills, lives = 0, 0
        again: list[int] = []
        while True:
            before = recorded(site)
            asked_before = len(api.requests)
            worker = site.python(WORKER, card)
            lives += 1
            if kills < KILLS:
                left = TURNS - len(before)
                at = len(before) + dice.randint(1, max(1, 2 * left // (KILLS - kills + 1)))
                kills += killer.kill(worker, min(at, TURNS - 4))
                worker.communicate()
            else:
                out, _ = worker.communicate(timeout=600)
                assert out.strip() == "completed", seed
            asked = [request.done + 1 for request in api.requests[asked_before:]]
            again += [turn for turn in asked if turn in before]
            # One may be killed between its last commit and its end.
            if worker.returncode == 0 or _completed(site):
                break
        turns = recorded(site)
        (tree,) = (site.folder / "workspaces" / card).glob("*/tree")
        log = (tree / "log.txt").read_text().split()
        ran = [int(line) for line in (tree / "ran.txt").read_text().split()]
    happened = Counter(map(int, effects.read_text().split()))
    interrupted = {turn for turn, said in turns.items() if INTERRUPTED in said}
    commands = set(range(4, TURNS + 1, 4))
    edits = [n for n in range(2, TURNS + 1) if n not in commands]
    extra = len(api.requests) - (TURNS + 1)
    sys.stdout.write(
        f"\n{provider} on {store}: {TURNS} turns, {kills} kills, {len(api.requests)} requests"
        f" ({extra} for a turn that was in flight), commands interrupted: {sorted(interrupted)}\n"
    )
    assert kills >= KILLS - 1, seed  # the last worker may have been quicker than its killer
    assert again == [], seed
    assert sorted(turns) == list(range(1, TURNS + 2)), seed
    assert extra <= KILLS, seed
    # The files are as though nobody had died: each change once, in order.
    assert log == [*map(str, edits), "END"], seed
    assert ran == sorted(commands - interrupted), seed
    # A command that was cut off ran once at most, every other one exactly once.
    assert {n for n, times in happened.items() if times > 1} == set(), seed
    assert set(happened) >= commands - interrupted, seed


def _card(site: Site, api: Api, provider: str) -> str:
    workflow = {
        "steps": [
            {
                "key": "it",
                "llm": {"model": f"{provider}:scripted", "prompt": "Go on.", "max_turns": 200},
                "env": api.env,
            }
        ]
    }
    return site.run(CARD, json.dumps(workflow))
