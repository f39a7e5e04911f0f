"""Makes the pictures beside this file: every page and state, from a board furnished here.

    python docs/screenshots/make.py [name …]

Without names, all of them. It needs Chromium, and a machine that is not too busy.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from playwright.async_api import Page, async_playwright

from tests.serving import new_site

HERE = Path(__file__).resolve().parent
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

FURNISH = """
import json, random, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from boards import cards, leases
from boards.models import Board, Card, Column
from boards.notices import raising
from boards.planning import applying
from checkpoints import logs, recovery, steps
from goals.models import Criterion, Goal
from kernel.access import SYSTEM

luck = random.Random(7)
board = cards.create_board(SYSTEM, key="PAY", name="Payments")
place = {c.kind: c for c in board.columns.all()}
goals = []
for title, intent in (
    ("Migrate off the v1 API", "Move every caller to the v2 payments API, with no downtime."),
    ("Multi-currency checkout", "Customers pay in their own currency."),
    ("Reconcile every payout", "Each payout matches the ledger to the cent."),
):
    goal = Goal.objects.create(board_id=board.pk, title=title, intent=intent)
    for text in ("All tests pass", "No call to /v1 in a week of logs"):
        Criterion.objects.create(goal=goal, number=goal.criteria.count() + 1, text=text)
    goals.append(goal)

def card(title, kind="backlog", goal=0, **more):
    more |= {"column": place[kind], "goal": goals[goal]}
    return cards.create(board, "user:ada", title=title, **more)

for n, title in enumerate((
    "Drop the v1 client from the SDK", "Store the amount and its currency apart",
    "Show prices in the reader's currency", "Round each currency by its own rules",
    "Alert on payouts that do not match", "Backfill the ledger for March",
    "Write the migration guide", "Refund in the currency of the payment")):
    due = timezone.now() + timedelta(days=n - 2) if n % 3 == 0 else None
    tasks = "- [x] Find the callers\\n- [ ] Change them\\n- [ ] Tell support" if n % 2 else ""
    labels = [["api"], ["ui", "checkout"], ["ledger"]][n % 3]
    card(title, goal=n % 3, priority=n % 5, labels=labels, due_at=due, description=tasks)

def worked(title, goal=0, count=6, **more):
    made = card(title, "in_progress", goal, **more)
    attempt = leases.claim("claude-" + "abc"[goal], card_id=made.pk, lease_seconds=3600)
    leases.describe(attempt.pk, "Smallest change first, then the callers one by one")
    for n in range(count):
        steps.record(attempt.pk, f"step-{n}", "failed" if n == 3 else "succeeded",
            title=("Read the code", "Run the tests", "Change the client", "Run the tests",
                   "Mend the retry", "Run the tests", "Write the notes", "Look again")[n % 8],
            kind="command", result={"exit": int(n == 3)} if n != 3 else None,
            error="2 tests failed" if n == 3 else "", usage={"cost_usd": 0.04, "input_tokens": 5200,
            "output_tokens": 800})
        logs.append(attempt.pk, [(f"step-{n}", "stdout", "".join(
            f"tests/test_client.py::test_{luck.choice(['retry', 'refund', 'charge', 'void'])}_{k} "
            "PASSED\\n" for k in range(12)))])
    recovery.save(attempt.pk, {"summary": "The client speaks v2; two callers are left",
        "next_step": "Change the refund job", "tests": {"passed": 41, "failed": 0},
        "decisions": [{"title": "Keep the old error codes", "rationale": "Callers match on them"}],
        "discoveries": [{"kind": "pitfall", "title": "The sandbox rounds half up"}]})
    return made, attempt

worked("Port the refund job to v2", 0, 7, labels=["api"], priority=1)
worked("Read rates once an hour", 1, 5, labels=["checkout"])
worked("Match payouts by reference", 2, 4, labels=["ledger"], priority=2)
card("Port the invoice job to v2", "in_progress", 0, priority=2, labels=["api"])
asking, attempt = worked("Choose how rates are cached", 1, 3, priority=0)
leases.block(attempt.pk, "Two ways fit", question="Cache rates in Redis or in the database?",
             options=["Redis", "The database"])
for title in ("Split charge and capture", "Show the rate at checkout"):
    made, attempt = worked(title, 1, 6, review_required=True)
    leases.complete(attempt.pk, "Done as described; 41 tests pass")
for n in range(14):
    made, attempt = worked(f"Move caller {n + 1} to v2", n % 3, 3)
    leases.complete(attempt.pk, "Moved, tests pass")
plan = applying.create(goals[0], "user:ada", [
    {"ref": "log", "title": "Log what still calls v1", "covers": [2], "estimate": 2},
    {"ref": "off", "title": "Switch v1 off for a day", "covers": [2], "depends_on": ["log"]},
    {"ref": "guide", "title": "Write the migration guide", "description": "With examples."}],
    note="Nothing covers the tests yet.")
raising.tick()
print(json.dumps({"review": Card.objects.filter(state="review").first().key,
    "running": Card.objects.filter(state="running").first().key, "asking": asking.key,
    "goal": str(goals[0].pk), "plan": str(plan.pk)}))
