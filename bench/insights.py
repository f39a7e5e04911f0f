"""What a look at a board's figures and at its log costs as the log grows.

    python bench/insights.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

``fold`` reads the whole log, as the first look of a process does; ``again`` is the next look, at
a log that has one event more. ``page`` is the whole request once the log is folded, ``activity``
one page of events: the newest, and a filter that lets nothing through. Times are CPU milliseconds
of this process, medians of rounds; ``mb`` is what the folded history holds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cost import analyze, on_each_store

SIZES = (10_000, 100_000, 1_000_000)
#: The figures of a log that long are measured; past it only pages of events are.
MOST_FOLDED = 100_000
ROUNDS = 5


def measure(store: str) -> None:
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    from boards import cards
    from boards.insights import fold
    from kernel.access import SYSTEM

    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_superuser("bench")
    client = Client()
    client.force_login(user)
    for size in SIZES:
        board = cards.create_board(SYSTEM, key=f"B{size}", name="Bench")
        fill(board, size)
        analyze()
        row: dict[str, Any] = {"bench": "insights", "store": store, "events": size}
        if size <= MOST_FOLDED:

            def fresh(board: Any = board) -> fold.Ledger:
                ledger = fold.Ledger(board.pk)
                ledger.catch_up()
                return ledger

            row["fold"] = timed(fresh)
            tracemalloc.start()
            kept = fresh()
            row["mb"] = round(tracemalloc.get_traced_memory()[0] / 1e6, 1)
            tracemalloc.stop()
            row["cards"] = len(kept.cards)
            page = f"/boards/{board.key}/insights"
            got(client, page)
            row["again"] = timed(lambda path=page, b=board: (more(b), got(client, path)))
            row["page"] = timed(lambda path=page: got(client, path))
        row["activity"] = timed(lambda b=board: got(client, f"/boards/{b.key}/activity"))
        nobody = f"/boards/{board.key}/activity?actor=nobody"
        row["activity_nothing_found"] = timed(lambda path=nobody: got(client, path))
        print(json.dumps(row), flush=True)


def got(client: Any, path: str) -> None:
    answer = client.get(path, headers={"host": "127.0.0.1"})
    assert answer.status_code == 200, answer.status_code


def timed(call: Callable[[], Any]) -> float:
    """Return the median CPU milliseconds of a call."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        spent.append((time.process_time() - began) * 1000)
    return round(statistics.median(spent), 1)


def more(board: Any) -> None:
    """Record one event more."""
    from boards import cards

    cards.create(board, "user:ann", title="One more")


def fill(board: Any, size: int) -> None:
    """Write a log as workers leave it: cards made, moved, claimed, worked on and finished."""
    from django.utils import timezone

    from events.models import Event
    from kernel.ids import uuid7

    chance = random.Random(size)
    columns = {c.kind: str(c.pk) for c in board.columns.all()}
    now = timezone.now() - timedelta(days=90)
    pace = timedelta(days=90) / size
    events, seq, number = [], 1, 0

    def note(kind: str, subject: Any, actor: str = "worker:ada", **data: Any) -> None:
        nonlocal seq, now
        seq, now = seq + 1, now + pace
        events.append(
            Event(
                board_id=board.pk,
                seq=seq,
                at=now,
                kind=kind,
                actor=actor,
                subject_id=subject,
                data=data,
            )
        )

    while seq < size:
        number += 1
        card, key = uuid7(), f"{board.key}-{number}"

        def stands(state: str, place: str, key: str = key) -> dict[str, Any]:
            return {"card": key, "column": columns[place], "state": state, "version": 1}

        worker = f"worker:{chance.choice(['ada', 'bob', 'cy'])}"
        labels = [chance.choice(["api", "db"])]
        note(
            "card.created",
            card,
            "user:ann",
            **stands("backlog", "backlog"),
            title=f"Card {number}",
            goal=None,
            labels=labels,
        )
        note("card.moved", card, "user:ann", **stands("waiting", "in_progress"))
        for attempt in range(1, 2 + (chance.random() < 0.25)):
            named = {"attempt": attempt, "worker": worker[7:]}
            note("card.claimed", card, worker, **stands("running", "in_progress"), **named)
            for step in range(chance.randint(2, 6)):
                names = {"attempt": attempt, "step": f"step-{step}", "number": step}
                note("step.started", card, worker, **names)
                note("log.appended", card, worker, attempt=attempt, step=f"step-{step}", last=seq)
                usage = {"model": "large", "input_tokens": 900, "cost_usd": "0.0125"}
                note("step.succeeded", card, worker, **names, usage=usage)
            over = {"attempt": attempt, "error": "It broke", "retryable": True}
            note("attempt.failed", card, worker, **stands("waiting", "in_progress"), **over)
        note("card.completed", card, worker, **stands("completed", "completed"), attempt=attempt)
        if len(events) >= 5000:
            Event.objects.bulk_create(events)
            events = []
    Event.objects.bulk_create(events)


if __name__ == "__main__":
    on_each_store(__file__, measure)
