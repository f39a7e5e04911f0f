"""Steps of the kind ``python`` for the suite that every executor passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.test import override_settings

from workers.executors.samples import Samples

WORKFLOWS = """
import os, subprocess, sys, time
from holdfast.workflows import workflow

@workflow("succeeds")
def succeeds(ctx):
    print("went well")

@workflow("fails")
def fails(ctx):
    raise RuntimeError("went badly")

@workflow("hangs")
def hangs(ctx):
    print("begun", flush=True)
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)

@workflow("leaks")
def leaks(ctx):
    ctx.note(os.environ["SAMPLE_TOKEN"])
    print(os.environ["SAMPLE_TOKEN"])
    return {"token": ctx.step("leak", lambda: os.environ["SAMPLE_TOKEN"])}

@workflow("pieces")
def pieces(ctx):
    for n in range(6):
        ctx.step(f"piece:{n}", piece, n)

def piece(n):
    with open(os.path.join(os.environ["PIECES"], str(n)), "a") as file:
        file.write("x\\n")
    time.sleep(0.5)
"""


@contextmanager
def around(folder: Path) -> Iterator[Mapping[str, str]]:
    """Have the workflows above in an operator's folder."""
    (folder / "sample_workflows.py").write_text(WORKFLOWS)
    with override_settings(WORKFLOWS_DIR=str(folder)):
        yield {}


SAMPLES = Samples(
    succeeds="succeeds",
    prints="went well",
    fails={"workflow": "fails", "inputs": {}},
    complains="went badly",
    hangs="hangs",
    leaks="leaks",
    refused=(
        None,
        "",
        7,
        "a b",
        ["release"],
        {"inputs": {}},
        {"workflow": "a", "inputs": []},
        {"workflow": "a", "version": 0},
        {"workflow": "a", "version": "1"},
        {"workflow": "a", "when": "now"},
    ),
    pieces="pieces",
    around=around,
)
