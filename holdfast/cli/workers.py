"""``holdfast worker``: carry cards out on this host, see who else works, take some out."""

from __future__ import annotations

import os
import subprocess
import sys

import click

import holdfast
from holdfast.cli.options import json_option
from holdfast.cli.places import PACKAGES, connect, known
from holdfast.cli.printing import ago, print_json, say, show, table
from holdfast.protocol import JSON, segment


@click.group(invoke_without_command=True)
@click.option("--name", "-w", envvar="HOLDFAST_WORKER", help="Who you are; remote-HOST if unset.")
@click.option("--boards", metavar="KEYS", default="", help="Only these, with commas between.")
@click.option(
    "--capabilities", metavar="WORDS", default="", help="What else this host can do, with commas."
)
@click.option("--slots", type=click.IntRange(1, 64), default=1, help="Cards at once; 1.")
@click.option("--lease", type=click.IntRange(2, 3600), default=60, metavar="SECONDS")
@click.option("--once", is_flag=True, help="End after one card; status 3 when there is none.")
@click.option("--wait", type=click.FloatRange(0, 60), default=0, help="With --once: seconds.")
@click.pass_context
def worker(
    context: click.Context,
    name: str | None,
    boards: str,
    capabilities: str,
    slots: int,
    lease: int,
    once: bool,
    wait: float,
) -> None:
    """Carry out cards with a workflow on this host, until Ctrl-C or SIGTERM.

    It needs git, the server's address and a token, and nothing else of the server. Boards must
    allow commands. The settings for commands (COMMAND_SANDBOX, COMMAND_ENV …) are read from the
    environment, as on the server. Being told to end it hands each card over at its next step;
    told twice, at once.
    """
    if context.invoked_subcommand is not None:
        return
    who = known()
    words = [f"--slots={slots}", f"--lease={lease}", f"--wait={wait}", *["--once"] * once]
    words += [f"--name={name}"] * bool(name)
    words += [f"--board={key.strip()}" for key in boards.split(",") if key.strip()]
    words += [f"--capability={word.strip()}" for word in capabilities.split(",") if word.strip()]
    # A process of its own: this command line imports nothing that carries cards out.
    command = [sys.executable, "-P", "-m", "workers.remote", *words]
    path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "HOLDFAST_URL": who.url, "HOLDFAST_TOKEN": who.token}
    environment["PYTHONPATH"] = path
    sys.stdout.flush()
    if os.name == "posix":
        # Signals then go to the worker itself.
        os.execve(command[0], command, environment)
    raise SystemExit(subprocess.call(command, env=environment))


@worker.command("list")
@json_option
def list_workers(as_json: bool) -> None:
    """List the workers, what they can do and what they hold."""
    with connect() as client:
        found = list(client.pages("/workers"))
        held = _held(client, found)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            w["name"],
            ", ".join(held[attempt["id"]] for attempt in w["attempts"]),
            ", ".join(w["capabilities"]),
            ago(w["last_seen_at"]),
            _state(w),
        )
        for w in found
    ]
    show(table(["Worker", "Holds", "Can", "Last seen", ""], rows))


@worker.command("drain")
@click.argument("name")
@json_option
def drain(name: str, as_json: bool) -> None:
    """Have worker NAME hand over what it holds and begin nothing; for operators of its boards.

    A built-in worker goes with all others of its host; NAME may be the host's as well.
    """
    _tell(name, "drain", as_json, "is being drained: it begins nothing until you undrain it.")


@worker.command("undrain")
@click.argument("name")
@json_option
def undrain(name: str, as_json: bool) -> None:
    """Let worker NAME take cards again; ends a rest of its host as well."""
    _tell(name, "undrain", as_json, "takes cards again.")


def _tell(name: str, what: str, as_json: bool, said: str) -> None:
    with connect() as client:
        told = client.post(f"/workers/{segment(name)}/{what}")
    if as_json:
        print_json(told)
        return
    whom = f"The host {told['host']}" if told["host"] else told["worker"]
    say(f"{whom} {said}")


def _state(worker: JSON) -> str:
    """Return in words what keeps the worker from beginning something."""
    rests = ["rests" if not rest["kind"] else f"{rest['kind']} rests" for rest in worker["rests"]]
    return ", ".join(["drained"] * worker["draining"] + rests)


def _held(client: holdfast.Client, workers: list[JSON]) -> dict[str, str]:
    """Return the key of each card that is held, by attempt."""
    attempts = [attempt for w in workers for attempt in w["attempts"]]
    if not attempts:
        return {}
    keys = {card["id"]: card["key"] for card in client.pages("/cards", state="running")}
    return {a["id"]: keys.get(a["card"], a["card"]) for a in attempts}
