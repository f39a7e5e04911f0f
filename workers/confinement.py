"""What the commands of a board may see, call and use up, from its settings and the operator's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from workers.executors.shell import Limits, View
from workers.executors.shell.doorway import LOOPBACK
from workers.terms import Host, Terms

MIB = 2**20


class Rooms(Protocol):
    """The folders that are a command's own."""

    @property
    def tree(self) -> Path: ...
    @property
    def home(self) -> Path: ...
    @property
    def tmp(self) -> Path: ...


def view(host: Host, terms: Terms, workspace: Rooms) -> View:
    """Return what a command of the attempt sees: its own rooms, and what the operator lets in."""
    writable = [path for path, may_write in host.paths if may_write]
    readable = [path for path, may_write in host.paths if not may_write]
    if host.workflows_dir:
        readable.append(Path(host.workflows_dir))
    return View(
        writable=(*writable, workspace.tree, workspace.home, workspace.tmp),
        readable=(*readable, *host.readable),
        hidden=host.hidden,
        tmp=None if _shares_tmp(writable) else workspace.tmp,
        network=terms.network,
    )


def limits(host: Host, terms: Terms) -> Limits:
    """Return the board's bounds, none of them wider than the host's."""
    memory = _least(host.memory_mb, terms.memory_mb)
    return Limits(
        fsize=host.file_mb * MIB or None,
        processes=_least(host.processes, terms.processes),
        memory=memory * MIB if memory else None,
    )


def output_chars(terms: Terms) -> int | None:
    """Return how much of a command's output is kept, where the board says."""
    return terms.output_mb * MIB if terms.output_mb else None


def reach(host: Host) -> tuple[str, int] | None:
    """Return where the server's API is, if that is on this machine: commands off the network
    may call it all the same."""
    parts = urlsplit(host.url)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        return None
    return parts.hostname, parts.port or 80


def _shares_tmp(writable: list[Path]) -> bool:
    return any(os.path.realpath(path) in ("/", os.path.realpath("/tmp")) for path in writable)


def _least(*bounds: int | None) -> int | None:
    """Return the lowest bound; 0 and None are none."""
    return min((bound for bound in bounds if bound), default=None)
