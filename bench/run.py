"""Runs every bench here, or those named, and keeps their rows.

    make bench                      all of them
    python bench/run.py live        bench/live.py alone

A bench is a file beside this one that prints one JSON row per case on stdout; what it prints on
stderr is for people. Rows go to bench/out/<when>.jsonl, after a first row about the machine: the
figures of two machines, or of a busy one, don't compare. Exits non-zero if a bench failed.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def machine() -> dict[str, Any]:
    """Return what the figures depend on, besides the code."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    return {
        "bench": "machine",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }


def rows(bench: Path) -> Iterator[str]:
    """Yield the bench's rows as it prints them. Raises CalledProcessError if it failed."""
    command = [sys.executable, str(bench)]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("{"):
                yield line
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)


def main(names: list[str]) -> int:
    benches = sorted(path for path in HERE.glob("*.py") if path.name != "run.py")
    unknown = set(names) - {path.stem for path in benches}
    if unknown:
        print(f"There is no bench named {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    (HERE / "out").mkdir(exist_ok=True)
    about = machine()
    kept = HERE / "out" / f"{about['at'][:19].replace(':', '')}.jsonl"
    failed = []
    with kept.open("w", encoding="utf-8") as file:

        def keep(line: str) -> None:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()

        keep(json.dumps(about) + "\n")
        for bench in benches:
            if names and bench.stem not in names:
                continue
            print(f"== {bench.stem}", file=sys.stderr, flush=True)
            try:
                for line in rows(bench):
                    keep(line)
            except subprocess.CalledProcessError:
                failed.append(bench.stem)
    print(f"Rows are in {kept.relative_to(HERE.parent)}.", file=sys.stderr)
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
