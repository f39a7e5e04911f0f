"""``holdfast secrets``: what a board's commands get as variables and nobody reads back."""

from __future__ import annotations

import sys

import click

from holdfast.cli.options import json_option
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, print_json, say, show, table
from holdfast.protocol import segment


@click.group()
def secrets() -> None:
    """List, set and remove the secrets of a board; operators change them."""


@secrets.command("list")
@click.argument("board", metavar="KEY")
@json_option
def list_secrets(board: str, as_json: bool) -> None:
    """List the names of board KEY's secrets. Their values are told to commands alone."""
    with connect() as client:
        found = list(client.pages(f"/boards/{segment(board)}/secrets"))
    if as_json:
        print_json(found)
        return
    rows = [(secret["name"], ago(secret["set_at"]), secret["set_by"]) for secret in found]
    show(table(["Name", "Set", "By"], rows))


@secrets.command("set")
@click.argument("board", metavar="KEY")
@click.argument("name", metavar="NAME")
@json_option
def set_secret(board: str, name: str, as_json: bool) -> None:
    """Set the secret NAME of board KEY, for its commands to have as the variable NAME.

    The value is asked for, or read from standard input without its last line end: on the command
    line, others could see it. `holdfast secrets set PAY DEPLOY_KEY < key.pem`
    """
    if sys.stdin.isatty():
        value = click.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        try:
            value = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise click.UsageError("What is on standard input is not text in UTF-8.") from None
        value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise click.UsageError("There was no value on standard input.")
    with connect() as client:
        path = f"/boards/{segment(board)}/secrets/{segment(name)}"
        kept = client.request("PUT", path, {"value": value}).json()
    if as_json:
        print_json(kept)
        return
    say(f"Set {name} on {board}. Commands that begin from now on have it.")


@secrets.command("rm")
@click.argument("board", metavar="KEY")
@click.argument("name", metavar="NAME")
def remove(board: str, name: str) -> None:
    """Remove the secret NAME of board KEY."""
    with connect() as client:
        client.delete(f"/boards/{segment(board)}/secrets/{segment(name)}")
    say(f"Removed {name} from {board}.")
