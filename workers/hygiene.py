"""Disk space: workspaces and contents that nobody needs any more go, snapshots are packed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from boards.models import Board, Card
from checkpoints import retention, salvaging, workspaces
from checkpoints.git import GitFailed
from checkpoints.stores import store_of

log = logging.getLogger(__name__)

KEEP = timedelta(hours=24)  # after a card is done, for whoever wants to look inside
BUDGET_SECONDS = 5.0  # of one call; the next goes on

_retention = retention.Retention()
_tidying: threading.Thread | None = None


def tidy_beside() -> None:
    """Tidy in a thread, unless one is at it: removing a large folder would hold the sweep up."""
    global _tidying
    if _tidying is None or not _tidying.is_alive():
        _tidying = threading.Thread(target=_tidy_and_close, name="hygiene", daemon=True)
        _tidying.start()


def _tidy_and_close() -> None:
    try:
        tidy()
    except DatabaseError as error:
        log.warning("the store does not answer: %s", str(error).partition("\n")[0])
    finally:
        connection.close()


def _unneeded(root: Path, names: list[str]) -> list[tuple[str, UUID]]:
    """Return the cards, each with its board, whose workspaces may go, the oldest first."""
    horizon = timezone.now() - KEEP
    done = Card.objects.filter(
        key__in=names,
        state__in=[Card.State.COMPLETED, Card.State.CANCELLED],
        state_since__lt=horizon,
    )
    found = list(done.order_by("state_since").values_list("key", "board_id"))
    deleted = set(names) - set(Card.objects.filter(key__in=names).values_list("key", flat=True))
    boards = dict(Board.objects.values_list("key", "pk")) if deleted else {}
    for name in sorted(deleted):
        board_id = boards.get(name.rpartition("-")[0])
        with contextlib.suppress(FileNotFoundError):
            if board_id and (root / name).stat().st_mtime < horizon.timestamp():
                found.append((name, board_id))
    return found


def tidy() -> int:
    """Remove the workspaces of cards done for longer than KEEP, or deleted; return how many.

    Lets go of what boards no longer keep and packs the stores of snapshots, too.

    A workspace is snapshotted before it goes and stays where that fails. Folders in which a
    worker is, and those of cards that may still run, are left alone. Safe to run anywhere.
    """
    until = time.monotonic() + BUDGET_SECONDS
    root = Path(settings.WORKSPACES_DIR)
    removed = 0
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    for key, board_id in _unneeded(root, names):
        if time.monotonic() >= until:
            return removed
        try:
            store = store_of(board_id)
            removed += workspaces.prune(root, store, key)
            if card := Card.objects.filter(key=key).first():
                salvaging.record(card, store)
        except (GitFailed, OSError) as error:
            log.warning("the workspace of %s could not be removed: %s", key, error)
    _retention.work(until)
    for board_id in Board.objects.values_list("pk", flat=True):
        if time.monotonic() >= until:
            return removed
        try:
            store_of(board_id).tidy()
        except (GitFailed, OSError) as error:
            log.warning("the snapshots of board %s could not be packed: %s", board_id, error)
    return removed
