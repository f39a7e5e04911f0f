"""How a server answers while commands mean it harm: a fork bomb, a flood of output, stragglers.

    python bench/floods.py [--gigabytes 1] [--seconds 20]

A server with a store of its own is asked for its boards over and over, first in peace, then
while a command floods this machine as built-in workers run it. What is left of the command is
counted afterwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.processes import carrying, odd_sleep
from tests.serving import Site, new_site
from workers.executors.shell import Command, Execution, Limits, Result, View, environment, mode

PROCESSES = 256
#: How often somebody looks at the board.
PAUSE_SECONDS = 0.02


def fork_bomb(word: str, **_: float) -> str:
    """Return a command that makes processes, each of which makes processes."""
    return f"b() {{ sleep {word} & setsid sleep {word} & b | b & }}; b; sleep {word}"


def flood(word: str, *, gigabytes: float, **_: float) -> str:
    """Return a command that prints so much."""
    return f"head -c {int(gigabytes * 10**9)} /dev/zero | tr '\\0' x"


def stragglers(word: str, **_: float) -> str:
    """Return a command that ends at once and leaves processes in sessions of their own."""
    return (
        f"for n in $(seq 50); do (trap '' TERM HUP; setsid sh -c 'trap \"\" TERM; sleep {word}' "
        "</dev/null >/dev/null 2>&1 &) ; done"
    )


FLOODS = {"fork bomb": fork_bomb, "output": flood, "stragglers": stragglers}


@contextmanager
def asked_all_along(site: Site) -> Iterator[list[float]]:
    """Yield a list that gets how long each answer took, in milliseconds."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            answer = site.call("GET", "/api/v1/boards", timeout=60)
            took.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, answer.body

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def run(folder: Path, line: str, *, seconds: float, sandbox: str) -> Result:
    """Run the command as a built-in worker does."""
    command = Command(
        run=line,
        cwd=folder,
        folder=folder,
        env=environment(home=folder, tmp=folder, extra={}),
        timeout_seconds=seconds,
        grace_seconds=1,
        limits=Limits(processes=PROCESSES),
        view=View(writable=(folder,), network=False),
        sandbox=sandbox,
    )
    return Execution(command, lambda batch: None).run()


def measured(site: Site, name: str, sandbox: str, **terms: float) -> dict[str, Any]:
    """Return how the server answered during one flood, and what was left of it."""
    word = odd_sleep()
    seconds = terms.pop("seconds")
    with tempfile.TemporaryDirectory() as folder, asked_all_along(site) as took:
        result = run(Path(folder), FLOODS[name](word, **terms), seconds=seconds, sandbox=sandbox)
    return {
        "bench": "floods",
        "flood": name,
        "mode": result.confined.mode,
        "group": list(result.confined.group),
        "seconds": round(result.duration_seconds, 1),
        "output_bytes": result.output_bytes,
        **spread(took),
        "left": len(carrying(word)) + result.survivors,
    }


def spread(took: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the most, in milliseconds."""
    if not took:
        return {"answers": 0, "p50_ms": 0.0, "p99_ms": 0.0, "most_ms": 0.0}
    ordered = sorted(took)
    return {
        "answers": len(ordered),
        "p50_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "most_ms": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    with new_site("sqlite") as site:
        site.serve()
        site.new_board()
        with asked_all_along(site) as took:
            time.sleep(min(10.0, asked.seconds))
        print(json.dumps({"bench": "floods", "flood": "none", **spread(took)}), flush=True)
        for sandbox in ["plain"] if mode() is mode("plain") else ["plain", "auto"]:
            for name in FLOODS:
                seconds = 3600.0 if name == "output" else asked.seconds
                row = measured(site, name, sandbox, seconds=seconds, gigabytes=asked.gigabytes)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
