"""What was discovered on a goal, and what becomes of it."""

from __future__ import annotations

import click

from holdfast.cli.options import PROSE, json_option, the_goal
from holdfast.cli.places import connect
from holdfast.cli.printing import ago, print_json, say, show, state, table
from holdfast.protocol import JSON, segment

STATUSES = ["open", "proposed", "revived", "resolved", "wont_do"]
_id = click.argument("discovery", metavar="ID")


@click.group()
def discovery() -> None:
    """List what was discovered, and settle it."""


@discovery.command("list")
@click.argument("goal")
@click.option("--status", type=click.Choice(STATUSES))
@json_option
def list_discoveries(goal: str, status: str | None, as_json: bool) -> None:
    """List the discoveries of GOAL, an id or words of a title, the newest first."""
    with connect() as client:
        path = f"/goals/{the_goal(client, None, goal)}/discoveries"
        found = list(client.pages(path, status=status))
    if as_json:
        print_json(found)
        return
    rows = [
        (d["id"], state(d["status"]), d["kind"], f"×{d['seen']}", ago(d["at"]), d["title"])
        for d in found
    ]
    show(table(["Id", "Status", "Kind", "Seen", "Age", "Title"], rows, wide="Title"))


@discovery.command("card")
@_id
@json_option
def card(discovery: str, as_json: bool) -> None:
    """Make a card of discovery ID, in the backlog and on its goal."""
    made = _post(discovery, "card", {})
    print_json(made) if as_json else say(f"Added {made['key']}: {made['title']}")


@discovery.command("resolve")
@_id
@click.argument("resolution", type=PROSE, default="")
@click.option("--wont-do", is_flag=True, help="Nobody will see to it.")
@json_option
def resolve(discovery: str, resolution: str, wont_do: bool, as_json: bool) -> None:
    """Settle discovery ID; RESOLUTION says how."""
    body: JSON = {"resolution": resolution, **({"wont_do": True} if wont_do else {})}
    _said(_post(discovery, "resolve", body), as_json)


@discovery.command("merge")
@_id
@click.argument("into", metavar="OTHER")
@json_option
def merge(discovery: str, into: str, as_json: bool) -> None:
    """Make discovery ID one with OTHER, which stands for both."""
    _said(_post(discovery, "merge", {"into": into}), as_json)


@discovery.command("revive")
@_id
@click.argument("because", type=PROSE)
@json_option
def revive(discovery: str, because: str, as_json: bool) -> None:
    """Say that dead end ID may be none any more: BECAUSE of what has changed."""
    _said(_post(discovery, "revive", {"because": because}), as_json)


def _post(discovery: str, what: str, body: JSON) -> JSON:
    with connect() as client:
        answer: JSON = client.post(f"/discoveries/{segment(discovery)}/{what}", body)
    return answer


def _said(found: JSON, as_json: bool) -> None:
    print_json(found) if as_json else say(f"{found['title']}: {found['status']}.")
