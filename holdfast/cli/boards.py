"""Boards, and who works on them."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from holdfast.cli.options import (
    Cap,
    board_option,
    bounded,
    budget_option,
    capped,
    complete_boards,
    json_option,
    max_running_option,
    share_option,
    the_board,
    the_goal,
)
from holdfast.cli.places import connect
from holdfast.cli.printing import (
    ago,
    duration,
    facts,
    one_line,
    print_json,
    say,
    show,
    state,
    table,
    text,
)
from holdfast.protocol import JSON, segment

#: Cards that a table shows of a column; the heading counts them all.
SHOWN = 20
#: The percentile past which a card in progress counts as slow.
SLOW = 85


class Boards(click.Group):
    """``holdfast board KEY`` shows a board, and so does ``holdfast board`` where there is one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        if first not in self.commands and not {"-h", "--help"} & set(args):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Boards)
def board() -> None:
    """Show a board, and how its work flows; list, add, edit.

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
@click.option("--commands/--no-commands", default=None, help="Whether workers run workflows.")
@click.option("--network/--no-network", default=None, help="Whether their commands may use it.")
@json_option
def add(key: str, name: str, as_json: bool, **wanted: Any) -> None:
    """Make a board KEY, two to ten capitals and digits; for operators."""
    body = {"key": key.upper(), "name": name, **_rules(wanted)}
    with connect() as client:
        made = client.post("/boards", body)
    if as_json:
        print_json(made)
        return
    say(f"Made the board {made['key']}. `holdfast card add --board {made['key']} TITLE` goes on.")


@board.command("edit")
@click.argument("key", required=False, envvar="HOLDFAST_BOARD", shell_complete=complete_boards)
@click.option("--name")
@click.option("--repository", metavar="PATH", help="What built-in workers clone for each card.")
@click.option("--pull", type=click.Choice(["manual", "auto"]), help="auto: workers take backlog.")
@click.option("--commands/--no-commands", default=None, help="Whether workers run workflows.")
@click.option("--network/--no-network", default=None, help="Whether their commands may use it.")
@budget_option
@share_option
@max_running_option
@click.option("--cap", "caps", multiple=True, type=Cap(), help=Cap.__doc__)
@click.option("--ageing-hours", type=float, help="To count one priority higher; 0: never.")
@json_option
def edit(
    key: str | None,
    bounds: Any,
    caps: Any,
    max_running: int | None,
    ageing_hours: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Change a board, and what all work on it may use; for operators."""
    changes = _rules(given)
    if max_running is not None:
        changes["max_running"] = max_running or None
    if ageing_hours is not None:
        changes["ageing_seconds"] = round(ageing_hours * 3600) or None
    if not (changes or bounds or caps):
        raise click.UsageError("Say what to change, with one of the options.")
    with connect() as client:
        path = f"/boards/{segment(the_board(client, key))}"
        now = client.get(path) if bounds or caps else {}
        if bounds:
            changes["budgets"] = bounded(bounds, now["budgets"])
        if caps:
            changes["caps"] = capped(caps, now["caps"])
        changed = client.patch(path, changes)
    if as_json:
        print_json(changed)
        return
    say(f"Changed the board {changed['key']}: {changed['name']}")


