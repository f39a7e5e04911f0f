"""What is printed: tables for people, JSON for programs, nothing that could steer a terminal.

Text from the server was written by anybody. It passes ``clean`` and is never read as markup.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # strings
    r"|\x1b[ -/]*[0-~]?"
)
#: What is left of controls, and what reorders the text around it or hides in it.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
#: Between columns, and what the column that folds must have.
GAP = 3
LEAST_WIDE = 16
STYLES = {
    "running": "cyan",
    "waiting": "yellow",
    "blocked": "red",
    "failed": "red",
    "review": "magenta",
    "completed": "green",
    "succeeded": "green",
    "achieved": "green",
    "cancelled": "dim",
    "abandoned": "dim",
}


def clean(value: object) -> str:
    """Return ``value`` as text that a terminal shows and does not obey; lines stay lines."""
    text = str(value).replace("\r\n", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def visible(value: object) -> str:
    """Return ``value`` verbatim, what can't be seen or could steer spelled out as an escape."""
    return _CONTROLS.sub(lambda m: repr(m[0])[1:-1], str(value))


def one_line(value: object) -> str:
    """Return ``value`` cleaned, on one line."""
    return " ".join(clean(value).split())


def encoded(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in ASCII, in which a control character is an escape like any other."""
    return json.dumps(value, indent=indent, ensure_ascii=True)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    click.echo(encoded(value, indent=2))


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """Return a console on standard output that reads nothing as markup."""
    return _Console(markup=False, highlight=False, emoji=False)


def show(renderable: RenderableType) -> None:
    """Print to the terminal at its width; elsewhere at full width, without cutting anything."""
    if sys.stdout.isatty():
        console().print(renderable)
        return
    page = io.StringIO()
    wide = Console(file=page, width=100_000, markup=False, highlight=False, emoji=False)
    wide.print(renderable)
    for line in page.getvalue().splitlines():
        click.echo(line.rstrip())


def text(value: object, style: str = "") -> Text:
    """Return cleaned text on one line for a table's cell."""
    return Text(one_line(value), style=style)


def state(value: object) -> Text:
    """Return a state in its colour."""
    return text(value, STYLES.get(str(value), ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, wide: str = "") -> Table:
    """Return a table whose column ``wide`` takes more lines where there is little room."""
    tty = sys.stdout.isatty()
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    kept = _fitting(columns, cells, wide, console().width) if tty else range(len(columns))
    made = Table(box=SIMPLE_HEAD if tty else None, pad_edge=False)
    for n in kept:
        made.add_column(columns[n], overflow="fold", no_wrap=columns[n] != wide)
    for row in cells:
        made.add_row(*(row[n] for n in kept))
    return made


def _fitting(
    columns: Sequence[str], cells: Sequence[Sequence[Text]], wide: str, room: int
) -> Sequence[int]:
    """Return which columns have room; on a narrow terminal the last ones go."""
    widths = [
        LEAST_WIDE if name == wide else max([cell_len(name), *(row[n].cell_len for row in cells)])
        for n, name in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while len(kept) > 2 and sum(widths[n] + GAP for n in kept) > room:
        kept.remove(max(n for n in kept if columns[n] != wide))
    return kept


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values beneath one another, without those that are empty."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            made.add_row(name, value if isinstance(value, Text) else Text(clean(value)))
    return made


def paragraph(value: object) -> None:
    """Print cleaned text as it is."""
    click.echo(clean(value).rstrip("\n"))


def say(sentence: str) -> None:
    """Print one sentence about what was done."""
    click.echo(clean(sentence))


def note(sentence: str) -> None:
    """Print one sentence on standard error, beside the output."""
    click.echo(f"holdfast: {clean(sentence)}", err=True)


def if_nobody_answers(question: Mapping[str, Any]) -> str:
    """Return in one sentence what follows when the question stays unanswered; "" if nothing."""
    due = question["due_at"]
    if not due:
        return ""
    then = {
        "default": f"the answer is “{question['default']}”",
        "fail": "the card stays blocked for good",
        "stay": "it goes on waiting",
    }[question["on_timeout"]]
    at = datetime.fromisoformat(due).astimezone(UTC)
    return f"Without an answer by {at:%Y-%m-%d %H:%M} UTC {then}."


def ago(instant: str | None, now: datetime | None = None) -> str:
    """Return how long ago ``instant`` was, in words."""
    if not instant:
        return ""
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(instant)
    return f"{duration(passed.total_seconds())} ago"


def duration(seconds: float) -> str:
    """Return seconds in the largest unit that says something."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
