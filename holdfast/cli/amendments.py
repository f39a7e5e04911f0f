"""Changes to what goals ask for, at a terminal."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.options import PROSE, json_option, the_goal
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, clean, note, paragraph, print_json, say


@click.command("amendments")
@click.argument("goal")
@json_option
def amendments(goal: str, as_json: bool) -> None:
    """List what GOAL asked for before, the newest change first."""
    with connect() as client:
        found = list(client.pages(f"/goals/{the_goal(client, None, goal)}/amendments"))
    if as_json:
        print_json(found)
        return
    if not found:
        note("The goal asks what it always asked.")
    for one in found:
        taken_back = f", withdrawn by {one['withdrawn_by']}" if one["withdrawn_at"] else ""
        say(f"Amendment {one['number']} by {one['actor']} {ago(one['at'])}{taken_back}")
        if one["reason"]:
            paragraph(f"  because: {clean(one['reason'])}")
        for name in one["changed"]:
            say(f"  {name}")
            for sign, asked in (("-", one["before"].get(name)), ("+", one["after"][name])):
                for line in _lines(asked):
                    paragraph(f"    {sign} {line}")


def _lines(asked: Any) -> list[str]:
    """Return what was asked, a line each."""
    entries = asked if isinstance(asked, list) else [asked]
    texts = [entry["text"] if isinstance(entry, dict) else str(entry or "") for entry in entries]
    return [line for text in texts for line in clean(text).splitlines()]


@click.command("withdraw")
@click.argument("goal")
@click.argument("amendment", type=click.IntRange(min=1))
@click.option("--reason", type=PROSE, help="Why; - reads standard input.")
@json_option
def withdraw(goal: str, amendment: int, reason: str | None, as_json: bool) -> None:
    """Take AMENDMENT of GOAL back: what it changed is as it was before."""
    with connect() as client:
        path = f"/goals/{the_goal(client, None, goal)}/amendments/{amendment}/withdraw"
        found = client.post(path, {"reason": reason} if reason else {})
    if as_json:
        print_json(found)
        return
    say(f"Withdrew amendment {amendment} of the goal {found['id']}: {found['title']}")


COMMANDS = (amendments, withdraw)
