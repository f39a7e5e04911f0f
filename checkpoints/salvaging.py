"""What an attempt still held when it ended: kept beside it, adopted by whoever wants it.

    attempt ended ── its folder, or its worker's own word ──> salvage ── adopt ──> checkpoint

A salvage stands on no line and changes nothing. Built-in workers' folders are kept by
themselves: the store of snapshots has a ref for each before anything is undone, and a row is
made of each ref sooner or later, so a kill in between loses neither.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from boards import cards, placing
from boards.models import Attempt, Card
from checkpoints import artifacts, differences, lines, recovery
from checkpoints.git import GitFailed
from checkpoints.models import Checkpoint, Line, Salvage
from checkpoints.snapshots import Busy, Left, SnapshotStore
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace, WorkspaceError
from events import log
from kernel import sql
from kernel.errors import Invalid, NotFound, TransitionRefused
from kernel.tx import transition

#: What one attempt may leave; a superseded worker that goes on talking is refused then.
MAX_PER_ATTEMPT = 50
State = Card.State

logger = logging.getLogger(__name__)


def salvage(attempt_id: UUID, content: Mapping[str, Any]) -> Salvage:
    """Keep what an attempt's worker says it still holds. Changes nothing else.

    ``commit`` names the snapshot of its files where the store has one. The same content again
    returns the first one. Raises Invalid for an unknown artifact.
    """
    with transition():
        attempt = _locked(Attempt.objects.filter(pk=attempt_id).first())
        files = [dict(a) for a in content.get("artifacts") or []]
        told = {"summary": content["summary"], "workspace": content.get("workspace")}
        commit = content.get("commit") or ""
        if commit and (known := attempt.salvages.filter(commit=commit).first()):
            return known
        for earlier in attempt.salvages.filter(commit=commit, summary=told["summary"]):
            if (earlier.workspace, earlier.artifacts) == (told["workspace"], files):
                return earlier
        if attempt.salvages.count() >= MAX_PER_ATTEMPT:
            raise TransitionRefused(f"Attempt {attempt.number} has left enough behind.")
        kept = _keep(attempt, artifacts=files, commit=commit, **told)
        if files:
            artifacts.link(
                files,
                board_id=attempt.board_id,
                card_id=attempt.card_id,
                attempt_id=attempt.pk,
            )
    return kept


def leave(workspace: Workspace, card: Card) -> None:
    """Keep what an attempt that did not get to its end leaves in its folder. Never raises."""
    try:
        workspace.leave()
    except (GitFailed, WorkspaceError, OSError) as error:
        # Its folder still has it all: the next attempt keeps it before it undoes anything.
        logger.warning("what was left of %s could not be kept yet: %s", card.key, error)
    record(card, workspace.store)


def record(card: Card, store: SnapshotStore) -> None:
    """Make a row of each snapshot of a folder of the card that has none yet. Never raises."""
    try:
        record_left(card, store)
    except (GitFailed, OSError, DatabaseError) as error:
        # The refs stay, so another call makes the rows.
        logger.warning("what was left of %s could not be recorded yet: %s", card.key, error)


def record_left(card: Card, store: SnapshotStore) -> list[Salvage]:
    """Make a row of each snapshot of a folder that has none yet, and return the new ones.

    Files that some checkpoint of the card holds are no orphans; their snapshot is let go.
    Raises GitFailed.
    """
    left = store.left_behind(card.key)
    if not left:
        return []
    known = set(Salvage.objects.filter(attempt__card=card).values_list("commit", flat=True))
    attempts = {a.number: a for a in card.attempts.all()}
    made = []
    for found in left:
        attempt = attempts.get(found.attempt_number)
        if found.commit in known or attempt is None:
            continue
        if Checkpoint.objects.filter(card=card, workspace__tree=found.tree).exists():
            with contextlib.suppress(Busy):
                store.forget(found)
            continue
        snapshot = store.snapshot_of(found.commit)
        summary = _in_words(attempt, found, store)
        with transition():
            _locked(attempt)
            if not attempt.salvages.filter(commit=found.commit).exists():
                made.append(
                    _keep(attempt, summary, workspace=snapshot.as_json(), commit=found.commit)
                )
    return made


def adopt(card_id: UUID, salvage_id: int, actor: str, next_step: str = "") -> Checkpoint:
    """Return the checkpoint that makes the salvage what the card's next attempt goes on from.

    It stands on the card's line after the newest one, with that one's state and the salvage's
    files. A person wins: a live attempt ends, and the card becomes claimable as after a
    rewind. A workflow that was through is done again on these files, on a line of its own: what
    it recorded says nothing of them. Adopting it again on the same line returns the same
    checkpoint. Raises NotFound, and Invalid where there is nothing to go on from.
    """
    with transition():
        card = cards.lock(card_id)
        kept = named(card, salvage_id)
        key = f"salvage/{kept.pk}"
        twin = Checkpoint.objects.filter(card=card, line=card.line, key=key).first()
        if twin is not None:
            return twin
        begun = Line.objects.filter(card=card, number=card.line, origin=kept.adopted_as_id)
        if kept.adopted_as is not None and begun.exists():
            return kept.adopted_as
        through = bool(card.workflow) and card.state in (State.COMPLETED, State.REVIEW)
        head = recovery.head(card.pk, card.line)
        workspace = _files(card, kept, head)
        revoked = placing.revoke(
            card, reason=f"what attempt {kept.attempt.number} left was adopted"
        )
        point = recovery.put(
            card,
            head,
            kept.attempt,
            key,
            {
                "summary": f"Adopted what attempt {kept.attempt.number} by {kept.attempt.worker} "
                f"left behind: {kept.summary}",
                "next_step": next_step or "Look at what was adopted, then go on from it.",
                "state": head.state if head else None,
                "workspace": workspace,
                "artifacts": kept.artifacts,
            },
        )
        card.failures, card.not_before, card.blocked_reason = 0, None, ""
        if card.state != State.BACKLOG:
            placing.place(card, State.WAITING)
        else:
            card.save(update_fields=["failures", "not_before", "blocked_reason"])
        if through:
            lines.begin_again(card, point, actor)
        kept.adopted_as, kept.adopted_by, kept.adopted_at = point, actor, point.at
        kept.save(update_fields=["adopted_as", "adopted_by", "adopted_at"])
        placing.note(
            card,
            "salvage.adopted",
            actor,
            salvage=kept.pk,
            attempt=kept.attempt.number,
            checkpoint=point.number,
            digest=point.digest,
            revoked=revoked.number if revoked else None,
        )
        cards.nudge_if_claimable(card)
    return point


def named(card: Card, salvage_id: int) -> Salvage:
    """Return the card's salvage of this id. Raises NotFound."""
    rows = Salvage.objects.select_related("attempt", "adopted_as")
    found = rows.filter(attempt__card=card, pk=salvage_id).first()
    if found is None:
        raise NotFound(f"{card.key} has no salvage {salvage_id}.")
    return found


