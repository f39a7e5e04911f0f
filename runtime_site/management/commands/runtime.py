"""Starts everything and keeps it running: what ``make run`` calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from runtime_site import signin, starting
from runtime_site.listening import listen


class Command(BaseCommand):
    help = (
        "Prepare the store, then run the web server, WORKERS built-in workers and the sweep until "
        "Ctrl-C or SIGTERM. More of them may run beside, on this host or others, with the flags."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        only = parser.add_mutually_exclusive_group()
        only.add_argument("--web-only", action="store_true", help="one more web server")
        only.add_argument(
            "--workers-only", action="store_true", help="workers and a sweep, as on a worker host"
        )

    def handle(self, web_only: bool = False, workers_only: bool = False, **_: Any) -> None:
        try:
            self._start(web_only, workers_only)
        except CommandError as error:
            sys.exit(f"holdfast: {error}")

    def _start(self, web_only: bool, workers_only: bool) -> None:
        whole = not (web_only or workers_only)
        fds = []
        lock = None
        if whole:
            lock = starting.claim_data_dir()
            fds.append(lock.fileno())
        address = None
        opened = None
        if not workers_only:
            opened = listen(settings.HOST, settings.PORT)
            fds.append(opened.fileno())
            address = _reachable(opened.getsockname())
        if lock is not None:
            starting.describe(lock)
        self._check()
        for sentence in starting.warnings():
            self.stderr.write(f"holdfast: warning: {sentence}")
        if whole:
            starting.store()
        else:
            starting.check_schema()
        parts = []
        if opened is not None:
            parts.append(_part("web", "--fd", str(opened.fileno()), fds=[opened.fileno()]))
        if not web_only:
            if settings.WORKERS:
                parts.append(_part("workers"))
            parts.append(_part("sweep"))
        welcome = self._welcome() if opened is not None else "Holdfast workers are running.\n"
        connections.close_all()
        _become({"parts": parts, "welcome": welcome, "address": address}, fds)

    def _check(self) -> None:
        """Pass only if no system check finds an error. Raises CommandError with the first one."""
        found = [
            message
            for message in checks.run_checks(tags=["runtime_site"])
            if message.level >= checks.ERROR and not message.is_silenced()
        ]
        if found:
            first = found[0]
            raise CommandError(" ".join(part for part in (first.msg, first.hint) if part))

    def _welcome(self) -> str:
        path = signin.link(starting.operator())
        minutes = settings.SIGNIN_LINK_SECONDS // 60
        return (
            f"\n  Holdfast is running at {settings.BASE_URL}\n"
            f"  Sign in, once and within {minutes} minutes: {settings.BASE_URL}{path}\n"
            "  Ctrl-C stops it.\n"
        )


def _part(name: str, *arguments: str, fds: list[int] | None = None) -> dict[str, Any]:
    manage = str(Path(settings.SHARE_DIR) / "manage.py")
    return {"name": name, "command": [sys.executable, manage, name, *arguments], "fds": fds or []}


def _reachable(address: Any) -> tuple[str, int]:
    """Return where the server answers this host: an address that means all has one of its own."""
    host, port = address[:2]
    return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


def _become(spec: dict[str, Any], fds: list[int]) -> None:
    """Turn this process into the supervisor, which needs none of what was loaded so far."""
    for fd in fds:
        os.set_inheritable(fd, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(settings.BASE_DIR)
    os.execv(sys.executable, [sys.executable, "-m", "runtime_site.supervisor", json.dumps(spec)])
