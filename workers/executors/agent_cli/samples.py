"""Steps of the kind ``agent`` for the suite that every executor passes, with a scripted agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.executors.samples import Samples

SCRIPTED = Path(__file__).with_name("scripted.py")


def told(*script: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a step's task for the scripted agent, under the name of Claude Code."""
    prompt = f"Do this:\nSCRIPT {json.dumps(script)}"
    return {"cli": "claude", "prompt": prompt, **fields}


@contextmanager
def path_with_agents(folder: Path) -> Iterator[Mapping[str, str]]:
    """Put the scripted agent into the folder, by the names it is called; yield such a PATH."""
    for name in ("claude", "scripted-acp"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{SCRIPTED}" "$@"\n')
        program.chmod(0o755)
    yield {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


SAMPLES = Samples(
    succeeds=told({"say": "Let me see"}, {"run": "echo went well"}, {"end": "It went well"}),
    prints="went well",
    fails=told({"run": "exit 3"}, {"error": "went badly"}),
    complains="went badly",
    hangs=told({"say": "begun"}, {"run": "sleep 1000 & sleep 1000"}),
    leaks=told({"run": "echo $SAMPLE_TOKEN"}, {"end": "It is out"}),
    pieces=told(
        *({"run": f'echo x >> "$PIECES/{n}"; sleep 0.3'} for n in range(1, 7)), {"end": "All done"}
    ),
    refused=(
        None,
        "claude",
        {},
        {"cli": "claude"},
        {"cli": "hal", "prompt": "Open"},
        {"cli": "claude", "prompt": "x", "args": "--verbose"},
        {"cli": "claude", "prompt": "x", "resume": "maybe"},
        {"cli": "claude", "prompt": "x", "acp": ["y"]},
        {"cli": "acp", "prompt": "x"},
        {"cli": "command", "prompt": "x", "command": ""},
        {"cli": "claude", "prompt": "x", "max_tokens_briefing": 1},
        {"cli": "claude", "prompt": "x\x00"},
        {"cli": "claude", "prompt": "x", "trust_repository": "yes"},
        {"cli": "claude", "prompt": "x", "key": "sk-1"},
    ),
    around=path_with_agents,
)
