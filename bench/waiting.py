"""How soon a waiting claim gets a card, and what waiting costs.

    python bench/waiting.py [--cards 100] [--waiters 1,500] [--webs 1,2] [--store sqlite,postgresql]

Prints one JSON row per case. Claims wait over HTTP, spread over the web processes; another process
puts cards in progress, one at a time. A time is from that commit to the claim's answer, lease and
briefing included, having arrived; ``direct_ms`` is what a claim takes that finds its card at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.idle import cpu_seconds, pss_kb
from tests.serving import Site, Web, new_site

PACE_SECONDS = 0.25
IDLE_SECONDS = 15
WAIT_SECONDS = 60

WRITER = """
import sys, time, django
django.setup()
from boards import cards
from boards.models import Board
board, count, pace = Board.objects.get(key=sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
column = board.columns.get(kind="in_progress")
next_at = time.monotonic()
for n in range(count):
    next_at += pace
    time.sleep(max(0, next_at - time.monotonic()))
    card = cards.create(board, "user:ada", title=f"card {n}", column=column)
    print(card.key, time.monotonic())
"""


async def claim(site: Site, web: Web, body: dict[str, Any]) -> Any:
    """Return what the claim answers: the card's key and the moment, or None."""
    sent = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    try:
        writer.write(
            b"POST /api/v1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Authorization: Bearer " + site.token.encode() + b"\r\n"
            b"Content-Type: application/json\r\n"
            b"Content-Length: " + str(len(sent)).encode() + b"\r\n\r\n" + sent
        )
        answer = await reader.read()
        now = time.monotonic()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status == 204:
        return None
    assert status == 201, answer[:500]
    return json.loads(rest)["card"]["key"], now


async def measure(site: Site, webs: list[Web], waiters: int, cards: int) -> dict[str, Any]:
    board = site.new_board()["key"]
    for n in range(8 * len(webs)):  # every thread is started and warm
        await claim(site, webs[n % len(webs)], {"worker": "warm", "boards": [board]})
    direct = []
    for n in range(20):
        ready = {"board": board, "title": f"direct {n}", "column": "in_progress"}
        made = site.call("POST", "/api/v1/cards", ready)
        assert made.status == 201, made.body
        began = time.monotonic()
        found = await claim(site, webs[0], {"worker": "direct", "boards": [board]})
        direct.append((found[1] - began) * 1000)
    memory = sum(pss_kb(web.pid) for web in webs)
    got: list[tuple[str, float]] = []

    async def wait(n: int) -> None:
        body = {"worker": f"w{n}", "boards": [board], "wait_seconds": WAIT_SECONDS}
        while True:
            if found := await claim(site, webs[n % len(webs)], body):
                got.append(found)

    waiting = [asyncio.create_task(wait(n)) for n in range(waiters)]
    await asyncio.sleep(2 + waiters / 100)
    began = [cpu_seconds(web.pid) for web in webs]
    await asyncio.sleep(IDLE_SECONDS)
    spent = sum(cpu_seconds(web.pid) for web in webs) - sum(began)
    more = sum(pss_kb(web.pid) for web in webs) - memory
    threads = [len(list(Path(f"/proc/{web.pid}/task").iterdir())) for web in webs]
    process = site.python(WRITER, board, str(cards), str(PACE_SECONDS))
    out, _ = await asyncio.to_thread(process.communicate)
    await asyncio.sleep(2)
    for task in waiting:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    failed = [r for r in results if not isinstance(r, asyncio.CancelledError)]
    assert not failed, failed[0]
    committed = {key: float(at) for key, at in map(str.split, out.splitlines())}
    assert sorted(key for key, _ in got) == sorted(committed), "each card to exactly one"
    late = sorted((at - committed[key]) * 1000 for key, at in got)
    return {
        "bench": "waiting",
        "store": site.store,
        "webs": len(webs),
        "waiters": waiters,
        "cards": cards,
        "direct_ms": round(statistics.median(direct), 1),
        "p50_ms": round(statistics.median(late), 1),
        "p95_ms": round(late[int(len(late) * 0.95)], 1),
        "max_ms": round(late[-1], 1),
        "idle_cpu_percent": round(100 * spent / IDLE_SECONDS, 2),
        "memory_mb": round(more / 1024, 1),
        "memory_kb_each": round(more / waiters, 1),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cards", type=int, default=100)
    options.add_argument("--waiters", default="1,500")
    options.add_argument("--webs", default="1,2")
    options.add_argument("--store", default="sqlite,postgresql")
    given = options.parse_args()
    for store in given.store.split(","):
        if store == "postgresql" and not os.environ.get("TEST_DATABASE_URL"):
            print("skipped: PostgreSQL (TEST_DATABASE_URL is not set)", file=sys.stderr)
            continue
        for count in map(int, given.webs.split(",")):
            for waiters in map(int, given.waiters.split(",")):
                with new_site(store) as site:
                    webs = [site.serve() for _ in range(count)]
                    row = asyncio.run(measure(site, webs, waiters, given.cards))
                    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
