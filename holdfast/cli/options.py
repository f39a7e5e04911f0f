"""Options and kinds of input that many commands share."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

import holdfast
from holdfast.cli.places import connect

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_secrets_option = click.option(
    "--with-secrets", is_flag=True, help="Even if files hold a secret of the board."
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _read(value: str) -> str:
    """Return what ``value`` means: - is standard input, @FILE the file."""
    try:
        if value == "-":
            return sys.stdin.read()
        return Path(value[1:]).read_text() if value.startswith("@") else value
    except OSError as error:
        raise click.BadParameter(f"{value} can't be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{value} is not text in UTF-8.") from None


class Prose(click.ParamType[str]):
    """Text; - reads it from standard input."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return _read(value).rstrip("\n") if value == "-" else str(value)


class Plain(click.ParamType[Any]):
    """JSON, given as it is, as @FILE or on standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(_read(value))
        except (ValueError, RecursionError) as error:
            self.fail(f"this is no JSON: {error}.", param, ctx)


class Workflow(click.ParamType[Any]):
    """A file with a workflow, in JSON or YAML."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        import yaml

        try:
            return yaml.safe_load(_read("-" if value == "-" else f"@{value}"))
        except yaml.YAMLError as error:
            self.fail(f"{value} is neither JSON nor YAML: {error}", param, ctx)


class Bound(click.ParamType[tuple[str, str | None]]):
    """What may be used of something: cost_usd=5; cost_usd= takes the bound away."""

    name = "name=limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # converted already
        name, is_there, limit = value.partition("=")
        if not is_there or name not in BOUNDS:
            self.fail(f"{value!r} is none; name one of {', '.join(BOUNDS)}: cost_usd=5.")
        try:
            if limit and not float(limit) >= 0:
                raise ValueError
        except ValueError:
            self.fail(f"{limit!r} is no number from 0 on.", param, ctx)
        return name, limit or None


#: What a budget can bound.
BOUNDS = (
    "cost_usd",
    "tokens",
    "input_tokens",
    "output_tokens",
    "minutes",
    "attempts",
    "follow_ups",
)
PROSE, PLAIN, WORKFLOW = Prose(), Plain(), Workflow()

budget_option = click.option(
    "--budget",
    "bounds",
    multiple=True,
    type=Bound(),
    help="What may be used: cost_usd=5, tokens, minutes, attempts, follow_ups; repeatable.",
)


class Cap(click.ParamType[tuple[str, str, int | None]]):
    """How many cards may run at once: label:gpu=1, worker:ada-*=2, each_worker=1."""

    name = "what=n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, int | None]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # converted already
        what, is_there, most = value.rpartition("=")
        kind, _, name = what.partition(":")
        fits = (kind == "each_worker" and not name) or (kind in ("label", "worker") and name)
        if not is_there or not fits or not (most.isdigit() or not most):
            self.fail(f"{value!r} is none; write label:gpu=1, worker:ada-*=2 or each_worker=1.")
        return kind, name, int(most) if most else None


def capped(caps: tuple[tuple[str, str, int | None], ...], now: dict[str, Any]) -> dict[str, Any]:
    """Return the caps ``now`` with these set, or taken away."""
    found = {**now, "labels": {**now.get("labels", {})}, "workers": {**now.get("workers", {})}}
    for kind, name, most in caps:
        place, key = (found, kind) if kind == "each_worker" else (found[f"{kind}s"], name)
        place.pop(key, None)
        if most is not None:
            place[key] = most
    return {kind: value for kind, value in found.items() if value}


share_option = click.option("--share", type=click.IntRange(1, 1000), help="Its weight; 1 at first.")
max_running_option = click.option(
    "--max-running", type=click.IntRange(0, 10_000), help="Cards that may run at once; 0: any."
)


def bounded(
    bounds: tuple[tuple[str, str | None], ...], now: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the budgets ``now`` with these bounds set, or taken away."""
    budgets = {**(now or {}), **dict(bounds)}
    return {name: limit for name, limit in budgets.items() if limit is not None}


def _completing(fetch: Callable[[holdfast.Client, str], list[tuple[str, str]]]) -> Any:
    """Return a completer that asks the server, and gives nothing when that takes long."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            with connect(patience=0, timeout=1.5) as client:
                found = fetch(client, incomplete)
        except (holdfast.Error, OSError):
            return []
        return [
            CompletionItem(value, help=_harmless(help_text))
            for value, help_text in found
            if value.startswith(incomplete.upper())
        ]

    return complete


def _harmless(words: str) -> str:
    """Return one line of what a shell may get to see: no quotes, no colons, no controls."""
    return re.sub(r"[^\w .,-]", "", words)[:60]


def _cards(client: holdfast.Client, begun: str) -> list[tuple[str, str]]:
    found = client.get("/cards", limit=200)["results"]
    return [(card["key"], card["title"]) for card in found]


def _boards(client: holdfast.Client, begun: str) -> list[tuple[str, str]]:
    return [(board["key"], board["name"]) for board in client.get("/me")["boards"]]


card_argument = click.argument("card", shell_complete=_completing(_cards))
complete_cards, complete_boards = _completing(_cards), _completing(_boards)


def board_option(command: F) -> F:
    """Add --board, from HOLDFAST_BOARD unless it is given."""
    return click.option(
        "--board",
        "-b",
        envvar="HOLDFAST_BOARD",
        metavar="KEY",
        shell_complete=complete_boards,
        help="The board's key; HOLDFAST_BOARD unless given.",
    )(command)


def the_board(client: holdfast.Client, given: str | None) -> str:
    """Return the board's key: the given one, else the only one. Raises UsageError."""
    if given:
        return given
    seen = [str(board["key"]) for board in client.get("/me")["boards"]]
    if not seen:
        raise holdfast.Error("You see no board yet. Ask an operator for a token of one.")
    if len(seen) > 1:
        raise click.UsageError(f"Say which board with --board or HOLDFAST_BOARD: {some(seen)}.")
    return seen[0]


def the_goal(client: holdfast.Client, board: str | None, named: str) -> str:
    """Return the id of the goal with this id or with these words in its title."""
    if _UUID.fullmatch(named):
        return named
    if not named.strip():
        raise click.UsageError("A goal is named by its id, or by words of its title.")
    goals = list(client.pages("/goals", board=board))
    words = named.casefold()
    exact = [goal for goal in goals if goal["title"].casefold() == words]
    found = exact or [goal for goal in goals if words in goal["title"].casefold()]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise click.UsageError(f"No goal has {named!r} in its title; `holdfast goal list`.")
    raise click.UsageError(f"{len(found)} goals have {named!r} in their title. Give the id.")


def some(names: list[str]) -> str:
    """Return the names, or the first of many."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def worker_name() -> str:
    """Return what a worker on this terminal is called unless told."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:100]
