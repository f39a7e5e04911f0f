"""``holdfast search``: anything that was planned, tried, said, decided or learnt, by its words."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.options import json_option, the_goal
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, note, print_json, show, table

KINDS = ["card", "attempt", "step", "checkpoint", "message", "decision", "discovery"]


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--board", metavar="KEY", help="Every board that you see, unless told.")
@click.option("--goal", help="A goal's id, or words of its title.")
@click.option("--card", metavar="KEY")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Repeatable.")
@click.option("--by", metavar="NAME", help="Who wrote it.")
@click.option("--after", metavar="WHEN", help="A date, or so long ago: 12h, 7d, 2w.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
def search(
    words: tuple[str, ...],
    goal: str | None,
    kinds: tuple[str, ...],
    after: str | None,
    limit: int,
    as_json: bool,
    **narrowed: str | None,
) -> None:
    """Find WORDS, "two words" or beginn* in everything that boards remember, best first."""
    text = " ".join([*words, *([f"after:{after}"] if after else [])])
    with connect() as client:
        if goal:
            narrowed["goal"] = the_goal(client, None, goal)
        asked: dict[str, Any] = {name: value for name, value in narrowed.items() if value}
        if kinds:
            asked["kind"] = ",".join(kinds)
        found = client.get("/search", q=text, limit=limit, **asked)
    if as_json:
        print_json(found)
        return
    if found["partly"]:
        note("Nothing has all of these words; these have some of them.")
    rows = [
        (
            hit["kind"] + (f" {hit['number']}" if hit["kind"] in ("step", "attempt") else "")
            if hit["kind"] != "checkpoint"
            else f"C{hit['number']}",
            hit["card"] or hit["board"],
            ago(hit["at"]),
            " — ".join(t for t in (hit["title"], hit["snippet"]["text"]) if t),
        )
        for hit in found["results"]
    ]
    show(table(["What", "Where", "Age", "Says"], rows, wide="Says"))
    if found["next"]:
        note(f"{len(rows)} of {found['count']}; --limit shows more.")
