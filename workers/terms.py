"""What work is done under: what the operator of the host has set, and what the board says.

Both come from this server's settings for built-in workers, from the environment and the API for
workers on other hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

NAMED = 5  # secrets in a sentence that could name a hundred


@dataclass(frozen=True, slots=True)
class Host:
    """What a host's operator has set for the commands that run there.

    ``url`` is where they reach the server. ``paths`` are those they may see, and whether they
    may write there. Of the bounds 0 is none. ``readable`` is the installation itself, ``hidden``
    what is kept from commands wherever it is, ``secrets`` what no log may show. ``model_keys``
    and ``model_endpoints`` are for steps that ask a model.
    """

    url: str
    workspaces: Path
    sandbox: str = "auto"
    env: tuple[str, ...] = ()
    paths: tuple[tuple[Path, bool], ...] = ()
    memory_mb: int = 0
    processes: int = 0
    file_mb: int = 0
    max_artifact_bytes: int = 100 * 1024 * 1024
    workflows_dir: str = ""
    model_keys: Mapping[str, str] = field(default_factory=dict)
    model_endpoints: tuple[str, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def knowing(self, *secrets: str, most: int) -> Host:
        """Return the host for one attempt, with its secrets, and ``most`` bytes in an artifact."""
        return replace(self, secrets=(*self.secrets, *secrets), max_artifact_bytes=most)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a board says of the work on its cards.

    Snapshots hold the ignored files at ``keep_ignored``. ``secrets`` are given to commands as
    variables, and struck out of all that they print.
    ``closed`` are names of those that can't be opened, and ``withheld`` says what this worker
    may not be told: nothing is carried out while there is either.
    """

    board: str
    repository: str = field(default="", repr=False)  # there may be a password in it
    commands: bool = False
    network: bool = False
    memory_mb: int | None = None
    processes: int | None = None
    output_mb: int | None = None
    keep_ignored: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    closed: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()

    @property
    def why_closed(self) -> str:
        """Return in two sentences what keeps commands from running here, nothing if they may."""
        if not self.closed:
            return ""
        return (
            f"The board {self.board} has secrets that don't open: {_named(self.closed)}; "
            "SECRET_KEY is another one than when they were set. Set or remove them in the board's "
            "settings, or name the earlier key in SECRET_KEY_FALLBACKS."
        )

    @property
    def why_withheld(self) -> str:
        """Return in two sentences why this worker may not carry out the board's work."""
        if not self.withheld:
            return ""
        return (
            f"The worker's token may not carry secrets, and the board {self.board} has some: "
            f"{_named(self.withheld)}. An operator of the board can make a token that may."
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
