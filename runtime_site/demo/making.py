"""Makes the demo board: work on this very checkout that really runs.

Everything goes through the transitions that people and workers use, in one transaction, so
the board is there whole or not at all and its log tells how it came about.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from boards import cards, leases, workflows
from boards.models import Attempt, Board, Card
from checkpoints import steps
from goals import memory
from goals.models import Goal
from kernel.access import SYSTEM
from kernel.tx import enclosing
from workers import registry
from workers.executors.shell import mode

PLAN = Path(__file__).with_name("board.yaml")
#: The worker that made the history of some cards.
WORKER = "demo"
TOOLS = ("ruff", "pytest", "build", "hatchling")


def make() -> Board | None:
    """Return the new demo board, or None when there is one or there is no checkout to work on."""
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    if Board.objects.filter(key=plan["board"]["key"]).exists() or not is_checkout():
        return None
    with enclosing():
        board = cards.create_board(
            SYSTEM, **plan["board"], repository=repository(), allow_commands=True
        )
        goal = memory.create(board.pk, SYSTEM.actor, **plan["goal"])
        made: dict[str, Card] = {}
        for entry in plan["cards"]:
            made[entry["slug"]] = _make_card(board, goal, entry, made)
        _record_tools(made["tools"])
        _record_commands(made["commands"], list(made.values()))
        _ask(made["question"])
    return board


def is_checkout() -> bool:
    """Return whether Holdfast runs from its source, and was not installed as a package."""
    return (Path(settings.BASE_DIR) / "pyproject.toml").is_file()


def repository() -> str:
    """Return what cards clone: this checkout if git knows it, else nothing."""
    base = Path(settings.BASE_DIR)
    if not (base / ".git").exists() or shutil.which("git") is None:
        return ""
    # The owner of a checkout in a container is often another user than the server.
    command = ["git", "-c", "safe.directory=*", "rev-parse", "--verify", "--quiet", "HEAD"]
    found = subprocess.run(command, cwd=base, capture_output=True, check=False)
    return str(base) if found.returncode == 0 else ""


def workflow_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the workflow of a card of the plan, fit for this machine; None for an agent's card."""
    if "survey" in entry:
        body = {"steps": _survey(entry["survey"])}
    elif "workflow" in entry:
        body = dict(entry["workflow"])
    else:
        return None
    if not repository():
        body["steps"] = [_copy_step(), *body["steps"]]
    # Not the whole installation's PATH: another board's python must stay that board's own.
    body["env"] = {"PATH": _path(), **body.get("env", {})}
    workflows.parse(body)
    return body


def _survey(count: int) -> list[dict[str, Any]]:
    """Return the steps of the long card: parts, and a last one that adds them up."""
    script, parts = "python runtime_site/demo/survey.py", count - 1
    steps_of_parts = [
        {
            "key": f"part-{n:02}",
            "title": f"Survey part {n} of {parts}",
            "run": f"{script} {n} {parts}",
            "timeout_seconds": 120,
        }
        for n in range(1, parts + 1)
    ]
    check = {
        "key": "check",
        "title": "Every file exactly once",
        "run": f"{script} --check",
        "artifacts": ["survey.csv"],
    }
    return [*steps_of_parts, check]


def _copy_step() -> dict[str, Any]:
    """Return the step that takes the place of a clone where the checkout is no repository."""
    base = shlex.quote(str(settings.BASE_DIR))
    left_out = " ".join(f"--exclude=./{name}" for name in (".venv", "data", "node_modules", "dist"))
    return {
        "key": "copy",
        "title": "Copy the checkout",
        "run": f"tar -C {base} {left_out} -cf - . | tar -xf -",
    }


def _path() -> str:
    """Return a PATH that begins with the tools of this installation and has git on it."""
    folders = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    folders += [str(Path(found).parent) for found in (shutil.which("git"),) if found]
    return os.pathsep.join(dict.fromkeys(folders))


def _make_card(
    board: Board, goal: Goal, entry: Mapping[str, Any], made: Mapping[str, Card]
) -> Card:
    passed_on = ("title", "description", "priority", "labels", "requires", "max_attempts")
    return cards.create(
        board,
        SYSTEM.actor,
        goal=goal,
        column=board.columns.get(kind=entry["column"]),
        depends_on=[made[slug] for slug in entry.get("depends_on", ())],
        workflow=workflow_of(entry),
        review_required=entry.get("review_required", False),
        **{name: entry[name] for name in passed_on if name in entry},
    )


