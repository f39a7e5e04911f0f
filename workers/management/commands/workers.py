"""Runs the built-in workers of this host, or has those of a host begin nothing more."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kernel.errors import NotFound
from workers import cluster, hosts


class Command(BaseCommand):
    help = "Run WORKERS built-in worker processes until SIGTERM."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        do = parser.add_mutually_exclusive_group()
        for name, words in (
            ("--drain", "Have HOST (this one) end its steps, hand over, and begin nothing."),
            ("--undrain", "Let HOST (this one) work again, also before the end of a rest."),
        ):
            do.add_argument(name, nargs="?", const=hosts.here(), metavar="HOST", help=words)

    def handle(self, **options: Any) -> None:
        name = options["drain"] or options["undrain"]
        if name is None:
            sys.exit(cluster.run())
        try:
            host = hosts.drain(name, bool(options["drain"]))
        except NotFound as error:
            raise CommandError(error.detail) from None
        if host.draining:
            self.stdout.write(
                f"{name} is being drained: its workers hand over what they hold at the next step"
                f" and begin nothing until `workers --undrain {name}`."
            )
        else:
            self.stdout.write(f"The workers of {name} take cards again.")
