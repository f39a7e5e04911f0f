"""What the commands of a board may see, call and use up, from its settings and the operator's."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from boards.models import Board
from checkpoints.workspaces import Workspace
from workers.executors.shell import Limits, View
from workers.executors.shell.doorway import LOOPBACK

MIB = 2**20
#: Folders of the installation that no command sees, wherever they are.
STORES = ("DATA_DIR", "ARTIFACTS_DIR", "SNAPSHOTS_DIR", "WORKSPACES_DIR")
#: What a checkout may have beside the code: settings, and an address with a password in it.
OWN_SECRETS = (".env", ".git")


def view(board: Board, workspace: Workspace) -> View:
    """Return what a command of the attempt sees: its own rooms, and what the operator lets in."""
    let_in = settings.COMMAND_PATHS
    writable = [path for path, may_write in let_in if may_write]
    readable = [path for path, may_write in let_in if not may_write]
    if settings.WORKFLOWS_DIR:
        readable.append(Path(settings.WORKFLOWS_DIR))
    readable.append(settings.BASE_DIR)  # for the command line: it may be installed from there
    return View(
        writable=(*writable, workspace.tree, workspace.home, workspace.tmp),
        readable=tuple(readable),
        hidden=(
            *(Path(getattr(settings, name)) for name in STORES),
            *(settings.BASE_DIR / name for name in OWN_SECRETS),
        ),
        tmp=None if _shares_tmp(writable) else workspace.tmp,
        network=board.allow_network,
    )


def limits(board: Board) -> Limits:
    """Return the board's bounds, none of them wider than the installation's."""
    memory = _least(settings.COMMAND_MEMORY_MB, board.defaults.get("memory_mb"))
    return Limits(
        fsize=settings.COMMAND_FILE_MB * MIB or None,
        processes=_least(settings.COMMAND_PROCESSES, board.defaults.get("processes")),
        memory=memory * MIB if memory else None,
    )


def output_chars(board: Board) -> int | None:
    """Return how much of a command's output is kept, where the board says."""
    megabytes = board.defaults.get("output_mb")
    return int(megabytes) * MIB if megabytes else None


def reach() -> tuple[str, int] | None:
    """Return where this server's API is, if that is on this machine: commands off the network
    may call it all the same."""
    parts = urlsplit(settings.BASE_URL)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        return None
    return parts.hostname, parts.port or 80


def _shares_tmp(writable: list[Path]) -> bool:
    return any(os.path.realpath(path) in ("/", os.path.realpath("/tmp")) for path in writable)


def _least(*bounds: int | None) -> int | None:
    """Return the lowest bound; 0 and None are none."""
    return min((bound for bound in bounds if bound), default=None)
