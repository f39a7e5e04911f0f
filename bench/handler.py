"""What a request costs the web process: our handler against Django's own.

    python bench/handler.py [--requests 400]

Requests go one after the other over one connection, in alternating rounds to two web processes
on one store. CPU milliseconds are those of the whole process, from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from tests.serving import Site, Web, new_site

ROUNDS = 4
HANDLERS = ("onehop", "stock")


def cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def calls(site: Site, board: str) -> dict[str, Callable[[httpx.Client, int], httpx.Response]]:
    """Return the requests that agents make most, by what they do."""
    key = site.new_card(board, "read me").body["key"]
    site.call("POST", "/api/v1/cards", {"board": board, "title": "work", "column": "in_progress"})
    token = site.new_token(board)["token"]
    claim = site.call("POST", "/api/v1/claims", {"worker": "ada"}, token=token).body
    attempt = f"/api/v1/attempts/{claim['attempt']['id']}"
    lease = {"Lease-Token": claim["lease"]["token"]}

    def step(client: httpx.Client, n: int) -> httpx.Response:
        headers = {**lease, "Idempotency-Key": f"{os.getpid()}-{n}"}
        body = {"key": f"step-{n}", "status": "succeeded", "result": {"n": n}}
        return client.post(f"{attempt}/steps", json=body, headers=headers)

    return {
        "read a card": lambda client, _: client.get(f"/api/v1/cards/{key}"),
        "heartbeat": lambda client, _: client.post(f"{attempt}/heartbeat", json={}, headers=lease),
        "record a step": step,
    }


def main(requests: int) -> None:
    with new_site("sqlite") as site:
        webs: dict[str, Web] = {name: site.serve(HTTP_HANDLER=name) for name in HANDLERS}
        board = site.new_board()["key"]
        clients = {
            name: httpx.Client(
                base_url=web.origin,
                headers={"Authorization": f"Bearer {site.token}"},
                trust_env=False,
            )
            for name, web in webs.items()
        }
        numbers = iter(range(10**9))
        for case, call in calls(site, board).items():
            spent: dict[str, list[float]] = {name: [] for name in HANDLERS}
            took: dict[str, list[float]] = {name: [] for name in HANDLERS}
            for n in range(ROUNDS + 1):  # the first warms up
                for name in HANDLERS[:: 1 if n % 2 else -1]:
                    before = cpu_ms(webs[name].pid)
                    waits = [timed(call, clients[name], next(numbers)) for _ in range(requests)]
                    if n:
                        spent[name].append((cpu_ms(webs[name].pid) - before) / requests)
                        took[name] += waits
            row: dict[str, Any] = {"bench": "handler", "case": case, "requests": requests * ROUNDS}
            cpu = {name: round(statistics.median(spent[name]), 2) for name in HANDLERS}
            row["cpu_ms"] = cpu
            row["ratio"] = round(cpu["stock"] / cpu["onehop"], 2)
            row["wall_ms_p50"] = {k: round(statistics.median(v), 2) for k, v in took.items()}
            row["wall_ms_p95"] = {
                k: round(sorted(v)[int(len(v) * 0.95)], 2) for k, v in took.items()
            }
            row["threads"] = {k: status(web.pid, "Threads") for k, web in webs.items()}
            print(json.dumps(row), flush=True)
        for client in clients.values():
            client.close()


def timed(
    call: Callable[[httpx.Client, int], httpx.Response], client: httpx.Client, n: int
) -> float:
    began = time.perf_counter()
    answer = call(client, n)
    assert answer.is_success, answer.text
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    main(parser.parse_args().requests)
