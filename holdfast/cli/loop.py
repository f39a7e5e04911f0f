"""``holdfast work``: claim a card, run a command for it, and so on."""

from __future__ import annotations

import signal
import threading

import click

import holdfast
from holdfast import Attempt
from holdfast.cli.exits import Exit
from holdfast.cli.held import environment
from holdfast.cli.options import complete_cards
from holdfast.cli.places import WORKER_PATIENCE_SECONDS, connect, login
from holdfast.cli.printing import note
from holdfast.cli.running import ended_with, run
from holdfast.cli.working import waited, wanted, with_worker_options
from holdfast.stopping import told_by_signal
from holdfast.texts import given, sayable

SUMMARY_CHARS = 500


@click.command()
@with_worker_options
@click.option("--card", metavar="CARD", shell_complete=complete_cards, help="This one; then end.")
@click.option("--once", is_flag=True, help="End after one card; status 3 when there is none.")
@click.option("--wait", type=click.FloatRange(min=0), default=0, help="With --once or --card.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def work(
    context: click.Context,
    worker: str | None,
    board: str | None,
    goal: str | None,
    can: tuple[str, ...],
    lease: int | None,
    card: str | None,
    once: bool,
    wait: float,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND for each card that can be had, until Ctrl-C or SIGTERM.

    Put -- before the command. It gets the briefing on standard input and HOLDFAST_ATTEMPT,
    HOLDFAST_LEASE and HOLDFAST_CARD in its environment, so that `holdfast step run` and the
    others work in it. The lease is kept meanwhile. Exit status 0 completes the card, with the
    last line that was printed as the summary, unless the command ended the attempt itself;
    any other fails it.
    """
    with connect(WORKER_PATIENCE_SECONDS) as client:
        asked = wanted(client, worker, board, goal, can, lease)
        stop = threading.Event()
        if not (once or card):
            for attempt in client.work(**asked, stop=stop):
                _carry_out(attempt, command, stop)
            context.exit(Exit.TERMINATED)
        with told_by_signal(stop):
            attempt_or_none = waited(client, {**asked, **given(card=card)}, wait)
            if attempt_or_none is None:
                note("there is nothing to do")
                context.exit(Exit.NOTHING)
            status = _carry_out(attempt_or_none, command, stop)
        context.exit(status)


def _carry_out(attempt: Attempt, command: tuple[str, ...], stop: threading.Event) -> Exit:
    """Run the command for the attempt and say how it ended; return what became of it."""
    key = attempt.card["key"]
    note(f"{key}: {attempt.card['title']}")
    server = {"HOLDFAST_URL": attempt.client.url, "HOLDFAST_TOKEN": login().token}
    try:
        with attempt:
            outcome = run(
                command,
                attempt,
                environment={**server, **environment(attempt)},
                stdin=attempt.briefing,
                stop_for=lambda: _reason(attempt, stop),
            )
            if ended := _ended_by_itself(attempt):
                note(f"{key}: {ended}")
                return Exit.OK if ended == "succeeded" else Exit.COMMAND_FAILED
            if outcome.stopped and not attempt.lost:
                attempt.release(f"The worker stopped: {outcome.stopped}.", reason="stopped")
                note(f"{key}: released, {outcome.stopped}")
                return Exit.TERMINATED if stop.is_set() else Exit.ASKED_TO_STOP
            if outcome.status == 0:
                lines = outcome.stdout.decode("utf-8", "replace").strip().splitlines()
                summary = sayable(lines[-1].strip() if lines else "")[:SUMMARY_CHARS]
                attempt.complete(summary or f"{command[0]} ended well.", result={"exit_status": 0})
                note(f"{key}: completed")
                return Exit.OK
            how = ended_with(outcome.status)
            attempt.fail(f"{how}\n{outcome.quoted}".strip())
            note(f"{key}: failed, {how}")
            return Exit.COMMAND_FAILED
    except holdfast.LeaseLost as lost:
        note(f"{key}: {lost}")
    # A loop's attempt keeps what went wrong to itself.
    return Exit.LEASE_LOST if attempt.lost else Exit.ERROR


def _reason(attempt: Attempt, stop: threading.Event) -> str:
    """Return why the command has to end now, if it has to."""
    if stop.is_set():
        return f"it was told to by {signal.Signals.SIGTERM.name}"
    if attempt.lost:
        # The command may have ended the attempt itself, and have some more to do.
        return "" if _ended_by_itself(attempt) else "the lease is lost"
    return f"a person asked to {attempt.directive}" if attempt.should_stop else ""


def _ended_by_itself(attempt: Attempt) -> str:
    """Return how the command ended the attempt, if that is what happened."""
    if attempt.ended:
        return attempt.ended
    try:
        for found in attempt.client.get(f"/cards/{attempt.card['id']}/attempts")["results"]:
            if found["id"] == attempt.id and found["status"] in OWN_ENDS:
                attempt.ended = str(found["status"])
    except holdfast.Error:
        pass  # what comes next asks again, and says so
    return attempt.ended or ""


#: What becomes of an attempt by its own word; the others are done to it.
OWN_ENDS = ("succeeded", "failed", "released")
