"""What an agent says of the attempt it works for: kept as its word, acted on by the worker.

A program that a built-in worker started can't end the worker's attempt. What it says about the
end (done, failed, blocked, handed over) is recorded as a step of the attempt; the worker reads
it once the program is over, and decides. Nothing counts as done on an agent's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from boards.models import Attempt
from boards.workflows import AGENT_KEYS
from checkpoints import steps
from checkpoints.models import Step
from kernel.digests import canonical, sha256

KIND = "says"
#: What only the worker knows of a checkpoint: its snapshots, and what the tests really said.
_NOT_THE_AGENTS = ("workspace", "tests")


def keep(attempt_id: UUID, what: str, fields: Mapping[str, Any]) -> Attempt:
    """Record that the agent says ``what`` (complete, fail, block, release) and return its attempt.

    Saying the same again changes nothing. Raises LeaseLost.
    """
    said = {"says": what, **fields}
    attempt = Attempt.objects.get(pk=attempt_id)
    key = f"{AGENT_KEYS}{attempt.number}/{what}/{sha256(canonical(said))[:12]}"
    steps.record(
        attempt_id, key, "succeeded", title=f"The agent says: {what}", kind=KIND, result=said
    )
    return attempt


def last_word(attempt_id: UUID) -> dict[str, Any] | None:
    """Return what the attempt's agent said last about its end, or None."""
    rows = Step.objects.filter(attempt_id=attempt_id, kind=KIND, key__startswith=AGENT_KEYS)
    last = rows.order_by("-number").values_list("result", flat=True).first()
    return dict(last) if isinstance(last, dict) else None


def own_key(key: str) -> str:
    """Return the key under which a step of the agent's own is kept: none of the workflow's."""
    return key if key.startswith(AGENT_KEYS) else f"{AGENT_KEYS}{key}"


def step_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an agent says of a step of its own without what its worker knows better."""
    kept = {name: value for name, value in fields.items() if name != "usage"}
    if kept.get("checkpoint"):
        kept["checkpoint"] = checkpoint_fields(kept["checkpoint"])
    return kept


def checkpoint_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an agent's checkpoint without what its worker knows better: files and tests."""
    return {name: value for name, value in fields.items() if name not in _NOT_THE_AGENTS}
