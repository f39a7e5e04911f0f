"""``holdfast doctor``: what is wrong here, and what helps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click
import httpx
from rich.text import Text

import holdfast
from holdfast.cli import places
from holdfast.cli.exits import Exit
from holdfast.cli.options import json_option, some
from holdfast.cli.printing import print_json, show, table, text

MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "wrong": ("wrong", "red")}
LEAST_FREE_BYTES = 200 * 1024 * 1024
TIMEOUT_SECONDS = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not well."""

    name: str
    verdict: str
    detail: str
    remedy: str = ""


def _well(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check Python, data folder, server, token, git and sandbox; say what helps.

    Status 1 when something is wrong; a warning alone is 0.
    """
    found = list(_findings())
    wrong = any(finding.verdict == "wrong" for finding in found)
    if as_json:
        print_json({"ok": not wrong, "checks": [asdict(finding) for finding in found]})
    else:
        show(
            table(
                ["", "What", "How it is"],
                [
                    (Text(*MARKS[f.verdict]), text(f.name), text(f"{f.detail} {f.remedy}"))
                    for f in found
                ],
                wide="How it is",
            )
        )
    context.exit(Exit.ERROR if wrong else Exit.OK)


def _findings() -> Iterator[Finding]:
    yield _python()
    yield _git()
    try:
        who = places.login()
        local = httpx.URL(who.url).host in LOOPBACK
    except (holdfast.Error, httpx.InvalidURL) as error:
        yield Finding("login", "wrong", str(error))
        return
    if local:
        yield _data()
        yield _sandbox()
    reached = False
    for finding in _server(who.url):
        reached = reached or finding.name == "store"
        yield finding
    if reached:
        yield from _token(who)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return _well("python", f"{version}, holdfast {places.version()}")


def _git() -> Finding:
    remedy = "Install git: built-in workers clone the board's repository with it."
    git = shutil.which("git")
    if git is None:
        return Finding("git", "wrong", "There is no git.", remedy)
    try:
        ran = subprocess.run([git, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("git", "wrong", f"git does not run: {error}.", remedy)
    if ran.returncode:
        return Finding("git", "wrong", f"git ends with {ran.returncode}.", remedy)
    return _well("git", ran.stdout.strip())


def _data() -> Finding:
    folder = places.data_dir()
    name = "data folder"
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        remedy = "Set DATA_DIR to a folder that you can write."
        return Finding(name, "wrong", f"{folder} can't be written.", remedy)
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        remedy = "Make room, or set DATA_DIR to another disk."
        return Finding(name, "wrong", f"{folder} has {free // 2**20} MiB left.", remedy)
    if not (folder / "secret_key").exists() and not os.environ.get("SECRET_KEY"):
        remedy = "`holdfast up` makes it; if you have one, name it with DATA_DIR."
        return Finding(name, "warning", f"{folder} is not in use yet.", remedy)
    return _well(name, f"{folder}, {free // 2**30} GiB free")


def _sandbox() -> Finding:
    """Look for bubblewrap, as built-in workers do. Being there is not enough: it must run."""
    name, remedy = "sandbox", "Commands of cards run as you. Install bubblewrap to confine them."
    bwrap = shutil.which("bwrap")
    if os.environ.get("COMMAND_SANDBOX") == "plain":
        return Finding(name, "warning", "COMMAND_SANDBOX=plain turns it off.", "Unset it.")
    if bwrap is None:
        return Finding(name, "warning", "There is no bubblewrap.", remedy)
    try:
        true = shutil.which("true") or "/bin/true"
        command = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", true]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, "warning", f"bubblewrap does not run: {error}.", remedy)
    if ran.returncode:
        why = (ran.stderr.strip().splitlines() or [f"status {ran.returncode}"])[-1]
        allow = "Allow user namespaces on this machine; until then commands run as you."
        return Finding(name, "warning", f"bubblewrap does not work here: {why}.", allow)
    return _well(name, "bubblewrap works, without a network where a board allows none")


#: What helps where a part that /readyz looks at is not well.
REMEDIES = {
    "store": "Look at DATABASE_URL and whether the database runs.",
    "migrations": "Start the server anew with `holdfast up`; it brings the store up to date.",
    "tail": "Start the server anew; its log says why the tail ended.",
    "sweep": "Start it with `holdfast up`, which keeps the sweep running; see its log.",
    "workers": "See the server's log; `WORKERS=0` where none are wanted.",
}


def _server(url: str) -> Iterator[Finding]:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)
        told: Any = answer.json()
        checks = dict(told["checks"])
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        remedy = "Start one with `holdfast up`, or set HOLDFAST_URL."
        yield Finding("server", "wrong", f"{url} gives no answer ({why}).", remedy)
        return
    except (ValueError, KeyError, TypeError):
        remedy = "Set HOLDFAST_URL to the address of a Holdfast server."
        yield Finding("server", "wrong", f"{url} is no Holdfast server.", remedy)
        return
    yield _well("server", url)
    for name, check in checks.items():
        if check.get("ok"):
            yield _well(name, "well")
        else:
            remedy = REMEDIES.get(name, "See the server's log.")
            yield Finding(name, "wrong", f"{check.get('detail', 'not well')}.", remedy)


def _version(theirs: object) -> Iterator[Finding]:
    ours = places.version()
    if theirs is None:  # a server from before it said so
        return
    if theirs == ours:
        yield _well("version", f"{ours} here and there")
    else:
        remedy = "Install the same version on both sides."
        yield Finding("version", "warning", f"{ours} here, {theirs} there.", remedy)


def _token(who: places.Login) -> Iterator[Finding]:
    make = "Ask an operator for one, or make one where the server runs: `holdfast login --local`."
    if not who.token:
        yield Finding("token", "wrong", "There is none.", make)
        return
    try:
        with holdfast.Client(who.url, who.token, timeout=TIMEOUT_SECONDS, patience=0) as client:
            told = client.get("/me")
    except holdfast.Unauthorized:
        yield Finding("token", "wrong", "It is not valid, or no longer.", make)
        return
    except holdfast.Error as error:
        yield Finding("token", "wrong", str(error))
        return
    yield from _version(told.get("version"))
    yield _well("token", f"{told['name']}")
    boards = [f"{board['key']} as {board['role']}" for board in told["boards"]]
    if not boards:
        remedy = "Make one with `holdfast board add`." if told["everywhere"] else make
        yield Finding("role", "warning", "It sees no board.", remedy)
    elif all(board["role"] == "viewer" for board in told["boards"]):
        remedy = "Ask for a token with the role member to work on cards."
        yield Finding("role", "warning", f"It only reads: {some(boards)}.", remedy)
    else:
        yield _well("role", some(boards))
