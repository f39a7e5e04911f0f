"""How long a search takes among 100,000 steps, and what being found costs the writing of one.

    python bench/search.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Words are drawn as in prose: few are everywhere, most are seldom. Half of the searches are of one
board among three. Times are wall milliseconds of this process, beside them its CPU: on SQLite
that is the whole search, and other work on the machine does not change it.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cost import analyze, on_each_store, running

SIZES = (60_000, 30_000, 10_000)
VOCABULARY = 20_000
WORDS = 40
SEARCHES = 300
WRITES = 400


def measure(store: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    for row in (*searching(), *writing()):
        print(json.dumps({"bench": "search", "store": store, **row}), flush=True)


def searching() -> Iterator[dict[str, Any]]:
    """Taking 100,000 steps in, and finding some of them."""
    from django.utils import timezone

    from boards import searching
    from checkpoints.models import Step
    from goals.search import keeping
    from kernel.access import Principal, Role

    draw = random.Random(1)
    letters = "abcdefghijklmnopqrst"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(VOCABULARY)]
    often = [1 / (n + 1) for n in range(VOCABULARY)]
    boards, now = [], timezone.now()
    for n, size in enumerate(SIZES):
        attempt = running(f"S{n}")
        boards.append(attempt.board_id)
        Step.objects.bulk_create(
            (
                Step(
                    card_id=attempt.card_id,
                    attempt=attempt,
                    key=f"step-{number}",
                    number=number + 1,
                    title="run the tests",
                    status="succeeded",
                    finished_at=now,
                    result={"output": " ".join(draw.choices(words, often, k=WORDS))},
                )
                for number in range(size)
            ),
            batch_size=500,
        )
    began = time.perf_counter()
    while keeping.catch_up():
        pass
    seconds = time.perf_counter() - began
    yield {"case": "taking in", "steps": sum(SIZES), "seconds": round(seconds, 1)}
    analyze()
    everywhere = Principal("token", "a", "a", everywhere=Role.VIEWER)
    seen = [everywhere] + [Principal("token", "b", "b", {b: Role.VIEWER}) for b in boards]
    forms = ("{0}", "{0} {1}", "{0} {1} {2}", '"{0} {1}"', "{3}*", "{4} {0}", "run tests {4}")
    spent, cpu = [], []
    for n in range(SEARCHES):
        drawn = draw.choices(words, often, k=3)
        seldom = draw.choice(words)
        text = forms[n % len(forms)].format(*drawn, drawn[0][:2], seldom)
        who = everywhere if n % 2 else draw.choice(seen)
        began, busy = time.perf_counter(), time.process_time()
        searching.search(who, text)
        spent.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - busy) * 1000)
    row = {"case": "search", "steps": sum(SIZES), **_told(spent)}
    yield {**row, "cpu_p95_ms": _told(cpu)["p95_ms"]}


def writing() -> Iterator[dict[str, Any]]:
    """A step recorded with the triggers and without them, by turns."""
    from checkpoints import steps
    from goals.search import keeping

    attempt = running("WRITTEN")
    spent: dict[str, list[float]] = {"with": [], "without": []}
    numbers = iter(range(10**9))
    for turn in range(8):
        for name in ("with", "without")[:: 1 if turn % 2 else -1]:
            (keeping.make_triggers if name == "with" else keeping.drop_triggers)()
            for _ in range(WRITES // 8):
                key, result = f"k{next(numbers)}", {"output": "ran the tests " * 20}
                began = time.perf_counter()
                steps.record(attempt.pk, key, "succeeded", result=result)
                spent[name].append((time.perf_counter() - began) * 1000)
    keeping.make_triggers()
    ms = {name: round(statistics.median(times), 3) for name, times in spent.items()}
    ratio = round(ms["with"] / ms["without"], 2)
    yield {"case": "a step that is to be found", "wall_ms": ms, "ratio": ratio}


def _told(spent: list[float]) -> dict[str, float]:
    ordered = sorted(spent)
    return {
        "median_ms": round(statistics.median(spent), 1),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 1),
        "worst_ms": round(ordered[-1], 1),
    }


if __name__ == "__main__":
    on_each_store(__file__, measure)
