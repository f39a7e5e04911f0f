"""The board page with 100 and with 10,000 open cards: what it costs here and in the browser.

    python bench/page.py

Server time is CPU of the web process per page and wall time as a client sees it. Nodes are
counted in a real Chromium, where there is one, right after the document is loaded.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from playwright.async_api import async_playwright

from tests.serving import Site, new_site

SIZES = (100, 10_000)
PAGES = 12

FILL = """
import sys, django
django.setup()
from boards.models import Board, Card
board = Board.objects.get(key=sys.argv[1])
size = int(sys.argv[2])
state = {"backlog": "backlog", "in_progress": "waiting", "blocked": "blocked", "review": "review",
         "completed": "completed"}
columns = list(board.columns.order_by("position"))
Card.objects.bulk_create(
    (Card(board=board, column=columns[n % 5], state=state[columns[n % 5].kind], number=n + 1,
          key=f"{board.key}-{n + 1}", rank=(n + 1) * 2**20, title=f"Card {n} with a usual title",
          priority=n % 5, labels=["api", "ui"][: n % 3]) for n in range(size)), batch_size=500)
"""
COUNT = """
import sys, django
django.setup()
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, reset_queries
from django.test import Client
settings.ALLOWED_HOSTS = ["testserver"]
client = Client()
client.force_login(get_user_model().objects.get(username="ada"))
client.get(f"/boards/{sys.argv[1]}")
connection.force_debug_cursor = True
reset_queries()
assert client.get(f"/boards/{sys.argv[1]}").status_code == 200
print(len([q for q in connection.queries if q["sql"].split()[0] == "SELECT"]))
"""


def cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def served(site: Site, path: str) -> dict[str, Any]:
    """Return what the page costs the server."""
    headers = {"Cookie": site.cookie, "Accept-Encoding": "identity"}
    took, spent = [], []
    with httpx.Client(base_url=site.web.origin, headers=headers, trust_env=False) as client:
        for n in range(PAGES):
            before, began = cpu_ms(site.web.pid), time.perf_counter()
            page = client.get(path, timeout=60)
            wall = (time.perf_counter() - began) * 1000
            assert page.status_code == 200, page.text[:200]
            if n:
                took.append(wall)
                spent.append(cpu_ms(site.web.pid) - before)
    return {
        "wall_ms": round(statistics.median(took), 1),
        "cpu_ms": round(statistics.mean(spent), 1),
        "bytes": len(page.content),
        "bytes_gzipped": len(gzip.compress(page.content, 6)),
    }


async def shown(site: Site, path: str) -> dict[str, Any]:
    """Return what the browser makes of it."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not executable:
        print("skipped: nodes (no Chromium)", file=sys.stderr)
        return {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        context = await browser.new_context(base_url=site.web.origin)
        name, _, value = site.cookie.partition("=")
        await context.add_cookies([{"name": name, "value": value, "url": site.web.origin}])
        page = await context.new_page()
        began = time.perf_counter()
        await page.goto(path, wait_until="load")
        loaded = (time.perf_counter() - began) * 1000
        nodes = await page.evaluate("document.querySelectorAll('*').length")
        await page.wait_for_selector('#board[data-live="live"]')
        live = (time.perf_counter() - began) * 1000
        await browser.close()
    return {"nodes": nodes, "loaded_ms": round(loaded), "live_ms": round(live)}


def main() -> None:
    with new_site("sqlite") as site:
        site.serve()
        for size in SIZES:
            key = site.new_board()["key"]
            site.run(FILL, key, size)
            path = f"/boards/{key}"
            row = {"bench": "page", "cards": size, "statements": int(site.run(COUNT, key))}
            row |= served(site, path)
            row |= asyncio.run(shown(site, path))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
