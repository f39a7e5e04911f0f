"""How long after a commit an open socket has the event, and what an open board costs.

    python bench/live.py [--events 200] [--sockets 1,100] [--store sqlite,postgresql]

Prints one JSON row per case. ``writer`` is where the commit happens: ``process`` is another
process than the web server, ``http`` the web server itself (from sending the request, so it
includes answering it). PostgreSQL is measured where TEST_DATABASE_URL names a server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from websockets.asyncio.client import connect

from tests.serving import Site, new_site

PACE_SECONDS = 0.05
IDLE_SECONDS = 10

WRITER = """
import sys, time, uuid, django
django.setup()
from django.db import transaction
from events import log
board, count, pace = uuid.UUID(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
next_at = time.monotonic()
for n in range(count):
    next_at += pace
    time.sleep(max(0, next_at - time.monotonic()))
    with transaction.atomic():
        seq = log.record("card.moved", board_id=board, subject_id=board, actor="user:ada", n=n)
    print(seq, time.monotonic())
"""


async def measure(site: Site, sockets: int, writer: str, events: int) -> dict[str, Any]:
    board = site.new_board()
    arrived: list[dict[int, float]] = [{} for _ in range(sockets)]
    ready = [asyncio.Event() for _ in range(sockets)]

    async def follow(mine: int) -> None:
        async with connect(
            f"ws://127.0.0.1:{site.web.port}/ws/boards/{board['key']}?after=0",
            additional_headers={"Authorization": f"Bearer {site.token}"},
            proxy=None,
            compression=None,
            open_timeout=60,
        ) as live:
            async for frame in live:
                now = time.monotonic()
                seq = json.loads(frame)["seq"]
                ready[mine].set()
                arrived[mine][seq] = now
                if len(arrived[mine]) == events + 1:
                    return

    following = [asyncio.create_task(follow(n)) for n in range(sockets)]
    await asyncio.gather(*(event.wait() for event in ready))
    committed: dict[int, float] = {}
    if writer == "process":
        process = site.python(WRITER, board["id"], str(events), str(PACE_SECONDS))
        out, _ = await asyncio.to_thread(process.communicate)
        committed = {int(seq): float(at) for seq, at in map(str.split, out.splitlines())}
    else:
        for n in range(events):
            began = time.monotonic()
            answer = await asyncio.to_thread(site.new_card, board["id"], f"card {n}")
            assert answer.status == 201, answer.body
            committed[n + 2] = began
            await asyncio.sleep(max(0.0, began + PACE_SECONDS - time.monotonic()))
    async with asyncio.timeout(60):
        await asyncio.gather(*following)
    late = sorted(
        (at - committed[seq]) * 1000
        for mine in arrived
        for seq, at in mine.items()
        if seq in committed
    )
    assert len(late) == events * sockets
    return {
        "bench": "live",
        "store": site.store,
        "sockets": sockets,
        "writer": writer,
        "events": events,
        "p50_ms": round(statistics.median(late), 1),
        "p95_ms": round(late[int(len(late) * 0.95)], 1),
        "max_ms": round(late[-1], 1),
    }


async def idle(site: Site, sockets: int) -> dict[str, Any]:
    """Return what the web process costs while nothing happens."""
    board = site.new_board()
    opened = [
        await connect(
            f"ws://127.0.0.1:{site.web.port}/ws/boards/{board['key']}",
            additional_headers={"Authorization": f"Bearer {site.token}"},
            proxy=None,
            compression=None,
        )
        for _ in range(sockets)
    ]
    await asyncio.sleep(12)  # until the tail has calmed down
    began = cpu_seconds(site.web.pid)
    await asyncio.sleep(IDLE_SECONDS)
    spent = cpu_seconds(site.web.pid) - began
    for live in opened:
        await live.close()
    return {
        "bench": "live-idle",
        "store": site.store,
        "sockets": sockets,
        "cpu_percent": round(100 * spent / IDLE_SECONDS, 2),
    }


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200)
    options.add_argument("--sockets", default="1,100")
    options.add_argument("--store", default="sqlite,postgresql")
    given = options.parse_args()
    for store in given.store.split(","):
        if store == "postgresql" and not os.environ.get("TEST_DATABASE_URL"):
            print("skipped: PostgreSQL (TEST_DATABASE_URL is not set)", file=sys.stderr)
            continue
        with new_site(store) as site:
            site.serve()
            for sockets in map(int, given.sockets.split(",")):
                for writer in ("process", "http"):
                    row = asyncio.run(measure(site, sockets, writer, given.events))
                    print(json.dumps(row), flush=True)
            for sockets in (0, 1):
                print(json.dumps(asyncio.run(idle(site, sockets))), flush=True)


if __name__ == "__main__":
    main()
