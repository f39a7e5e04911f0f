"""Where things are: the saved login, this version, and the server's own code."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

import holdfast
from holdfast.errors import Error
from holdfast.protocol import DEFAULT_URL

PACKAGES = Path(holdfast.__file__).resolve().parent.parent

#: How long a person waits for a server that is away, and how long a worker does.
BRIEF_PATIENCE_SECONDS = 5.0
WORKER_PATIENCE_SECONDS = 60.0


def version() -> str:
    """Return the version of this package; in a checkout, what it will be packed as."""
    project = PACKAGES / "pyproject.toml"
    if project.is_file() and manage_py() == PACKAGES / "manage.py":
        import tomllib

        return str(tomllib.loads(project.read_text())["project"]["version"])
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "unknown"


def manage_py() -> Path | None:
    """Return the server's manage.py: of the checkout, or of the installed wheel."""
    found = [PACKAGES / "holdfast_share" / "manage.py", PACKAGES / "manage.py"]
    return next((path for path in found if path.is_file()), None)


def data_dir() -> Path:
    """Return where a server that is started here keeps its data, unless told otherwise."""
    if told := os.environ.get("DATA_DIR"):
        return Path(told).expanduser().absolute()
    if manage_py() == PACKAGES / "manage.py":
        return PACKAGES / "data"
    # An installed wheel has no place for data among the packages.
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "holdfast"


@dataclass(frozen=True)
class Login:
    """A server and a token of it."""

    url: str = ""
    token: str = ""


def config_file() -> Path:
    """Return the file that keeps the login."""
    return Path(click.get_app_dir("holdfast")) / "login.json"


def saved() -> Login:
    """Return the login that was saved; an empty one where there is none. Raises Error."""
    path = config_file()
    try:
        read = json.loads(path.read_text())
        return Login(str(read["url"]), str(read["token"]))
    except FileNotFoundError:
        return Login()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(f"{path} can't be read ({error}). Remove it and log in once more.") from None


def save(login: Login) -> Path:
    """Keep ``login`` in a file that only the user can read; return its path."""
    path = config_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with 0600, and put in place whole.
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".login-")
    with os.fdopen(fd, "w") as file:
        json.dump({"url": login.url, "token": login.token}, file)
    os.replace(name, path)
    return path


def login() -> Login:
    """Return server and token: the environment's, else the saved ones.

    The saved token goes to the saved server only, wherever HOLDFAST_URL may point. Raises Error.
    """
    url = os.environ.get("HOLDFAST_URL", "").strip().rstrip("/")
    token = os.environ.get("HOLDFAST_TOKEN", "").strip()
    if url and token:
        return Login(url, token)
    kept = saved()
    if not url:
        return Login(kept.url or DEFAULT_URL, token or kept.token)
    return Login(url, token or (kept.token if kept.url == url else ""))


def known() -> Login:
    """Return the login, which has a token. Raises Error where there is none."""
    who = login()
    if not who.token:
        raise holdfast.Unauthorized(
            "There is no token. Set HOLDFAST_TOKEN, or run `holdfast login`.",
            status=401,
            problem={"code": "not_authenticated"},
        )
    return who


def connect(patience: float = BRIEF_PATIENCE_SECONDS, timeout: float = 30.0) -> holdfast.Client:
    """Return a client of the server that the login names. Raises Error where there is no token."""
    who = known()
    return holdfast.Client(who.url, who.token, timeout=timeout, patience=patience)
