"""What ``holdfast worker`` starts."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys

import click

from holdfast import Client
from holdfast.cli.exits import Exit, status_of
from holdfast.errors import Error
from workers.remote.host import folder_for, host_for, keep_memory_private
from workers.remote.loop import Worker


@click.command()
@click.option("--name", default="")
@click.option("--board", "boards", multiple=True)
@click.option("--capability", "capabilities", multiple=True)
@click.option("--slots", type=int, default=1)
@click.option("--lease", type=int, default=60)
@click.option("--once", is_flag=True)
@click.option("--wait", type=float, default=0.0)
def main(
    name: str,
    boards: tuple[str, ...],
    capabilities: tuple[str, ...],
    slots: int,
    lease: int,
    once: bool,
    wait: float,
) -> None:
    """Claim cards with a workflow and carry them out here. Server and token: the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    keep_memory_private()
    url, token = os.environ["HOLDFAST_URL"].rstrip("/"), os.environ.pop("HOLDFAST_TOKEN")
    folder = folder_for(url)
    with Client(url, token, patience=10.0) as client:
        client.get("/me")
        worker = Worker(
            client,
            host_for(url, token, folder),
            folder,
            name=name or _own_name(),
            boards=boards,
            capabilities=capabilities,
            lease_seconds=lease,
        )
        signal.signal(signal.SIGTERM, lambda *_: _end(worker))
        signal.signal(signal.SIGINT, lambda *_: _end(worker))
        can = ", ".join(worker.capabilities)
        click.echo(f"{worker.name} works for {url}; it can: {can}", err=True)
        if once:
            sys.exit(Exit.OK if worker.once(wait) is not None else Exit.NOTHING)
        worker.work(slots)
    sys.exit(Exit.OK)


def _end(worker: Worker) -> None:
    if worker.told.drain.is_set():
        worker.told.stop.set()
    else:
        click.echo("Draining: each card is handed over at its next step.", err=True)
        worker.told.drain.set()


def _own_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"
    return f"remote-{host}"


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except Error as error:
        click.echo(f"holdfast: {error}", err=True)
        sys.exit(status_of(error))
