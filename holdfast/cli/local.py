"""``holdfast up``: the server, started on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import click

import holdfast
from holdfast.cli import places


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="8000 unless told.")
@click.option("--host", help="The address to listen on; 127.0.0.1 unless told.")
@click.option("--data", type=click.Path(file_okay=False), help="The folder that keeps everything.")
@click.option("--demo/--no-demo", default=None, help="Whether an empty store gets a demo board.")
@click.option("--workers", type=click.IntRange(0, 64), help="Built-in workers; 2 unless told.")
@click.option("--allow-commands", is_flag=True, help="New boards may run commands.")
def up(
    port: int | None,
    host: str | None,
    data: str | None,
    demo: bool | None,
    workers: int | None,
    allow_commands: bool,
) -> None:
    """Start the server here and keep it running until Ctrl-C.

    It prints its address and a sign-in link. The README's settings apply, as environment
    variables; options go before them.
    """
    settings = {
        "PORT": port,
        "HOST": host,
        "DATA_DIR": data or str(places.data_dir()),
        "DEMO": None if demo is None else int(demo),
        "WORKERS": workers,
        "ALLOW_COMMANDS": 1 if allow_commands else None,
    }
    changes = {name: str(value) for name, value in settings.items() if value is not None}
    command = [sys.executable, manage_py(), "runtime"]
    environment = {**os.environ, **changes}
    sys.stdout.flush()
    if os.name == "posix":
        # Signals then go to the server itself.
        os.execve(command[0], command, environment)
    raise SystemExit(subprocess.call(command, env=environment))


def manage_py() -> str:
    """Return the path of manage.py. Raises Error where the server is not installed."""
    found = places.manage_py()
    if found is None:
        raise holdfast.Error("The server is not installed here. Install the holdfast package.")
    return str(found)


def managed(*words: str, changes: Mapping[str, str] | None = None) -> str:
    """Return what a command of manage.py prints. Raises Error with its last words."""
    ran = subprocess.run(
        [sys.executable, manage_py(), *words],
        env={**os.environ, "DATA_DIR": str(places.data_dir()), **(changes or {})},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        said = ran.stderr.strip().splitlines()
        raise holdfast.Error(said[-1] if said else f"manage.py {words[0]} failed.")
    return ran.stdout.strip()
