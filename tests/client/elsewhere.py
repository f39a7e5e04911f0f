"""A host that has the server's address and a token, and nothing else of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests import serving
from tests.client.desk import Desk
from tests.repositories import git
from tests.serving import until

MOUNTS = subprocess.call(["unshare", "-m", "true"], stderr=subprocess.DEVNULL) == 0


@dataclass
class Elsewhere:
    """Another host: a home of its own, and nothing of the server. Where mounts can be made, the
    server's data folder is empty there."""

    desk: Desk
    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def worker(self, *words: str, host: str = "afar", **env: str) -> subprocess.Popen[str]:
        """Start a worker; those of different hosts share no home."""
        home = self.folder / host
        home.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(self.folder),
            "HOLDFAST_URL": self.desk.url,
            "HOLDFAST_TOKEN": self.desk.token,
            "COMMAND_PATHS": str(self.folder),
            **env,
        }
        data = self.desk.site.folder
        apart = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {data} && exec "$@"', "sh"]
        process = subprocess.Popen(
            [
                *(apart if MOUNTS else []),
                *(sys.executable, "-P", "-m", "holdfast", "worker", "--name", host, *words),
            ],
            env={"PYTHONPATH": str(serving.ROOT), **env},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def reached(self, name: str) -> None:
        """Wait until the mark was left once, or say what the worker said instead."""
        worker = self.started[-1] if self.started else None
        until(lambda: self.count(name) == 1 or (worker and worker.poll() is not None))
        if self.count(name) != 1 and worker is not None:
            why = [card["blocked_reason"] for card in self.desk.get("/cards")["results"]]
            raise RuntimeError(f"{worker.communicate()[0]} {why}")

    def count(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def carried_out(self, *words: str, host: str = "afar", **env: str) -> str:
        """Have a worker carry out one card to where it goes; return what it said."""
        worker = self.worker("--once", "--wait", "60", *words, host=host, **env)
        out, _ = worker.communicate(timeout=180)
        assert worker.returncode == 0, out
        return out

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def new_elsewhere(site: serving.Site) -> Elsewhere:
    """Return a host for a board of its own with a repository and commands on."""
    folder = Path(tempfile.mkdtemp(prefix="elsewhere-"))
    repository = folder / "upstream"
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / "README.md").write_text("hello\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "first")
    board = site.new_board(repository=str(repository), allow_commands=True, allow_network=True)
    return Elsewhere(Desk(site, board["key"], site.new_token(board["key"])["token"]), folder)
