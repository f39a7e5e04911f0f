"""What a turn of a step at a language model costs, and whether it grows with the conversation.

    python bench/model.py           SQLite, and PostgreSQL when TEST_DATABASE_URL is set

A scripted model on loopback reads a file of 3 KB in each turn. Beside it, the same model under
the library's own loop, which keeps its messages as the library hands them out: all of them, after
each turn. Counts and bytes are exact; times are CPU milliseconds of the working thread, medians.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from cost import on_each_store

TURNS = 60
AT = (10, 60)  # the last turns of the windows that are measured
WINDOW = 5
FILE = "x" * 79 + "\n"


def measure(store: str) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    settings.DISPATCH = False
    for row in (*ours(), *bare()):
        print(json.dumps({"bench": "model", "store": store, **row}), flush=True)


def script(request: Any) -> dict[str, Any]:
    # By number, not by what the request tells: old turns are left out of it.
    Turn.asked += 1
    if Turn.asked > TURNS:
        return {"text": "Done."}
    return {"calls": [("read_file", {"path": "file.txt"})], "text": f"Turn {Turn.asked}."}


class Turn:
    """What was seen at each request."""

    asked = 0
    seen: list[dict[str, float]] = []


def told(case: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each window, from what was seen at its turns."""
    for at in AT:
        window = Turn.seen[at - WINDOW : at + 1]
        pairs = list(pairwise(window))
        row = {
            name: round(statistics.median(after[name] - before[name] for before, after in pairs), 2)
            for name in ("statements", "transactions", "stored_bytes", "cpu_ms")
            if name in window[0]
        }
        yield {"case": case, "turn": at, **row, "sent_bytes": window[-1]["sent_bytes"]}


def ours() -> Iterator[dict[str, Any]]:
    from django.db import connection

    from tests.workbench import Bench, Seat
    from tests.workers.model_api import serving
    from workers.executors.model.executor import EXECUTOR

    counts = {"statements": 0, "stored_bytes": 0}
    if connection.vendor == "sqlite":  # elsewhere the driver opens them by itself
        counts["transactions"] = 0

    def size(value: Any) -> int:
        whole = getattr(value, "obj", value)  # as psycopg wraps JSON
        return len(whole if isinstance(whole, str | bytes) else json.dumps(whole, default=str))

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        word = sql.split()[0].upper()
        if word == "BEGIN":
            counts["transactions"] += 1
        elif word not in ("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"):
            counts["statements"] += 1
        if word in ("INSERT", "UPDATE"):
            values = params.values() if isinstance(params, dict) else params or ()
            counts["stored_bytes"] += sum(map(size, values))
        return execute(sql, params, many, context)

    Turn.asked, Turn.seen = 0, []
    with tempfile.TemporaryDirectory() as folder, serving(script) as api:
        seat = Seat(
            Bench(Path(folder)),
            {
                "key": "it",
                "llm": {"model": "openai:m", "prompt": "Go on.", "max_turns": TURNS + 1},
                "env": api.env,
                "timeout_seconds": 3600,
            },
        )
        assignment = seat.assignment()
        (assignment.tree / "file.txt").write_text(FILE * 38)
        from workers.executors.model import endpoint

        ask = endpoint.Endpoint.ask

        def watched(self: Any, messages: Any, remaining: Any) -> Any:
            cpu = 1000 * time.thread_time()
            Turn.seen.append({**counts, "cpu_ms": cpu, "sent_bytes": 0})
            reply = ask(self, messages, remaining)
            Turn.seen[-1]["sent_bytes"] = len(json.dumps(api.requests[-1].body))
            return reply

        endpoint.Endpoint.ask = watched  # type: ignore[method-assign]
        with connection.execute_wrapper(count):
            ending = EXECUTOR.carry_out(assignment)
        assert ending.succeeded, ending
        seat.close()
    yield from told("a turn and its call, on record")


def bare() -> Iterator[dict[str, Any]]:
    """The library's own loop, its messages kept after each turn."""
    import asyncio
    import sqlite3

    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessagesTypeAdapter
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.usage import UsageLimits

    from tests.workers.model_api import KEY, serving

    Turn.asked, Turn.seen = 0, []
    with tempfile.TemporaryDirectory() as folder, serving(script) as api:
        (Path(folder) / "file.txt").write_text(FILE * 38)
        client = AsyncOpenAI(api_key=KEY, base_url=f"{api.url}/v1")
        agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)))

        @agent.tool_plain
        def read_file(path: str) -> str:
            return (Path(folder) / path).read_text()

        store = sqlite3.connect(Path(folder) / "kept.sqlite3", isolation_level=None)
        store.executescript("PRAGMA journal_mode = WAL; CREATE TABLE kept (messages BLOB)")
        stored = 0

        async def work() -> None:
            nonlocal stored
            limits = UsageLimits(request_limit=None)
            async with agent.iter("Go on.", usage_limits=limits) as run:
                async for node in run:
                    if Agent.is_model_request_node(node):
                        continue
                    whole = ModelMessagesTypeAdapter.dump_json(run.all_messages())
                    store.execute("DELETE FROM kept")
                    store.execute("INSERT INTO kept VALUES (?)", [whole])
                    stored += len(whole)
                    sent = len(json.dumps(api.requests[-1].body)) if api.requests else 0
                    cpu = 1000 * time.thread_time()
                    Turn.seen.append({"stored_bytes": stored, "cpu_ms": cpu, "sent_bytes": sent})
            await client.close()

        asyncio.run(work())
        store.close()
    yield from told("the library's loop, its history kept whole")


if __name__ == "__main__":
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    on_each_store(__file__, measure)
