"""Disk space: workspaces that nobody needs any more go, snapshots are packed."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from boards.models import Board, Card
from checkpoints import workspaces
from checkpoints.git import GitFailed
from checkpoints.snapshots import store_of

log = logging.getLogger(__name__)

KEEP = timedelta(hours=24)  # after a card is done, for whoever wants to look inside
BUDGET_SECONDS = 5.0  # of one call; the next goes on


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


def tidy() -> int:
    """Remove the workspaces of cards done for longer than KEEP, pack the stores; return how many.

    A workspace is snapshotted before it goes and stays where that fails. Folders in which a
    worker is, and those of cards that may still run, are left alone. Safe to run anywhere.
    """
    until = time.monotonic() + BUDGET_SECONDS
    root = Path(settings.WORKSPACES_DIR)
    removed = 0
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    done = Card.objects.filter(
        key__in=names,
        state__in=[Card.State.COMPLETED, Card.State.CANCELLED],
        state_since__lt=timezone.now() - KEEP,
    )
    for key, board_id in done.order_by("state_since").values_list("key", "board_id"):
        if time.monotonic() >= until:
            return removed
        try:
            removed += workspaces.prune(root, store_of(board_id), key)
        except (GitFailed, OSError) as error:
            log.warning("the workspace of %s could not be removed: %s", key, error)
    for board_id in Board.objects.values_list("pk", flat=True):
        if time.monotonic() >= until:
            return removed
        try:
            store_of(board_id).tidy()
        except (GitFailed, OSError) as error:
            log.warning("the snapshots of board %s could not be packed: %s", board_id, error)
    return removed
