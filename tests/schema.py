"""A store with this version's schema and nothing in it, for tests that need one of their own.

Running every migration takes seconds, copying a file takes none. The first run of the tests after
a change of the schema makes the file, from nothing; `make clean` removes it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent


def copy_to(file: Path) -> None:
    """``file`` is an SQLite store with the schema; the folders above it are there too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_made(), file)


@functools.cache
def _made() -> Path:
    digest = hashlib.sha256(django.__version__.encode())
    for source in [
        *sorted(ROOT.glob("*/migrations/*.py")),
        *sorted(ROOT.glob("requirements/*.lock")),
    ]:
        digest.update(source.name.encode() + source.read_bytes())
    made = ROOT / ".pytest_cache" / f"schema-{digest.hexdigest()[:16]}.sqlite3"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            environment = {**os.environ, "DATA_DIR": folder, "DATABASE_URL": ""}
            command = [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            file = Path(folder) / "holdfast.sqlite3"
            with closing(sqlite3.connect(file)) as store:
                store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            file.replace(made)  # another run of the tests may make the same one meanwhile
    return made
