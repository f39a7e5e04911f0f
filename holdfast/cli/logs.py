"""What attempts printed: read by lines, searched, followed, or taken whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import card_argument, json_option
from holdfast.cli.places import connect
from holdfast.cli.printing import clean, encoded, note, say
from holdfast.client import Client
from holdfast.errors import NotFound
from holdfast.protocol import JSON, segment

PAGE = 1000
#: Lines printed where nobody says how many: the end is what one looks for.
LAST = 200
AGAIN_SECONDS = 1.0


@click.command("log")
@card_argument
@click.option("--attempt", type=click.IntRange(min=1), help="The newest unless told.")
@click.option("--step", metavar="KEY", help="Of this step alone.")
@click.option("--line", type=click.IntRange(min=1), help="Begin with this line.")
@click.option(
    "--lines", type=click.IntRange(min=1), help=f"So many; the last {LAST} where no --line is told."
)
@click.option("--all", "everything", is_flag=True, help="From the first line to the last.")
@click.option("--search", metavar="WORDS", help="The lines that hold the words, anywhere in it.")
@click.option("--case", is_flag=True, help="Capitals matter to --search.")
@click.option("--numbers", "-n", is_flag=True, help="Each line behind its number.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes until the attempt ends.")
@click.option("--raw", is_flag=True, help="All of it, byte by byte, colours included.")
@json_option
def log(
    card: str,
    attempt: int | None,
    step: str | None,
    line: int | None,
    lines: int | None,
    everything: bool,
    search: str | None,
    case: bool,
    numbers: bool,
    follow: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Print what an attempt at the card printed, without its colours.

    With --search it ends with status 1 where nothing holds the words. With --json it is one
    object per line.
    """
    if sum((raw, search is not None, follow)) > 1:
        raise click.UsageError("Use one of --search, --follow and --raw.")
    query: dict[str, Any] = {"step": step} if step else {}
    with connect() as client:
        path = f"/cards/{segment(card)}/attempts/{attempt or _newest(client, card)}/log"
        if raw:
            sys.stdout.buffer.write(client.request("GET", f"{path}/raw", params=query).content)
            return
        found: Iterator[JSON]
        if search is not None:
            found = _matching(client, path, {**query, "q": search, "case": case}, line or 1)
        else:
            query["plain"] = True
            most = None if everything or (line and not lines) else lines or LAST
            first = 1 if everything else line
            found = _read(client, path, query, first, most, follow)
        told = 0
        for one in found:
            told += 1
            if as_json:
                click.echo(encoded(one))
            else:
                said = clean(one["text"])
                say(f"{one['line']:>6}  {said}" if numbers or search is not None else said)
    if search is not None and not told:
        note("Nothing holds these words.")
        click.get_current_context().exit(Exit.ERROR)


def _newest(client: Client, card: str) -> int:
    newest = client.get(f"/cards/{segment(card)}/attempts", limit=1)["results"]
    if not newest:
        raise NotFound(f"Nobody has worked on {card} yet.")
    return int(newest[0]["number"])


def _read(
    client: Client,
    path: str,
    query: dict[str, Any],
    first: int | None,
    most: int | None,
    follow: bool,
) -> Iterator[JSON]:
    """Yield the lines from ``first`` on (None: the last ``most``), up to ``most`` of them.

    While following, the last line may still grow: it waits until another one begins.
    """
    if first is None:
        total = client.get(path, **query, tail=1)["total_lines"]
        first = max(1, total - (most or LAST) + 1)
    told = 0
    while True:
        limit = PAGE if most is None or follow else min(PAGE, most - told)
        page = client.get(path, **query, line=first, limit=limit)
        for one in page["results"]:
            if follow and not page["ended"] and one["line"] == page["total_lines"]:
                break
            told += 1
            first = one["line"] + 1
            yield one
        if page["next_line"] and (follow or told != most):
            continue
        if not follow or page["ended"]:
            return
        time.sleep(AGAIN_SECONDS)


def _matching(client: Client, path: str, query: dict[str, Any], first: int) -> Iterator[JSON]:
    following: int | None = first
    while following:
        page = client.get(f"{path}/matches", **query, line=following, texts=True)
        yield from page["texts"]
        following = page["next_line"]
