"""Boards full of cards, processes that change them, and whether a page shows what is true.

For browser tests and benches: what they start runs in processes of its own, see serving.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Playwright

from tests.serving import Site

#: A board as a team has it: two in five cards wait in the backlog, two in five are done, some
#: run, a few ask. Prints nothing.
_FURNISH = """
import sys, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from boards.models import Attempt, Board, Card, Message
from goals.models import Goal
board = Board.objects.get(key=sys.argv[1])
size = int(sys.argv[2])
now = timezone.now()
goals = [Goal.objects.create(board_id=board.pk, title=f"Goal {n}") for n in range(6)]
place = {c.kind: c for c in board.columns.all()}
SHARES = ("backlog", "completed", "backlog", "completed", "waiting", "backlog", "completed",
          "review", "backlog", "completed")
KIND = {"waiting": "in_progress", "running": "in_progress"}
cards, busy, asking = [], 0, 0
for n in range(size):
    state = SHARES[n % 10]
    if n % 10 == 4 and busy < 20:
        state, busy = "running", busy + 1
    if n % 10 == 7 and asking < 8:
        state, asking = "blocked", asking + 1
    cards.append(Card(
        board=board, goal=goals[n % 6], column=place[KIND.get(state, state)], state=state,
        number=n + 1, key=f"{board.key}-{n + 1}", rank=(n + 1) * 2**20, priority=n % 5,
        title=f"Card {n + 1} with a title of the usual length", fence=int(state == "running"),
        description="What is to be done, in a few sentences. " * 6,
        labels=["api", "ui", "docs"][: n % 4], state_since=now - timedelta(minutes=n % 600),
        blocked_reason="A person has to choose." if state == "blocked" else ""))
Card.objects.bulk_create(cards, batch_size=500)
Board.objects.filter(pk=board.pk).update(last_card_number=size)
Attempt.objects.bulk_create(
    Attempt(board=board, card=card, number=1, worker=f"worker-{n % 12}", lease_seconds=86_400,
            lease_expires_at=now + timedelta(days=1), note="Reading the code", started_at=now,
            checkpoint_number=n % 4)
    for n, card in enumerate(c for c in cards if c.state == "running"))
Message.objects.bulk_create(
    Message(card=card, kind="question", actor="worker:ada", text="Which of the two?",
            options=["The first", "The second"]) for card in cards if card.state == "blocked")
"""

#: Changes a board at a pace, through the transitions that every door uses: moves, edits, claims,
#: steps, checkpoints, messages, questions, answers, completions and new cards.
_STIR = """
import json, random, sys, time, uuid, django
django.setup()
from boards import cards, leases
from boards.models import Attempt, Board, Card, Message
from checkpoints import steps
from kernel.errors import DomainError
board = Board.objects.get(key=sys.argv[1])
rate, seconds, seed = float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
only = sys.argv[5].split(",") if len(sys.argv) > 5 else []
luck = random.Random(seed)
columns = list(board.columns.order_by("position"))
ids = only or list(Card.objects.filter(board=board).values_list("pk", flat=True)[:2000])
held, done, refused, kinds = [], 0, 0, {}
me = f"stirrer-{seed}"

def a_move():
    target, beside = luck.choice(columns), Card.objects.filter(pk=luck.choice(ids)).first()
    fits = beside is not None and beside.column_id == target.pk
    card = luck.choice(ids)
    where = {} if not fits or beside.pk == card else {luck.choice(["before", "after"]): beside}
    cards.move(card, "user:ada", target.pk, **where)

def an_edit():
    change = luck.choice([
        {"title": f"A title of {seed}, number {done}"}, {"priority": luck.randrange(5)},
        {"labels": luck.sample(["api", "ui", "docs", "ops"], 2)}])
    cards.edit(luck.choice(ids), "user:ada", change)

def a_claim():
    attempt = leases.claim(me, boards=frozenset([board.pk]), lease_seconds=3600)
    if attempt is not None:
        held.append(attempt.pk)

def on_attempt(act):
    if not held:
        return a_claim()
    pk = luck.choice(held)
    try:
        act(pk)
    except DomainError:
        held.remove(pk)
        raise

def a_step():
    point = {"summary": f"As far as {done}"} if luck.random() < 0.3 else None
    on_attempt(lambda pk: steps.record(
        pk, f"step-{uuid.uuid4()}", "succeeded", title=f"Step {done}", result={"n": done},
        usage={"cost_usd": 0.01}, checkpoint=point))

def a_question():
    def ask(pk):
        leases.block(pk, "unsure", question=f"Which, {done}?", options=["A", "B"])
        held.remove(pk)
    on_attempt(ask)

def an_answer():
    asked = Message.objects.filter(card__board=board, kind="question", closed_at=None).first()
    if asked is not None:
        cards.say(asked.card_id, "user:ada", "A", answers=asked.pk)

