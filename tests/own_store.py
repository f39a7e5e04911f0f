"""Every test run keeps its files in a folder of its own, which goes with it.

A plugin (see pyproject.toml) rather than a conftest, because pytest-django reads the settings
before any conftest is imported. Two runs at once never share a database file, and a test never
writes into the store of the board that `make run` serves from the same checkout.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

FOLDER = tempfile.mkdtemp(prefix="holdfast-tests-")
os.environ["DATA_DIR"] = FOLDER

# Many processes start from these sources, and the assertions of the tests are rewritten: to compile
# all that anew each time is a third of the whole work.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_unconfigure() -> None:
    """The folder is gone."""
    shutil.rmtree(FOLDER, ignore_errors=True)
