"""What stands between a command and this machine: found out once, said plainly."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMESPACE, SUBREAPER, GROUP = "namespace", "subreaper", "group"


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
_NEVER = (
    "Network access.",
    "Reading and writing files that the server's user may, outside the data folder as well.",
)

_MODES = {
    NAMESPACE: Mode(
        NAMESPACE,
        "Commands run under bubblewrap, in a process namespace of their own.",
        (
            *_ALWAYS,
            "Any process outliving the command: the kernel ends all with the namespace.",
            "Seeing or signalling other processes, the server's memory and environment included.",
            "Reading the data folder: database, secret key, artifacts, other cards.",
        ),
        (_NEVER[0], "Reading and writing other files that the server's user may."),
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
            "Reading the data folder: database, secret key, artifacts, other cards.",
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
            "Reading the data folder: database, secret key, artifacts, other cards.",
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


@functools.cache
def bubblewrap() -> str | None:
    """Return the path of a bubblewrap that can make a namespace here, or None.

    Installed is not usable: containers and hardened kernels refuse the namespace or the
    mount of /proc. Trying is the only test.
    """
    path = shutil.which("bwrap")
    if path is None or sys.platform != "linux":
        return None
    try:
        tried = subprocess.run(
            [*_namespace(path), "--", "/bin/sh", "-c", "exit 42"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if tried.returncode == 42 else None


def wrapped(
    argv: Sequence[str], prefer: str, hidden: Sequence[Path], visible: Sequence[Path]
) -> list[str]:
    """Return ``argv`` as the mode runs it; ``hidden`` folders look empty but for ``visible``."""
    path = bubblewrap() if prefer != "plain" else None
    if path is None:
        return list(argv)
    wrapper = _namespace(path)
    for folder in hidden:
        wrapper += ["--tmpfs", os.path.realpath(folder)]
    for folder in visible:
        real = os.path.realpath(folder)
        wrapper += ["--bind", real, real]
    return [*wrapper, "--", *argv]


def _namespace(path: str) -> list[str]:
    return [
        path,
        "--unshare-pid",
        "--die-with-parent",
        "--dev-bind",
        "/",
        "/",
        "--proc",
        "/proc",
    ]
