"""Fifty browsers on one board while it changes 200 times a second: do all end with the truth?

    python bench/crowd.py [--browsers 50] [--rate 200] [--seconds 30]

Prints one JSON row. The changes are moves, edits, claims, steps, checkpoints, messages, questions
and answers, made by other processes through the transitions; some of the browsers go offline and
return, reload, or move cards themselves. ``made_per_second`` is what the machine could carry of
the rate, with fifty pages on it; ``events_per_second`` counts what the log told those pages, for a
step with its checkpoint is one change and two events.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.async_api import async_playwright

from bench.board import cpu_ms
from tests import crowd
from tests.serving import new_site

#: A machine that is asked for far more than it carries may take its time to catch up.
PATIENCE_SECONDS = 600.0


async def main(browsers: int, rate: float, seconds: float) -> int:
    with new_site("sqlite") as site:
        site.serve()
        async with async_playwright() as playwright:
            began, spent = time.monotonic(), cpu_ms(site.web.pid)
            went = await crowd.gather(site, playwright, browsers, rate, seconds, PATIENCE_SECONDS)
            spent = (cpu_ms(site.web.pid) - spent) / 10 / (time.monotonic() - began)
    row = {
        "bench": "crowd",
        "store": "sqlite",
        "browsers": browsers,
        "rate": rate,
        "seconds": seconds,
        "changes": went.changes,
        "made_per_second": went.made_per_second,
        "events_per_second": went.events_per_second,
        "cards_checked": went.cards_checked,
        "settled_seconds": went.settled_seconds,
        "browsers_that_differ": len(went.wrong),
        "server_cpu_percent": round(spent, 1),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(row), flush=True)
    for n, wrong in went.wrong.items():
        print(f"browser {n}: {len(wrong)} differences, first: {wrong[:3]}", file=sys.stderr)
    return 1 if went.wrong else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--browsers", type=int, default=50)
    options.add_argument("--rate", type=float, default=200)
    options.add_argument("--seconds", type=float, default=30)
    given = options.parse_args()
    raise SystemExit(asyncio.run(main(given.browsers, given.rate, given.seconds)))
