"""Cards with their whole history as one file, written and brought in elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import (
    board_option,
    json_option,
    the_board,
    the_goal,
    with_secrets_option,
)
from holdfast.cli.places import connect
from holdfast.cli.printing import one_line, print_json, say
from holdfast.cli.transfer import replacing
from holdfast.protocol import segment


@click.group()
def bundle() -> None:
    """Take cards elsewhere with all their history, files and artifacts."""


@bundle.command("export")
@click.argument("card", required=False)
@click.option("--goal", metavar="GOAL", help="A goal with all its cards, by id or title.")
@board_option
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), required=True)
@with_secrets_option
def export(
    card: str | None, goal: str | None, board: str | None, output: Path, with_secrets: bool
) -> None:
    """Write CARD, or a goal, with everything that belongs to it."""
    if (card is None) == (goal is None):
        raise click.UsageError("Name a CARD, or a goal with --goal.")
    with connect() as client:
        if card is not None:
            path = f"/cards/{segment(card)}"
        else:
            path = f"/goals/{the_goal(client, board, goal or '')}"
        asked = {"with_secrets": "true"} if with_secrets else None
        content = client.request("GET", f"{path}/bundle", params=asked).content
    try:
        with replacing(output, "wb") as file:
            file.write(content)
    except OSError as error:
        raise click.UsageError(f"{output} can't be written ({error.strerror}).") from None
    say(f"Wrote {output}.")


@bundle.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@board_option
@json_option
def import_(source: Path, board: str | None, as_json: bool) -> None:
    """Make cards of a bundle on a board; the same file again gives the same cards.

    Digests are checked first: of a file that was changed nothing is made.
    """
    content = source.read_bytes()
    with connect() as client:
        key = the_board(client, board)
        sent = client.request(
            "POST", "/artifacts", content=content, headers={"Content-Type": "application/x-tar"}
        ).json()
        made = client.post(f"/boards/{segment(key)}/bundles", {"artifact": sent["sha256"]})
    if as_json:
        print_json(made)
        return
    for was, now in made["cards"].items():
        say(one_line(f"{was} is {now} here."))
