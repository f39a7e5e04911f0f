"""Going back and on: checkpoints compared, a card rewound, forked, or its files merged."""

from __future__ import annotations

from typing import IO, Any

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import (
    PROSE,
    board_option,
    bounded,
    budget_option,
    card_argument,
    json_option,
    with_secrets_option,
)
from holdfast.cli.places import connect
from holdfast.cli.printing import (
    ago,
    clean,
    duration,
    encoded,
    note,
    one_line,
    print_json,
    say,
    show,
    table,
)
from holdfast.protocol import JSON, segment

_number = click.argument("checkpoint", type=click.IntRange(min=1))


@click.command()
@card_argument
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
def checkpoints(card: str, limit: int, as_json: bool) -> None:
    """List a card's checkpoints, the newest first."""
    with connect() as client:
        listed = client.get(f"/cards/{segment(card)}/checkpoints", limit=limit)["results"]
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            f"C{c['number']}",
            c["line"],
            ago(c["at"]),
            c["tag"] or ("" if c["kept"] else "(not kept)"),
            c["summary"],
            c["next_step"],
        )
        for c in listed
    ]
    show(table(["", "Line", "Age", "Name", "Done", "Next"], rows, wide="Done"))


@click.command()
@card_argument
@_number
@click.option("--from", "against", type=click.IntRange(min=1), help="Its parent unless told.")
@json_option
def diff(card: str, checkpoint: int, against: int | None, as_json: bool) -> None:
    """Show what changed up to CHECKPOINT: state, tests, memory and files."""
    query: dict[str, Any] = {"from": against} if against else {}
    with connect() as client:
        found = client.get(f"/cards/{segment(card)}/checkpoints/{checkpoint}/diff", **query)
    if as_json:
        print_json(found)
        return
    for change in found["state"]:
        before = f" -{encoded(change['from'])}" if "from" in change else ""
        after = f" +{encoded(change['to'])}" if "to" in change else ""
        say(one_line(f"state {change['path'] or '/'}:{before}{after}"))
    for outcome, words in (("newly_failing", "fails now"), ("newly_passing", "passes now")):
        for test in found["tests"][outcome]:
            flaky = " (flaky)" if test in found["tests"]["flaky"] else ""
            say(one_line(f"{words}{flaky}: {test}"))
    for change in found.get("environment") or ():
        before, after = change.get("from"), change.get("to")
        say(one_line(f"environment: {change['name']} {_became(before, after)}"))
    for kind in ("decisions", "discoveries"):
        for memory in found[kind]:
            say(one_line(f"{kind[:-1] if kind == 'decisions' else 'discovery'}: {memory['title']}"))
    if found["workspace"]:
        _files(found["workspace"])
    if found["note"]:
        note(found["note"])


def _became(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "added" if after else "removed"
    return "changed" if after.startswith("sha256:") else f"{before} -> {after}"


def _files(workspace: JSON) -> None:
    say(
        f"{workspace['changed_files']} files changed,"
        f" +{workspace['additions']} -{workspace['deletions']}"
    )
    for file in workspace["files"]:
        if file["patch"]:
            say(clean(file["patch"]).rstrip("\n"))
        else:
            kind = " binary" if file["binary"] else ""
            lines = f"+{file['additions']} -{file['deletions']}"
            say(one_line(f"{file['status']}{kind} {file['path']} {lines}"))
        if file["truncated"]:
            note(f"The rest of {one_line(file['path'])} is too long to show.")
    if workspace["files_left_out"]:
        note(f"{workspace['files_left_out']} more files are not listed.")


@click.command()
@card_argument
@_number
@json_option
def rewind(card: str, checkpoint: int, as_json: bool) -> None:
    """Let the card's next attempt go on from CHECKPOINT; later ones stay in the history."""
    with connect() as client:
        rewound = client.post(f"/cards/{segment(card)}/rewind", {"checkpoint": checkpoint})
    if as_json:
        print_json(rewound)
    else:
        say(f"{rewound['key']} goes on from C{checkpoint}; it is {rewound['state']}.")


@click.command()
@card_argument
@_number
@click.argument("tag", type=PROSE)
@json_option
def name(card: str, checkpoint: int, tag: str, as_json: bool) -> None:
    """Name CHECKPOINT, which keeps its contents for good; an empty TAG takes the name away."""
    with connect() as client:
        named = client.patch(f"/cards/{segment(card)}/checkpoints/{checkpoint}", {"tag": tag})
    if as_json:
        print_json(named)
    else:
        say(one_line(f"{card} C{checkpoint} is called {named['tag'] or 'nothing'}."))


@click.command()
@card_argument
@json_option
def salvages(card: str, as_json: bool) -> None:
    """List what attempts at a card left behind, in no checkpoint."""
    with connect() as client:
        listed = client.get(f"/cards/{segment(card)}/salvages", limit=200)["results"]
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            s["id"],
            f"{s['attempt_number']} {s['worker']}",
            ago(s["at"]),
            s["summary"],
            f"C{s['adopted_as']}" if s["adopted_as"] else "",
        )
        for s in listed
    ]
    show(table(["", "Attempt", "Age", "Left", "Adopted as"], rows, wide="Left"))


