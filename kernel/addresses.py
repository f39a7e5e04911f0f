"""Addresses of repositories: what opens them may stand in them, and is not for everybody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*)://([^/@\s]+)@", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Return the text with the user and password of every URL in it left out."""
    return _CREDENTIALS.sub("", text)


def credentials_in(address: str) -> list[str]:
    """Return what is secret in the address: its password; over HTTP a lone user is one, too."""
    found = _ADDRESS.match(address)
    if found is None:
        return []
    user, colon, password = found[2].partition(":")
    if not colon:
        password = user if found[1].lower() in ("http", "https") else ""
    return list(dict.fromkeys(text for text in (password, unquote(password)) if text))


@dataclass(frozen=True, slots=True)
class Opened:
    """An address without what opens it: ``root`` is where that is asked for."""

    address: str
    root: str
    user: str
    password: str = field(repr=False)


def opened(address: str) -> Opened | None:
    """Return what an address over HTTP says of who is let in, None if that is nothing."""
    found = _ADDRESS.match(address)
    if found is None or found[1].lower() not in ("http", "https"):
        return None
    user, _, password = (unquote(part) for part in found[2].partition(":"))
    if any(char in user + password for char in "\r\n\0"):
        return None  # nobody's name, and more than one line of what git is told
    bare = without_credentials(address.strip())
    root = "/".join(bare.split("/", 3)[:3])
    return Opened(bare, root, user, password)


def shown_to_all(address: str) -> str:
    """Return the address as everybody may see it."""
    return without_credentials(address) if credentials_in(address) else address
