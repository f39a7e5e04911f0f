"""Who you are, and the tokens of others."""

from __future__ import annotations

import sys
from typing import Any

import click

import holdfast
from holdfast.cli import places
from holdfast.cli.local import managed
from holdfast.cli.options import board_option, json_option, the_board, worker_name
from holdfast.cli.places import Login, connect
from holdfast.cli.printing import facts, print_json, say, show, table
from holdfast.protocol import DEFAULT_URL, Where


@click.command()
@click.option("--url", help=f"The server's address; {DEFAULT_URL} unless told.")
@click.option("--local", is_flag=True, help="Make a token in the store on this machine.")
def login(url: str | None, local: bool) -> None:
    """Keep server and token in a file that only you can read.

    The token is asked for, or read from standard input: on the command line, others could see
    it. HOLDFAST_URL and HOLDFAST_TOKEN go before what is kept here. Where the server runs,
    --local makes an operator's token for all boards.
    """
    url = url or places.login().url
    if local:
        token = managed("issue_token", worker_name(), "--everywhere", "--role", "operator")
    elif sys.stdin.isatty():
        token = click.prompt("Token", hide_input=True, err=True)
    else:
        token = sys.stdin.readline()
    where = Where.of(url, token)
    if not where.token:
        raise click.UsageError("There was no token on standard input.")
    with holdfast.Client(where.url, where.token, patience=0) as client:
        who = client.get("/me")
    path = places.save(Login(where.url, where.token))
    say(f"Logged in to {where.url} as {who['name']}; kept in {path}.")


@click.command()
@json_option
def me(as_json: bool) -> None:
    """Show who the token is, and what it may do where."""
    with connect() as client:
        who = client.get("/me")
    if as_json:
        print_json(who)
        return
    everywhere = who["everywhere"] or ""
    show(facts([("Server", client.url), ("Name", who["name"]), ("Everywhere", everywhere)]))
    rows = [(board["key"], board["name"], board["role"]) for board in who["boards"]]
    show(table(["Board", "Name", "Role"], rows, wide="Name"))


@click.group()
def token() -> None:
    """Create and revoke tokens; for operators."""


@token.command("create")
@click.argument("name")
@board_option
@click.option("--role", type=click.Choice(["viewer", "member", "operator"]), default="member")
@click.option("--expires", metavar="INSTANT", help="When it ends, such as 2030-01-01T00:00:00Z.")
@click.option(
    "--carries-secrets", is_flag=True, help="For `holdfast worker`: it is told board secrets."
)
@json_option
def create(
    name: str,
    board: str | None,
    role: str,
    expires: str | None,
    carries_secrets: bool,
    as_json: bool,
) -> None:
    """Print a new token for NAME. It is printed this once and kept nowhere.

    Only the token goes to standard output: TOKEN=$(holdfast token create ada).
    """
    with connect() as client:
        body: dict[str, Any] = {"name": name, "board": the_board(client, board), "role": role}
        if expires:
            body["expires_at"] = expires
        if carries_secrets:
            body["carries_secrets"] = True
        made = client.post("/tokens", body)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    click.echo(f"To take it back: holdfast token revoke {made['id']}", err=True)


@token.command("revoke")
@click.argument("token_id", metavar="ID", type=click.UUID)
def revoke(token_id: Any) -> None:
    """Revoke the token with this ID, for good and at once."""
    with connect() as client:
        client.delete(f"/tokens/{token_id}")
    say(f"Revoked the token {token_id}.")
