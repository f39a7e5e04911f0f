"""Runs the built-in workers of this host."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from workers import cluster


class Command(BaseCommand):
    help = "Run WORKERS built-in worker processes until SIGTERM."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        sys.exit(cluster.run())
