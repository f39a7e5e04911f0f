"""Steps of the kind ``llm`` for the suite that every executor passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.executors.samples import Samples


def _run(command: str) -> dict[str, Any]:
    return {"calls": [("run_command", {"command": command})]}


#: What the scripted model does, by its name.
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "succeeds": [_run("echo looking"), {"text": "It went well."}],
    "fails": [{"calls": [("give_up", {"reason": "It went badly.", "lesson": "Try another way."})]}],
    "hangs": [_run("printf 'beg%s\n' un; sleep 1000 & sleep 1000"), {"text": "Never."}],
    "leaks": [_run("echo $SAMPLE_TOKEN"), {"text": "Done."}],
    "pieces": [
        *(_run(f'sleep 0.2; echo x >> "$PIECES/{n}"') for n in range(1, 7)),
        {"text": "All are done."},
    ],
}


def _step(script: str) -> dict[str, Any]:
    return {"model": f"openai:{script}", "prompt": "Do what you do."}


@contextmanager
def _around(folder: Path) -> Iterator[Mapping[str, str]]:
    from tests.workers.model_api import played, serving

    with serving(lambda request: played(SCRIPTS[request.model])(request)) as api:
        yield {name: value for name, value in api.env.items() if name.startswith("OPENAI_")}


SAMPLES = Samples(
    succeeds=_step("succeeds"),
    prints="went well",
    fails=_step("fails"),
    complains="went badly",
    hangs=_step("hangs"),
    leaks=_step("leaks"),
    refused=(
        None,
        "do it",
        {"prompt": "do it"},
        {"model": "gpt", "prompt": "do it"},
        {"model": "openai:gpt", "prompt": ""},
        {"model": "openai:gpt", "prompt": "a\x00b"},
        {"model": "openai:gpt", "prompt": "do it", "tools": ["everything"]},
        {"model": "openai:gpt", "prompt": "do it", "max_turns": 0},
        {"model": "openai:gpt", "prompt": "do it", "temperature": "hot"},
        {"model": "openai:gpt", "prompt": "do it", "output": {"type": "string"}},
        {"model": "openai:gpt", "prompt": "do it", "output": {"type": "object", "oneOf": []}},
        {"model": {"provider": "openai", "name": "x", "base_url": "file:///"}, "prompt": "x"},
        {"model": {"provider": "openai", "name": "x", "api_key": "sk"}, "prompt": "x"},
    ),
    pieces=_step("pieces"),
    around=_around,
)
