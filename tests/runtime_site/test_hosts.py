"""Several hosts on one PostgreSQL: each with a folder and a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.runtime_site.installation import Installation, installation, until

SERVER = os.environ.get("TEST_DATABASE_URL", "")

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.postgres,
    pytest.mark.skipif(not SERVER, reason="TEST_DATABASE_URL is not set: no PostgreSQL to test on"),
]

TOKEN = "bootstrap-" + "t" * 30


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database."""
    name = f"hosts_{os.getpid()}_{secrets.token_hex(3)}"
    with psycopg.connect(SERVER, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{SERVER.rpartition('/')[0]}/{name}"
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))


@pytest.fixture
def hosts(tmp_path: Path, database: str) -> Iterator[list[Installation]]:
    """Two hosts that share the database, the key and, where there is one, Redis."""
    shared = {
        "DATABASE_URL": database,
        "SECRET_KEY": "shared-by-all-hosts-" * 3,
        "BOOTSTRAP_TOKEN": TOKEN,
        "WORKERS": "1",
    }
    if redis := os.environ.get("TEST_REDIS_URL"):
        shared["REDIS_URL"] = redis
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(installation(tmp_path / name, **shared)) for name in ("a", "b")]


def boards(host: Installation) -> list[str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{host.port}/api/v1/boards", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [board["key"] for board in json.loads(answer.read())["results"]]


def test_hosts_that_start_together_make_one_store(hosts: list[Installation], database: str) -> None:
    processes = [host.start() for host in hosts]
    for host, process in zip(hosts, processes, strict=True):
        host.until_ready(process)
        assert boards(host) == []
    with psycopg.connect(database) as db:
        (operators,) = db.execute("SELECT count(*) FROM auth_user").fetchone() or (0,)
        (tokens,) = db.execute("SELECT count(*) FROM boards_token").fetchone() or (0,)
    assert (operators, tokens) == (1, 1)


def test_a_worker_host_joins_and_leaves(hosts: list[Installation], database: str) -> None:
    first, second = hosts
    first.started(WORKERS="0")
    joined = second.start("--workers-only")
    with psycopg.connect(database, autocommit=True) as db:
        count = "SELECT count(*) FROM workers_pulse WHERE name LIKE 'workers:%'"
        until(lambda: db.execute(count).fetchone() == (1,))
        assert set(second.processes().values()) == {"supervisor", "workers", "sweep"}
        joined.terminate()
        assert joined.wait(60) == 0
        assert db.execute(count).fetchone() == (0,)
    assert first.get("/readyz")[0] == 200


def test_when_the_server_drops_every_connection_all_parts_come_back(
    hosts: list[Installation], database: str
) -> None:
    host = hosts[0]
    host.started()
    parts = host.processes()
    for _ in range(3):
        with psycopg.connect(database, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        until(lambda: host.get("/readyz")[0] == 200)
        assert boards(host) == []
    # Nothing died of it.
    assert host.processes() == parts
