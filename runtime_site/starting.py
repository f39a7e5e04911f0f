"""What must be true before the parts start: a usable folder, the right schema, an operator."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from boards import tokens
from boards.models import Board
from kernel.errors import DomainError
from runtime_site.checks import sqlite_can_lose_a_wal

#: "holdfast", as the key of PostgreSQL's advisory lock.
_ADVISORY_LOCK = int.from_bytes(b"holdfast", "big") >> 1
LOCK_SECONDS = 600


def claim_data_dir() -> IO[str]:
    """Return the open lock file of DATA_DIR, held until this process and its likes end.

    Raises CommandError when the folder can't be used or another runtime runs on it.
    """
    for folder in (settings.ARTIFACTS_DIR, settings.WORKSPACES_DIR, settings.SNAPSHOTS_DIR):
        _make(folder)
    path = settings.DATA_DIR / "runtime.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(_unusable(path.parent, error)) from None
    file = os.fdopen(fd, "r+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = file.read().strip() or "another process"
        raise CommandError(
            f"Holdfast already runs on {settings.DATA_DIR} ({who}); stop it first, or set "
            "DATA_DIR and PORT to run a second one."
        ) from None
    return file


def describe(lock: IO[str]) -> None:
    """Write into the lock file who holds it, for the next one that asks."""
    lock.seek(0)
    lock.truncate()
    lock.write(f"process {os.getpid()}, {settings.BASE_URL}\n")
    lock.flush()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CommandError(_unusable(folder, error)) from None


def _unusable(folder: Path, error: OSError) -> str:
    return (
        f"The folder {folder} can't be used ({error.strerror}); set DATA_DIR to a folder that "
        "this user can write."
    )


def warnings() -> list[str]:
    """Return sentences about what works here but should not stay so."""
    if connection.vendor == "sqlite" and sqlite_can_lose_a_wal(sqlite3.sqlite_version_info[:3]):
        return [
            f"SQLite {sqlite3.sqlite_version} has a rare bug that can damage a busy WAL file; "
            "3.51.3 or newer is safe, and so is PostgreSQL."
        ]
    return []


def store() -> None:
    """Bring the store to this version's schema, with an operator and what was asked for.

    Hosts that start together do it one after the other. Raises CommandError in one sentence.
    """
    try:
        with _alone():
            _refuse_newer_schema()
            call_command("migrate", verbosity=0, interactive=False)
            operator()
            if settings.BOOTSTRAP_TOKEN:
                tokens.bootstrap(settings.BOOTSTRAP_TOKEN)
            if settings.DEMO and "demo" in get_commands() and not Board.objects.exists():
                call_command("demo")
    except DomainError as error:
        raise CommandError(error.detail) from None
    except DatabaseError as error:
        raise CommandError(_sentence(error)) from error
    finally:
        connection.close()


def check_schema() -> None:
    """Pass only if the store has exactly this version's schema: for parts started by themselves.

    Raises CommandError in one sentence.
    """
    try:
        _refuse_newer_schema()
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError(
                "The database has an older schema than this Holdfast; run `manage.py runtime` "
                "or `manage.py migrate` once first."
            )
    except DatabaseError as error:
        raise CommandError(_sentence(error)) from error
    finally:
        connection.close()


def operator() -> AbstractBaseUser:
    """Return the operator who may sign in by link, making the first one if there is none."""
    users = get_user_model().objects
    operators = users.filter(is_superuser=True, is_active=True).order_by("pk")
    found = operators.filter(username="operator").first() or operators.first()
    return found or users.create_superuser("operator", password=None)


def _refuse_newer_schema() -> None:
    loader = MigrationExecutor(connection).loader
    known = set(loader.disk_migrations)
    for migration in loader.disk_migrations.values():
        known.update(migration.replaces)
    applied = MigrationRecorder(connection).applied_migrations()
    newer = sorted(
        f"{app}.{name}"
        for app, name in applied
        if app in loader.migrated_apps and (app, name) not in known
    )
    if newer:
        raise CommandError(
            f"The database was used by a newer Holdfast (it has {newer[0]}, unknown here); start "
            "that version again, or restore a backup made before the upgrade."
        )


@contextmanager
def _alone() -> Iterator[None]:
    """Hold off other hosts and processes that would migrate the same store."""
    if connection.vendor != "postgresql":
        with open(settings.DATA_DIR / "migrate.lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    ends = time.monotonic() + LOCK_SECONDS
    while not _ask("SELECT pg_try_advisory_lock(%s)"):
        if time.monotonic() > ends:
            raise CommandError(
                f"Another process has been migrating this database for {LOCK_SECONDS} seconds; "
                "see what holds it up."
            )
        time.sleep(0.5)
    try:
        # A migration may wait for a running server's transactions longer than a request may.
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '120s'")
            cursor.execute("SET idle_in_transaction_session_timeout = 0")
        yield
    finally:
        if connection.is_usable():
            _ask("SELECT pg_advisory_unlock(%s)")


def _ask(statement: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, [_ADVISORY_LOCK])
        (row,) = cursor.fetchall()
    return bool(row[0])


def _sentence(error: DatabaseError) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    where = settings.DATABASES["default"]
    if connection.vendor == "sqlite":
        return f"The database {where['NAME']} can't be used: {reason}."
    return f"The database {where['NAME']} at {where['HOST'] or 'the local socket'}: {reason}."
