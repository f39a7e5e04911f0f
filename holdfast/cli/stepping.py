"""``holdfast step``: what was recorded under a key is not done again."""

from __future__ import annotations

import base64
import sys
from typing import Any

import click

from holdfast import Attempt
from holdfast.cli.exits import Exit
from holdfast.cli.held import held, told
from holdfast.cli.options import PLAIN, PROSE, json_option
from holdfast.cli.places import WORKER_PATIENCE_SECONDS, connect
from holdfast.cli.printing import note, print_json, say
from holdfast.cli.running import Outcome, ended_with, run
from holdfast.heartbeat import Heartbeat
from holdfast.protocol import JSON, segment
from holdfast.texts import given, sayable


@click.group()
def step() -> None:
    """Begin, finish and run steps; what is recorded is not done again."""


@step.command("begin")
@click.argument("key")
@click.option("--title")
@click.option("--kind")
@click.option("--input", "input_", type=PLAIN, help="JSON, @FILE or -.")
@json_option
@click.pass_context
def begin(
    context: click.Context,
    key: str,
    title: str | None,
    kind: str | None,
    input_: Any,
    as_json: bool,
) -> None:
    """Begin the step KEY. The status says what to do.

    0: do it, then `holdfast step finish`. 3: it is recorded already, and its result printed.
    9: it failed already in this attempt. 10: it is begun, but an earlier attempt may have done
    it without saying so; look before doing it again.
    """
    with connect(WORKER_PATIENCE_SECONDS) as client:
        begun = told(held(client), "/steps", key=key, title=title, kind=kind, input=input_)
    if as_json:
        print_json(begun)
    if begun.get("replay"):
        if begun["status"] != "succeeded":
            note(f"step {key} failed already in this attempt: {begun['error']}")
            context.exit(Exit.COMMAND_FAILED)
        if not as_json:
            print_json(begun["result"])
        context.exit(Exit.NOTHING)
    if begun.get("in_doubt"):
        _warn_of_doubt(key)
        context.exit(Exit.IN_DOUBT)


@step.command("finish")
@click.argument("key")
@click.option("--result", type=PLAIN, help="JSON, @FILE or -.")
@click.option("--failed", "error", type=PROSE, metavar="ERROR", help="It failed, and why.")
@click.option("--checkpoint", type=PROSE, metavar="SUMMARY", help="Save one, all at once.")
@click.option("--next", "next_step", type=PROSE, help="The checkpoint's next step.")
@json_option
def finish(
    key: str,
    result: Any,
    error: str | None,
    checkpoint: str | None,
    next_step: str | None,
    as_json: bool,
) -> None:
    """Record how the step KEY ended: well, unless --failed says otherwise."""
    if error is not None and result is not None:
        raise click.UsageError("A step that --failed has no --result.")
    with connect(WORKER_PATIENCE_SECONDS) as client:
        done = told(
            held(client),
            f"/steps/{segment(key)}/finish",
            status="succeeded" if error is None else "failed",
            result=result,
            error=error,
            checkpoint=_checkpoint(checkpoint, next_step),
        )
    if as_json:
        print_json(done)
    else:
        say(f"Step {key} {done['status']}.")


@step.command("run")
@click.argument("key")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--title")
@click.option("--checkpoint", type=PROSE, metavar="SUMMARY", help="Save one if it succeeds.")
@click.option("--next", "next_step", type=PROSE, help="The checkpoint's next step.")
@click.option(
    "--in-doubt",
    type=click.Choice(["run", "stop"]),
    default="run",
    show_default=True,
    help="What to do when an earlier attempt may have done it without saying so.",
)
@click.pass_context
def run_step(
    context: click.Context,
    key: str,
    command: tuple[str, ...],
    title: str | None,
    checkpoint: str | None,
    next_step: str | None,
    in_doubt: str,
) -> None:
    """Run COMMAND as the step KEY, or print what it printed when it was run before.

    Put -- before the command. Its output is passed on and logged to the card, the lease is kept
    meanwhile, and its standard output is recorded with the step. Statuses: 0 it succeeded, now
    or before; 9 it failed; 10 in doubt; 11 a person asked to pause or stop.
    """
    with connect(WORKER_PATIENCE_SECONDS) as client:
        attempt = held(client)
        attempt.heartbeat()
        if attempt.should_stop:
            note(f"asked to {attempt.directive}: release the card before step {key}")
            context.exit(Exit.ASKED_TO_STOP)
        begun = told(attempt, "/steps", key=key, title=title or " ".join(command)[:120])
        if begun.get("replay"):
            context.exit(_replay(key, begun))
        if begun.get("in_doubt"):
            _warn_of_doubt(key)
            if in_doubt == "stop":
                context.exit(Exit.IN_DOUBT)
        heart = Heartbeat(attempt)
        heart.start()
        try:
            outcome = run(
                command,
                attempt,
                step=key,
                stop_for=lambda: "the lease is lost" if attempt.lost else "",
            )
            if outcome.stopped:
                attempt._check()  # raises what is known of the lease
            context.exit(_record(attempt, key, outcome, _checkpoint(checkpoint, next_step)))
        finally:
            heart.stop()


def _record(attempt: Attempt, key: str, outcome: Outcome, checkpoint: JSON | None) -> Exit:
    """Record how the command ended; return the status that says so."""
    path = f"/steps/{segment(key)}/finish"
    if outcome.status:
        how = ended_with(outcome.status)
        error = sayable(f"{how}\n{outcome.quoted}".strip())
        told(attempt, path, status="failed", error=error)
        note(f"step {key} failed: {how}{'' if outcome.stdout else f' {outcome.quoted}'}")
        return Exit.COMMAND_FAILED
    told(attempt, path, status="succeeded", result=_result(outcome), checkpoint=checkpoint)
    return Exit.OK


def _result(outcome: Outcome) -> JSON:
    """Return what is recorded of a command's output, so that it can be printed again."""
    result: JSON = {"exit_status": 0}
    try:
        text = outcome.stdout.decode()
        if "\0" in text:
            raise ValueError
        result["stdout"] = text
    except ValueError:
        result["stdout_base64"] = base64.b64encode(outcome.stdout).decode()
    if outcome.cut:
        result["cut"] = True
    return result


def _replay(key: str, begun: JSON) -> Exit:
    """Print what the step printed when it was run; return the status."""
    if begun["status"] != "succeeded":
        note(f"step {key} failed already in this attempt: {begun['error']}")
        return Exit.COMMAND_FAILED
    result: Any = begun["result"]
    if not isinstance(result, dict) or not {"stdout", "stdout_base64"} & set(result):
        print_json(result)
        return Exit.OK
    # As the command itself wrote it, for whatever reads our output.
    if "stdout_base64" in result:
        out = base64.b64decode(result["stdout_base64"])
    else:
        out = str(result["stdout"]).encode()
    sys.stdout.buffer.write(out)
    sys.stdout.flush()
    if result.get("cut"):
        note(f"only the end of what step {key} printed was kept")
    return Exit.OK


def _warn_of_doubt(key: str) -> None:
    note(f"step {key} is in doubt: an earlier attempt began it and never said how it ended")


def _checkpoint(summary: str | None, next_step: str | None) -> JSON | None:
    if summary is None and next_step is not None:
        raise click.UsageError("--next goes with --checkpoint.")
    return None if summary is None else given(summary=summary, next_step=next_step)
