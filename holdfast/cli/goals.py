"""Goals: what is wanted, and how to tell."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.options import (
    PROSE,
    board_option,
    bounded,
    budget_option,
    json_option,
    max_running_option,
    share_option,
    the_board,
    the_goal,
)
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, clean, facts, print_json, say, show, state, table

STATUSES = click.Choice(["active", "achieved", "abandoned"])


@click.group()
def goal() -> None:
    """Add, list and show goals."""


@goal.command("add")
@click.argument("title")
@board_option
@click.option("--intent", type=PROSE, help="What is wanted and why; - reads standard input.")
@click.option("--constraint", "constraints", multiple=True, help="What must hold; repeatable.")
@click.option("--criterion", "criteria", multiple=True, help="How to tell; repeatable.")
@click.option(
    "--check",
    "checks",
    multiple=True,
    nargs=2,
    metavar="CRITERION COMMAND",
    help="A criterion and the command that shows it; repeatable.",
)
@click.option("--parent", metavar="GOAL", help="The goal that this one is a part of.")
@budget_option
@json_option
def add(
    title: str,
    board: str | None,
    intent: str | None,
    constraints: tuple[str, ...],
    criteria: tuple[str, ...],
    checks: tuple[tuple[str, str], ...],
    parent: str | None,
    bounds: Any,
    as_json: bool,
) -> None:
    """Add a goal to the board."""
    wanted = [{"text": text} for text in criteria]
    wanted += [{"text": text, "check": command} for text, command in checks]
    with connect() as client:
        key = the_board(client, board)
        body: dict[str, Any] = {"board": key, "title": title, "criteria": wanted}
        if intent is not None:
            body["intent"] = intent
        if constraints:
            body["constraints"] = list(constraints)
        if bounds:
            body["budgets"] = bounded(bounds)
        if parent:
            body["parent"] = the_goal(client, None, parent)
        made = client.post("/goals", body)
    if as_json:
        print_json(made)
        return
    say(f"Added the goal {made['id']}: {made['title']}")


@goal.command("list")
@board_option
@click.option("--status", type=STATUSES)
@json_option
def list_goals(board: str | None, status: str | None, as_json: bool) -> None:
    """List goals, the newest first; of every board unless told."""
    with connect() as client:
        found = list(client.pages("/goals", board=board, status=status))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            g["id"],
            state(g["status"]),
            g["title"],
            f"{sum(bool(c['met']) for c in g['criteria'])}/{len(g['criteria'])}",
        )
        for g in found
    ]
    show(table(["Goal", "Status", "Title", "Met"], rows, wide="Title"))


@goal.command("show")
@click.argument("goal")
@json_option
def show_goal(goal: str, as_json: bool) -> None:
    """Show GOAL, an id or words of a title, with its criteria and amendments."""
    with connect() as client:
        found = client.get(f"/goals/{the_goal(client, None, goal)}")
    if as_json:
        print_json(found)
        return
    listed = found["constraints"]
    constraints = listed if isinstance(listed, list) else [listed]
    show(
        facts(
            [
                ("Goal", found["title"]),
                ("Id", found["id"]),
                ("Status", state(found["status"])),
                ("Intent", found["intent"]),
                ("Constraints", "\n".join(clean(words) for words in constraints)),
                ("Budget", ", ".join(f"{k} {v}" for k, v in found["budgets"].items())),
                ("Over it", found["over_budget"]),
                ("Amended", ago(found["amendments"][-1]["at"]) if found["amendments"] else ""),
            ]
        )
    )
    met = {True: "met", False: "not met", None: "open"}
    rows = [(c["number"], met[c["met"]], c["text"], c["check"]) for c in found["criteria"]]
    if rows:
        show(table(["No.", "Is", "Criterion", "Check"], rows, wide="Criterion"))


@goal.command("edit")
@click.argument("goal")
@click.option("--title")
@click.option("--intent", type=PROSE, help="Changing it records an amendment.")
@click.option("--status", type=STATUSES)
@budget_option
@share_option
@max_running_option
@json_option
def edit(goal: str, bounds: Any, max_running: int | None, as_json: bool, **given: Any) -> None:
    """Change GOAL; what it said before stays readable."""
    changes: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
    if max_running is not None:
        changes["max_running"] = max_running or None
    if not changes and not bounds:
        raise click.UsageError("Say what to change, with one of the options.")
    with connect() as client:
        path = f"/goals/{the_goal(client, None, goal)}"
        if bounds:
            changes["budgets"] = bounded(bounds, client.get(path)["budgets"])
        changed = client.patch(path, changes)
    if as_json:
        print_json(changed)
        return
    say(f"Changed the goal {changed['id']}: {changed['title']} ({changed['status']})")
