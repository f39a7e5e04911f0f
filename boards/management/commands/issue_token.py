"""Issues an API token from the command line."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from boards import tokens
from boards.models import Board
from kernel.access import Role


class Command(BaseCommand):
    help = "Print a new API token. It is printed this once and kept nowhere."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="whose token it is, for the list of tokens")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--board", action="append", metavar="KEY", help="may be repeated")
        where.add_argument("--everywhere", action="store_true", help="on every board, new ones too")
        parser.add_argument("--role", default="member", choices=[role.label for role in Role])
        parser.add_argument(
            "--carries-secrets",
            action="store_true",
            help="a worker on another host is told the boards' secrets with it",
        )

    def handle(
        self, name: str, board: list[str] | None, role: str, carries_secrets: bool, **_: Any
    ) -> None:
        granted = Role[role.upper()]
        keys = {key.upper() for key in board or ()}
        boards = dict(Board.objects.filter(key__in=keys).values_list("key", "pk"))
        if missing := sorted(keys - set(boards)):
            raise CommandError(f"There is no board {', '.join(missing)}.")
        issued = tokens.issue(
            name[:100],
            roles=dict.fromkeys(boards.values(), granted),
            everywhere=None if keys else granted,
            carries_secrets=carries_secrets,
        )
        self.stdout.write(issued.plaintext)
