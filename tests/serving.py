"""Real web processes on a store of their own, for tests of what only a running server shows.

Nothing here imports the product: it is started, and spoken to over HTTP and WebSocket.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests import ports, schema

ROOT = Path(__file__).resolve().parent.parent
#: PostgreSQL, whatever this run of the tests is on.
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgres)
#: What this run of the tests is on, see tests/run.
STORE = pytest.param(
    "postgresql" if os.environ.get("DATABASE_URL") else "sqlite", marks=pytest.mark.store
)
PATIENCE = 60.0

_PREPARE = """
import json, os, django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model, BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.core.management import call_command
from boards import tokens
from kernel.access import Role
call_command("migrate", verbosity=0)
issued = tokens.issue("operator", everywhere=Role.OPERATOR)
user = get_user_model().objects.create_superuser("ada", password=None)
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print(json.dumps({
    "token": issued.plaintext,
    "cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}",
}))
"""


#: Many events in one commit.
BULK = """
import sys, uuid, django
django.setup()
from django.db import transaction
from events.models import Event, Stream
from events import log
board, count, size = uuid.UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with transaction.atomic():
    last = log.last_seq(board)
    Event.objects.bulk_create(
        Event(board_id=board, seq=last + n, kind="card.edited", actor="user:ada",
              subject_id=board, data={"x": "x" * size}) for n in range(1, count + 1))
    Stream.objects.filter(board_id=board).update(last_seq=last + count)
print(last + count)
"""


@dataclass
class Answer:
    status: int
    headers: Any
    body: Any


@dataclass
class Web:
    """One web process."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Site:
    """A store with an operator's token, a signed-in person, and web processes on demand."""

    store: str
    folder: Path
    database_url: str = ""
    token: str = ""
    cookie: str = ""
    webs: list[Web] = field(default_factory=list)
    log: Path = Path()

    def environment(self, **extra: str) -> dict[str, str]:
        plain = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "HOST", "PORT")
        }
        return {
            **plain,
            "DJANGO_SETTINGS_MODULE": "runtime_site.settings",
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": self.database_url,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **extra,
        }

    def python(self, code: str, *args: str, **extra: str) -> subprocess.Popen[str]:
        """Return a running ``python -c code`` that sees this site's store."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *args],
            env=self.environment(**extra),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, *args: Any) -> str:
        """Return what ``code`` prints."""
        process = self.python(code, *map(str, args))
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        return out.strip()

    def prepare(self) -> None:
        made = json.loads(self.run(_PREPARE))
        self.token, self.cookie = made["token"], made["cookie"]

    def serve(self, *, port: int = 0, **extra: str) -> Web:
        """Return a new web process that answers."""
        with ports.listening(port) as listening:
            port = listening.getsockname()[1]
            self.log = self.folder / "web.log"
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "manage.py", "web", "--fd", str(listening.fileno())],
                    env=self.environment(PORT=str(port), **extra),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listening.fileno()],
                )
        web = Web(process, port)
        self.webs.append(web)
        until(lambda: process.poll() is not None or self._answers(web))
        assert process.poll() is None, self.log.read_text()[-2000:]
        return web

    def _answers(self, web: Web) -> bool:
        return self.call("GET", "/healthz", web=web).status == 200

    @property
    def web(self) -> Web:
        """The first web process that still runs."""
        for web in self.webs:
            if web.process.poll() is None:
                return web
        return self.serve()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        web: Web | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Answer:
        """Return the answer, whatever its status; None for a body that is no JSON."""
        request = urllib.request.Request(
            (web or self.web).origin + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {token or self.token}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return _answer(response)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)

    def new_board(self, **more: Any) -> dict[str, Any]:
        key = "B" + secrets.token_hex(4).upper()
        answer = self.call("POST", "/api/v1/boards", {"key": key, "name": key, **more})
        assert answer.status == 201, answer.body
        return dict(answer.body)

    def new_token(self, board: str, role: str = "member") -> dict[str, Any]:
        answer = self.call(
            "POST", "/api/v1/tokens", {"name": "agent", "board": board, "role": role}
        )
        assert answer.status == 201, answer.body
        return dict(answer.body)

    def new_card(self, board: str, title: str = "a card", **more: Any) -> Answer:
        return self.call("POST", "/api/v1/cards", {"board": board, "title": title}, **more)

    def close(self) -> None:
        for web in self.webs:
            if web.process.poll() is None:
                web.process.send_signal(signal.SIGCONT)
            web.stop()


def _answer(response: Any) -> Answer:
    raw = response.read()
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = None
    return Answer(response.status, response.headers, body)


def until(happened: Any, seconds: float = PATIENCE) -> Any:
    """Return the first true result of ``happened()``; AssertionError when there is none in time."""
    ends = time.monotonic() + seconds
    while True:
        try:
            if result := happened():
                return result
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def new_site(store: str) -> Iterator[Site]:
    """A prepared site without a web process; skips where PostgreSQL is not to be had."""
    with tempfile.TemporaryDirectory(prefix="site-") as folder, database(store) as url:
        site = Site(store, Path(folder), url)
        if not url:
            schema.copy_to(site.folder / "holdfast.sqlite3")
        site.prepare()
        try:
            yield site
        finally:
            site.close()


@contextmanager
def database(store: str) -> Iterator[str]:
    """Yield the DATABASE_URL of a new, empty store; empty for SQLite in the data folder."""
    if store == "sqlite":
        yield ""
        return
    server = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not server:
        pytest.skip("TEST_DATABASE_URL is not set: no PostgreSQL to test on")
    name = f"live_{os.getpid()}_{secrets.token_hex(3)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            base, _, _ = server.rpartition("/")
            yield f"{base}/{name}"
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))
