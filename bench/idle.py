"""What everything that the one command starts costs while nothing happens.

    python bench/idle.py [--seconds 60]

CPU of all its processes over the time, and their proportional set size (shared pages counted
once, divided among who shares them).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.runtime_site.installation import installation
from tests.serving import database

SETTLE_SECONDS = 20


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def main(seconds: int) -> None:
    stores = ["sqlite"] + (["postgresql"] if os.environ.get("TEST_DATABASE_URL") else [])
    for store in stores:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idle-")))
            url = stack.enter_context(database(store))
            installed = stack.enter_context(
                installation(folder / "data", WORKERS="2", DATABASE_URL=url)
            )
            installed.started()
            time.sleep(SETTLE_SECONDS)
            running = installed.processes()
            before = {pid: cpu_seconds(pid) for pid in running}
            began = time.monotonic()
            time.sleep(seconds)
            passed = time.monotonic() - began
            cpu: Counter[str] = Counter()
            memory: Counter[str] = Counter()
            for pid, role in running.items():
                cpu[role] += cpu_seconds(pid) - before[pid]
                memory[role] += pss_kb(pid)
            row = {
                "bench": "idle",
                "store": store,
                "seconds": seconds,
                "processes": len(running),
                "cpu_percent": round(100 * sum(cpu.values()) / passed, 2),
                "pss_mb": round(sum(memory.values()) / 1024),
                "cpu_percent_by_part": {k: round(100 * v / passed, 2) for k, v in cpu.items()},
                "pss_mb_by_part": {k: round(v / 1024) for k, v in memory.items()},
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    main(parser.parse_args().seconds)
