"""What going back costs: forks and rewinds of long histories, and lookups after many of them.

    python bench/lines.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Statements are exact. Milliseconds are wall time, the database included: they grow with what a new
line inherits. The lookup is CPU of this process, medians; it should not grow with the rewinds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cost import analyze, counted, on_each_store, running

SIZES = (10, 1_000, 100_000)
REWINDS = 100
ROUNDS = 40


def measure(store: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from checkpoints import lines

    call_command("migrate", verbosity=0)
    cards = {size: recorded(size) for size in SIZES}
    analyze()
    calls: dict[str, Callable[[int], Any]] = {
        "fork": lambda size: lines.fork(cards[size], 1, "user:ada"),
        "rewind": lambda size: lines.rewind(cards[size], 1, "user:ada"),
    }
    for case, call in calls.items():
        wall, statements = {}, {}
        for size in SIZES:
            began = time.perf_counter()
            statements[size] = counted(lambda call=call, size=size: call(size))["statements"]  # type: ignore[misc]
            wall[size] = round((time.perf_counter() - began) * 1000)
        row = {"bench": "lines", "store": store, "case": case, "statements": statements, "ms": wall}
        print(json.dumps(row), flush=True)
    print(json.dumps({"bench": "lines", "store": store, **lookups(cards[1_000])}), flush=True)


def recorded(size: int) -> Any:
    """Return the id of a card with so many recorded steps and a checkpoint after them."""
    from django.utils import timezone

    from boards.models import Attempt
    from checkpoints import recovery
    from checkpoints.models import Step

    attempt = running(f"L{size}")
    now = timezone.now()
    Step.objects.bulk_create(
        (
            Step(
                card_id=attempt.card_id,
                key=f"step-{n}",
                number=n,
                attempt=attempt,
                status=Step.Status.SUCCEEDED,
                result={"output": "x" * 200},
                finished_at=now,
            )
            for n in range(1, size + 1)
        ),
        batch_size=500,
    )
    counters = {"step_number": size, "steps_done": size, "steps_recorded": size}
    Attempt.objects.filter(pk=attempt.pk).update(**counters)
    recovery.save(attempt.pk, {"summary": "so far"})
    return attempt.card_id


def lookups(card_id: Any) -> dict[str, Any]:
    """Return what a recorded step's replay costs after one rewind and after many."""
    from boards import leases
    from checkpoints import lines, steps

    def replay() -> float:
        attempt = leases.claim("ada", card_id=card_id)
        assert attempt is not None
        spent = []
        for _ in range(ROUNDS):
            began = time.process_time()
            assert steps.begin(attempt.pk, "step-7").replay
            spent.append((time.process_time() - began) * 1000)
        return statistics.median(spent)

    first = replay()
    for _ in range(REWINDS):
        lines.rewind(card_id, 1, "user:ada")
    last = replay()
    return {
        "case": f"replay after 1 and {REWINDS + 1} rewinds",
        "cpu_ms": [round(first, 2), round(last, 2)],
        "ratio": round(last / first, 2),
    }


if __name__ == "__main__":
    on_each_store(__file__, measure)