@click.command()
@card_argument
@click.argument("salvage", type=click.IntRange(min=1))
@click.option("--next-step", type=PROSE, help="What the next attempt is to do with it.")
@json_option
def adopt(card: str, salvage: int, next_step: str | None, as_json: bool) -> None:
    """Let the card's next attempt go on from SALVAGE, a number that `salvages` lists."""
    body = {"next_step": next_step or ""}
    with connect() as client:
        point = client.post(f"/cards/{segment(card)}/salvages/{salvage}/adopt", body)
    if as_json:
        print_json(point)
    else:
        say(one_line(f"{card} goes on from C{point['number']}: {point['summary']}"))


@click.command()
@card_argument
@_number
@click.option("--title", help="The card's own unless told.")
@click.option("--count", type=click.IntRange(1, 10), help="More than one race each other.")
@click.option("--approach", "approaches", type=PROSE, multiple=True, help="One card for each.")
@click.option(
    "--choose",
    type=click.Choice(["first", "person", "score"]),
    help="Who wins a race: the first to be completed unless told.",
)
@click.option("--score", metavar="COMMAND", help="Prints a finisher's number; the highest wins.")
@click.option("--deadline-seconds", type=click.IntRange(min=1), help="Of a race with --score.")
@budget_option
@json_option
def fork(
    card: str,
    checkpoint: int,
    title: str | None,
    count: int | None,
    approaches: tuple[str, ...],
    choose: str | None,
    score: str | None,
    deadline_seconds: int | None,
    bounds: tuple[tuple[str, str | None], ...],
    as_json: bool,
) -> None:
    """Make cards that start from CHECKPOINT; several of them race, and one wins."""
    body: JSON = {"checkpoint": checkpoint}
    if title:
        body["title"] = title
    if len(approaches) == 1 and count != 1:
        body["approach"] = approaches[0]
    elif approaches:
        body["approaches"] = list(approaches)
    if count:
        body["count"] = count
    if choose or score:
        body["choose"] = choose or "score"
    if score:
        body["score"] = score
    if deadline_seconds:
        body["deadline_seconds"] = deadline_seconds
    if bounds:
        body["budgets"] = bounded(bounds)
    with connect() as client:
        made = client.post(f"/cards/{segment(card)}/fork", body)
    if as_json:
        print_json(made["cards"])
        return
    for one in made["cards"]:
        say(one_line(f"Made {one['key']}: {one['title']}"))


@click.command()
@card_argument
@click.option(
    "--part", "parts", type=PROSE, multiple=True, metavar="TITLE", help="One for each, 2 to 20."
)
@click.option("--checkpoint", type=click.IntRange(min=1), help="The newest unless told.")
@json_option
def split(card: str, parts: tuple[str, ...], checkpoint: int | None, as_json: bool) -> None:
    """Hand a card's work to part-cards; it goes on once they are completed and joined.

    Without --part, show how the parts of its newest split stand.
    """
    path = f"/cards/{segment(card)}/split"
    with connect() as client:
        if parts:
            body: JSON = {"parts": [{"title": title} for title in parts]}
            if checkpoint:
                body["checkpoint"] = checkpoint
            found = client.post(path, body)
        else:
            found = client.get(path)
    if as_json:
        print_json(found)
    elif parts:
        for one in found["parts"]:
            say(one_line(f"Made {one['key']}: {one['title']}"))
    else:
        rows = [
            (p["card"], p["state"], p["title"], p["blocked_reason"] or p["outcome"])
            for p in found["parts"]
        ]
        show(table(["", "State", "Part", "How it stands"], rows, wide="How it stands"))
        if found["joined_as"]:
            say(f"Joined as C{found['joined_as']}.")
        if found["files"]:
            note(one_line(f"Several parts changed the same lines of {', '.join(found['files'])}."))


