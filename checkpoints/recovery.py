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
from goals import discoveries as discovery
from goals import memory
from goals.decisions import contradiction, resembling
from goals.decisions import notices as decision_notices
from goals.models import Decision, Discovery
from kernel.digests import canonical, sha256
from kernel.errors import StepConflict
from kernel.ids import uuid7
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
    pk = uuid7()
    decisions: Sequence[Mapping[str, Any]] = content.get("decisions") or ()
    discoveries: Sequence[Mapping[str, Any]] = content.get("discoveries") or ()
    tests = content.get("tests")
    if decisions or discoveries or tests:
        remember(held, decisions, discoveries, tests=tests, checkpoint_id=pk)
    parent = head(held.card_id, held.line)
    body = normal(content)
    checkpoint = Checkpoint.objects.create(
        pk=pk,
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
    *,
    tests: Mapping[str, Any] | None = None,
    checkpoint_id: UUID | None = None,
) -> list[Any]:
    """Keep decisions and discoveries of the attempt on its card's goal, and what its tests say
    there; return the rows of the former. Raises Contradiction where the board asks for it."""
    goal_id, defaults = Card.objects.values_list("goal_id", "board__defaults").get(pk=held.card_id)
    origin: dict[str, Any] = {"card_id": held.card_id, "attempt_id": held.attempt_id}
    if defaults.get("enforce_decisions"):
        for d in decisions:
            refuse_contradiction(goal_id, held.card_id, d)
    failing = (tests or {}).get("failing") or ()
    named = [(d["kind"], d["title"]) for d in discoveries]
    named += [(Discovery.Kind.FAILING_TEST, name[:300]) for name in failing[: discovery.FAILING]]
    if len(named) > 1:
        discovery.lock_again(goal_id, held.card_id, named)
    kept: list[Any] = [
        memory.decide(
            held.board_id, goal_id, held.actor, checkpoint_id=checkpoint_id, **origin, **d
        )
        for d in decisions
    ]
    kept += [
        memory.discover(held.board_id, goal_id, held.actor, **origin, **d) for d in discoveries
    ]
    if tests:
        memory.heed_tests(
            tests, board_id=held.board_id, goal_id=goal_id, actor=held.actor, **origin
        )
    return kept


def refuse_contradiction(
    goal_id: UUID | None, card_id: UUID | None, decision: Mapping[str, Any]
) -> None:
    """Pass a decision that resembles none in force, or says how it stands to those. Raises
    Contradiction."""
    if decision.get("supersedes") or decision.get("differs"):
        return
    files = decision.get("files") or ()
    if alike := resembling(goal_id, card_id, decision["title"], files):
        raise contradiction(alike)


def in_force_beside(decision: Decision) -> list[dict[str, Any]]:
    """Return the other decisions in force that a decision just recorded resembles."""
    found = resembling(decision.goal_id, decision.card_id, decision.title, decision.files)
    return [one for one in found if one["id"] != str(decision.pk)]


def notices(checkpoint: Checkpoint, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return which decisions in force the checkpoint's changed files are under, where it names
    files."""
    files = (content.get("workspace") or {}).get("files") or []
    if not files:
        return []
    goal_id = Card.objects.values_list("goal_id", flat=True).get(pk=checkpoint.card_id)
    return decision_notices(goal_id, checkpoint.card_id, files)


def record_memory(
    attempt_id: UUID,
    decisions: Sequence[Mapping[str, Any]] = (),
    discoveries: Sequence[Mapping[str, Any]] = (),
) -> list[Any]:
    """Keep decisions or discoveries and return their rows. Renews the lease; fenced."""
    with transition():
        return remember(leases.hold(attempt_id), decisions, discoveries)


def head(card_id: UUID, line: int) -> Checkpoint | None:
    """Return the checkpoint from which the next attempt on the line goes on."""
    newest = Checkpoint.objects.filter(card_id=card_id, line=line).order_by("-number").first()
    if newest is not None or line == 1:
        return newest
    opened = Line.objects.select_related("origin").filter(card_id=card_id, number=line).first()
    return opened.origin if opened else None


def put(
    card: Card, parent: Checkpoint | None, attempt: Attempt, key: str, content: Mapping[str, Any]
) -> Checkpoint:
    """Return a checkpoint that no attempt made, from which the locked card goes on.

    ``parent`` is the card's head, ``attempt`` the one whose work it holds. What the next attempt
    starts with follows from it.
    """
    start = leases.carried(card)
    start["checkpoint_number"] += 1
    body = normal(content)
    point = Checkpoint.objects.create(
        card=card,
        line=card.line,
        number=start["checkpoint_number"],
        parent=parent,
        attempt=attempt,
        after_step=start["step_number"],
        key=key,
        digest=digest_of(body, parent.digest if parent else ""),
        at=timezone.now(),
        **body,
    )
    card.carried = start | {"resumed_from": point.number, **facts(body)}
    card.save(update_fields=["carried"])
    return point


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
        "tests": _counts(content.get("tests")),
        "workspace": content.get("workspace"),
        "artifacts": [dict(a) for a in content.get("artifacts") or []],
    }


def _counts(tests: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return test results as they are kept: which passed has been heeded, and is not."""
    if tests is None:
        return None
    return {name: value for name, value in tests.items() if name != "passing"}


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in CONTENT}
