"""Cards: add, find, read, move and steer them."""

from __future__ import annotations

import sys
from typing import Any

import click

import holdfast
from holdfast.cli import lines, logs
from holdfast.cli.boards import card_table
from holdfast.cli.exits import Exit
from holdfast.cli.options import (
    PLAIN,
    PROSE,
    WORKFLOW,
    board_option,
    bounded,
    budget_option,
    card_argument,
    json_option,
    the_board,
    the_goal,
)
from holdfast.cli.places import connect
from holdfast.cli.printing import (
    ago,
    clean,
    facts,
    if_nobody_answers,
    note,
    paragraph,
    print_json,
    say,
    show,
    state,
    table,
    visible,
)
from holdfast.protocol import JSON, PAGE, segment

STATES = ["backlog", "waiting", "running", "blocked", "review", "completed", "cancelled"]
#: Attempts and messages that `card show` prints; the API has the rest.
SHOWN = 8


@click.group()
def card() -> None:
    """Add, list, show, move and steer cards."""


@card.command("add")
@click.argument("title")
@board_option
@click.option("--goal", help="An id, or words of a goal's title.")
@click.option("--description", "-d", type=PROSE, help="- reads standard input.")
@click.option("--column", help="A column's name, kind or id; the backlog unless told.")
@click.option("--start", is_flag=True, help="Into the first column in progress.")
@click.option("--priority", type=click.IntRange(0, 4), help="0 urgent to 4 none.")
@click.option("--label", "labels", multiple=True, help="Repeatable.")
@click.option("--requires", multiple=True, help="What a worker must be capable of; repeatable.")
@click.option("--depends-on", multiple=True, metavar="CARD", help="Repeatable.")
@click.option("--workflow", type=WORKFLOW, metavar="FILE", help="In JSON or YAML.")
@click.option("--template", metavar="NAME", help="A workflow template of the board.")
@click.option("--input", "named", multiple=True, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--inputs", type=PLAIN, help="JSON, @FILE or -.")
@click.option("--max-attempts", type=click.IntRange(min=1))
@click.option("--review/--no-review", default=None, help="Whether a person must approve.")
@click.option("--due", metavar="INSTANT")
@budget_option
@json_option
def add(
    title: str, board: str | None, goal: str | None, start: bool, as_json: bool, **more: Any
) -> None:
    """Add a card to the board."""
    if start and more["column"]:
        raise click.UsageError("Use --start or --column, not both.")
    if more["template"] and more["workflow"]:
        raise click.UsageError("Use --template or --workflow, not both.")
    if more["named"]:
        more["inputs"] = {**(more["inputs"] or {}), **_pairs(more["named"])}
    body: dict[str, Any] = {
        "title": title,
        "description": more["description"],
        "column": "in_progress" if start else more["column"],
        "priority": more["priority"],
        "labels": list(more["labels"]) or None,
        "requires": list(more["requires"]) or None,
        "depends_on": list(more["depends_on"]) or None,
        "workflow": more["workflow"],
        "template": more["template"],
        "inputs": more["inputs"],
        "max_attempts": more["max_attempts"],
        "review_required": more["review"],
        "due_at": more["due"],
        "budgets": bounded(more["bounds"]) or None,
    }
    with connect() as client:
        key = the_board(client, board)
        if goal:
            body["goal"] = the_goal(client, key, goal)
        made = client.post(
            "/cards", {"board": key, **{k: v for k, v in body.items() if v is not None}}
        )
    _done(made, as_json, "Added {key}: {title}")


def _pairs(named: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE pairs as an object. Raises UsageError."""
    found = {}
    for pair in named:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--input takes NAME=VALUE, not {pair!r}.")
        found[name] = value
    return found


@card.command("list")
@board_option
@click.option("--goal", help="An id, or words of a goal's title.")
@click.option("--state", type=click.Choice(STATES))
@click.option("--column", help="A column's name or id.")
@click.option("--label")
@click.option("--query", "-q", help="Words in title or description.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@json_option
def list_cards(
    board: str | None,
    goal: str | None,
    query: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List cards, the newest first; of every board unless told.

    With --json a list of cards, as the API gives them.
    """
    with connect() as client:
        wanted: dict[str, Any] = {"board": board, "q": query, **filters}
        if goal:
            wanted["goal"] = the_goal(client, board, goal)
        most = None if everything else limit
        page = PAGE if everything else min(limit + 1, PAGE)
        found: list[JSON] = []
        more = False
        for row in client.pages("/cards", limit=page, **wanted):
            if len(found) == most:
                more = True
                break
            found.append(row)
    if as_json:
        print_json(found)
    else:
        show(card_table(found))
    if more:
        note(f"there are more than {limit}; --limit or --all shows them")


@card.command("show")
@card_argument
@json_option
def show_card(card: str, as_json: bool) -> None:
    """Show a card with its attempts and messages."""
    with connect() as client:
        path = f"/cards/{segment(card)}"
        found = client.get(path)
        attempts = client.get(f"{path}/attempts", limit=SHOWN)["results"]
        messages = client.get(f"{path}/messages", limit=SHOWN)["results"]
    if as_json:
        print_json({**found, "attempts": attempts, "messages": messages})
        return
    counts = found["counts"]
    show(
        facts(
            [
                ("Card", f"{found['key']}  {found['title']}"),
                ("State", state(found["state"])),
                ("Waits", found["why_waiting"]),
                ("Budget", ", ".join(f"{k} {v}" for k, v in found["budgets"].items())),
                ("Over it", found["over_budget"]),
                ("Blocked", found["blocked_reason"]),
                ("Priority", found["priority"]),
                ("Labels", ", ".join(found["labels"])),
                ("Requires", ", ".join(found["requires"])),
                ("Depends on", ", ".join(found["depends_on"])),
                ("Goal", found["goal"]),
                ("Due", found["due_at"]),
                (
                    "So far",
                    f"{counts['attempts']} attempts, {counts['steps']} steps,"
                    f" {counts['checkpoints']} checkpoints, {counts['failures']} failures",
                ),
                ("Changed", ago(found["updated_at"])),
            ]
        )
    )
    if found["description"]:
        say("")
        paragraph(found["description"])
    if attempts:
        say("")
        show(
            table(
                ["Attempt", "Worker", "Status", "Steps", "Began", "Says"],
                [
                    (
                        a["number"],
                        a["worker"],
                        state(a["status"]),
                        a["steps_done"],
                        ago(a["started_at"]),
                        a["error"] or a["outcome"] or a["note"] or a["approach"],
                    )
                    for a in attempts
                ],
                wide="Says",
            )
        )
    if messages:
        say("")
        for message in reversed(messages):
            who = f"{message['actor']} {ago(message['at'])}"
            waits = " (open)" if message["kind"] == "question" and not message["closed_at"] else ""
            say(f"{message['kind']} {message['id']} of {who}{waits}")
            paragraph("\n".join(f"  {line}" for line in clean(message["text"]).splitlines()))
            if message["detail"]:
                shown = visible(message["detail"]).splitlines()
                paragraph("\n".join(f"  | {line}" for line in shown))
            for option in message["options"] or []:
                say(f"  - {option}")
            if message["reason"]:
                paragraph(f"  because: {clean(message['reason'])}")
            if waits and (lapses := if_nobody_answers(message)):
                say(f"  {lapses}")


@card.command("move")
@card_argument
@click.argument("column")
@click.option("--before", metavar="CARD")
@click.option("--after", metavar="CARD")
@json_option
def move(card: str, column: str, before: str | None, after: str | None, as_json: bool) -> None:
    """Move a card to COLUMN: a name, a kind such as in_progress, or an id."""
    beside = {"before": before, "after": after}
    body = {"column": column, **{k: v for k, v in beside.items() if v}}
    with connect() as client:
        moved = client.post(f"/cards/{segment(card)}/move", body)
    for warning in moved.get("warnings", []):
        note(warning)
    _done(moved, as_json, "Moved {key}; it is {state} now.")


@card.command("edit")
@card_argument
@click.option("--title")
@click.option("--description", "-d", type=PROSE, help="- reads standard input.")
@click.option("--priority", type=click.IntRange(0, 4))
@click.option("--label", "labels", multiple=True, help="Replaces the labels; repeatable.")
@click.option(
    "--covers",
    multiple=True,
    type=click.IntRange(1, 10_000),
    help="Number of a criterion that it is for; replaces them, repeatable.",
)
@budget_option
@json_option
def edit(card: str, bounds: Any, as_json: bool, **given: Any) -> None:
    """Change what a card says, and what work on it may use."""
    lists = ("labels", "covers")
    changes = {k: list(v) if k in lists else v for k, v in given.items() if v not in (None, ())}
    if not changes and not bounds:
        raise click.UsageError(
            "Say what to change: --title, --description, --priority, --label, --covers, --budget."
        )
    with connect() as client:
        path = f"/cards/{segment(card)}"
        if bounds:
            changes["budgets"] = bounded(bounds, client.get(path)["budgets"])
        changed = client.patch(path, changes)
    _done(changed, as_json, "Changed {key}: {title}")


def _steering(verb: str, summary: str, done: str) -> click.Command:
    """Return the command that steers a card by ``verb``."""

    @card.command(verb, help=summary)
    @card_argument
    @json_option
    def steer(card: str, as_json: bool) -> None:
        with connect() as client:
            changed = client.post(f"/cards/{segment(card)}/{verb}")
        _done(changed, as_json, done)

    return steer


for _verb, _summary, _sentence in (
    ("pause", "Ask the worker to hand the card over, and let nobody claim it.", "Paused {key}."),
    ("resume", "Let a paused card be claimed again.", "Resumed {key}; it is {state}."),
    ("cancel", "End a card's work for good.", "Cancelled {key}."),
    ("retry", "Let a blocked or ended card be claimed again.", "{key} is {state} again."),
    ("approve", "Approve a card in review; for people.", "Approved {key}; it is {state}."),
):
    _steering(_verb, _summary, _sentence)


@card.command("reject")
@card_argument
@click.argument("reason", type=PROSE)
@json_option
def reject(card: str, reason: str, as_json: bool) -> None:
    """Send a card in review back with REASON; for people."""
    with connect() as client:
        changed = client.post(f"/cards/{segment(card)}/reject", {"reason": reason})
    _done(changed, as_json, "Rejected {key}; it is {state}.")


for _command in (*lines.COMMANDS, logs.log):
    card.add_command(_command)


def _done(card: JSON, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(card)
        return
    say(sentence.format_map({name: card[name] for name in ("key", "title", "state")}))


@click.command()
@card_argument
@click.argument("text", type=PROSE)
@json_option
def message(card: str, text: str, as_json: bool) -> None:
    """Leave a note on a card, for whoever works on it; - reads it from standard input."""
    with connect() as client:
        made = client.post(f"/cards/{segment(card)}/messages", {"text": text})
    if as_json:
        print_json(made)
        return
    say(f"Left message {made['id']} on {card}.")


@click.command()
@card_argument
@click.argument("text", type=PROSE, required=False)
@click.option("--question", type=int, metavar="ID", help="Which one, where several are open.")
@click.option("--reason", type=PROSE, help="Why, such as why not.")
@json_option
@click.pass_context
def answer(
    context: click.Context,
    card: str,
    text: str | None,
    question: int | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Answer a card's open question, which makes it claimable again.

    TEXT is one of the options, yes or no to an approval, a number, a date, or words; - reads it
    from standard input. Without it you are asked, and what you type of a secret is not shown.
    """
    with connect() as client:
        path = f"/cards/{segment(card)}/messages"
        asked = _open_question(client, path, question)
        if asked is None:
            note(f"{card} has no open question; `holdfast message` leaves a note")
            context.exit(Exit.NOTHING)
        question = int(asked["id"])
        body: JSON = {"text": text or _typed(asked), "answers": question}
        made = client.post(path, {**body, "reason": reason} if reason else body)
    if as_json:
        print_json(made)
        return
    say(f"Answered question {question} of {card}.")


def _typed(asked: JSON) -> str:
    """Return what a person types for an answer. Raises UsageError where nobody sits."""
    if not sys.stdin.isatty():
        raise click.UsageError("Say TEXT, or - to read it from standard input.")
    secret = asked["question_kind"] == "secret"
    return str(click.prompt(asked["text"], hide_input=secret, err=True))


def _open_question(client: holdfast.Client, path: str, wanted: int | None) -> JSON | None:
    """Return the card's open question, or the one ``wanted`` whatever became of it."""
    found = [
        message
        for message in client.pages(path)
        if (message["id"] == wanted if wanted else not message["closed_at"])
        and message["kind"] == "question"
    ]
    if wanted and not found:
        return {"id": wanted, "question_kind": "text", "text": "Answer"}  # the server says why not
    if len(found) > 1:
        ids = ", ".join(str(message["id"]) for message in found)
        raise click.UsageError(f"Say which question with --question: {ids}.")
    return found[0] if found else None


@click.command()
@card_argument
@click.option("--max-tokens", type=click.IntRange(200, 50_000), default=4000, show_default=True)
@json_option
def briefing(card: str, max_tokens: int, as_json: bool) -> None:
    """Print what the next worker of a card will be told, in Markdown."""
    with connect() as client:
        found = client.get(f"/cards/{segment(card)}/briefing", max_tokens=max_tokens)
    if as_json:
        print_json(found)
        return
    paragraph(found["markdown"])
