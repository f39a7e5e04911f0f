"""``holdfast watch``: a board as it changes, fed by its events in order and without a gap."""

from __future__ import annotations

import queue
import select
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

import holdfast
from holdfast.cli.options import complete_boards, json_option, the_board
from holdfast.cli.places import connect
from holdfast.cli.printing import (
    STYLES,
    ago,
    console,
    duration,
    encoded,
    note,
    one_line,
    say,
    table,
    text,
)
from holdfast.protocol import JSON, segment

REDRAW_SECONDS = 0.5
#: Above so many changed cards, reading the whole board is less work than reading each.
MOST_SINGLE_READS = 20
LAST_EVENTS = 6
TITLE_CHARS = 40
#: What changes a card without changing what is shown of it.
SILENT = frozenset({"log.appended"})
AGAIN_SECONDS = 1.0


@click.command()
@click.argument(
    "key",
    metavar="[BOARD]",
    required=False,
    envvar="HOLDFAST_BOARD",
    shell_complete=complete_boards,
)
@click.option("--after", type=click.IntRange(min=0), metavar="SEQ", help="Begin past this event.")
@json_option
def watch(key: str | None, after: int | None, as_json: bool) -> None:
    """Show a board live, until Ctrl-C; it outlives restarts of the server.

    Where the output is no terminal, it is one line per event, and with --json one JSON object
    per line. Events come in order and without a gap; --after 0 begins with the first.
    """
    with connect() as client:
        board = client.get(f"/boards/{segment(the_board(client, key))}")
        news = client.get("/events", board=board["id"], limit=1, after=0)
        last = news["last_seq"] if after is None else after
        feed = Feed(client, board["id"], last)
        if as_json or not sys.stdout.isatty():
            _lines(feed, Names(client), as_json)
        else:
            _live(client, board, feed)


class Feed:
    """Reads events in a thread of its own, and goes on where it was when the server is back."""

    def __init__(self, client: holdfast.Client, board: str, after: int) -> None:
        self._client, self._board, self._after = client, board, after
        self._events: queue.Queue[JSON | holdfast.Error] = queue.Queue()
        self.away = ""
        threading.Thread(target=self._go, name="holdfast-events", daemon=True).start()

    def next(self, timeout: float) -> JSON | None:
        """Return the next event, None when there is none in time. Raises what can't be healed."""
        try:
            found = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, holdfast.Error):
            raise found
        return found

    def _go(self) -> None:
        while True:
            try:
                for event in self._client.events(self._board, self._after):
                    self.away = ""
                    self._after = event["seq"]
                    self._events.put(event)
            except holdfast.Unreachable as error:
                self.away = str(error)
                time.sleep(AGAIN_SECONDS)
            except holdfast.Error as error:
                self._events.put(error)
                return


class Names:
    """The keys of cards, for events that name a card by its id only."""

    def __init__(self, client: holdfast.Client) -> None:
        self._client = client
        self._keys: dict[str, str] = {}

    def of(self, event: JSON) -> str:
        """Return the key of the event's card; empty where it has none."""
        subject = str(event["subject"])
        if card := event["data"].get("card"):
            self._keys[subject] = str(card)
        elif subject not in self._keys and event["kind"].split(".")[0] not in ("board", "goal"):
            try:
                self._keys[subject] = str(self._client.get(f"/cards/{subject}")["key"])
            except holdfast.Error:
                self._keys[subject] = ""
        return self._keys.get(subject, "")


def sentence(event: JSON, card: str) -> str:
    """Return an event on one line."""
    data = event["data"]
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S")
    step = data.get("step")
    title = data.get("title") or data.get("summary") or data.get("error") or data.get("reason")
    parts = (card, event["kind"], step, data.get("state"), event["actor"], title)
    return one_line(" ".join([at, *(str(part) for part in parts if part)]))


def _lines(feed: Feed, names: Names, as_json: bool) -> None:
    away = ""
    while True:
        event = feed.next(REDRAW_SECONDS)
        if feed.away != away:
            away = feed.away
            note(f"{away} Trying again." if away else "the server is back")
        if event is None:
            _check_reader()
            continue
        # Each one flushed: whoever reads this waits for it.
        say(encoded(event) if as_json else sentence(event, names.of(event)))


