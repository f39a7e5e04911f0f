"""What a session leaves behind in its folder, in words: for whoever goes on."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

GIT_SECONDS = 2.0
FILES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The sentences, and the ``workspace`` of a checkpoint, empty outside a repository."""

    text: str
    workspace: dict[str, Any] = field(default_factory=dict)


def leftovers(cwd: str, last_words: str) -> Leftovers:
    """Return what is to be seen in ``cwd``; git is asked for two seconds a question at most."""
    said, workspace = _git(cwd)
    if last_words:
        said += f"\nThe agent's last words: {last_words}"
    return Leftovers(_sendable(said), workspace)


def _sendable(text: str) -> str:
    """Return the text without what the server refuses: NUL and halves of characters."""
    return text.encode(errors="replace").decode().replace("\0", "")


def _git(cwd: str) -> tuple[str, dict[str, Any]]:
    if not cwd or not os.path.isdir(cwd):
        return "Its folder is not known.", {}
    status = _ask(cwd, "status", "--porcelain=v1", "--branch", "-z")
    if status is None:
        return f"Its folder is {cwd}, under no git that answers.", {}
    lines = [line for line in status.split("\0") if line]
    branch = lines.pop(0).removeprefix("## ") if lines and lines[0].startswith("## ") else "?"
    # A rename comes as two entries; the second is the old name, without a state.
    changed = [line for line in lines if re.match(r"[ MADRCUT?!]{2} ", line)]
    commit = (_ask(cwd, "rev-parse", "HEAD") or "").strip()
    workspace: dict[str, Any] = {"changed_files": len(changed)}
    if commit:
        workspace["commit"] = commit
        counts = _ask(cwd, "diff", "--shortstat", "HEAD") or ""
        for word, name in (("insertion", "additions"), ("deletion", "deletions")):
            if match := re.search(rf"(\d+) {word}", counts):
                workspace[name] = int(match[1])
    at = f" at {commit[:12]}" if commit else ", without a commit yet"
    said = f"Its folder is {cwd}, branch {branch}{at}, "
    if not changed:
        return said + "with nothing uncommitted.", workspace
    named = ", ".join(f"{line[3:]} ({line[:2].strip()})" for line in changed[:FILES_NAMED])
    more = f" and {len(changed) - FILES_NAMED} more" if len(changed) > FILES_NAMED else ""
    return f"{said}with uncommitted changes ({len(changed)}): {named}{more}.", workspace


def _ask(cwd: str, *words: str) -> str | None:
    # Reading must not take the index lock from an agent that still runs git.
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *words],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
