"""How long from letting a card go in one browser until another one shows it there.

    python bench/drag.py [--drags 100]

Two Chromium pages on a real server; each drag is done by mouse in the first and watched for by a
MutationObserver in the second. Both pages share the machine's clock. Prints one JSON row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.async_api import Browser, Page, async_playwright

from tests.serving import Site, new_site

WATCH = """
() => {
  window.seen = {};
  new MutationObserver(changes => {
    const now = performance.timeOrigin + performance.now();
    for (const change of changes) for (const node of change.addedNodes) {
      if (node.dataset?.key) window.seen[node.dataset.key] = now;
    }
  }).observe(document.getElementById("board"), {childList: true, subtree: true});
}
"""
DROPPED = """
() => addEventListener("drop", () => {
  window.dropped = performance.timeOrigin + performance.now();
}, true)
"""


async def opened(browser: Browser, site: Site, path: str) -> Page:
    context = await browser.new_context(
        base_url=site.web.origin, viewport={"width": 1440, "height": 900}
    )
    name, _, value = site.cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": site.web.origin}])
    page = await context.new_page()
    await page.goto(path)
    await page.wait_for_selector('#board[data-live="live"]')
    return page


async def drag(page: Page, card: Any, target: Any) -> None:
    a, b = await card.bounding_box(), await target.bounding_box()
    await page.mouse.move(a["x"] + a["width"] / 2, a["y"] + 10)
    await page.mouse.down()
    await page.mouse.move(a["x"] + a["width"] / 2 + 12, a["y"] + 18, steps=3)
    await page.mouse.move(b["x"] + b["width"] / 2, b["y"] + b["height"] - 40, steps=6)
    await page.wait_for_timeout(40)
    await page.mouse.up()


async def main(drags: int) -> None:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with new_site("sqlite") as site:
        site.serve()
        board = site.new_board()["key"]
        key = site.new_card(board, "Write the parser").body["key"]
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox"]
            )
            ada, bob = [await opened(browser, site, f"/boards/{board}") for _ in "ab"]
            await bob.evaluate(WATCH)
            await ada.evaluate(DROPPED)
            taken = []
            for n in range(drags):
                await bob.evaluate("window.seen = {}")
                column = ("Review", "Backlog")[n % 2]
                target = ada.get_by_role("region", name=column, exact=True)
                await drag(ada, ada.locator(f'[data-key="{key}"]'), target)
                # Polled from here: the page's policy allows no evaluation inside it.
                while not await bob.evaluate(f"window.seen['{key}'] ?? 0"):
                    await asyncio.sleep(0.02)
                dropped = await ada.evaluate("window.dropped")
                taken.append(await bob.evaluate(f"window.seen['{key}']") - dropped)
                await ada.wait_for_selector(f'[data-key="{key}"]:not(.pending)')
            await browser.close()
    taken.sort()
    row = {
        "bench": "drag",
        "store": "sqlite",
        "drags": drags,
        "drop_to_other_browser_ms_p50": round(statistics.median(taken), 1),
        "drop_to_other_browser_ms_p95": round(taken[int(0.95 * len(taken))], 1),
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drags", type=int, default=100)
    asyncio.run(main(parser.parse_args().drags))
