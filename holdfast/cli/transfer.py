"""Boards from other trackers' files, and files from boards."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import Progress

from holdfast.cli.options import board_option, json_option, the_board, the_goal
from holdfast.cli.places import connect
from holdfast.cli.printing import note, print_json, say, show, table
from holdfast.transfer import exporting, sources
from holdfast.transfer.plan import Plan, SourceError
from holdfast.transfer.writing import Writer

#: Problems that are told one by one.
TOLD = 20


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@board_option
@click.option("--format", "format_", type=click.Choice(list(sources.READERS)), help="Not guessed.")
@click.option("--name", help="What the source is called, to tell two of one format apart.")
@click.option("--dry-run", is_flag=True, help="Show what would be made; nothing is.")
@click.option("--keep-going", is_flag=True, help="Leave out what can't be read or kept.")
@json_option
def import_(
    source: Path,
    board: str | None,
    format_: str | None,
    name: str | None,
    dry_run: bool,
    keep_going: bool,
    as_json: bool,
) -> None:
    """Make cards of a Markdown checklist, a Backlog.md folder, beads JSONL or GitHub issues.

    What an earlier import of SOURCE has made is left as it is.
    """
    try:
        plan = sources.read(source, format_, name)
    except SourceError as error:
        raise click.UsageError(str(error)) from None
    for sentence in plan.warnings[:TOLD] + plan.problems[:TOLD]:
        note(sentence)
    more = max(len(plan.warnings) - TOLD, 0) + max(len(plan.problems) - TOLD, 0)
    if more:
        note(f"And {more} more.")
    if plan.problems and not keep_going:
        raise click.UsageError(
            f"Nothing was written. Mend {source}, or leave these out with --keep-going."
        )
    if dry_run:
        _show(plan, as_json)
        return
    with connect() as client:
        writer = Writer(client, the_board(client, board))
        with Progress(
            console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
        ) as progress:
            bar = progress.add_task("Importing", total=len(plan.cards))
            written = writer.write(plan, lambda: progress.advance(bar))
    if as_json:
        print_json({"made": written.made, "there": written.there})
        return
    made = ", ".join(f"{count} {what}" for what, count in written.made.items())
    say(f"Made {made}; {written.there['cards']} cards were there already.")


def _show(plan: Plan, as_json: bool) -> None:
    rows = [
        (c.ref, c.kind, c.priority, c.title, c.goal or "", len(c.depends_on))
        for c in plan.cards.values()
    ]
    headings = ["Source", "Column", "Priority", "Title", "Goal", "Needs"]
    if as_json:
        print_json([dict(zip(map(str.lower, headings), row, strict=True)) for row in rows])
        return
    show(table(headings, rows, wide="Title"))


@click.command()
@board_option
@click.option("--goal", metavar="GOAL", help="Only this goal, an id or words of its title.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(exporting.WRITERS)),
    default="json",
    show_default=True,
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="A file or a folder; standard output unless given.",
)
def export(board: str | None, goal: str | None, format_: str, output: Path | None) -> None:
    """Write a board, or one goal, as JSON, a Markdown checklist or CSV."""
    with connect() as client:
        key = the_board(client, board)
        chosen = the_goal(client, key, goal) if goal else None
        pieces = exporting.WRITERS[format_](client, key, chosen)
        if output is None:
            for piece in pieces:
                click.echo(piece, nl=False)
            return
        if output.is_dir():
            output = output / f"{key}.{exporting.SUFFIXES[format_]}"
        try:
            with replacing(output) as file:
                file.writelines(pieces)
        except OSError as error:
            raise click.UsageError(f"{output} can't be written ({error.strerror}).") from None
    say(f"Wrote {output}.")


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` once it is whole, or not at all."""
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    how: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with os.fdopen(descriptor, mode, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
