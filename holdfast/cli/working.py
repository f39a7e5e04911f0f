"""What a worker says: claim a card, then one sentence after the other under its lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

import holdfast
from holdfast import Attempt
from holdfast.cli.exits import Exit, status_of
from holdfast.cli.held import environment, exports, held, refusal
from holdfast.cli.options import (
    PLAIN,
    PROSE,
    board_option,
    complete_cards,
    json_option,
    the_goal,
    worker_name,
)
from holdfast.cli.places import WORKER_PATIENCE_SECONDS, connect
from holdfast.cli.printing import note, paragraph, print_json, say
from holdfast.protocol import JSON
from holdfast.texts import given

#: The longest that one request may wait for a card; a longer --wait takes several.
ASK_SECONDS = 25.0
LOOK_SECONDS = 0.5
#: The kinds of failure that there are.
FAULTS = ("transient", "rate_limited", "infrastructure", "agent_error", "red_checks")

#: What a question may ask for, and what may follow when nobody answers.
ASKS = ("text", "choice", "approve", "number", "date", "secret")
ON_TIMEOUT = ("default", "fail", "stay")

worker_options: tuple[Callable[..., Any], ...] = (
    click.option(
        "--worker",
        "-w",
        envvar="HOLDFAST_WORKER",
        metavar="NAME",
        help="Who you are; HOLDFAST_WORKER, or user@host, unless given.",
    ),
    board_option,
    click.option("--goal", help="Only its cards: an id, or words of the title."),
    click.option("--can", "-c", "can", multiple=True, help="What you are capable of; repeatable."),
    click.option(
        "--lease",
        type=click.IntRange(2, 3600),
        metavar="SECONDS",
        help="How long the card is yours without a word; 60 unless told.",
    ),
)


def with_worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who claims, and what may be claimed."""
    for option in reversed(worker_options):
        command = option(command)
    return command


class ForShells(click.Command):
    """With --shell, a refusal is a line on standard output that ``eval`` ends with, too."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        shell = "--shell" in args
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except click.UsageError:
            if shell:
                click.echo(refusal(Exit.USAGE))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.params.get("shell"):
            return super().invoke(ctx)
        status: int = Exit.ERROR
        try:
            ended = super().invoke(ctx)
            status = Exit.OK
            return ended
        except click.exceptions.Exit as exit_:
            status = exit_.exit_code
            raise
        except click.ClickException as error:
            status = error.exit_code
            raise
        except holdfast.Error as error:
            status = status_of(error)
            raise
        finally:
            if status:
                click.echo(refusal(status))


@click.command(cls=ForShells)
@with_worker_options
@click.option("--card", metavar="CARD", shell_complete=complete_cards, help="This one, no other.")
@click.option("--wait", type=click.FloatRange(min=0), default=0, metavar="SECONDS")
@click.option("--tokens", type=click.IntRange(200, 50_000), help="Size of the briefing.")
@click.option("--shell", is_flag=True, help="Print lines for eval.")
@json_option
@click.pass_context
def claim(
    context: click.Context,
    worker: str | None,
    board: str | None,
    goal: str | None,
    can: tuple[str, ...],
    lease: int | None,
    card: str | None,
    wait: float,
    tokens: int | None,
    shell: bool,
    as_json: bool,
) -> None:
    """Take a card: the best there is, or the one that --card names.

    In a script: eval "$(holdfast claim --shell)" || exit. The commands after it speak for the
    attempt, whose id and lease they find in HOLDFAST_ATTEMPT and HOLDFAST_LEASE.
    """
    with connect(WORKER_PATIENCE_SECONDS) as client:
        asked = wanted(client, worker, board, goal, can, lease)
        attempt = waited(client, {**asked, **given(card=card, briefing_tokens=tokens)}, wait)
    if attempt is None:
        note("there is nothing to do")
        context.exit(Exit.NOTHING)
    if as_json:
        print_json(
            {
                "attempt": {"id": attempt.id, "number": attempt.number},
                "lease": {"token": attempt.lease_token, "ttl_seconds": attempt.ttl_seconds},
                "card": attempt.card,
                "goal": attempt.goal,
                "resume": attempt.resume,
                "briefing": attempt.briefing,
                "environment": environment(attempt),
            }
        )
    elif shell:
        click.echo(exports(attempt))
    else:
        paragraph(attempt.briefing)
        say(f"\n{attempt.card['key']} is yours for {attempt.ttl_seconds} s from the last word.")
        say("To speak for it, here or in a script:\n")
        click.echo(exports(attempt))


def wanted(
    client: holdfast.Client,
    worker: str | None,
    board: str | None,
    goal: str | None,
    can: tuple[str, ...],
    lease: int | None,
) -> dict[str, Any]:
    """Return what a claim asks for, as the options of ``with_worker_options`` say."""
    return given(
        worker=worker or worker_name(),
        boards=[board] if board else None,
        goal=the_goal(client, board, goal) if goal else None,
        capabilities=list(can) or None,
        lease_seconds=lease,
    )


def waited(client: holdfast.Client, asked: dict[str, Any], wait: float) -> Attempt | None:
    """Claim, trying again for ``wait`` seconds. Raises Conflict for a named card."""
    ends = time.monotonic() + wait
    while True:
        left = max(0.0, ends - time.monotonic())
        try:
            if attempt := client.claim(**asked, wait_seconds=min(left, ASK_SECONDS)):
                return attempt
        except holdfast.Conflict as refused:
            if refused.code != "not_claimable" or time.monotonic() >= ends:
                raise
        if time.monotonic() >= ends:
            return None
        time.sleep(min(LOOK_SECONDS, max(0.0, ends - time.monotonic())))


def under_lease(speak: Callable[[Attempt], JSON]) -> JSON:
    """Return what the server answers to ``speak`` for the attempt of the environment."""
    with connect(WORKER_PATIENCE_SECONDS) as client:
        return speak(held(client))


def _print(answer: JSON, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(answer)
    else:
        say(sentence)


@click.command()
@click.option("--note", "words", help="What you are at.")
@click.option("--percent", type=click.IntRange(0, 100))
@json_option
@click.pass_context
def heartbeat(
    context: click.Context, words: str | None, percent: int | None, as_json: bool
) -> None:
    """Renew the lease, and hear what changed; status 11 when asked to pause or stop."""
    answer = under_lease(lambda attempt: attempt.heartbeat(words, percent))
    if as_json:
        print_json(answer)
    else:
        say(answer["directive"])
        for message in answer["messages"]:
            say(f"{message['kind']} of {message['actor']}:")
            paragraph(message["text"])
        for notice in answer["notices"]:
            say(": ".join(str(value) for value in notice.values()))
    if answer["directive"] in ("pause", "stop"):
        context.exit(Exit.ASKED_TO_STOP)


@click.command()
@click.argument("summary", type=PROSE)
@click.option("--next", "next_step", type=PROSE, help="What whoever goes on does first.")
@click.option("--state", type=PLAIN, help="Whatever you need to go on: JSON, @FILE or -.")
@click.option(
    "--tests",
    type=PLAIN,
    help='{"passed": 12, "failed": 1, "failing": ["test_x"], "passing": ["test_y"]}',
)
@click.option("--key", help="The same key again saves nothing more.")
@json_option
def checkpoint(summary: str, as_json: bool, **more: Any) -> None:
    """Save a point to go on from, with SUMMARY of what is done."""
    answer = under_lease(lambda attempt: attempt.checkpoint(summary, **more))
    _print(answer, as_json, f"Saved checkpoint {answer['number']}.")


@click.command()
@click.argument("text", required=False, default="-", type=PROSE)
@click.option("--stream", type=click.Choice(["stdout", "stderr", "log"]), default="log")
@click.option("--step", metavar="KEY")
def log(text: str, stream: str, step: str | None) -> None:
    """Append TEXT, or standard input, to the card's live output."""
    under_lease(lambda attempt: attempt.log(text + "\n", stream=stream, step=step))


