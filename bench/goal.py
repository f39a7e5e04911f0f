"""What a goal's page costs as its cards and their attempts grow.

    python bench/goal.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Each card has ten attempts and waits for an earlier one. Statements and bytes are exact. Times are
CPU milliseconds of this process, medians of alternating rounds: read the ratio.
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

SIZES = (10, 1_000)
ATTEMPTS = 10
ROUNDS = 9


def measure(store: str) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    settings.ALLOWED_HOSTS = ["*"]
    person = Client()
    person.force_login(get_user_model().objects.create_superuser("ada"))
    goals = {size: grown(size) for size in SIZES}
    analyze()
    for tab in ("cards", "attempts"):
        pages = {size: f"/goals/{goal}?tab={tab}" for size, goal in goals.items()}
        size_of = {size: len(person.get(page).content) for size, page in pages.items()}
        statements = {
            size: counted(partial(person.get, page))["statements"] for size, page in pages.items()
        }
        spent: dict[int, list[float]] = {size: [] for size in SIZES}
        for n in range(ROUNDS):
            for size in SIZES if n % 2 else SIZES[::-1]:
                began = time.process_time()
                person.get(pages[size])
                spent[size].append((time.process_time() - began) * 1000)
        ms = {size: round(statistics.median(times), 1) for size, times in spent.items()}
        row = {
            "bench": "goal",
            "store": store,
            "tab": tab,
            "statements": statements,
            "bytes": size_of,
            "cpu_ms": ms,
            "ratio": round(ms[SIZES[-1]] / ms[SIZES[0]], 2),
        }
        print(json.dumps(row), flush=True)


def grown(size: int) -> Any:
    """Return the id of a goal with so many cards, ten attempts at each."""
    from django.utils import timezone

    from boards import cards
    from boards.models import Attempt, Card, Column, Dependency
    from goals import memory
    from kernel.access import SYSTEM

    board = cards.create_board(SYSTEM, key=f"G{size}", name="goal")
    column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
    criteria = [{"text": f"criterion {n}"} for n in range(5)]
    goal = memory.create(board.pk, "user:ada", title="Ship it", criteria=criteria)
    now = timezone.now()
    made = [
        Card(board=board, number=n, key=f"{board.key}-{n}", goal=goal, column=column, rank=n,
             state="waiting", title=f"part {n} of the work")
        for n in range(1, size + 1)
    ]  # fmt: skip
    Card.objects.bulk_create(made, batch_size=500)
    Dependency.objects.bulk_create(
        (Dependency(card=made[n], depends_on=made[n // 3]) for n in range(1, size)),
        batch_size=500,
    )
    Attempt.objects.bulk_create(
        (
            Attempt(board=board, card=card, number=n, worker=f"w{n}", status="failed",
                    finished_at=now, lease_expires_at=now, approach=f"approach {n}", error="boom")
            for card in made
            for n in range(1, ATTEMPTS + 1)
        ),
        batch_size=500,
    )  # fmt: skip
    return goal.pk


if __name__ == "__main__":
    on_each_store(__file__, measure)