"""

Act = Callable[[Page], Awaitable[None]]


async def nothing(page: Page) -> None: ...


def press(*keys: str) -> Act:
    async def act(page: Page) -> None:
        for key in keys:
            await page.keyboard.press(key)
            await page.wait_for_timeout(250)

    return act


def click(selector: str) -> Act:
    async def act(page: Page) -> None:
        await page.locator(selector).first.click()

    return act


async def unplugged(page: Page) -> None:
    await page.context.set_offline(True)
    await page.wait_for_timeout(800)


#: Name, address, what is done there. Each is kept as it is on a screen in the light, and on a
#: phone in the dark.
PICTURES: tuple[tuple[str, str, Act], ...] = (
    ("board", "/boards/PAY", nothing),
    ("board-lanes", "/boards/PAY?lanes=goal", nothing),
    ("board-list", "/boards/PAY?as=list", nothing),
    ("board-needs-you", "/boards/PAY?show=needs", nothing),
    ("board-nothing-found", "/boards/PAY?q=nothing+like+it", nothing),
    ("board-archive", "/boards/PAY?archived=1", nothing),
    ("board-drawer", "/boards/PAY", press("j", "j", "Space")),
    ("board-menu", "/boards/PAY", press("j", "m")),
    ("board-selection", "/boards/PAY", press("j", "x", "j", "x")),
    ("board-new-card", "/boards/PAY", press("c")),
    ("board-offline", "/boards/PAY", unplugged),
    ("palette", "/boards/PAY", press("Control+k")),
    ("help", "/boards/PAY", press("?")),
    ("card-steps", "/cards/{running}?tab=steps", nothing),
    ("card-log", "/cards/{running}?tab=log", nothing),
    ("card-checkpoints", "/cards/{review}?tab=checkpoints", nothing),
    ("card-messages", "/cards/{asking}?tab=messages", nothing),
    ("card-decisions", "/cards/{review}?tab=decisions", nothing),
    ("card-discoveries", "/cards/{review}?tab=discoveries", nothing),
    ("card-briefing", "/cards/{running}?tab=briefing", nothing),
    ("card-activity", "/cards/{review}?tab=activity", nothing),
    ("goals", "/boards/PAY/goals", nothing),
    ("new-goal", "/boards/PAY/goals/new", nothing),
    ("goal", "/goals/{goal}", nothing),
    ("amendments", "/goals/{goal}/amendments", nothing),
    ("plans", "/goals/{goal}/plans", nothing),
    ("plan", "/plans/{plan}", nothing),
    ("search", "/search?q=refund", nothing),
    ("insights", "/boards/PAY/insights", nothing),
    ("activity", "/boards/PAY/activity", nothing),
    ("workers", "/boards/PAY/workers", nothing),
    ("worker", "/boards/PAY/workers/claude-a", nothing),
    ("inbox", "/inbox", nothing),
    ("notifications", "/inbox/settings", nothing),
    ("webhooks", "/boards/PAY/webhooks", nothing),
    ("settings", "/boards/PAY/settings", nothing),
    ("import", "/boards/PAY/import", nothing),
    ("new-board", "/boards/new", nothing),
    ("connect", "/boards/PAY/connect", nothing),
    ("not-found", "/boards/NOSUCH", nothing),
)
#: Those that are kept in more looks.
DARK = ("board", "board-drawer", "card-steps", "card-checkpoints", "goal", "insights", "inbox")
CONTRAST = ("board", "card-steps")
ON_A_PHONE = ("board", "card-steps", "goal", "inbox")


async def main(names: list[str]) -> None:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with new_site("sqlite") as site:
        keys = json.loads(site.run(FURNISH))
        site.serve()
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox"]
            )

            async def picture(name: str, path: str, act: Act, theme: str, phone: bool) -> None:
                look = ("" if theme == "light" else f"-{theme}") + ("-phone" if phone else "")
                if names and name + look not in names:
                    return
                context = await browser.new_context(
                    base_url=site.web.origin,
                    viewport=PHONE if phone else WIDE,
                    has_touch=phone,
                    is_mobile=phone,
                    reduced_motion="reduce",
                )
                cookie, _, value = site.cookie.partition("=")
                url = site.web.origin
                await context.add_cookies(
                    [
                        {"name": cookie, "value": value, "url": url},
                        {"name": "theme", "value": theme, "url": url},
                    ]
                )
                page = await context.new_page()
                page.set_default_timeout(60_000)
                await page.goto(path.format(**keys))
                await page.wait_for_timeout(1200)
                await act(page)
                await page.wait_for_timeout(700)
                await page.screenshot(path=HERE / f"{name}{look}.png")
                await context.close()

            for name, path, act in PICTURES:
                await picture(name, path, act, "light", False)
                if name in DARK:
                    await picture(name, path, act, "dark", False)
                if name in CONTRAST:
                    await picture(name, path, act, "contrast", False)
                if name in ON_A_PHONE:
                    await picture(name, path, act, "light", True)
                await picture(name, path, act, "dark", True)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