@click.command()
@card_argument
@json_option
def race(card: str, as_json: bool) -> None:
    """Show the race that a card runs in: all racers side by side."""
    with connect() as client:
        found = client.get(f"/cards/{segment(card)}/race")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            f"{r['card']}{' *' if r['card'] == found['winner'] else ''}",
            r["state"],
            "" if r["tests_passed"] is None else f"{r['tests_passed']}/{r['tests_failed'] or 0}",
            "" if r["additions"] is None else f"+{r['additions']} -{r['deletions'] or 0}",
            f"{float(r['usage']['cost_usd']):g}",
            duration(r["seconds"]),
            r["problem"] if r["score"] is None else f"{r['score']:g}",
            r["lost"] or r["approach"],
        )
        for r in found["racers"]
    ]
    columns = [
        "",
        "State",
        "Tests",
        "Changed",
        "USD",
        "Worked",
        "Score",
        "Approach, or why it lost",
    ]
    show(table(columns, rows, wide=columns[-1]))
    if found["winner"]:
        say(one_line(f"{found['winner']} won {ago(found['decided_at'])}."))


@click.command()
@card_argument
@json_option
def choose(card: str, as_json: bool) -> None:
    """Make a card in review the winner of its race; for people."""
    with connect() as client:
        won = client.post(f"/cards/{segment(card)}/choose", {})
    if as_json:
        print_json(won)
    else:
        say(f"{won['key']} won; it is {won['state']}.")


@click.command()
@card_argument
@click.option(
    "--output", type=click.File("wb", lazy=True), default="-", help="Standard output unless told."
)
@with_secrets_option
def patch(card: str, output: IO[bytes], with_secrets: bool) -> None:
    """Write all that the card changed as one patch, for `git am` or `git apply`."""
    asked = {"with_secrets": "true"} if with_secrets else None
    with connect() as client:
        content = client.request("GET", f"/cards/{segment(card)}/patch", params=asked).content
    output.write(content)  # only now is the file made, or made empty


@click.command()
@card_argument
@click.option(
    "--strategy",
    type=click.Choice(["auto", "fast_forward", "merge", "squash", "branch"]),
    default="auto",
    show_default=True,
)
@click.option("--into", metavar="BRANCH", help="The one the repository shows unless told.")
@click.option("--message", type=PROSE, help="Of the commit that merges or squashes.")
@with_secrets_option
@json_option
def merge(
    card: str,
    strategy: str,
    into: str | None,
    message: str | None,
    with_secrets: bool,
    as_json: bool,
) -> None:
    """Merge a card's files into the board's repository and approve it; for people."""
    body: dict[str, Any] = {"strategy": strategy, "into": into or "", "message": message or ""}
    if with_secrets:
        body["with_secrets"] = True
    with connect() as client:
        made = client.post(f"/cards/{segment(card)}/merge", body)
    if as_json:
        print_json(made)
    else:
        say(one_line(f"{card}: {made['into'] or made['branch']} is at {made['commit'][:12]}."))


@click.command()
@click.argument("cards", metavar="CARD...", nargs=-1)
@board_option
@click.option("--digest", metavar="SHA256", help="One noted down earlier; of a single CARD.")
@json_option
def verify(cards: tuple[str, ...], board: str | None, digest: str | None, as_json: bool) -> None:
    """Prove that histories are what was written: of the CARDs, or of all on the board.

    Ends with status 1 where one is not.
    """
    if digest and len(cards) != 1:
        raise click.UsageError("--digest is for a single CARD.")
    if not cards and not board:
        raise click.UsageError("Name a CARD, or a board with --board.")
    query: dict[str, Any] = {"digest": digest} if digest else {}
    verdicts = []
    with connect() as client:
        names = cards or [c["key"] for c in client.pages("/cards", board=board)]
        for name in names:
            verdict = client.get(f"/cards/{segment(name)}/verify", **query)
            verdicts.append(verdict)
            if not as_json:
                _tell(verdict)
    if as_json:
        print_json(verdicts)
    if not all(verdict["intact"] for verdict in verdicts):
        click.get_current_context().exit(Exit.ERROR)


def _tell(verdict: JSON) -> None:
    counted = f"{verdict['checkpoints']} checkpoints, {verdict['workspaces']} with files"
    if verdict["dropped"]:
        counted += f", {verdict['dropped']} no longer kept"
    if verdict["intact"]:
        say(one_line(f"{verdict['card']} is intact: {counted}; head {verdict['head'] or 'none'}"))
        return
    for fault in verdict["faults"]:
        where = f"C{fault['checkpoint']} " if fault["checkpoint"] else ""
        say(one_line(f"{verdict['card']}: {where}{fault['problem']}"))


COMMANDS = (
    checkpoints,
    diff,
    name,
    rewind,
    fork,
    race,
    choose,
    split,
    salvages,
    adopt,
    patch,
    merge,
)