def compared(card: Card, kept: Salvage) -> differences.Files:
    """Return how the salvage's files differ from what the card would otherwise go on from."""
    head = recovery.head(card.pk, card.line)
    old = (head.workspace or {}) if head else {}
    new = kept.workspace or {}
    start = old.get("commit") or new.get("base") or ""
    return differences.of_files(card.board_id, start, new.get("commit") or "")


def _files(card: Card, kept: Salvage, head: Checkpoint | None) -> dict[str, Any] | None:
    """Return the workspace that adopting gives the line. Raises Invalid."""
    workspace = kept.workspace or {}
    commit = str(workspace.get("commit") or "")
    if not commit:
        if not kept.artifacts:
            raise Invalid.field("salvage", "holds neither files nor artifacts to go on from.")
        return head.workspace if head else None
    if card.needs_built_in_worker and not store_of(card.board_id).has(commit):
        raise Invalid.field(
            "salvage",
            "has its files with the worker that told of it, not in this host's snapshots.",
        )
    return workspace


def _locked(attempt: Attempt | None) -> Attempt:
    """Return the attempt, locked until commit: what it leaves is counted. Raises NotFound."""
    if attempt is None:
        raise NotFound("There is no such attempt.")
    sql.lock(Attempt.objects.filter(pk=attempt.pk))
    return attempt


def _keep(attempt: Attempt, summary: str, **content: Any) -> Salvage:
    kept = Salvage.objects.create(attempt=attempt, summary=summary, **content)
    log.record(
        "attempt.salvaged",
        board_id=attempt.board_id,
        subject_id=attempt.card_id,
        actor=attempt.actor,
        attempt=attempt.number,
        salvage=kept.pk,
        summary=kept.summary[:300],
    )
    return kept


def _in_words(attempt: Attempt, found: Left, store: SnapshotStore) -> str:
    """Say how much is in what an attempt left, against what it had last recorded."""
    saved = Checkpoint.objects.filter(attempt=attempt).order_by("-number").first()
    if saved is None and attempt.resumed_from is not None:
        saved = Checkpoint.objects.filter(
            card_id=attempt.card_id, number=attempt.resumed_from
        ).first()
    commit = ((saved.workspace or {}).get("commit") if saved else None) or ""
    since = f"since C{saved.number}" if saved and commit else "since it began"
    start = commit or store.describe(found.commit).base
    with contextlib.suppress(GitFailed):
        stat = store.diffstat(start, found.commit)
        files = f"{stat.changed_files} file{'' if stat.changed_files == 1 else 's'} changed"
        return f"{files} {since}, +{stat.additions} −{stat.deletions}, in no checkpoint."
    return "Files in no checkpoint."
