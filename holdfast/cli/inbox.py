"""What waits for a person, at a terminal."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import board_option, json_option
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, if_nobody_answers, note, print_json, show, table, visible
from holdfast.protocol import JSON

KINDS = ("question", "review", "blocked", "stalled", "budget", "goal", "host", "mention")


def _what(notice: JSON) -> str:
    """Return what the notice says and, for a question, what answers it and until when."""
    parts = [notice["text"], visible(notice["detail"])]
    if notice["options"]:
        parts.append(f"[{' / '.join(notice['options'])}]")
    return " ".join(filter(None, [*parts, if_nobody_answers(notice)]))


@click.command()
@board_option
@click.option("--kind", type=click.Choice(KINDS))
@json_option
@click.pass_context
def inbox(context: click.Context, board: str | None, kind: str | None, as_json: bool) -> None:
    """List what waits for a person now, the newest first.

    With a token that is what waits for anybody on its boards. Ends with status 3 where nothing
    does.
    """
    wanted: dict[str, Any] = {"board": board, "kind": kind}
    with connect() as client:
        found = list(
            client.pages("/inbox", **{name: value for name, value in wanted.items() if value})
        )
    if as_json:
        print_json(found)
    elif found:
        rows = [(n["kind"], n["card"] or "", n["title"], _what(n), ago(n["at"])) for n in found]
        show(table(["Kind", "Card", "Title", "What", "Age"], rows, wide="What"))
    else:
        note("Nothing waits for a person.")
    if not found:
        context.exit(Exit.NOTHING)
