"""Carries out ``run`` steps: a command for the shell."""

from __future__ import annotations

from typing import Any

from boards.workflows import storable
from workers.executors.contract import Assignment, Ending, Refuse
from workers.executors.shell import Result

MAX_COMMAND_BYTES = 64 * 1024
TAIL_CHARS = 4000


class Shell:
    """A step that is a command; it succeeds if the command exits with 0."""

    kind = "run"
    capabilities = ("shell",)
    commands = ("",)

    def read(self, value: Any, refuse: Refuse) -> Any:
        if not isinstance(value, str) or not value.strip():
            refuse("", "must be the command to run, such as 'make test'.")
        elif storable(value, refuse):
            if len(value.encode()) <= MAX_COMMAND_BYTES:
                return value
            refuse("", f"is longer than {MAX_COMMAND_BYTES} bytes; put the script in a file.")
        return None

    def available(self) -> str | None:
        return None

    def carry_out(self, assignment: Assignment) -> Ending:
        result = assignment.process(assignment.given)
        return Ending(
            result.succeeded,
            told(result, assignment.timeout_seconds),
            last_words=result.output_tail,
            detail=detail(result),
        )


def detail(result: Result) -> dict[str, Any]:
    """Return what is kept of how a command ended."""
    return {
        "exit_code": result.exit_code,
        "signal": result.signal,
        "timed_out": result.timed_out,
        "duration_seconds": result.duration_seconds,
        "output": {
            "bytes": result.output_bytes,
            "truncated": result.truncated,
            "tail": result.output_tail[-TAIL_CHARS:],
        },
    }


def told(result: Result, timeout_seconds: float) -> str:
    """Return how a command ended, as the rest of a sentence about its step."""
    took = f"{result.duration_seconds:.1f} s"
    if result.error:
        return f"could not be run to its end: {result.error.rstrip('.')}"
    if result.timed_out:
        return f"ran into its timeout of {timeout_seconds:g} s"
    if result.cancelled:
        return f"was ended after {took}"
    if result.signal is not None:
        return f"was ended by signal {result.signal} after {took}"
    if result.exit_code == 0:
        return f"succeeded in {took}"
    return f"failed with exit code {result.exit_code} after {took}"


EXECUTOR = Shell()
