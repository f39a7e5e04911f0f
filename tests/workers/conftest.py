from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workbench import Bench, keep_files_in


@pytest.fixture
def bench(tmp_path: Path, settings: Any) -> Bench:
    keep_files_in(tmp_path, settings)
    return Bench(tmp_path)
