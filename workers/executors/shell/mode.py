"""What stands between a command and this machine: found out once, said plainly."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .view import View, mounts, own_code, toolchains

NAMESPACE, SUBREAPER, GROUP = "namespace", "subreaper", "group"
ON, OFF, OPEN = "on", "off", "open"


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of running commands. ``blocks`` and ``does_not_block`` are sentences for people."""

    name: str
    summary: str
    blocks: tuple[str, ...]
    does_not_block: tuple[str, ...]


_ALWAYS = (
    "Secrets of the server in the command's environment: it gets an allowlist.",
    "Running past its time, growing files without bound, dumping core.",
    "Set-uid programs, so nothing it starts is out of reach of a kill signal.",
)
_STORE = "Reading the data folder: database, secret key, artifacts, other cards."
_NEVER = (
    "Network access, also where the board keeps commands off the network.",
    "Reading and writing files that the server's user may, keys in its home included.",
)

_MODES = {
    NAMESPACE: Mode(
        NAMESPACE,
        "Commands run under bubblewrap: they see the system and their own folder, no more.",
        (
            *_ALWAYS,
            "Any process outliving the command: the kernel ends all with the namespace.",
            "Seeing or signalling other processes, the server's memory and environment included.",
            _STORE,
            "Home folders, keys and tokens in them; sockets of other programs, a container "
            "daemon's included.",
            "Writing anywhere but in the attempt's own folder and where COMMAND_PATHS lets it.",
            "The network, unless the board allows it; this server's API is within reach.",
        ),
        (
            "What COMMAND_PATHS lets in; by default that is the folder for temporary files.",
            "Services on this machine's own addresses, on boards that allow the network.",
            "Faults of the kernel: this is no virtual machine.",
        ),
    ),
    SUBREAPER: Mode(
        SUBREAPER,
        "Commands run as plain subprocesses under a keeper that collects every descendant.",
        (
            *_ALWAYS,
            "Descendants outliving the command, also those in sessions of their own.",
        ),
        (
            *_NEVER,
            _STORE,
            "Signalling other processes of the server's user, its keeper and the server included.",
            "A command killing its keeper: the worker or the next attempt then ends its leftovers.",
            "Reading the server's environment from /proc where the server has not closed it.",
            "Asking a service (cron, systemd, a container daemon) to start something for it.",
        ),
    ),
    GROUP: Mode(
        GROUP,
        "Commands run as plain subprocesses, each in a process group of its own.",
        _ALWAYS[:2],
        (
            *_NEVER,
            "A process that starts its own session: it outlives the command.",
            _STORE,
            "Signalling other processes of the server's user.",
        ),
    ),
}


@functools.cache
def mode(prefer: str = "auto") -> Mode:
    """Return the strongest mode that works here; ``prefer="plain"`` leaves bubblewrap out."""
    if prefer != "plain" and bubblewrap() is not None:
        return _MODES[NAMESPACE]
    return _MODES[SUBREAPER if sys.platform == "linux" else GROUP]


def network(view: View, prefer: str = "auto") -> str:
    """Return how a command stands to the network: on, off, or open although it should be off."""
    if view.network:
        return ON
    return OFF if mode(prefer).name == NAMESPACE and _cuts_network() else OPEN


@functools.cache
def bubblewrap() -> str | None:
    """Return the path of a bubblewrap that can make a namespace here, or None.

    Installed is not usable: containers and hardened kernels refuse the namespace or the
    mount of /proc. Trying is the only test.
    """
    path = shutil.which("bwrap")
    return path if path and sys.platform == "linux" and _works(path, View()) else None


@functools.cache
def _cuts_network() -> bool:
    path = bubblewrap()
    return path is not None and _works(path, View(network=False))


def _works(path: str, view: View) -> bool:
    try:
        tried = subprocess.run(
            [*_namespace(path, view), "--", "/bin/sh", "-c", "exit 42"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 42


def wrapped(argv: Sequence[str], prefer: str, view: View, path: str) -> list[str]:
    """Return ``argv`` as the mode runs it; ``path`` is where the command looks for tools."""
    wrapper = bubblewrap() if prefer != "plain" else None
    if wrapper is None:
        return list(argv)
    tools = (*toolchains(path), *own_code())
    seen = dataclasses.replace(
        view,
        readable=(*tools, *view.readable),
        network=view.network or not _cuts_network(),
    )
    return [*_namespace(wrapper, seen), "--", *argv]


def _namespace(path: str, view: View) -> list[str]:
    # No --new-session: whoever starts this does so in a session of its own.
    wrapper = [path, "--die-with-parent", "--unshare-user-try", "--unshare-pid", "--unshare-ipc"]
    wrapper += ["--unshare-cgroup-try"]
    if not view.network:
        wrapper += ["--unshare-net"]
    if os.geteuid() == 0:
        wrapper += ["--cap-drop", "ALL"]  # root keeps its own, others have none
    return [*wrapper, *mounts(view)]
