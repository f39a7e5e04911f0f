"""What live output costs: appending to a log, reading a page of it, searching all of it.

    python bench/logs.py        SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Statements are exact. Milliseconds are CPU of this process, medians of alternating rounds; read the
ratios."""

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

SIZES = (1_000, 100_000)
ROUNDS = 60
PAGE = 200


def measure(store: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from checkpoints import loglines, logs
    from checkpoints.loglines import Log

    call_command("migrate", verbosity=0)
    attempts = {size: printed(size) for size in SIZES}
    analyze()

    def row(case: str, call: Callable[[int], Any], rounds: int = ROUNDS, **more: Any) -> None:
        statements = {size: counted(lambda size=size: call(size))["statements"] for size in SIZES}  # type: ignore[misc]
        cpu = medians(call, rounds)
        told = {"case": case, "statements": statements, "cpu_ms": cpu}
        told["ratio"] = round(cpu[SIZES[-1]] / cpu[SIZES[0]], 2)
        print(json.dumps({"bench": "logs", "store": store, **told, **more}), flush=True)

    some = [("test", "stdout", "one more line of output\n" * 20)]
    row("append 20 lines", lambda size: logs.append(attempts[size], some))
    many = [("test", ("stdout", "stderr")[n % 2], f"piece {n}\n") for n in range(50)]
    row("append 50 pieces", lambda size: logs.append(attempts[size], many))
    places = {"first": lambda size: 1, "middle": lambda size: size // 2, "last": lambda size: size}
    for name, place in places.items():
        row(
            f"read {PAGE} lines, {name}",
            lambda size, place=place: loglines.stretch(  # type: ignore[misc]
                Log(attempts[size], "test"), max(1, place(size) - PAGE), PAGE
            ),
        )
    whole = Log(attempts[SIZES[-1]], "test")
    for words in ("line 77777 ", "no such words"):
        began = time.process_time()
        found = loglines.search(whole, words)
        ms = round((time.process_time() - began) * 1000)
        print(
            json.dumps(
                {
                    "bench": "logs",
                    "store": store,
                    "case": f"search {SIZES[-1]} lines",
                    "found": len(found.lines),
                    "whole": found.next_line is None,
                    "cpu_ms": ms,
                }
            ),
            flush=True,
        )


def medians(call: Callable[[int], Any], rounds: int) -> dict[int, float]:
    taken: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:
            began = time.process_time()
            call(size)
            taken[size].append((time.process_time() - began) * 1000)
    return {size: round(statistics.median(ms), 3) for size, ms in taken.items()}


def printed(size: int) -> Any:
    """Return the id of a live attempt that has printed so many lines, 20 at a time, in colour."""
    from checkpoints import logs

    attempt = running(f"LOG{size}")
    for begin in range(0, size, 20):
        text = "".join(
            f"line {n} of the output \x1b[32mpassed\x1b[0m in 0.01 s\n"
            for n in range(begin, min(size, begin + 20))
        )
        logs.append(attempt.pk, [("test", "stdout", text)])
    return attempt.pk


if __name__ == "__main__":
    on_each_store(__file__, measure)