# ── the history of three cards ───────────────────────────────────────────────────────────


def _claim(card: Card, approach: str) -> Attempt:
    registry.seen(WORKER, token_id=None, capabilities=["reading"])
    attempt = leases.claim(WORKER, card_id=card.pk)
    assert attempt is not None
    leases.describe(attempt.pk, approach)
    return attempt


def _record_tools(card: Card) -> None:
    """Complete the card with what is found out about this installation here and now."""
    attempt = _claim(card, "Ask the interpreter which tools are installed, and at which version.")
    versions = {name: _version(name) for name in TOOLS}
    missing = sorted(name for name, version in versions.items() if version is None)
    isolation = mode()
    steps.record(
        attempt.pk,
        "python",
        "succeeded",
        title="Which Python runs Holdfast",
        result={"python": platform.python_version(), "system": platform.platform(terse=True)},
    )
    steps.record(
        attempt.pk,
        "tools",
        "succeeded",
        title="Which tools stand beside it",
        result=versions,
        checkpoint={
            "summary": _sentence_about(missing),
            "next_step": "Say what holds commands back on this machine.",
            "state": {"tools": versions},
            "decisions": [
                {
                    "title": "Check with the tools of this installation",
                    "rationale": "They are pinned, and there already: a card starts in a second.",
                    "alternatives": ["Install tools for each card: slow, and needs a network"],
                }
            ],
        },
    )
    steps.record(
        attempt.pk,
        "isolation",
        "succeeded",
        title="What holds commands back",
        result={
            "mode": isolation.name,
            "blocks": list(isolation.blocks),
            "does_not_block": list(isolation.does_not_block),
        },
        checkpoint={
            "summary": isolation.summary,
            "next_step": "Nothing is left to do; complete the card.",
            "discoveries": [
                {
                    "kind": "fact",
                    "title": isolation.summary,
                    "detail": "Not blocked: " + " ".join(isolation.does_not_block),
                    "severity": "low",
                }
            ],
        },
    )
    leases.complete(
        attempt.pk,
        _sentence_about(missing),
        result=versions,
        evidence=[
            {"criterion": 1, "met": not missing, "detail": _sentence_about(missing)},
        ],
    )


def _record_commands(card: Card, board_cards: list[Card]) -> None:
    """Put the card in review with the commands that the board's workflows run."""
    attempt = _claim(card, "Read the workflow of every card on the board.")
    commands = {
        other.key: [step["run"] for step in other.workflow["steps"]]
        for other in board_cards
        if other.workflow
    }
    count = sum(map(len, commands.values()))
    summary = f"{len(commands)} cards run {count} commands, each in its own copy of this checkout."
    steps.record(
        attempt.pk,
        "collect",
        "succeeded",
        title="Collect the commands",
        result=commands,
        checkpoint={
            "summary": summary,
            "next_step": "Hand the list to a person for review.",
            "state": {"cards": len(commands), "commands": count},
        },
    )
    leases.complete(attempt.pk, summary, result=commands)


def _ask(card: Card) -> None:
    """Block the card with a question that the checkout can't answer."""
    attempt = _claim(card, "Read what the project promises, and ask where it does not say.")
    project = tomllib.loads((Path(settings.BASE_DIR) / "pyproject.toml").read_text())["project"]
    promised = project["requires-python"]
    steps.record(
        attempt.pk,
        "read",
        "succeeded",
        title="Read pyproject.toml",
        result={"requires_python": promised, "running": platform.python_version()},
        checkpoint={
            "summary": f"The project asks for Python {promised}; nothing names an upper end.",
            "next_step": "Write the promise down as the person answers.",
        },
    )
    leases.block(
        attempt.pk,
        "The goal does not say which Pythons count.",
        question=f"The project asks for Python {promised}. Which ones should a release promise?",
        options=["Only those that are tested", f"All that satisfy {promised}"],
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sentence_about(missing: list[str]) -> str:
    if not missing:
        return f"All tools are there: {', '.join(TOOLS)}."
    return f"Not installed: {', '.join(missing)}; cards that need them will fail."
