"""Checkpoints: the points that a card can go on from.

Immutable and numbered per card. Each one's digest covers its content and its parent's digest,
so a history that was changed afterwards no longer adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.utils import timezone

from boards import leases
from boards.models import Attempt, Card
from checkpoints import artifacts
from checkpoints.models import Checkpoint, Line
from events import log
from goals import memory
from kernel.digests import canonical, sha256
from kernel.errors import StepConflict
from kernel.tx import transition

CONTENT = ("summary", "next_step", "state", "tests", "workspace", "artifacts")


def save(attempt_id: UUID, content: Mapping[str, Any]) -> tuple[Checkpoint, bool]:
    """Return the checkpoint and whether it is new. Renews the lease; raises LeaseLost.

    A ``key`` makes it idempotent: the same content again returns the first checkpoint, other
    content is a StepConflict.
    """
    with transition():
        held = leases.hold(attempt_id, add={"checkpoint_number": 1}, notes=facts(content))
        key = content.get("key") or ""
        if key:
            twin = Checkpoint.objects.filter(card_id=held.card_id, line=held.line, key=key).first()
            if twin is not None:
                Attempt.objects.filter(pk=attempt_id).update(
                    checkpoint_number=held.checkpoint_number - 1
                )
                restate(held)
                if _content(twin) != normal(content):
                    raise StepConflict(
                        f"Checkpoint {key} was saved with other content; the first one stands."
                    )
                return twin, False
        saved = insert(held, content, after_step=held.step_number)
        log.record(
            "checkpoint.saved",
            board_id=held.board_id,
            subject_id=held.card_id,
            actor=held.actor,
            attempt=held.number,
            checkpoint=saved.number,
            digest=saved.digest,
            summary=saved.summary[:300],
        )
    return saved, True


def facts(content: Mapping[str, Any] | None) -> dict[str, int]:
    """Return what the attempt's row keeps of a checkpoint, so that a board needn't look for it."""
    content = content or {}
    tests, workspace = content.get("tests"), content.get("workspace")
    found: dict[str, int] = {}
    if tests:
        found["tests_passed"] = tests.get("passed") or 0
        found["tests_failed"] = tests.get("failed") or 0
    if workspace:
        found["additions"] = workspace.get("additions") or 0
        found["deletions"] = workspace.get("deletions") or 0
    return found


def restate(held: leases.Hold) -> None:
    """Make the attempt's row say again what the newest checkpoint says."""
    newest = head(held.card_id, held.line)
    said = facts({"tests": newest.tests, "workspace": newest.workspace}) if newest else {}
    if said:
        Attempt.objects.filter(pk=held.attempt_id).update(**said)


def insert(held: leases.Hold, content: Mapping[str, Any], *, after_step: int) -> Checkpoint:
    """Insert the checkpoint whose number the hold gave out, with the memory it carries."""
    # The memory first: what a checkpoint carries is not younger than it.
    decisions: Sequence[Mapping[str, Any]] = content.get("decisions") or ()
    discoveries: Sequence[Mapping[str, Any]] = content.get("discoveries") or ()
    if decisions or discoveries:
        remember(held, decisions, discoveries)
    parent = head(held.card_id, held.line)
    body = normal(content)
    checkpoint = Checkpoint.objects.create(
        card_id=held.card_id,
        line=held.line,
        number=held.checkpoint_number,
        parent_id=parent.pk if parent else None,
        attempt_id=held.attempt_id,
        after_step=after_step,
        key=content.get("key") or "",
        digest=digest_of(body, parent.digest if parent else ""),
        at=timezone.now(),
        **body,
    )
    if body["artifacts"]:
        artifacts.link(
            body["artifacts"],
            board_id=held.board_id,
            card_id=held.card_id,
            attempt_id=held.attempt_id,
        )
    return checkpoint


def remember(
    held: leases.Hold,
    decisions: Sequence[Mapping[str, Any]] = (),
    discoveries: Sequence[Mapping[str, Any]] = (),
) -> list[Any]:
    """Keep decisions and discoveries of the attempt on its card's goal; return their rows."""
    goal_id = Card.objects.values_list("goal_id", flat=True).get(pk=held.card_id)
    origin: dict[str, Any] = {"card_id": held.card_id, "attempt_id": held.attempt_id}
    kept: list[Any] = [
        memory.decide(held.board_id, goal_id, held.actor, **origin, **d) for d in decisions
    ]
    kept += [
        memory.discover(held.board_id, goal_id, held.actor, **origin, **d) for d in discoveries
    ]
    return kept


def record_memory(attempt_id: UUID, **memories: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Keep ``decisions`` or ``discoveries`` and return their rows. Renews the lease; fenced."""
    with transition():
        return remember(leases.hold(attempt_id), **memories)


def head(card_id: UUID, line: int) -> Checkpoint | None:
    """Return the checkpoint from which the next attempt on the line goes on."""
    newest = Checkpoint.objects.filter(card_id=card_id, line=line).order_by("-number").first()
    if newest is not None or line == 1:
        return newest
    opened = Line.objects.select_related("origin").filter(card_id=card_id, number=line).first()
    return opened.origin if opened else None


def digest_of(body: Mapping[str, Any], parent_digest: str) -> str:
    """Return the digest that a checkpoint with this content under that parent must have."""
    return sha256(parent_digest.encode(), canonical({k: body[k] for k in CONTENT}))


def intact(checkpoint: Checkpoint) -> bool | None:
    """True while the stored content still gives the stored digest; None where a part of it is
    no longer kept, so that nobody can tell."""
    if checkpoint.state_bytes is not None:
        return None
    parent = checkpoint.parent.digest if checkpoint.parent else ""
    return digest_of(_content(checkpoint), parent) == checkpoint.digest


def normal(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": content["summary"],
        "next_step": content.get("next_step") or "",
        "state": content.get("state"),
        "tests": content.get("tests"),
        "workspace": content.get("workspace"),
        "artifacts": [dict(a) for a in content.get("artifacts") or []],
    }


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in CONTENT}
