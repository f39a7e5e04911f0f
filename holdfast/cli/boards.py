"""Boards, and who works on them."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

import holdfast
from holdfast.cli.options import complete_boards, json_option, the_board
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, one_line, print_json, say, show, state, table, text
from holdfast.protocol import JSON, segment

#: Cards that a table shows of a column; the heading counts them all.
SHOWN = 20


class Boards(click.Group):
    """``holdfast board KEY`` shows a board, and so does ``holdfast board`` where there is one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        if first not in self.commands and not {"-h", "--help"} & set(args):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Boards)
def board() -> None:
    """Show a board; list, add.

    `holdfast board KEY` is `holdfast board show KEY`.
    """


@board.command("list")
@json_option
def list_boards(as_json: bool) -> None:
    """List the boards that you see."""
    with connect() as client:
        found = list(client.pages("/boards"))
    if as_json:
        print_json(found)
        return
    rows = [(b["key"], b["name"], b["pull"], b["repository"]) for b in found]
    show(table(["Board", "Name", "Pull", "Repository"], rows, wide="Name"))


@board.command("add")
@click.argument("key")
@click.argument("name")
@click.option("--repository", metavar="PATH", help="What built-in workers clone for each card.")
@click.option("--pull", type=click.Choice(["manual", "auto"]), help="auto: workers take backlog.")
@json_option
def add(key: str, name: str, repository: str | None, pull: str | None, as_json: bool) -> None:
    """Make a board KEY, two to ten capitals and digits; for operators."""
    body = {"key": key.upper(), "name": name, "repository": repository, "pull": pull}
    with connect() as client:
        made = client.post("/boards", {k: v for k, v in body.items() if v is not None})
    if as_json:
        print_json(made)
        return
    say(f"Made the board {made['key']}. `holdfast card add --board {made['key']} TITLE` goes on.")


@board.command("show")
@click.argument("key", required=False, envvar="HOLDFAST_BOARD", shell_complete=complete_boards)
@json_option
def show_board(key: str | None, as_json: bool) -> None:
    """Show the columns of a board with their cards."""
    with connect() as client:
        key = the_board(client, key)
        found = client.get(f"/boards/{segment(key)}")
        cards = list(client.pages("/cards", board=key))
    if as_json:
        print_json({**found, "cards": cards})
        return
    show(Text(f"{one_line(found['key'])}  {one_line(found['name'])}", style="bold"))
    for column in found["columns"]:
        inside = [card for card in cards if card["column"] == column["id"]]
        inside.sort(key=lambda card: (card["priority"], card["created_at"]))
        limit = f"/{column['wip_limit']}" if column["wip_limit"] else ""
        show(Text(f"\n{one_line(column['name'])} {len(inside)}{limit}", style="bold"))
        if inside:
            show(card_table(inside[:SHOWN]))
        if len(inside) > SHOWN:
            say(f"and {len(inside) - SHOWN} more: holdfast card list --column {column['id']}")


def card_table(cards: list[JSON]) -> Any:
    """Return a table of cards."""
    rows = [
        (
            card["key"],
            state(card["state"]),
            text(card["title"]),
            (card["attempt"] or {}).get("worker", "") or (card["reason"] or ""),
            ago(card["state_since_at"]),
        )
        for card in cards
    ]
    return table(["Card", "State", "Title", "Who or why", "Since"], rows, wide="Title")


@click.group()
def worker() -> None:
    """See who works."""


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
        )
        for w in found
    ]
    show(table(["Worker", "Holds", "Can", "Last seen"], rows))


def _held(client: holdfast.Client, workers: list[JSON]) -> dict[str, str]:
    """Return the key of each card that is held, by attempt."""
    attempts = [attempt for w in workers for attempt in w["attempts"]]
    if not attempts:
        return {}
    keys = {card["id"]: card["key"] for card in client.pages("/cards", state="running")}
    return {a["id"]: keys.get(a["card"], a["card"]) for a in attempts}