def an_end():
    def end(pk):
        leases.complete(pk, "done")
        held.remove(pk)
    on_attempt(end)

def a_card():
    ids.append(cards.create(board, "user:ada", title=f"New card {seed}-{done}").pk)

def a_word():
    cards.say(luck.choice(ids), "user:ada", f"A word, {done}")

acts = [(a_move, 34), (an_edit, 26), (a_step, 20), (a_claim, 7), (a_word, 6), (a_question, 2),
        (an_answer, 2), (an_end, 2), (a_card, 1)]
if only:
    acts = [(an_edit, 1)]
began = time.monotonic()
while (now := time.monotonic()) < began + seconds:
    due = began + (done - refused) / rate
    if now < due:
        time.sleep(min(0.02, due - now))
        continue
    act = luck.choices([a for a, _ in acts], [w for _, w in acts])[0]
    try:
        act()
        kinds[act.__name__] = kinds.get(act.__name__, 0) + 1
    except DomainError:
        refused += 1
    done += 1
print(json.dumps({"changes": done - refused, "refused": refused, "kinds": kinds,
                  "seconds": round(time.monotonic() - began, 2)}))
"""

_TRUTH = """
import json, sys, django
django.setup()
from boards.models import Board, Card
board = Board.objects.get(key=sys.argv[1])
told = {str(c.pk): [] for c in board.columns.all()}
rows = Card.objects.filter(board=board, archived_at=None).order_by("rank")
for running in (True, False):
    for card in rows:
        if (card.state == "running") == running:
            told[str(card.column_id)].append([str(card.pk), card.version, card.state, card.title])
from events import log
print(json.dumps({"seq": log.last_seq(board.pk), "columns": told}))
"""

_SHOWN = """() => Object.fromEntries(
  [...document.querySelectorAll(".col[data-column]")].map(col => [
    col.dataset.column, {
      count: Number(col.querySelector("[data-count]").textContent),
      rail: col.classList.contains("rail"),
      cards: [...col.querySelectorAll("ol > .card")].map(card => [
        card.dataset.card, Number(card.dataset.version), card.dataset.state,
        card.querySelector(".t").textContent.trim()]),
    }]))"""

#: The least number of cards a column shows of those it has.
PAGE = 30
WRITERS = 4
#: On a machine too small for all of it the pages are to fall behind, not those who write and
#: the server, for whom they would wait.
FIRST = -15
#: A control group whose processes run only while no other wants to, see cgroups(7); chrt(1) alone
#: ranks within a session.
_LOOKERS = Path("/sys/fs/cgroup/cpu/lookers")
_LAST = """#!/bin/sh
{ mkdir -p LOOKERS && echo 1 > LOOKERS/cpu.idle && echo $$ > LOOKERS/cgroup.procs; } 2>/dev/null
exec chrt --idle 0 CHROMIUM "$@"
"""
#: How long after the last change a page may take to show the truth.
SETTLE_SECONDS = 90.0
PATIENCE_MS = 180_000


@dataclass
class Truth:
    """A board as the store has it: each column's cards in order."""

    seq: int
    columns: dict[str, list[list[Any]]]


def furnish(site: Site, size: int) -> str:
    """Return the key of a new board with so many cards."""
    key = str(site.new_board()["key"])
    site.run(_FURNISH, key, size)
    return key


def stir(site: Site, board: str, rate: float, seconds: float, seed: int = 1, ids: str = "") -> Any:
    """Return a running process that makes so many changes a second; with ``ids`` edits to those."""
    only = [ids] if ids else []
    return site.python(_STIR, board, str(rate), str(seconds), str(seed), *only)


def truth(site: Site, board: str) -> Truth:
    """Return the board as it is."""
    told = json.loads(site.run(_TRUTH, board))
    return Truth(told["seq"], told["columns"])


async def differences(page: Page, true: Truth) -> list[str]:
    """Return in what the page is not as the board is; nothing when it shows the truth.

    A column may show only its first cards, if that is a page of them: those must be right.
    """
    found = []
    shown = await page.evaluate(_SHOWN)
    for column, cards in true.columns.items():
        there = shown.get(column)
        if there is None:
            found.append(f"column {column} is missing")
            continue
        if there["count"] != len(cards):
            found.append(f"{column} counts {there['count']}, has {len(cards)}")
        if there["rail"]:
            continue
        if len(there["cards"]) < min(PAGE, len(cards)):
            found.append(f"{column} shows {len(there['cards'])} of {len(cards)}")
        for n, (mine, theirs) in enumerate(zip(there["cards"], cards, strict=False)):
            if mine != theirs:
                found.append(f"{column}[{n}] shows {mine}, is {theirs}")
        if len(there["cards"]) > len(cards):
            found.append(f"{column} shows {len(there['cards'])}, has {len(cards)}")
    return found


