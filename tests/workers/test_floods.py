"""Commands that flood the machine end, leave nothing, and the server answers all the while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import floods
from tests.serving import Site, new_site
from tests.workers.test_sandbox import group
from workers.executors.shell.mode import bubblewrap

pytestmark = [pytest.mark.chaos, pytest.mark.alone, pytest.mark.system]
SANDBOXES = ["plain", *(["auto"] if bubblewrap() else [])]
#: Of the 99th percentile; a machine under test is a slow one.
PATIENCE_MS = 10_000


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with new_site("sqlite") as site:
        site.serve()
        site.new_board()
        yield site


@pytest.mark.parametrize("sandbox", SANDBOXES)
@pytest.mark.parametrize("flood", sorted(floods.FLOODS))
def test_the_server_answers_during_a_flood_and_nothing_is_left(
    served: Site, flood: str, sandbox: str
) -> None:
    if flood == "fork bomb" and "pids" not in group():
        pytest.skip("nothing bounds the processes of root here")
    seconds = 60.0 if flood == "output" else 3.0
    row = floods.measured(served, flood, sandbox, seconds=seconds, gigabytes=0.3)
    assert row["left"] == 0
    assert row["answers"] > 0
    assert row["p99_ms"] < PATIENCE_MS
    if flood == "output":
        assert row["output_bytes"] == 300_000_000
