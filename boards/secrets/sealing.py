"""How a secret is sealed, so that a dump of the database shows none.

    SECRET_KEY ──HKDF-SHA256──> a Fernet key, and the name it goes by

A sealed value names its board and its variable within, so a row that is copied to another board,
or given another name, does not open. What was sealed under a key in SECRET_KEY_FALLBACKS opens as
well; new values are sealed under SECRET_KEY alone.
"""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

# The library is loaded where it is used: 9 MB in every process, and many boards have no secret.

_SEALING, _NAMING = b"holdfast board secrets: key 1", b"holdfast board secrets: name of key 1"


class Closed(Exception):
    """A sealed value does not open: its key is gone, or it was sealed for somewhere else."""


def seal(board_id: UUID, name: str, value: str) -> str:
    """Return the value as it may be stored, for that board and name alone."""
    said = json.dumps([board_id.hex, name, value])
    return _fernet(settings.SECRET_KEY).encrypt(said.encode()).decode()


def opened(board_id: UUID, name: str, sealed: str) -> str:
    """Return the value that was sealed for that board and name. Raises Closed."""
    from cryptography.fernet import InvalidToken, MultiFernet

    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    try:
        said = MultiFernet([_fernet(key) for key in keys]).decrypt(sealed.encode())
    except (InvalidToken, UnicodeEncodeError):
        raise Closed(name) from None
    board, sealed_name, value = json.loads(said)
    if (board, sealed_name) != (board_id.hex, name):
        raise Closed(name)
    return str(value)


def key_name() -> str:
    """Return what the key goes by under which values are sealed now."""
    return _derived(settings.SECRET_KEY, _NAMING, 8).hex()


@lru_cache(maxsize=16)
def _fernet(secret_key: str) -> Fernet:
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(_derived(secret_key, _SEALING, 32)))


@lru_cache(maxsize=16)
def _derived(secret_key: str, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt=None, info=purpose).derive(secret_key.encode())