def _rules(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given as fields of a board."""
    named = {"commands": "allow_commands", "network": "allow_network"}
    return {named.get(name, name): value for name, value in given.items() if value is not None}


@board.command("templates")
@click.argument("key", required=False, envvar="HOLDFAST_BOARD", shell_complete=complete_boards)
@json_option
def templates(key: str | None, as_json: bool) -> None:
    """List the workflow templates of a board, with what each asks for."""
    with connect() as client:
        key = the_board(client, key)
        found = list(client.pages(f"/boards/{segment(key)}/templates"))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one_line(kept["name"]),
            ", ".join(f"{i['name']}{'' if i['required'] else '?'}" for i in kept["inputs"]),
            one_line(kept["description"]),
        )
        for kept in sorted(found, key=lambda kept: str(kept["name"]))
    ]
    if not rows:
        say("No templates. An operator adds one with `holdfast board template NAME FILE`.")
        return
    show(table(("Template", "Asks for", "What it is for"), rows))


@board.command("template")
@click.argument("name")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@board_option
@click.option("--description", "-d", help="What it is for.")
@json_option
def keep_template(
    name: str, file: Any, board: str | None, description: str | None, as_json: bool
) -> None:
    """Keep the workflow in FILE (YAML; - is standard input) under NAME; for operators."""
    body: dict[str, Any] = {"name": name, "source": file.read()}
    if description is not None:
        body["description"] = description
    with connect() as client:
        key = the_board(client, board)
        path = f"/boards/{segment(key)}/templates"
        there = {kept["name"]: kept for kept in client.pages(path)}
        if name in there:
            kept = client.patch(f"{path}/{there[name]['id']}", body)
        else:
            kept = client.post(path, body)
    if as_json:
        print_json(kept)
        return
    say(f"Kept {one_line(kept['name'])}, version {kept['version']}.")


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


@board.command("storage")
@click.argument("key", required=False, envvar="HOLDFAST_BOARD", shell_complete=complete_boards)
@click.option("--keep-last", type=click.IntRange(min=1), help="Newest checkpoints of each card.")
@click.option("--keep-days", type=click.IntRange(min=0), help="Younger ones.")
@click.option("--keep-all", is_flag=True, help="Everything, whatever was said before.")
@json_option
def storage(
    key: str | None, keep_last: int | None, keep_days: int | None, keep_all: bool, as_json: bool
) -> None:
    """Show what a board keeps and takes up; with options, say what it keeps from now on.

    Contents of checkpoints stay while either rule asks for them.
    """
    told = {"keep_last": keep_last, "keep_days": keep_days}
    rules = {name: value for name, value in told.items() if value is not None}
    if keep_all and rules:
        raise click.UsageError("--keep-all goes with no other rule.")
    with connect() as client:
        path = f"/boards/{segment(the_board(client, key))}/storage"
        changes = dict.fromkeys(told) if keep_all else rules
        found = client.patch(path, changes) if changes else client.get(path)
    if as_json:
        print_json(found)
        return
    rule = [f"the last {found['keep_last']} of each card"] if found["keep_last"] else []
    rule += [f"{found['keep_days']} days"] if found["keep_days"] is not None else []
    held = found["checkpoints"]
    sizes = {
        name.capitalize(): f"{found[f'{name}_bytes'] / 1e6:.1f} MB"
        for name in ("snapshots", "artifacts", "logs", "workspaces")
    }
    show(
        facts(
            [
                ("Keeps", " and ".join(rule) or "everything"),
                ("Checkpoints", f"{held['kept']} with contents, {held['dropped']} without"),
                *sizes.items(),
            ]
        )
    )


@board.command("insights")
@click.argument("key", required=False, envvar="HOLDFAST_BOARD", shell_complete=complete_boards)
@click.option("--days", metavar="N", help="How many days up to the end; 'all' for all. [30]")
@click.option("--at", metavar="WHEN", help="The figures as they were then: 2026-11-23T09:30:00Z.")
@click.option("--from", "since", metavar="WHEN", help="A date or an instant to begin at.")
@click.option("--goal", metavar="GOAL", help="Only this goal's cards, by id or part of the title.")
@click.option("--label", metavar="LABEL", help="Only cards with this label.")
@click.option("--worker", metavar="NAME", help="Only cards that this worker has had.")
@json_option
def insights(key: str | None, since: str | None, as_json: bool, **asked: str | None) -> None:
    """Show how a board's work flows: how long cards take, and when all will be done."""
    with connect() as client:
        key = the_board(client, key)
        if asked["goal"]:
            asked["goal"] = the_goal(client, key, asked["goal"])
        wanted: dict[str, Any] = {n: v for n, v in {**asked, "from": since}.items() if v}
        found = client.get(f"/boards/{segment(key)}/insights", **wanted)
    if as_json:
        print_json(found)
        return
    show(Text(f"{one_line(key)}, {_day(found['since'])} to {_day(found['until'])}", style="bold"))
    show(facts(_figures(found)))
    old = [card for card in found["ageing"] if card["band"] == SLOW]
    if old:
        say(f"\nSlower than {SLOW} % of past cards were in the same state:")
        rows = [(c["card"], c["state"], text(c["title"]), duration(c["age_seconds"])) for c in old]
        show(table(["Card", "State", "Title", "Age"], rows, wide="Title"))


def _figures(found: JSON) -> list[tuple[str, str]]:
    """Return the figures in words; what could not be measured is left out."""
    figures = [("finished", str(found["finished_cards"]))]
    for name in ("cycle", "lead"):
        percentiles = found[f"{name}_seconds"]
        if percentiles["p50"] is not None:
            half, most, nearly = (duration(percentiles[p]) for p in ("p50", "p85", "p95"))
            figures.append((f"{name} time", f"50 % {half}, 85 % {most}, 95 % {nearly}"))
    for name, words in (
        ("first_attempt_rate", "done on first attempt"),
        ("failure_rate", "attempts that failed"),
    ):
        if found[name] is not None:
            figures.append((words, f"{100 * found[name]:.0f} %"))
    if found["waited_seconds_median"] is not None:
        figures.append(
            ("waited for a person", f"{duration(found['waited_seconds_median'])} median")
        )
    figures.append(("cost", f"${found['cost_usd']:.2f}"))
    cast = found["forecast"]
    done = cast["done_in_seconds"]
    if not cast["enough_history"]:
        figures.append((f"{cast['remaining']} left", "too little history to say when"))
    elif cast["remaining"]:
        ends = [(p, done[f"p{p}"]) for p in (50, 85, 95)]
        told = (f"{p} % in {duration(s)}" if s is not None else f"{p} % never" for p, s in ends)
        figures.append((f"{cast['remaining']} left", ", ".join(told)))
    return figures


def _day(instant: str) -> str:
    return instant[:16].replace("T", " ")


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
