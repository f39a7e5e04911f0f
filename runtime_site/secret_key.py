"""The signing key of an installation, made once and kept in its data folder.

Every process must sign with the same key: a worker with another one would drop the queue's
nudges as forged and refuse every lease. So it is kept in a file, never derived.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def kept_key(path: Path) -> str:
    """Return the key in ``path``, making it first if there is none.

    Processes that start together get the same key: the file is locked while it is read or
    written, and a key is whole only with its line end. Raises ImproperlyConfigured when the
    folder can't be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The data folder {path.parent} can't be used ({error.strerror}); "
            "set DATA_DIR to a folder that this user can write."
        ) from None
    with os.fdopen(fd, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_mode & 0o077:
            os.fchmod(file.fileno(), 0o600)
        kept = file.read()
        if kept.endswith("\n") and len(kept) > 32:
            return kept.strip()
        key = secrets.token_urlsafe(48)
        file.seek(0)
        file.truncate()
        file.write(f"{key}\n")
        file.flush()
        os.fsync(file.fileno())
        return key
