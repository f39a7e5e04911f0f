"""What commands may reach in each mode; ``docs/sandbox.md`` shows what is found here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boards.models import Board
from tests.processes import alive, carrying, odd_sleep
from tests.workers.escapes import ESCAPES
from workers import confinement, database
from workers.executors.shell import (
    Command,
    Execution,
    Limits,
    Result,
    cgroups,
    environment,
    view,
)
from workers.executors.shell.mode import bubblewrap, mode
from workers.executors.shell.view import toolchains

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "sandbox.md"
needs_bubblewrap = pytest.mark.skipif(bubblewrap() is None, reason="no usable bubblewrap here")

OFF, ON, PLAIN = "bubblewrap", "bubblewrap, network allowed", "plain"
#: What gets through, by way of running commands. The table in the docs is made of this.
THROUGH = {
    OFF: set[str](),
    ON: {"an_abstract_socket", "the_network"},
    PLAIN: set(ESCAPES) - {"environ_of_the_keeper", "outliving_the_command"},
}
#: The kernel's own settings may stand in the way of these.
MAYBE = {"memory_of_the_server", "a_link_to_the_key", "below_the_mounts"}


def read_doc() -> str:
    return DOC.read_text(encoding="utf-8")


def table() -> str:
    """Return the table of the docs, as it must be."""
    lines = [f"| a command tries to reach | {' | '.join(THROUGH)} |", "|---|---|---|---|"]
    for name, escape in ESCAPES.items():
        cells = [
            "**not blocked**" if name in through else "blocked" for through in THROUGH.values()
        ]
        lines.append(f"| {escape.__doc__} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_docs_show_what_is_tested_here() -> None:
    assert table() in read_doc()


@contextmanager
def answering(family: int, address: Any, canary: str) -> Iterator[socket.socket]:
    """A service that says the canary to whoever calls."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    call, _ = listener.accept()
                except OSError:
                    return
                with call:
                    call.sendall(canary.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class Targets:
    """A data folder, a home, a server and services of other programs, each with a canary."""

    def __init__(self, stack: ExitStack, tmp_path: Path) -> None:
        self.canary = f"canary-{secrets.token_hex(16)}"
        # A home is neither in a folder of the system nor in one for temporary files.
        self.home = Path(tempfile.mkdtemp(prefix="holdfast-home-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, self.home)
        self.short = Path(tempfile.mkdtemp(prefix="ssh-"))  # a socket's path is short
        stack.callback(shutil.rmtree, self.short)
        self.data = tmp_path / "data"
        self.room = self.data / "workspaces/PAY-1/1"
        for folder in (self.room / "tree", self.room / "home", self.room / "tmp"):
            folder.mkdir(parents=True)
        for path in (
            self.data / "holdfast.sqlite3",
            self.data / "secret_key",
            self.data / "workspaces/OTHER-1/1/tree/notes",
            self.home / ".ssh/id_ed25519",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.canary)
        self.sleep = odd_sleep()
        self.server = subprocess.Popen(
            ["sleep", "600"], env={"SECRET_KEY": self.canary, "PATH": os.environ["PATH"]}
        )
        stack.callback(self.server.wait)
        stack.callback(self.server.kill)
        abstract = f"holdfast-{secrets.token_hex(8)}"
        inet, unix = socket.AF_INET, socket.AF_UNIX
        daemon, agent = f"{self.home}/daemon.sock", f"{self.short}/agent.1"
        stack.enter_context(answering(unix, daemon, self.canary))
        stack.enter_context(answering(unix, agent, self.canary))
        stack.enter_context(answering(unix, "\0" + abstract, self.canary))
        service = stack.enter_context(answering(inet, ("127.0.0.1", 0), self.canary))
        self.workspace: Any = SimpleNamespace(
            tree=self.room / "tree", home=self.room / "home", tmp=self.room / "tmp"
        )
        told = {
            "canary": self.canary,
            "data": str(self.data),
            "home": str(self.home),
            "server": self.server.pid,
            "daemon": daemon,
            "agent": agent,
            "abstract": abstract,
            "port": service.getsockname()[1],
            "sleep": self.sleep,
        }
        (self.room / "tree/targets.json").write_text(json.dumps(told))
        shutil.copy(Path(__file__).with_name("escapes.py"), self.room / "tree")

    def reached(self) -> set[str]:
        """Return the escapes that got hold of what they were after."""
        got = json.loads((self.room / "tree/got.json").read_text())
        assert set(got) == set(ESCAPES)
        through = {name for name, said in got.items() if self.canary in said}
        if (self.data / "planted").exists():
            through.add("write_to_the_store")
        if (self.home / "planted").exists():
            through.add("write_outside")
        if carrying(self.sleep):
            through.add("outliving_the_command")
        if not alive(self.server.pid):
            through.add("end_the_server")
        return through


@pytest.fixture
def targets(tmp_path: Path, settings: Any) -> Iterator[Targets]:
    with ExitStack() as stack:
        found = Targets(stack, tmp_path)
        settings.DATA_DIR = found.data
        settings.WORKSPACES_DIR = found.data / "workspaces"
        settings.SNAPSHOTS_DIR = found.data / "snapshots"
        settings.ARTIFACTS_DIR = found.data / "artifacts"
        yield found


def run(
    workspace: Any, line: str, *, network: bool = False, sandbox: str = "auto", **terms: Any
) -> Result:
    """Run a command as a built-in worker does on a board with these settings."""
    board = Board(allow_network=network)
    env = environment(home=workspace.home, tmp=workspace.tmp, extra={})
    terms.setdefault("limits", confinement.limits(database.host(), database.terms(board)))
    return Execution(
        Command(
            run=line,
            cwd=workspace.tree,
            folder=workspace.tree.parent,
            env=env,
            view=confinement.view(database.host(), database.terms(board), workspace),
            sandbox=sandbox,
            **terms,
        ),
        lambda batch: None,
    ).run()


@pytest.mark.parametrize(
    ("way", "network", "sandbox"),
    [
        pytest.param(OFF, False, "auto", marks=needs_bubblewrap),
        pytest.param(ON, True, "auto", marks=needs_bubblewrap),
        (PLAIN, False, "plain"),
    ],
)
def test_what_a_command_that_means_harm_gets_hold_of(
    targets: Targets, way: str, network: bool, sandbox: str
) -> None:
    line = f"{sys.executable} -I escapes.py targets.json"
    result = run(targets.workspace, line, network=network, sandbox=sandbox)
    assert result.succeeded, result.output_tail
    assert targets.reached() - MAYBE == THROUGH[way] - MAYBE
    assert targets.reached() <= THROUGH[way]
    assert result.confined.mode == mode(sandbox).name
    assert result.confined.network == ("on" if network else "off" if way == OFF else "open")


@needs_bubblewrap
def test_tools_and_own_folders_are_within_reach(tmp_path: Path, targets: Targets) -> None:
    venv = targets.home / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    board = Board(allow_network=False)
    env = environment(
        home=targets.workspace.home,
        tmp=targets.workspace.tmp,
        extra={"PATH": f"{venv}/bin:/usr/bin:/bin"},
    )
    line = "python -c 'import ssl, sys; print(sys.prefix)'; echo a > b && mktemp && git --version"
    result = Execution(
        Command(
            run=line,
            cwd=targets.workspace.tree,
            folder=targets.room,
            env=env,
            view=confinement.view(database.host(), database.terms(board), targets.workspace),
        ),
        lambda batch: None,
    ).run()
    assert result.succeeded, result.output_tail
    assert str(venv) in result.output_tail
    assert (targets.workspace.tree / "b").read_text() == "a\n"
    for place in ("/etc", "/usr", str(venv), str(targets.data), "/"):
        assert not run(targets.workspace, f"touch {place}/x").succeeded


@needs_bubblewrap
def test_what_this_checkout_says_to_tools_does_not_reach_a_workspace_in_it(
    targets: Targets, settings: Any
) -> None:
    assert (settings.BASE_DIR / "pyproject.toml").is_file()
    look = f"test -d {settings.BASE_DIR}/boards && test ! -f {settings.BASE_DIR}/pyproject.toml"
    assert run(targets.workspace, look).succeeded


@needs_bubblewrap
def test_an_operator_says_what_else_commands_see(targets: Targets, settings: Any) -> None:
    (targets.home / "shared").mkdir()
    key = f"cat {targets.home}/.ssh/id_ed25519"
    settings.COMMAND_PATHS = [(targets.home / ".ssh", False), (targets.home / "shared", True)]
    assert targets.canary in run(targets.workspace, key).output_tail
    assert not run(targets.workspace, f"touch {targets.home}/.ssh/x").succeeded
    assert run(targets.workspace, f"echo x > {targets.home}/shared/x").succeeded
    assert (targets.home / "shared/x").exists()
    # Without the folder for temporary files among them, a command has one of its own.
    mark = Path(tempfile.gettempdir()) / f"holdfast-{secrets.token_hex(8)}"
    assert run(targets.workspace, f"ls /tmp; touch {mark}").succeeded
    assert not mark.exists()
    assert (targets.workspace.tmp / mark.name).exists()


def test_the_tools_on_the_path_bring_no_home_along(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in (
        "bin", ".local/bin", ".cargo/bin", ".docker/bin", ".nvm/versions/node/v20/bin",
        "project/.venv/bin", ".pyenv/shims", "project/node_modules/.bin",
    ):  # fmt: skip
        (home / name).mkdir(parents=True)
    path = os.pathsep.join(str(folder) for folder in home.rglob("*bin"))
    path += os.pathsep + str(home / ".pyenv/shims")
    shown = {str(p.relative_to(home)) for p in toolchains(path, home) if p.is_relative_to(home)}
    assert shown == {
        *("bin", ".local/bin", ".local/lib", ".local/share/uv", ".local/share/pipx"),
        *(".cargo/bin", ".rustup", ".docker/bin", ".nvm/versions/node/v20", "project/.venv"),
        *(".pyenv", "project/node_modules"),
    }


@needs_bubblewrap
def test_files_that_others_remove_meanwhile_keep_no_command_from_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o1777)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        (tmp_path / "passing").touch()
        with os.scandir(tmp_path) as found:
            entries = sorted(found, key=lambda entry: entry.name, reverse=True)
        (tmp_path / "passing").unlink()
        monkeypatch.setattr(view.os, "scandir", lambda _: nullcontext(entries))
        made = view.mounts(view.View(writable=(tmp_path,)))
    assert made[made.index(str(tmp_path / "door")) - 1] == "/dev/null"


def test_a_command_off_the_network_can_still_call_this_server(targets: Targets) -> None:
    """The one address it is let through to, both ways, with calls side by side."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def echo() -> None:
            while True:
                try:
                    call, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(call,), daemon=True).start()

        def answer(call: socket.socket) -> None:
            with call:
                while data := call.recv(65536):
                    call.sendall(data.upper())

        threading.Thread(target=echo, daemon=True).start()
        script = f"""
import socket, threading
first, second = (socket.create_connection(("127.0.0.1", {port})) for _ in range(2))
second.sendall(b"second")
first.sendall(b"x" * 200_000); first.shutdown(socket.SHUT_WR)
got = 0
while data := first.recv(65536):
    got += len(data); assert set(data) == set(b"X")
print(got, second.recv(100).decode())
"""
        (targets.workspace.tree / "call.py").write_text(script)
        line = f"{sys.executable} -I call.py"
        result = run(targets.workspace, line, reach=("127.0.0.1", port))
        assert "200000 SECOND" in result.output_tail
        assert not run(targets.workspace, line).succeeded
        listener.shutdown(socket.SHUT_RDWR)


# ── bounds ──


def group() -> set[str]:
    return {name for place in cgroups.places() for name in place.controllers}


def groups_of(mark: str) -> list[Path]:
    return [place.folder / f"{cgroups.PREFIX}{mark}" for place in cgroups.places()]


@pytest.mark.skipif("pids" not in group(), reason="no control group can count processes here")
@pytest.mark.parametrize("sandbox", ["plain", "auto"])
def test_a_group_bounds_the_processes_of_a_command(tmp_path: Path, sandbox: str) -> None:
    line = "for n in $(seq 60); do sleep 20 & done; jobs -p | wc -l; wait"
    command = Command(
        run=line,
        cwd=tmp_path,
        folder=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        limits=Limits(processes=20),
        timeout_seconds=2,
        grace_seconds=0,
        sandbox=sandbox,
    )
    result = Execution(command, lambda batch: None).run()
    assert "fork" in result.output_tail.lower()
    assert "processes" in result.confined.group
    assert result.survivors == 0


@pytest.mark.skipif("memory" not in group(), reason="no control group can count memory here")
def test_a_group_bounds_the_memory_of_all_processes_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "fill.py").write_text("x = bytearray(60 << 20); import time; time.sleep(5)")
    one = f"{sys.executable} -I fill.py"
    command = Command(
        run=f"bash -c '{one} & {one} & wait -n; echo first ended: $?'",
        cwd=tmp_path,
        folder=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        limits=Limits(memory=100 << 20),
        timeout_seconds=60,
        sandbox="plain",
    )
    result = Execution(command, lambda batch: None).run()
    assert "first ended: 137" in result.output_tail
    assert result.duration_seconds < 60


def test_groups_are_gone_when_their_command_is(tmp_path: Path) -> None:
    command = Command(run="ls", cwd=tmp_path, folder=tmp_path, env={"PATH": "/bin"})
    seen: list[bool] = []
    execution = Execution(command, lambda batch: seen.extend(map(Path.exists, groups())))
    groups = partial(groups_of, execution.id)
    execution.run()
    assert all(seen)
    assert not [p for p in groups_of(execution.id) if p.exists()]


def test_without_a_group_the_kernel_bounds_each_process() -> None:
    limits = Limits(processes=20, memory=2**30)
    assert limits.as_rlimits((), alone=True)["nproc"] == 20 + cgroups.OWN_PROCESSES
    assert limits.as_rlimits((), alone=False)["nproc"] > 20
    assert limits.as_rlimits((), alone=True)["as"] == 2**30
    assert set(limits.as_rlimits(("memory", "processes"), alone=True)) == {"fsize", "core"}


def test_a_board_narrows_the_installations_bounds_and_never_widens_them(settings: Any) -> None:
    settings.COMMAND_MEMORY_MB, settings.COMMAND_PROCESSES = 512, 100
    board = Board(defaults={"memory_mb": 4096, "processes": 10, "output_mb": 2})
    found = confinement.limits(database.host(), database.terms(board))
    assert (found.memory, found.processes) == (512 * 2**20, 10)
    assert confinement.output_chars(database.terms(board)) == 2 * 2**20
    settings.COMMAND_MEMORY_MB = 0
    assert confinement.limits(database.host(), database.terms(board)).memory == 4096 * 2**20
    assert confinement.limits(database.host(), database.terms(Board())).memory is None
