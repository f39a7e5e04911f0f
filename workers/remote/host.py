"""What a host's operator has set, by the same variables of the environment as on the server."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

import holdfast
from holdfast.errors import Error
from workers.redaction import secrets_in
from workers.terms import Host

_PR_SET_DUMPABLE = 4


def folder_for(url: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where workers for that server keep their files on this host, made if need be."""
    told = environ.get("HOLDFAST_WORKER_DIR", "").strip()
    base = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    root = Path(told).expanduser().absolute() if told else Path(base) / "holdfast" / "worker"
    folder = root / hashlib.sha256(url.encode()).hexdigest()[:12]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def host_for(url: str, token: str, folder: Path, environ: Mapping[str, str] = os.environ) -> Host:
    """Return what the environment says of this host. Raises Error for what can't be used."""
    passed = tuple(_list(environ, "COMMAND_ENV"))
    packages = Path(holdfast.__file__).resolve().parent.parent
    return Host(
        url=url,
        workspaces=folder / "workspaces",
        sandbox=_choice(environ, "COMMAND_SANDBOX", "auto", "plain"),
        env=passed,
        paths=_paths(environ),
        memory_mb=_number(environ, "COMMAND_MEMORY_MB", 0),
        processes=_number(environ, "COMMAND_PROCESSES", 1024),
        file_mb=_number(environ, "COMMAND_FILE_MB", 8192),
        workflows_dir=environ.get("WORKFLOWS_DIR", "").strip(),
        model_keys=_pairs(environ, "MODEL_KEYS"),
        model_endpoints=tuple(_list(environ, "MODEL_ENDPOINTS")),
        readable=(packages, Path(sys.prefix)),
        hidden=(
            folder,
            Path(click.get_app_dir("holdfast")),
            *(packages / name for name in (".env", ".git", "pyproject.toml")),
        ),
        secrets=(token, *secrets_in({name: environ.get(name, "") for name in passed})),
    )


def keep_memory_private() -> None:
    """Have no other process of this user read this one's memory and environment: the token."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _list(environ: Mapping[str, str], name: str) -> list[str]:
    return [entry.strip() for entry in environ.get(name, "").split(",") if entry.strip()]


def _pairs(environ: Mapping[str, str], name: str) -> dict[str, str]:
    pairs = {}
    for item in _list(environ, name):
        key, found, value = (part.strip() for part in item.partition("="))
        if not (key and found and value):
            raise Error(f"{name} must be a list such as NAME=value,OTHER=value.")
        pairs[key] = value
    return pairs


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    raw = environ.get(name, "").strip()
    if raw and not (raw.isascii() and raw.isdigit()):
        raise Error(f"{name}={raw} is not a whole number; set it to one, 0 for no bound.")
    return int(raw) if raw else default


def _choice(environ: Mapping[str, str], name: str, *allowed: str) -> str:
    raw = environ.get(name, "").strip() or allowed[0]
    if raw not in allowed:
        raise Error(f"{name}={raw} is unknown; set it to {' or '.join(allowed)}.")
    return raw


def _paths(environ: Mapping[str, str]) -> tuple[tuple[Path, bool], ...]:
    entries = _list(environ, "COMMAND_PATHS")
    if not entries:
        return ((Path(tempfile.gettempdir()).absolute(), True),)
    if [entry.lower() for entry in entries] == ["none"]:
        return ()
    found = []
    for entry in entries:
        path = Path(entry.removesuffix(":ro").removesuffix(":rw")).expanduser()
        if not path.is_absolute() or str(path) == "/":
            raise Error(
                f"COMMAND_PATHS names {entry}; set it to folders that start with /, with commas "
                "between, each perhaps followed by :ro, or to none."
            )
        found.append((path, not entry.endswith(":ro")))
    return tuple(found)
