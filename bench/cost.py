"""What a step, a claim and a briefing cost, and whether the cost grows with history.

    python bench/cost.py            SQLite, and PostgreSQL when TEST_DATABASE_URL is set

Counts (statements, transactions) are exact. Times are CPU milliseconds of this process, medians
of alternating rounds; read the ratios, not the times.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STEPS = (10, 100_000)
WAITING = (100, 10_000, 100_000)
ROUNDS = 40


def on_each_store(script: str, measure: Callable[[str], None]) -> None:
    """Run ``measure`` in a process of its own for each store, on an empty database."""
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    stores = ["sqlite"] + (["postgresql"] if os.environ.get("TEST_DATABASE_URL") else [])
    for store in stores:
        with tempfile.TemporaryDirectory() as folder, database(store) as url:
            env = {**os.environ, "DATA_DIR": folder, "DATABASE_URL": url, "DEMO": "0"}
            env |= {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "runtime_site.settings"}
            env |= {"LOG_LEVEL": "ERROR"}
            subprocess.run([sys.executable, script, store], env=env, check=True, cwd=ROOT)


class database:  # noqa: N801 — used like a function
    """A database of its own on the server that TEST_DATABASE_URL names, dropped at the end."""

    def __init__(self, store: str) -> None:
        self.name = f"bench_{os.getpid()}" if store == "postgresql" else ""

    def __enter__(self) -> str:
        if not self.name:
            return ""
        self._run("CREATE DATABASE {}")
        return f"{os.environ['TEST_DATABASE_URL'].rpartition('/')[0]}/{self.name}"

    def __exit__(self, *error: object) -> None:
        if self.name:
            self._run("DROP DATABASE {} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as server:
            server.execute(sql.SQL(statement).format(sql.Identifier(self.name)))


def measure(store: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    for row in (*counts(), *history(), *backlog(), *fence()):
        print(json.dumps({"bench": "cost", "store": store, **row}), flush=True)


# -- counts ----------------------------------------------------------------------------------


def counted(call: Callable[[], Any]) -> dict[str, int]:
    """Return how many statements and transactions the call took."""
    from django.db import connection, reset_queries

    connection.force_debug_cursor = True
    reset_queries()
    call()
    words = [query["sql"].split()[0].upper() for query in connection.queries]
    connection.force_debug_cursor = False
    control = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}
    return {
        "statements": sum(word not in control for word in words),
        "transactions": words.count("BEGIN"),
    }


def counts() -> Iterator[dict[str, Any]]:
    """Statements of the calls a worker makes most, by themselves and over HTTP."""
    from django.conf import settings
    from django.test import Client

    from boards import leases, tokens
    from boards.models import Board
    from checkpoints import recovery, steps
    from workers.assignments import Desk, Journal
    from workers.database import Database
    from workers.runner import Slice
    from workers.watch import Watch

    settings.ALLOWED_HOSTS = ["testserver"]
    attempt = running("COUNT")
    saved = {"summary": "half-way"}
    yield {"case": "step", **counted(lambda: steps.record(attempt.pk, "a", "succeeded"))}
    yield {
        "case": "step with checkpoint",
        **counted(lambda: steps.record(attempt.pk, "b", "succeeded", checkpoint=saved)),
    }
    Board.objects.filter(pk=attempt.board_id).update(budgets={"cost_usd": 5})
    spent = {"cost_usd": "0.01"}
    yield {
        "case": "step under a budget",
        **counted(lambda: steps.record(attempt.pk, "bounded", "succeeded", usage=spent)),
    }
    Board.objects.filter(pk=attempt.board_id).update(budgets={})
    yield {"case": "begin step", **counted(lambda: steps.begin(attempt.pk, "c"))}
    yield {"case": "finish step", **counted(lambda: steps.finish(attempt.pk, "c", "succeeded"))}
    yield {"case": "checkpoint", **counted(lambda: recovery.save(attempt.pk, saved))}
    yield {"case": "heartbeat", **counted(lambda: leases.heartbeat(attempt.pk))}
    ledger = Database(attempt)
    # What a worker writes for a ``ctx.step`` of a Python workflow, as its clerk does.
    journal = Journal(Desk(ledger, Watch(ledger, Slice())), ["flow/1"], done=0, total=1)
    yield {"case": "ctx.step", **counted(lambda: journal.record("a", {"n": 1}, title="A"))}

    issued = tokens.issue("bench", roles={attempt.board_id: 2})
    lease = leases.token_of(attempt.pk, attempt.board_id)
    client = Client(headers={"Authorization": f"Bearer {issued.plaintext}", "Lease-Token": lease})
    url = f"/api/v1/attempts/{attempt.pk}/steps"

    def post(key: str) -> None:
        body = {"key": key, "status": "succeeded"}
        headers = {"Idempotency-Key": f"once-{key}"}
        answer = client.post(url, body, content_type="application/json", headers=headers)
        assert answer.status_code == 201, answer.content

    post("warm")  # the first use of a token notes when it was used
    yield {"case": "step over HTTP, with key", **counted(lambda: post("d"))}


# -- growth ----------------------------------------------------------------------------------


def history() -> Iterator[dict[str, Any]]:
    """A step, a checkpoint, a claim and a briefing on cards with short and long histories."""
    from django.utils import timezone

    from boards import leases
    from boards.models import Attempt, Card
    from checkpoints import briefing, recovery, steps
    from checkpoints.models import Step

    attempts = {}
    for size in STEPS:
        attempt = running(f"H{size}")
        now = timezone.now()
        Step.objects.bulk_create(
            (
                Step(
                    card_id=attempt.card_id,
                    key=f"step-{n}",
                    number=n + 1,
                    attempt=attempt,
                    status=Step.Status.SUCCEEDED,
                    result={"output": "x" * 200},
                    finished_at=now,
                )
                for n in range(size)
            ),
            batch_size=500,
        )
        Attempt.objects.filter(pk=attempt.pk).update(
            step_number=size, steps_done=size, steps_recorded=size
        )
        recovery.save(attempt.pk, {"summary": "so far"})
        attempts[size] = attempt.pk
    analyze()

    def again(size: int) -> None:
        held = Attempt.objects.get(pk=attempts[size])
        leases.release(held.pk, "handing over")
        card = Card.objects.get(pk=held.card_id)
        fresh = leases.claim("ada", boards=frozenset([held.board_id]), card_id=card.pk)
        assert fresh is not None
        attempts[size] = fresh.pk

    def brief(size: int) -> None:
        card = Card.objects.select_related("goal").get(attempts=attempts[size])
        assert briefing.build(card).tokens <= briefing.DEFAULT_MAX_TOKENS

    fresh = iter(range(10**9))
    cases: dict[str, Callable[[int], Any]] = {
        "step": lambda size: steps.record(attempts[size], f"new-{next(fresh)}", "succeeded"),
        "checkpoint": lambda size: recovery.save(attempts[size], {"summary": "more"}),
        "briefing": brief,
        "release and claim": again,
    }
    for case, call in cases.items():
        yield growth(case, "recorded steps", STEPS, call)


def backlog() -> Iterator[dict[str, Any]]:
    """A claim among few and many waiting cards, by rank alone and under caps and shares."""
    from boards import cards, leases
    from boards.models import Board, Card, Column
    from goals import memory
    from goals.models import Goal
    from kernel.access import SYSTEM

    boards = {}
    for size in WAITING:
        board = cards.create_board(SYSTEM, key=f"W{size}", name="waiting")
        column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
        goals = [memory.create(board.pk, "user:ada", title=f"goal {n}") for n in range(3)]
        Card.objects.bulk_create(
            (
                Card(
                    board=board,
                    column=column,
                    goal=goals[n % 3],
                    state=Card.State.WAITING,
                    number=n + 1,
                    key=f"{board.key}-{n + 1}",
                    rank=(n + 1) * 2**20,
                    title=f"card {n}",
                    priority=n % 5,
                )
                for n in range(size)
            ),
            batch_size=500,
        )
        boards[size] = board.pk
    analyze()

    def claim(size: int) -> None:
        attempt = leases.claim("ada", boards=frozenset([boards[size]]), capabilities=["python"])
        assert attempt is not None

    yield growth("claim", "waiting cards", WAITING, claim)
    Board.objects.filter(pk__in=boards.values()).update(
        max_running=1000,
        caps={"labels": {"gpu": 1}, "each_worker": 1000},
        budgets={"cost_usd": 1000},
        ageing_seconds=86_400,
    )
    Goal.objects.filter(title="goal 2").update(share=3)
    yield growth("claim under caps, shares and a budget", "waiting cards", WAITING, claim)


def growth(
    case: str, of: str, sizes: tuple[int, ...], call: Callable[[int], Any]
) -> dict[str, Any]:
    """Return the CPU time of the call at each size and the last over the first."""
    spent: dict[int, list[float]] = {size: [] for size in sizes}
    statements = {size: counted(lambda size=size: call(size))["statements"] for size in sizes}
    for n in range(ROUNDS):
        for size in sizes if n % 2 else sizes[::-1]:
            began = time.process_time()
            call(size)
            spent[size].append((time.process_time() - began) * 1000)
    ms = {size: round(statistics.median(spent[size]), 3) for size in sizes}
    return {
        "case": case,
        "of": of,
        "cpu_ms": {str(size): value for size, value in ms.items()},
        "statements": {str(size): n for size, n in statements.items()},
        "ratio": round(ms[sizes[-1]] / ms[sizes[0]], 2),
    }


def fence() -> Iterator[dict[str, Any]]:
    """A fenced step against the bare insert of its row, wall time, alternating."""
    from django.db import transaction

    from checkpoints import steps
    from checkpoints.models import Step

    attempt, bare = running("FENCED"), running("BARE")
    numbers = iter(range(1, 10**9))

    def fenced() -> None:
        steps.record(attempt.pk, f"k{next(numbers)}", "succeeded", result={"x": 1})

    def plain() -> None:
        from django.utils import timezone

        with transaction.atomic():
            n = next(numbers)
            Step.objects.create(
                card_id=bare.card_id,
                key=f"k{n}",
                number=n,
                attempt=bare,
                status=Step.Status.SUCCEEDED,
                result={"x": 1},
                finished_at=timezone.now(),
            )

    spent: dict[str, list[float]] = {"fenced": [], "plain": []}
    for n in range(300):
        for name, call in (("fenced", fenced), ("plain", plain))[:: 1 if n % 2 else -1]:
            began = time.perf_counter()
            call()
            spent[name].append((time.perf_counter() - began) * 1000)
    ms = {name: round(statistics.median(times), 3) for name, times in spent.items()}
    yield {
        "case": "fenced step with its event over a bare ORM insert",
        "wall_ms": ms,
        "ratio": round(ms["fenced"] / ms["plain"], 2),
    }


# -- what they share -------------------------------------------------------------------------


def running(key: str) -> Any:
    """Return a live attempt at the only card of a new board."""
    from boards import cards, leases
    from boards.models import Column
    from kernel.access import SYSTEM

    board = cards.create_board(SYSTEM, key=key, name=key)
    column = board.columns.get(kind=Column.Kind.IN_PROGRESS)
    cards.create(board, "user:ada", title="work", column=column)
    attempt = leases.claim("ada", boards=frozenset([board.pk]), lease_seconds=3600)
    assert attempt is not None
    return attempt


def analyze() -> None:
    """Give PostgreSQL's planner the figures it would have had after a while.

    SQLite keeps none unless told to, and nothing here tells it to: its plans are fixed.
    """
    from django.db import connection

    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    on_each_store(__file__, measure)
