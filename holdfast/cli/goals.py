"""Goals: what is wanted, and how to tell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from holdfast.cli import amendments, planning
from holdfast.cli.exits import Exit
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
from holdfast.cli.printing import ago, clean, duration, facts, print_json, say, show, state, table

STATUSES = click.Choice(["active", "achieved", "abandoned"])


ENDED = ("done", "failed")
POLL_SECONDS = 1.0


@click.group()
def goal() -> None:
    """Add, list, show and check goals."""


def proving_options(command: Any) -> Any:
    """Take what a goal asks of those who say that it is done."""
    for option in (
        click.option(
            "--evidence-required/--no-evidence-required",
            default=None,
            help="Whether cards complete, and it is achieved, only with evidence.",
        ),
        click.option(
            "--achieves-itself/--asks-people",
            default=None,
            help="What follows once all criteria are shown to be met.",
        ),
        click.option(
            "--check-every",
            type=click.IntRange(0),
            metavar="SECONDS",
            help="How often its criteria are checked, at least 60; 0 for when asked alone.",
        ),
    ):
        command = option(command)
    return command


def _proving(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that were given, as the API takes them."""
    told = {n: given[n] for n in ("evidence_required", "achieves_itself") if given[n] is not None}
    if given["check_every"] is not None:
        told["check_every_seconds"] = given["check_every"] or None
    return told


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
@click.option(
    "--probe",
    "probes",
    multiple=True,
    nargs=2,
    metavar="CRITERION URL",
    help="A criterion and the address that is to answer; repeatable, for operators.",
)
@click.option(
    "--tests",
    multiple=True,
    nargs=2,
    metavar="CRITERION TESTS",
    help="A criterion and which tests of the board's are to pass; repeatable.",
)
@click.option(
    "--by-person",
    multiple=True,
    metavar="CRITERION",
    help="What only a person can say; repeatable.",
)
@click.option("--parent", metavar="GOAL", help="The goal that this one is a part of.")
@proving_options
@budget_option
@json_option
def add(
    title: str,
    board: str | None,
    intent: str | None,
    constraints: tuple[str, ...],
    criteria: tuple[str, ...],
    checks: tuple[tuple[str, str], ...],
    probes: tuple[tuple[str, str], ...],
    tests: tuple[tuple[str, str], ...],
    by_person: tuple[str, ...],
    parent: str | None,
    bounds: Any,
    as_json: bool,
    **proving: Any,
) -> None:
    """Add a goal to the board."""
    wanted: list[dict[str, Any]] = [{"text": text} for text in criteria]
    wanted += [{"text": text, "check": command} for text, command in checks]
    wanted += [{"text": text, "probe": {"url": url}} for text, url in probes]
    wanted += [{"text": text, "tests": which} for text, which in tests]
    wanted += [{"text": text, "by_person": True} for text in by_person]
    with connect() as client:
        key = the_board(client, board)
        body: dict[str, Any] = {"board": key, "title": title, "criteria": wanted}
        body |= _proving(proving)
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
    how_far = found["progress"]
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
                ("Cards", f"{how_far['completed']} of {how_far['cards']} done"),
                ("Missing", (found.get("missing") or {}).get("text", "")),
                ("Cost", _cost(found["cost"])),
                ("Evidence", "required" if found["evidence_required"] else ""),
                ("Checked", _every(found["check_every_seconds"])),
                ("Amended", ago(found["amendments"][-1]["at"]) if found["amendments"] else ""),
                ("Page", f"{client.url}/goals/{found['id']}"),
            ]
        )
    )
    rows = [
        (c["number"], MET[c["met"]], c["text"], _way(c), _shown_by(c)) for c in found["criteria"]
    ]
    if rows:
        show(table(["No.", "Is", "Criterion", "Check", "Shown by"], rows, wide="Criterion"))


MET = {True: "met", False: "not met", None: "open"}


def _way(criterion: Mapping[str, Any]) -> str:
    probe = criterion["probe"]
    said = criterion["check"] or criterion["tests"] or (f"GET {probe['url']}" if probe else "")
    return said or ("a person" if criterion["by_person"] else "")


def _shown_by(criterion: Mapping[str, Any]) -> str:
    """Return who showed it last, when, and on what."""
    newest = next(iter(criterion["evidence"]), None)
    if newest is None or criterion["met"] is None:
        return ""
    on = f" at {newest['commit'][:12]}" if newest["commit"] else ""
    return f"{newest['actor'].partition(':')[2]} {ago(newest['at'])}{on}"


def _cost(cost: Mapping[str, Any]) -> str:
    return f"${cost['cost_usd']} in {cost['attempts']} attempt(s), {duration(cost['seconds'])}"


def _every(seconds: int | None) -> str:
    return f"every {duration(seconds)}" if seconds else ""


@goal.command("check")
@click.argument("goal")
@click.option(
    "--wait", is_flag=True, help="Wait for the outcome, and fail unless every criterion is met."
)
@json_option
def check(goal: str, wait: bool, as_json: bool) -> None:
    """Have the criteria of GOAL checked that check themselves."""
    with connect() as client:
        path = f"/goals/{the_goal(client, None, goal)}"
        run = client.post(f"{path}/check")
        while wait and run["status"] not in ENDED:
            time.sleep(POLL_SECONDS)
            runs = client.get(f"{path}/checks", limit=20)["results"]
            run = next((r for r in runs if r["id"] == run["id"]), run)
        criteria = client.get(path)["criteria"] if wait else []
    if as_json:
        print_json({**run, "criteria": criteria} if wait else run)
    elif not wait:
        say("The checks will be run by a built-in worker.")
    else:
        say(run["error"] or run["said"])
        show(
            table(
                ["No.", "Is", "Criterion"],
                [(c["number"], MET[c["met"]], c["text"]) for c in criteria],
                wide="Criterion",
            )
        )
    if wait and (run["status"] != "done" or not all(c["met"] for c in criteria)):
        raise SystemExit(Exit.COMMAND_FAILED)


@goal.command("edit")
@click.argument("goal")
@click.option("--title")
@click.option("--intent", type=PROSE, help="Changing it records an amendment.")
@click.option("--reason", help="Why, kept with the amendment.")
@click.option("--status", type=STATUSES)
@proving_options
@budget_option
@share_option
@max_running_option
@json_option
def edit(goal: str, bounds: Any, max_running: int | None, as_json: bool, **given: Any) -> None:
    """Change GOAL; what it said before stays readable."""
    changes: dict[str, Any] = _proving(given)
    plain = ("title", "intent", "status", "share")
    changes |= {n: given[n] for n in plain if given[n] is not None}
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


for _command in (*amendments.COMMANDS, planning.plan):
    goal.add_command(_command)