@dataclass
class Crowd:
    """How many browsers on how busy a board, and how it went."""

    browsers: int
    changes_per_second: float
    seconds: float
    made_per_second: float = 0.0
    #: What the pages were told of a second, their own moves among it.
    events_per_second: float = 0.0
    changes: int = 0
    settled_seconds: float = 0.0
    cards_checked: int = 0
    wrong: dict[int, list[str]] = field(default_factory=dict)


async def gather(
    site: Site,
    playwright: Playwright,
    browsers: int,
    rate: float,
    seconds: float,
    patience: float = SETTLE_SECONDS,
) -> Crowd:
    """Have so many browsers look on while a board changes; say whether all end with the truth.

    One in six goes offline for a while, one in six reloads, one in six moves cards by itself. Those
    who do the same share a browser context; each page has a process and a socket of its own.
    """
    crowd = Crowd(browsers, rate, seconds)
    board = furnish(site, 150)
    async with AsyncExitStack() as leaving:
        browser = await playwright.chromium.launch(
            executable_path=_last(site.folder), args=["--no-sandbox"]
        )
        leaving.push_async_callback(browser.close)
        alike = {role: await entered(browser, site, board) for role in (None, *ACTS)}
        pages = [
            await opened(alike[n % 6 if n % 6 in ACTS else None], board) for n in range(browsers)
        ]
        before = truth(site, board).seq
        # Each of several agents' processes makes its part of the changes, before anybody looks.
        writers = [stir(site, board, rate / WRITERS, seconds, seed=n + 1) for n in range(WRITERS)]
        with suppress(OSError):
            for pid in (site.web.pid, *(writer.pid for writer in writers)):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.setpriority(os.PRIO_PROCESS, int(thread), FIRST)
                # Linux shares the processor among sessions first, then within each.
                Path(f"/proc/{pid}/autogroup").write_text(str(FIRST))
        acting = [
            asyncio.create_task(acts(page, seconds))
            for n, page in enumerate(pages)
            if (acts := ACTS.get(n % 6))
        ]
        told = await asyncio.gather(*(asyncio.to_thread(writer.communicate) for writer in writers))
        done = [json.loads(out) for out, _ in told]
        crowd.changes = sum(one["changes"] for one in done)
        crowd.made_per_second = round(sum(one["changes"] / one["seconds"] for one in done), 1)
        longest = max(one["seconds"] for one in done)
        crowd.events_per_second = round((truth(site, board).seq - before) / longest, 1)
        await asyncio.gather(*acting)
        began = time.monotonic()
        true = truth(site, board)
        crowd.cards_checked = browsers * sum(len(cards) for cards in true.columns.values())
        waiting = set(range(browsers))
        while waiting and time.monotonic() - began < patience:
            for n in sorted(waiting):
                crowd.wrong[n] = await differences(pages[n], true)
                if not crowd.wrong[n]:
                    waiting.discard(n)
                    del crowd.wrong[n]
            await asyncio.sleep(0.2)
            if not waiting:
                break
            # A person's last move may have come after the truth was read.
            true = truth(site, board)
        crowd.settled_seconds = round(time.monotonic() - began, 1)
    return crowd


def _last(folder: Path) -> Path:
    """Return a program that starts the browser so that it takes what the others leave."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
    program = folder / "chromium"
    program.write_text(_LAST.replace("LOOKERS", str(_LOOKERS)).replace("CHROMIUM", chromium))
    program.chmod(0o755)
    return program


async def entered(browser: Browser, site: Site, board: str) -> BrowserContext:
    """Return a context of the person who is signed in, every column of the board unfolded."""
    context = await browser.new_context(
        base_url=site.web.origin, viewport={"width": 1440, "height": 900}
    )
    name, _, value = site.cookie.partition("=")
    url = site.web.origin
    await context.add_cookies(
        [
            {"name": name, "value": value, "url": url},
            {"name": "folded", "value": "none", "url": f"{url}/boards/{board}"},
        ]
    )
    return context


async def opened(context: BrowserContext, board: str) -> Page:
    """Return a live page of the board."""
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"/boards/{board}")
    await live(page)
    return page


async def live(page: Page) -> None:
    await page.wait_for_selector('#board[data-live="live"]')


async def _goes_away(page: Page, seconds: float) -> None:
    """Lose the server with all pages of the context, which do so at the same time."""
    await asyncio.sleep(seconds / 4)
    await page.context.set_offline(True)
    await asyncio.sleep(seconds / 3)
    await page.context.set_offline(False)


async def _reloads(page: Page, seconds: float) -> None:
    for _ in range(2):
        await asyncio.sleep(seconds / 3)
        await page.reload()
        await live(page)


async def _takes_part(page: Page, seconds: float) -> None:
    ends = time.monotonic() + seconds * 0.8
    while time.monotonic() < ends:
        await page.keyboard.press("j")
        await page.keyboard.press("Alt+ArrowRight")
        await asyncio.sleep(seconds / 10)


ACTS = {1: _goes_away, 3: _reloads, 5: _takes_part}