@click.command()
@click.argument("approach", type=PROSE)
@click.option("--differs", type=PROSE, help="What is different from a like one that failed.")
@json_option
def approach(approach: str, differs: str | None, as_json: bool) -> None:
    """Say how this attempt goes about its card, and hear what failed before and looks alike.

    Where the board enforces dead ends, what failed as it is is refused unless --differs says what
    is different.
    """
    answer = under_lease(lambda attempt: attempt.approach(approach, differs))
    _print(answer, as_json, "Noted how it goes about it.")
    for one in [] if as_json else answer["similar_failed"]:
        note(f"Failed before: {one['approach']}{_how_it_ended(one)}")
    for other in [] if as_json else answer["in_force"]:
        note(f"In force: {other['title']} ({other['id']}).")


def _how_it_ended(failed: JSON) -> str:
    """Return the lesson or error of a failed approach, and why it may be tried all the same."""
    ended = failed["lesson"] or failed["error"]
    but = failed["because"] or failed["instead"]
    return (f": {ended}" if ended else "") + (f" (but: {but})" if but else "")


@click.command()
@click.argument("title")
@click.argument("rationale", type=PROSE)
@click.option("--alternative", "alternatives", multiple=True, help="Repeatable.")
@click.option("--context", type=PROSE)
@click.option("--consequences", type=PROSE)
@click.option("--file", "files", multiple=True, help="A path that it is about; repeatable.")
@click.option("--supersedes", metavar="ID")
@click.option("--differs", help="Why it can stand beside those that it resembles.")
@json_option
def decide(title: str, rationale: str, as_json: bool, **more: Any) -> None:
    """Record a decision on the goal, and why."""
    fields: dict[str, Any] = {
        k: list(v) if isinstance(v, tuple) else v for k, v in more.items() if v
    }
    answer = under_lease(lambda attempt: attempt.decision(title, rationale, **fields))
    _print(answer, as_json, f"Recorded the decision {answer['id']}.")
    for other in [] if as_json else answer.get("in_force", []):
        note(f"In force, too: {other['title']} ({other['id']}).")


