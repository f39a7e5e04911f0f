"""From a goal to cards: plans, at a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holdfast.cli.options import json_option, the_goal
from holdfast.cli.places import connect
from holdfast.cli.printing import note, print_json, say, show, table
from holdfast.errors import Error
from holdfast.protocol import JSON
from holdfast.transfer.plan import SourceError
from holdfast.transfer.reading import text_of


@click.command("plan")
@click.argument("goal")
@click.argument("file", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--apply", "apply_", is_flag=True, help="Make the cards what the plan says.")
@click.option("--confirm", multiple=True, metavar="CARD", help="A running card to touch.")
@click.option("--keep", is_flag=True, help="Cancel no card that the plan leaves out.")
@click.option("--ask", is_flag=True, help="Ask an agent for a plan, by a card.")
@click.option("--agent", metavar="CLI", help="With --ask: the coding agent that plans.")
@click.option("--model", metavar="NAME", help="With --ask: the model that plans.")
@json_option
def plan(
    goal: str,
    file: Path | None,
    apply_: bool,
    confirm: tuple[str, ...],
    keep: bool,
    ask: bool,
    agent: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Plan GOAL from FILE, a Markdown checklist, and show what would change.

    Without FILE the newest open plan of the goal is shown, or applied.
    """
    if (ask and (file or apply_)) or ((agent or model) and not ask) or (agent and model):
        raise click.UsageError("Use FILE with --apply, or --ask with --agent or --model.")
    with connect() as client:
        path = f"/goals/{the_goal(client, None, goal)}/plans"
        if ask:
            how: JSON = {"agent": {"cli": agent}} if agent else {}
            how = {"llm": {"model": model}} if model else how
            card = client.post(f"{path}/ask", {"step": how} if how else {})
            if as_json:
                print_json(card)
            else:
                say(f"{card['key']} asks for a plan; what comes of it waits to be reviewed.")
            return
        if file is not None:
            try:
                found = client.post(path, {"markdown": text_of(file)})
            except SourceError as error:
                raise click.UsageError(str(error)) from None
        else:
            open_one = next((p for p in client.pages(path) if p["status"] == "open"), None)
            if open_one is None:
                raise Error("The goal has no open plan. Name a FILE, or --ask an agent.")
            found = client.get(f"/plans/{open_one['id']}")
        if apply_:
            body: JSON = {"confirm": list(confirm), **({"drop": []} if keep else {})}
            found = client.post(f"/plans/{found['id']}/apply", body)
        address = f"{client.url}/plans/{found['id']}"
    if as_json:
        print_json(found)
    elif apply_:
        rows = [(r["did"], r["card"] or "", r["title"], r["why"]) for r in found["outcome"]]
        show(table(["Did", "Card", "Title", "Why"], rows, wide="Title"))
    else:
        _show(found)
        say(f"Review it at {address}, or give --apply.")


def _show(found: JSON) -> None:
    titles = {item["ref"]: item["title"] for item in found["items"]}
    rows: list[tuple[Any, ...]] = [
        (c["did"], c["card"] or "", titles.get(c["ref"], ""), "; ".join(_told(c["changes"])))
        for c in (*found["changes"], *found["gone"])
    ]
    show(table(["Is", "Card", "Title", "Changes"], rows, wide="Changes"))
    for c in found["coverage"]:
        earlier = ", ".join(c.get("earlier", []))
        if not c["by"]:
            said = f" For an earlier text of it: {earlier}." if earlier else ""
            note(f"No card covers criterion {c['number']}.{said}")
    running = [c["card"] for c in (*found["changes"], *found["gone"]) if c["state"] == "running"]
    if running:
        note(f"Running, left alone unless confirmed: {', '.join(running)}.")


def _told(changes: JSON) -> list[str]:
    return [
        name if name in ("description", "workflow") else f"{name} {c['before']} → {c['after']}"
        for name, c in changes.items()
    ]
