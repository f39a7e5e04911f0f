"""Seals boards' secrets anew after SECRET_KEY has changed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from boards.secrets import keeping, sealing
from boards.secrets.models import Secret


class Command(BaseCommand):
    help = (
        "Seal every board's secrets under SECRET_KEY; those sealed under an earlier key need it in "
        "SECRET_KEY_FALLBACKS. The sweep does the same by itself."
    )
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        done = keeping.reseal()
        self.stdout.write(f"{done} sealed anew.")
        closed = Secret.objects.exclude(sealed_under=sealing.key_name()).select_related("board")
        for secret in closed.defer("sealed").order_by("board__key", "name"):
            self.stdout.write(f"{secret.board.key} {secret.name} does not open; set it again.")