KINDS = ["failing_test", "architecture_issue", "new_requirement", "dead_end", "fact"]


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("title")
@click.option("--detail", type=PROSE)
@click.option("--severity", type=click.Choice(["low", "medium", "high", "critical"]))
@click.option("--rests-on", metavar="REQUIREMENT", help="Words of the goal a dead end rests on.")
@click.option(
    "--environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a fact says of it, or a dead end rests on; repeatable.",
)
@json_option
def discover(
    kind: str,
    title: str,
    detail: str | None,
    severity: str | None,
    rests_on: str | None,
    environment: tuple[str, ...],
    as_json: bool,
) -> None:
    """Record on the goal what was found out."""
    named = dict(pair.partition("=")[::2] for pair in environment)
    more: dict[str, Any] = {}
    if kind == "dead_end" and (rests_on or named):
        more["rests_on"] = {
            **({"requirement": rests_on} if rests_on else {}),
            **({"environment": named} if named else {}),
        }
    elif named:
        more["environment"] = named
    answer = under_lease(
        lambda attempt: attempt.discovery(kind, title, detail=detail, severity=severity, **more)
    )
    _print(answer, as_json, f"Recorded the discovery {answer['id']}.")
    for other in [] if as_json else answer.get("alike", []):
        note(
            f"Perhaps the same: {other['title']}. holdfast discovery merge {answer['id']}"
            f" {other['id']} makes them one."
        )


@click.command()
@click.argument("title")
@click.option("--description", "-d", type=PROSE)
@click.option("--label", "labels", multiple=True, help="Repeatable.")
@click.option("--requires", multiple=True, help="Repeatable.")
@json_option
def propose(title: str, as_json: bool, **more: Any) -> None:
    """Add a card for follow-up work to the same goal."""
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in more.items() if v}
    answer = under_lease(lambda attempt: attempt.propose(title, **fields))
    _print(answer, as_json, f"Proposed {answer['key']}.")


@click.command()
@click.argument("summary", type=PROSE)
@click.option("--result", type=PLAIN, help="JSON, @FILE or -.")
@click.option("--met", multiple=True, metavar="CRITERION", help="The goal's, met now; repeatable.")
@click.option("--evidence", type=PLAIN, help='[{"criterion": "…", "met": true, "detail": "…"}]')
@json_option
def complete(summary: str, result: Any, met: tuple[str, ...], evidence: Any, as_json: bool) -> None:
    """End the attempt: the work is done."""
    shown = [{"criterion": text, "met": True} for text in met] + list(evidence or [])
    answer = under_lease(
        lambda attempt: attempt.complete(summary, result=result, evidence=shown or None)
    )
    _ended(answer, as_json)


@click.command()
@click.argument("error", type=PROSE)
@click.option("--lesson", type=PROSE, help="What the next one should know.")
@click.option("--final", is_flag=True, help="Trying again would not help.")
@click.option("--fault", type=click.Choice(FAULTS), help="What kind of failure it was.")
@json_option
def fail(error: str, lesson: str | None, final: bool, fault: str | None, as_json: bool) -> None:
    """End the attempt: it failed, for the reason that ERROR says."""
    answer = under_lease(
        lambda attempt: attempt.fail(error, lesson=lesson, retryable=not final, fault=fault)
    )
    _ended(answer, as_json)


@click.command()
@click.argument("reason", type=PROSE)
@click.option("--question", type=PROSE, help="What a person is asked.")
@click.option("--option", "choices", multiple=True, help="An answer to choose; repeatable.")
@click.option("--kind", type=click.Choice(ASKS), help="What answers it takes; text unless told.")
@click.option("--detail", type=PROSE, help="What is to be approved, verbatim; - reads it.")
@click.option("--timeout", type=click.IntRange(min=1), metavar="SECONDS", help="To answer within.")
@click.option("--default", metavar="ANSWER", help="The answer when the time is up.")
@click.option("--on-timeout", type=click.Choice(ON_TIMEOUT), help="What happens then.")
@json_option
def block(
    reason: str,
    question: str | None,
    choices: tuple[str, ...],
    kind: str | None,
    timeout: int | None,
    as_json: bool,
    **terms: str | None,
) -> None:
    """End the attempt: a person is needed, for REASON."""
    answer = under_lease(
        lambda attempt: attempt.block(
            reason,
            question=question,
            options=list(choices) or None,
            question_kind=kind,
            timeout_seconds=timeout,
            **terms,
        )
    )
    _ended(answer, as_json)


@click.command()
@click.argument("summary", type=PROSE)
@click.option("--next", "next_step", type=PROSE, help="What whoever goes on does first.")
@click.option("--reason", help="Such as rate_limited.")
@click.option("--after", type=click.IntRange(min=0), metavar="SECONDS", help="Claimable then.")
@json_option
def release(
    summary: str, next_step: str | None, reason: str | None, after: int | None, as_json: bool
) -> None:
    """End the attempt: hand the card over as it is; that is no failure."""
    answer = under_lease(
        lambda attempt: attempt.release(
            summary, next_step=next_step, reason=reason, retry_after_seconds=after
        )
    )
    _ended(answer, as_json)


def _ended(answer: JSON, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    card = answer["card"]
    say(f"{card['key']} is {card['state']}.")
