"""Which version of Holdfast this is."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


@cache
def version() -> str:
    """Return the version of the installed package; in a checkout, what it will be packed as."""
    project = _ROOT / "pyproject.toml"
    if project.is_file() and (_ROOT / "manage.py").is_file():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "unknown"
