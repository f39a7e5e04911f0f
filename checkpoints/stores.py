"""Where each board's store of snapshots is on this server."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from checkpoints.snapshots import SnapshotStore


def store_of(board_id: object) -> SnapshotStore:
    """Return the board's store of snapshots."""
    return SnapshotStore(Path(settings.SNAPSHOTS_DIR) / f"{board_id}.git")
