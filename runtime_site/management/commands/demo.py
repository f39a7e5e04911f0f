"""Makes the demo board, once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from runtime_site.demo import making


class Command(BaseCommand):
    help = "Make the demo board, whose cards work on this checkout. A second call changes nothing."
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        board = making.make()
        if board is not None:
            self.stdout.write(f"Made the board {board.key} with {board.cards.count()} cards.")
        elif not making.is_checkout():
            self.stdout.write("Holdfast does not run from a checkout here, so there is no demo.")
        else:
            self.stdout.write("There is a board DEMO already; nothing was changed.")
