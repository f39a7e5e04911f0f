"""A clean clone of a board's repository for a moment, to look at what is in its main branch.

    <root>/check-<goal>/tree, home, tmp     as a workspace has them; made anew each time

Nothing is kept of it, and nothing goes back: what a card worked on is in its own workspace.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from checkpoints.git import CLONE_SECONDS, Git, GitFailed
from checkpoints.workspaces import WorkspaceError, remove_folder, source_of
from kernel.addresses import without_credentials


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the main branch: its subject, author, and the card it says it is from."""

    sha: str
    subject: str
    author: str
    card: str


@dataclass(slots=True)
class Checkout:
    """A clone at one commit of the branch that the repository shows first."""

    folder: Path
    git: Git
    commit: str

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    def put_at(self, commit: str) -> None:
        """Have exactly the files of the commit, and empty rooms beside. Raises GitFailed."""
        self.git.run("reset", "--quiet", "--hard", commit, cwd=self.tree)
        self.git.run("clean", "--quiet", "-ffdx", cwd=self.tree)
        for room in (self.home, self.tmp):
            if room.exists() or room.is_symlink():
                remove_folder(room)
            room.mkdir(mode=0o700)
        self.commit = commit

    def since(self, good: str, bad: str, most: int) -> tuple[list[Commit], int]:
        """Return what came into the branch after ``good`` up to ``bad``, oldest first: merges,
        not what they merged. At most the newest so many, and how many there are besides.

        Nothing where the history was rewritten and ``good`` is no part of it.
        """
        try:
            said = self.git.run(
                "log", "--first-parent", "-z",
                "--format=%H%x1f%s%x1f%an%x1f%(trailers:key=Holdfast-Card,valueonly,separator=%x2C)",
                f"{good}..{bad}",
                cwd=self.tree,
            )  # fmt: skip
        except GitFailed:
            return [], 0
        found = []
        for record in said.decode("utf-8", "replace").split("\0"):
            if record.strip():
                sha, subject, author, card = [*record.split("\x1f"), "", "", ""][:4]
                found.append(Commit(sha.strip(), subject[:200], author[:100], card.strip()))
        return found[:most][::-1], max(0, len(found) - most)


@contextmanager
def checkout(
    root: Path, goal: UUID, repository: str, settle: Callable[[Path], bool]
) -> Iterator[Checkout]:
    """A clean clone of what the repository shows first, gone afterwards.

    ``settle`` ends what a killed worker left in the folder. Raises WorkspaceError.
    """
    folder = root.absolute() / f"check-{goal.hex}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkspaceError("An earlier check still runs here.", "", retryable=True) from None
        if not settle(folder):
            raise WorkspaceError(
                "Processes of an earlier check could not be ended.", "", retryable=True
            )
        made = _clone(folder, repository)
        try:
            yield made
        finally:
            for room in (made.tree, made.home, made.tmp):
                remove_folder(room)
    finally:
        os.close(lock)


def _clone(folder: Path, repository: str) -> Checkout:
    git = Git.with_settings_in(folder)
    made = Checkout(folder, git, "")
    for room in (made.tree, made.home, made.tmp):
        if room.exists() or room.is_symlink():
            remove_folder(room)
    try:
        git.run(
            "clone", "--quiet", "--no-hardlinks", "--no-recurse-submodules", "--template=",
            "--", source_of(repository), str(made.tree),
            cwd=folder,
            timeout_seconds=CLONE_SECONDS,
        )  # fmt: skip
        git.run("remote", "remove", "origin", cwd=made.tree)
        tip = git.line("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=made.tree)
        made.put_at(tip)
    except GitFailed as error:
        shown = without_credentials(f"{repository} can't be looked at: {error}")
        raise WorkspaceError(
            f"The board's repository {shown}.", "Put it back, or give the board its new place."
        ) from None
    return made
