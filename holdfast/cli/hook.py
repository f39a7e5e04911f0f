"""``holdfast hook``: what an agent's command line runs on its own events."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

import click

from holdfast.hooks.dialects import DIALECTS, Kind
from holdfast.hooks.notes import note, opened

MOST_BYTES = 32 * 1024 * 1024
TIMEOUT_SECONDS = 2.5
DEADLINE_SECONDS = 8.0
#: For the end of a session, which nobody waits for.
LAST_DEADLINE_SECONDS = 30.0


# Whatever is typed, the exit code is 0: others mean "block the agent" to some command lines.
@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("cli", default="")
@click.option("--snippet", is_flag=True, help="Print the lines that install the hook, and end.")
@click.pass_context
def hook(context: click.Context, cli: str, snippet: bool) -> None:
    """Keep a card's lease and leave a handover, called by CLI on its own hooks.

    CLI is claude, codex, gemini, qwen, cursor or opencode. It reads the event from standard
    input and needs the agent's own token. It always exits with 0.
    """
    if snippet:
        _print(cli)
        return
    try:
        answer = _answer(cli)
        if answer:
            click.echo(json.dumps(answer))
    except BaseException as error:
        with contextlib.suppress(Exception):
            note(f"{type(error).__name__}: {error}")


def _answer(cli: str) -> dict[str, object] | None:
    dialect = DIALECTS.get(cli)
    if dialect is None:
        note(f"there is no hook for {cli!r}; name one of {', '.join(DIALECTS)}")
        return None
    told = json.loads(sys.stdin.buffer.read(MOST_BYTES))
    event = dialect.event(told) if isinstance(told, dict) else None
    if event is None:
        return None
    deadline = DEADLINE_SECONDS
    if event.kind is Kind.END:
        if not _outlive():
            return None
        deadline = LAST_DEADLINE_SECONDS
    # A server that drips or a disk that hangs: better no heartbeat than an agent that waits.
    watch = threading.Timer(deadline, os._exit, [0])
    watch.daemon = True
    watch.start()
    with opened(cli, event.session) as notes:
        if not (notes.held or event.attempt):
            return None
        # Late, because most events end before here and need no HTTP client.
        from holdfast.cli.places import login
        from holdfast.hooks.keeper import Keeper
        from holdfast.hooks.server import Server

        who = login()
        if not who.token:
            note("there is no token; set HOLDFAST_TOKEN where the agent is started")
            return None
        with contextlib.closing(Server(who.url, who.token, TIMEOUT_SECONDS)) as server:
            return Keeper(dialect, notes, server).handle(event)


def _outlive() -> bool:
    """Go on in a process that a command line which ends does not take along.

    False in the one that it waits for. Some give the end of a session no more than a second.
    """
    if not hasattr(os, "fork"):
        return True
    sys.stdout.flush()
    if os.fork():
        return False
    os.setsid()
    # Whoever reads our output waits until nobody can write there any more.
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    return True


def _print(cli: str) -> None:
    from holdfast.hooks.snippets import snippets

    for block in snippets(cli):
        click.echo(f"# {block.title}{f': {block.path}' if block.path else ''}")
        click.echo(block.text)
        click.echo()