def _check_reader() -> None:
    """Raise BrokenPipeError when nobody reads on, which writing would only show later."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR)
    except (AttributeError, OSError, ValueError):  # no poll here, or no file
        return
    if poll.poll(0):
        raise BrokenPipeError


def _live(client: holdfast.Client, board: JSON, feed: Feed) -> None:
    view = View(client, board)
    view.read_all()
    with Live(view.drawn(feed), console=console(), auto_refresh=False, screen=False) as live:
        while True:
            ends = time.monotonic() + REDRAW_SECONDS
            while (left := ends - time.monotonic()) > 0:
                if event := feed.next(left):
                    view.take(event)
            view.catch_up()
            live.update(view.drawn(feed), refresh=True)


class View:
    """What is shown of the board: its cards as they were last read, and the newest events."""

    def __init__(self, client: holdfast.Client, board: JSON) -> None:
        self._client, self._board = client, board
        self._cards: dict[str, JSON] = {}
        self._changed: set[str] = set()
        self._steps: dict[str, str] = {}
        self._last: list[str] = []
        self._whole = False

    def take(self, event: JSON) -> None:
        """Note what the event changed; ``catch_up`` reads it."""
        subject, kind = str(event["subject"]), str(event["kind"])
        if kind in SILENT:
            return
        if step := event["data"].get("step"):
            self._steps[subject] = str(step)
        if kind.startswith(("board.", "member.")):
            self._whole = True
        elif not kind.startswith("goal."):
            self._changed.add(subject)
        card = event["data"].get("card") or self._cards.get(subject, {}).get("key", "")
        self._last = [*self._last, sentence(event, card)][-LAST_EVENTS:]

    def catch_up(self) -> None:
        """Read what has changed. While the server is away it stays to be read."""
        try:
            if self._whole or len(self._changed) > MOST_SINGLE_READS:
                self.read_all()
            while self._changed:
                self._read(next(iter(self._changed)))
        except holdfast.Unreachable:
            return

    def read_all(self) -> None:
        self._board = self._client.get(f"/boards/{self._board['id']}", patience=0)
        cards = self._client.pages("/cards", board=self._board["id"])
        self._cards = {card["id"]: card for card in cards}
        self._whole = False
        self._changed.clear()

    def _read(self, card: str) -> None:
        try:
            self._cards[card] = self._client.get(f"/cards/{card}", patience=0)
        except holdfast.NotFound:
            self._cards.pop(card, None)
        self._changed.discard(card)

    def drawn(self, feed: Feed) -> Group:
        """Return the picture, no higher than the terminal."""
        room = console().height - 12 - LAST_EVENTS
        running = [card for card in self._cards.values() if card["attempt"]]
        running.sort(key=lambda card: card["attempt"]["started_at"])
        inside = Counter(card["column"] for card in self._cards.values())
        heading = Text(one_line(f"{self._board['key']}  {self._board['name']}"), style="bold")
        columns = Text("  ").join(
            Text.assemble(one_line(column["name"]), " ", (str(inside[column["id"]]), "bold"))
            for column in self._board["columns"]
        )
        states = Counter(card["state"] for card in self._cards.values())
        parts: list[Any] = [
            heading,
            columns,
            Text("  ").join(
                Text(f"{count} {one_line(state)}", style=STYLES.get(state, ""))
                for state, count in sorted(states.items())
            ),
        ]
        if running:
            shown = running[: max(1, room)]
            parts.append(
                table(
                    ["Card", "Worker", "Step", "Lease", "Since", "Title"],
                    [self._row(card) for card in shown],
                    wide="Title",
                )
            )
            if len(running) > len(shown):
                parts.append(Text(f"and {len(running) - len(shown)} more"))
        else:
            parts.append(Text("\nNo card runs.\n"))
        parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._last]
        if feed.away:
            parts.append(Text(f"{one_line(feed.away)} Trying again.", style="red"))
        return Group(*parts)

    def _row(self, card: JSON) -> tuple[Any, ...]:
        attempt = card["attempt"]
        left = datetime.fromisoformat(attempt["lease_expires_at"]) - datetime.now(UTC)
        seconds = left.total_seconds()
        return (
            card["key"],
            attempt["worker"],
            self._steps.get(card["id"], "") or f"{attempt['steps_done']} done",
            text(duration(seconds) if seconds > 0 else "over", "" if seconds > 0 else "red"),
            ago(attempt["started_at"]),
            one_line(card["title"])[:TITLE_CHARS],
        )
