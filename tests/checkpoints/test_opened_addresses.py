"""A repository whose address has a password in it: git is let in, and nothing else has it."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints.git import Git, GitFailed
from checkpoints.snapshots import SnapshotStore
from checkpoints.workspaces import CantClone, Workspace
from kernel.addresses import opened
from tests.repositories import git

PASSWORD = "s3cret p@ss"
SPELLED = "s3cret%20p%40ss"


class Guarded(http.server.SimpleHTTPRequestHandler):
    """Files for whoever has the password."""

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"bob:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a repository behind a password, as an operator writes it."""
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "--quiet")
    (source / "README.md").write_text("hello\n")
    git(source, "add", ".")
    git(source, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    git(source, "clone", "--quiet", "--bare", str(source), str(tmp_path / "www" / "it.git"))
    git(tmp_path / "www" / "it.git", "update-server-info")
    files = functools.partial(Guarded, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://bob:{SPELLED}@127.0.0.1:{server.server_address[1]}/it.git"
        server.shutdown()


@pytest.fixture
def command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What every git was started with."""
    told, real = tmp_path / "told", shutil.which("git")
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return told


def holding(folder: Path) -> list[Path]:
    """Return the files below the folder in which the password stands."""
    words = (PASSWORD.encode(), SPELLED.encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(word in path.read_bytes() for word in words)]


def prepare(tmp_path: Path, number: int, repository: str) -> Workspace:
    store = SnapshotStore(tmp_path / "work" / "store.git")
    return Workspace.prepare(
        tmp_path / "work", store, card_key="PAY-1", attempt_number=number, repository=repository
    )


def test_nothing_but_git_itself_is_told_what_opens_it(
    tmp_path: Path, address: str, command_lines: Path
) -> None:
    workspace = prepare(tmp_path, 1, address)
    assert (workspace.tree / "README.md").read_text() == "hello\n"
    assert holding(tmp_path / "work") == []
    assert "clone" in command_lines.read_text()
    assert holding(tmp_path) == []
    workspace.close()


def test_a_folder_that_an_earlier_version_made_is_gone_on_with_and_cleaned(
    tmp_path: Path, address: str
) -> None:
    workspace = prepare(tmp_path, 1, address)
    (workspace.tree / "ignored").mkdir()
    workspace.close()
    file = workspace.folder / "origin.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "repository": address}))
    again = prepare(tmp_path, 2, address.replace("bob", "ann"))  # another name opens it now
    assert again.folder == workspace.folder
    assert holding(tmp_path / "work") == []
    again.close()


def test_a_wrong_password_is_a_clear_sentence_without_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(CantClone) as refused:
        prepare(tmp_path, 1, address.replace("bob:s", "bob:S"))
    assert "S3cret" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_another_host_is_not_told(tmp_path: Path, address: str) -> None:
    kept = Git.with_settings_in(tmp_path / "settings")
    port = address.rpartition(":")[2]
    with pytest.raises(GitFailed):
        # The address names one place, the remote another.
        kept.run(
            "-c", f"url.http://localhost:{port}.insteadOf={address.replace(f'bob:{SPELLED}@', '')}",
            "ls-remote", address, cwd=tmp_path,
        )  # fmt: skip
    assert kept.run("ls-remote", address, cwd=tmp_path)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://ann:p%40ss@git.example:8443/a/b.git", ("ann", "p@ss", "https://git.example:8443")),
        ("https://token@git.example/a", ("token", "", "https://git.example")),
        ("https://ann:a%0Ab@git.example/a", None),
        ("ssh://git@git.example/a", None),
        ("/srv/git/a", None),
    ],
)  # fmt: skip
def test_what_opens_an_address(address: str, found: tuple[str, ...] | None) -> None:
    told = opened(address)
    assert (told and (told.user, told.password, told.root)) == found
    assert told is None or "@" not in told.address
