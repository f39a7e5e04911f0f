"""What a recorded step puts on the disk: syncs and bytes, beside a bare insert of its row.

    python bench/disk.py [--steps 300]

On SQLite, syncs are counted by strace where it is installed, and bytes are the growth of the
write-ahead log. On PostgreSQL (where TEST_DATABASE_URL names a server, on which nothing else
should run meanwhile) both are the server's own count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.serving import Site, new_site

WORK = """
import sys, django
django.setup()
from django.db import connection, transaction
from django.utils import timezone
from boards import cards, leases
from boards.models import Column
from checkpoints import steps
from checkpoints.models import Step
from kernel.access import SYSTEM

board = cards.create_board(SYSTEM, key=sys.argv[1], name="sync")
column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
cards.create(board, "user:ada", title="work", column=column)
attempt = leases.claim("ada", boards=frozenset([board.pk]), lease_seconds=3600)
with connection.cursor() as cursor:
    if connection.vendor == "sqlite":  # the log then grows by what is written and nothing else
        cursor.execute("PRAGMA wal_autocheckpoint=0")
print("ready", flush=True)
kind = sys.stdin.readline().strip()
for n in range(int(sys.argv[2])):
    if kind == "step":
        steps.record(attempt.pk, f"k{n}", "succeeded", result={"x": n})
    else:
        with transaction.atomic():
            Step.objects.create(
                card_id=attempt.card_id, key=f"k{n}", number=n + 1, attempt=attempt,
                status="succeeded", result={"x": n}, finished_at=timezone.now())
print("done", flush=True)
sys.stdin.readline()
"""


def sqlite(site: Site, kind: str, key: str, steps: int) -> dict[str, float | None]:
    log = site.folder / "holdfast.sqlite3-wal"
    trace = shutil.which("strace")
    process = site.python(WORK, key, str(steps))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = log.stat().st_size
    counting = None
    if trace:
        watch = [trace, "-f", "-c", "-e", "trace=fsync,fdatasync", "-p", str(process.pid)]
        counting = subprocess.Popen(watch, stderr=subprocess.PIPE, text=True)
        assert counting.stderr is not None
        counting.stderr.readline()  # "attached"
    process.stdin.write(kind + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
    written = log.stat().st_size - before
    syncs: float | None = None
    if counting is not None:
        counting.send_signal(2)
        _, told = counting.communicate()
        calls = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*f(?:data)?sync$", told, re.M)
        syncs = round(sum(map(int, calls)) / steps, 2)
    process.communicate("\n")
    return {"syncs": syncs, "bytes": round(written / steps)}


def postgresql(site: Site, kind: str, key: str, steps: int) -> dict[str, float | None]:
    import psycopg

    process = site.python(WORK, key, str(steps))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with psycopg.connect(site.database_url, autocommit=True) as server:

        def totals() -> tuple[int, int]:
            server.execute("SELECT pg_stat_force_next_flush()")
            row = server.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0', wal_sync FROM pg_stat_wal"
            ).fetchone()
            assert row is not None
            return int(row[0]), int(row[1])

        before = totals()
        process.stdin.write(kind + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        process.communicate("\n")  # a backend that ends hands in its count
        after = totals()
    return {
        "syncs": round((after[1] - before[1]) / steps, 2),
        "bytes": round((after[0] - before[0]) / steps),
    }


def main(steps: int) -> None:
    stores = ["sqlite"] + (["postgresql"] if os.environ.get("TEST_DATABASE_URL") else [])
    for store in stores:
        measure = sqlite if store == "sqlite" else postgresql
        rows: dict[str, dict[str, Any]] = {}
        with new_site(store) as site:
            for kind in ("insert", "step"):
                rows[kind] = measure(site, kind, kind.upper(), steps)
        row = {"bench": "disk", "store": store, "steps": steps, **rows}
        row["bytes_ratio"] = round(rows["step"]["bytes"] / rows["insert"]["bytes"], 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
