"""Prints a new one-time sign-in link."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runtime_site import signin, starting


class Command(BaseCommand):
    help = "Print a link that signs an account in, once and soon: the operator's, or NAME's."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="an account's user name")

    def handle(self, name: str | None = None, **_: Any) -> None:
        user: Any = starting.operator() if name is None else None
        if name is not None:
            user = get_user_model().objects.filter(username=name, is_active=True).first()
            if user is None:
                raise CommandError(f"There is no active account {name}.")
        self.stdout.write(f"{settings.BASE_URL}{signin.link(user)}")
