"""Serves HTTP and WebSockets."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from runtime_site.listening import listen


class Command(BaseCommand):
    help = "Serve on HOST and PORT, or on a listening socket that is handed over, until SIGTERM."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fd", type=int, help="a listening socket's file descriptor")

    def handle(self, fd: int | None = None, **options: Any) -> None:
        # Here and not above: only this command pays for them.
        from runtime_site.asgi import application
        from runtime_site.server import serve

        if fd is None:
            fd = listen(settings.HOST, settings.PORT).detach()
        serve(application, fd)
