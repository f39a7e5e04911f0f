from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import pytest

from holdfast.cli import root
from tests import serving


@pytest.fixture(scope="session", params=[serving.STORE])
def site(request: pytest.FixtureRequest) -> Iterator[serving.Site]:
    """A running site; tests make boards of their own on it."""
    with serving.new_site(request.param) as site:
        site.serve()
        yield site


@dataclass
class Desk:
    """A board with a member's token, and a home with nothing in it."""

    site: serving.Site
    board: str
    token: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the command line is told, without anything of whoever runs the tests."""
        return {
            "HOLDFAST_URL": self.site.web.origin,
            "HOLDFAST_TOKEN": self.token,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
        }

    def __call__(
        self, *words: str, status: int = 0, input: str | None = None, **environment: str | None
    ) -> click.testing.Result:
        """Run ``holdfast words`` in this process; its exit status must be ``status``."""
        told = {**_NOTHING, **self.environment, **environment}
        ran = click.testing.CliRunner().invoke(root, words, input=input, env=told)
        assert ran.exit_code == status, ran.output
        return ran

    def json(self, *words: str, **options: Any) -> Any:
        """Return what ``holdfast words --json`` prints."""
        return json.loads(self(*words, "--json", **options).stdout)

    def real(self, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run ``python -m holdfast words`` as a process of its own."""
        with self.start(*words, **environment) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start ``python -m holdfast words`` in a session of its own."""
        return self.spawn([sys.executable, "-m", "holdfast", *words], **environment)

    def spawn(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that may call ``$HOLDFAST``."""
        plain = {name: value for name, value in os.environ.items() if name not in _NOTHING}
        return subprocess.Popen(
            command,
            env={
                **plain,
                **self.environment,
                "PYTHONPATH": str(serving.ROOT),
                "HOLDFAST": f"{sys.executable} -m holdfast",
                **environment,
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def card(self, title: str = "a card", **more: Any) -> str:
        """Return the key of a new card that can be claimed."""
        wanted = {"board": self.board, "title": title, "column": "in_progress", **more}
        answer = self.site.call("POST", "/api/v1/cards", wanted)
        assert answer.status == 201, answer.body
        return str(answer.body["key"])

    def get(self, path: str) -> Any:
        answer = self.site.call("GET", f"/api/v1{path}")
        assert answer.status == 200, answer.body
        return answer.body

    def steps(self, card: str) -> list[tuple[str, str]]:
        """Key and status of each step that counts, in order."""
        found = self.get(f"/cards/{card}/steps?limit=200")["results"]
        return [(s["key"], s["status"]) for s in reversed(found) if not s["superseded"]]

    def claimed(self, *options: str) -> dict[str, str]:
        """Claim a card; return the environment that speaks for the attempt."""
        told: dict[str, str] = self.json("claim", *options)["environment"]
        return told


_NOTHING: dict[str, str | None] = dict.fromkeys(
    [
        "HOLDFAST_URL",
        "HOLDFAST_TOKEN",
        "HOLDFAST_BOARD",
        "HOLDFAST_WORKER",
        "HOLDFAST_ATTEMPT",
        "HOLDFAST_LEASE",
        "HOLDFAST_CARD",
        "NO_COLOR",
        "COLUMNS",
    ]
)


@pytest.fixture
def desk(site: serving.Site, tmp_path: Path) -> Desk:
    board = site.new_board()["key"]
    home = tmp_path / "home"
    home.mkdir()
    return Desk(site, board, site.new_token(board)["token"], home)
