"""Makes the search index anew, beside what is found meanwhile."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from goals.search import keeping


class Command(BaseCommand):
    help = (
        "Take everything into the search index again, in small slices, while the server runs. "
        "Killed, it goes on where it stopped when the sweep, or this command with --continue, does."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--continue", action="store_true", help="Only what is left to take in.")

    def handle(self, **options: Any) -> None:
        keeping.make_triggers()
        if not options["continue"]:
            keeping.begin_anew()
        taken = 0
        while more := keeping.catch_up() or keeping.fill():
            taken += more
            if taken // 10_000 != (taken - more) // 10_000:
                self.stdout.write(f"{taken:,} rows")
        self.stdout.write(f"Done: {taken:,} rows were looked at.")
