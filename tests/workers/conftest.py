from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workbench import Bench


@pytest.fixture
def bench(tmp_path: Path, settings: Any) -> Bench:
    settings.DATA_DIR = tmp_path / "data"
    settings.WORKSPACES_DIR = settings.DATA_DIR / "workspaces"
    settings.SNAPSHOTS_DIR = settings.DATA_DIR / "snapshots"
    settings.DATA_DIR.mkdir()
    settings.DISPATCH = False
    return Bench(tmp_path)
