"""Files handed to workers on other hosts and back: bundles, which travel as artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from boards.models import Attempt
from checkpoints import artifacts, salvaging, transport
from checkpoints.git import GitFailed
from checkpoints.snapshots import SnapshotStore, left_ref
from checkpoints.stores import store_of
from checkpoints.workspaces import WorkspaceError
from kernel.access import Principal
from kernel.errors import DomainError, Invalid, TransitionRefused
from workers import database


class NoWorkspace(DomainError):
    """The attempt's files can't be brought together; ``extra['retryable']`` if that may pass."""

    code = "no_workspace"
    title = "No workspace"


def start(attempt: Attempt, have: Collection[str], principal: Principal) -> dict[str, Any]:
    """Return what the attempt begins from, its snapshot as an artifact that the principal may
    read, but for what it has."""
    card = attempt.card
    store = store_of(card.board_id)
    try:
        begins = database.start_of(card, attempt.line)
        if begins.commit is None:
            return {"commit": None, "bundle": None, "parents": []}
        said = {"commit": begins.commit, "parents": list(begins.parents)}
        if begins.commit in have:
            return {**said, "bundle": None}
        if not store.has(begins.commit):
            raise NoWorkspace(
                f"The checkpoint's workspace {begins.commit[:12]} is not in the server's snapshots."
                " Rewind the card, then retry it.",
                extra={"retryable": False},
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot.bundle"
            transport.write(store, begins.commit, have, path)
            with path.open("rb") as file:
                kept = artifacts.store_file(
                    file, content_type="application/x-git-bundle", principal=principal.key
                )
    except WorkspaceError as error:
        raise NoWorkspace(str(error), extra={"retryable": error.retryable}) from None
    except GitFailed as error:
        raise NoWorkspace(
            f"The snapshot can't be read: {error}.", extra={"retryable": True}
        ) from None
    return {**said, "bundle": kept.sha256}


def take(attempt: Attempt, bundle: str, principal: Principal) -> dict[str, Any]:
    """Take in a bundle that the principal has uploaded, as one of the attempt's snapshots.

    Returns it as a checkpoint's ``workspace``. Raises Invalid for what is no such bundle.
    """
    store = store_of(attempt.board_id)
    carried = _taken(store, bundle, principal)
    ref = f"refs/holdfast/{attempt.card.key}/{attempt.number}"
    store.keep(f"{ref}-base", carried.base)
    store.keep(ref, carried.commit)
    return store.snapshot_of(carried.commit).as_json()


def left(attempt: Attempt, bundle: str, principal: Principal) -> dict[str, Any]:
    """Take in what an attempt left, beside the card's line; return it as a ``workspace``."""
    if attempt.salvages.count() >= salvaging.MAX_PER_ATTEMPT:
        raise TransitionRefused(f"Attempt {attempt.number} has left enough behind.")
    store = store_of(attempt.board_id)
    carried = _taken(store, bundle, principal)
    snapshot = store.snapshot_of(carried.commit)
    store.keep(left_ref(attempt.card.key, attempt.number, snapshot.tree), carried.commit)
    return snapshot.as_json()


def _taken(store: SnapshotStore, bundle: str, principal: Principal) -> transport.Carried:
    found = artifacts.readable(bundle, principal)
    try:
        return transport.take(store, artifacts.path_of(found.pk))
    except GitFailed as error:
        raise Invalid.field("bundle", f"can't be taken in: {error}.") from None
