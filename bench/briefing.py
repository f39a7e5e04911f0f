"""What a briefing costs and how large it gets as a card's history grows.

    python bench/briefing.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Each size counts recorded steps; attempts, checkpoints, messages, decisions and discoveries grow
with them up to 10,000 each; the 100 cards it depends on are there at every size. Counts are
exact. Times are CPU milliseconds of this process, medians of alternating rounds: read the ratios.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cost import analyze, counted, on_each_store

SIZES = (10, 100, 1_000, 10_000, 100_000)
MOST_OTHERS = 10_000
PARENTS = 100
BUDGETS = (500, 4_000, 32_000)
ROUNDS = 15


def measure(store: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from boards.models import Card
    from checkpoints import briefing

    call_command("migrate", verbosity=0)
    cards = {size: history(size) for size in SIZES}
    analyze()
    for budget in BUDGETS:
        spent: dict[int, list[float]] = {size: [] for size in SIZES}
        statements, tokens = {}, {}
        for size in SIZES:
            card = Card.objects.get(pk=cards[size])
            counts = counted(partial(briefing.build, card, max_tokens=budget))
            statements[size] = counts["statements"]
            tokens[size] = briefing.build(card, max_tokens=budget).tokens
        assert max(tokens.values()) <= budget
        for n in range(ROUNDS):
            for size in SIZES if n % 2 else SIZES[::-1]:
                card = Card.objects.get(pk=cards[size])
                began = time.process_time()
                briefing.build(card, max_tokens=budget)
                spent[size].append((time.process_time() - began) * 1000)
        ms = {size: round(statistics.median(times), 1) for size, times in spent.items()}
        row = {
            "bench": "briefing",
            "store": store,
            "budget": budget,
            "statements": statements,
            "tokens": tokens,
            "cpu_ms": ms,
            "ratio": round(ms[SIZES[-1]] / ms[SIZES[0]], 2),
            "ratio_from_1000": round(ms[SIZES[-1]] / ms[1_000], 2),
        }
        print(json.dumps(row), flush=True)


def history(size: int) -> Any:
    """Return the id of a card with so many recorded steps, and much else."""
    from django.utils import timezone

    from boards import cards
    from boards.models import Attempt, Card, Column, Dependency, Message
    from checkpoints.models import Checkpoint, Step
    from goals import memory
    from goals.models import Decision, Discovery
    from kernel.access import SYSTEM

    board = cards.create_board(SYSTEM, key=f"H{size}", name="history")
    column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
    criteria = [{"text": f"criterion {n} holds under load"} for n in range(20)]
    goal = memory.create(
        board.pk, "user:ada", title="Ship it", intent="why " * 200, criteria=criteria
    )
    made = cards.create(
        board, "user:ada", title="work", description="what " * 400, column=column, goal=goal
    )
    for n in range(PARENTS):
        parent = cards.create(board, "user:ada", title=f"part {n}", column=column)
        Dependency.objects.create(card=made, depends_on=parent)
    now, others = timezone.now(), min(size, MOST_OTHERS)
    tries = [
        Attempt(
            board_id=board.pk,
            card=made,
            number=n,
            worker=f"w{n}",
            status="failed",
            finished_at=now,
            lease_expires_at=now,
            approach=f"approach {'abcdefghij'[n % 10]}",
            error=f"boom {'klmnopqrst'[n % 10]} at {n}: " + "trace " * 60,
            steps_recorded=size,
        )
        for n in range(1, others + 1)
    ]
    Attempt.objects.bulk_create(tries, batch_size=500)
    Card.objects.filter(pk=made.pk).update(fence=others)
    Step.objects.bulk_create(
        (
            Step(
                card=made,
                attempt=tries[n % others],
                key=f"step-{n}",
                number=n,
                status="succeeded",
                result={"output": "x" * 200},
                finished_at=now,
            )
            for n in range(1, size + 1)
        ),
        batch_size=500,
    )
    Checkpoint.objects.bulk_create(
        (
            Checkpoint(
                card=made,
                attempt=tries[-1],
                number=n,
                summary=f"did {n}: " + "this and that " * 40,
                next_step="go on with the next part",
                digest="x",
            )
            for n in range(1, others + 1)
        ),
        batch_size=500,
    )
    where = {"board_id": board.pk, "goal": goal, "actor": "worker:ada"}
    for model, rows in (
        (
            Message,
            ({"card": made, "actor": "user:ada", "text": f"note {n}"} for n in range(others)),
        ),
        (Decision, ({"title": f"decision {n}", "rationale": "so", **where} for n in range(others))),
        (
            Discovery,
            (
                {"title": f"fact {n}", "kind": "fact", "severity": ["low", "high"][n % 2], **where}
                for n in range(others)
            ),
        ),
    ):
        model.objects.bulk_create((model(**row) for row in rows), batch_size=500)
    return made.pk


if __name__ == "__main__":
    on_each_store(__file__, measure)
