"""The command line ``holdfast``: for people at a terminal, and for workers that are scripts.

``COMMANDS`` names every command and the module that holds it, which is imported when it is called.
"""

from __future__ import annotations

from holdfast.cli.root import Root

COMMANDS = {
    "Server": {
        "up": "local:up",
        "doctor": "doctor:doctor",
        "login": "account:login",
        "me": "account:me",
        "token": "account:token",
        "completion": "completion:completion",
    },
    "Board": {
        "board": "boards:board",
        "secrets": "secrets:secrets",
        "goal": "goals:goal",
        "card": "cards:card",
        "message": "cards:message",
        "answer": "cards:answer",
        "inbox": "inbox:inbox",
        "search": "search:search",
        "discovery": "discoveries:discovery",
        "briefing": "cards:briefing",
        "worker": "workers:worker",
        "watch": "watch:watch",
        "import": "transfer:import_",
        "export": "transfer:export",
        "bundle": "bundles:bundle",
        "verify": "lines:verify",
    },
    "Work": {
        "claim": "working:claim",
        "heartbeat": "working:heartbeat",
        "step": "stepping:step",
        "checkpoint": "working:checkpoint",
        "log": "working:log",
        "approach": "working:approach",
        "decide": "working:decide",
        "discover": "working:discover",
        "propose": "working:propose",
        "complete": "working:complete",
        "fail": "working:fail",
        "block": "working:block",
        "release": "working:release",
        "work": "loop:work",
        "hook": "hook:hook",
    },
}

root = Root(
    "holdfast",
    commands_by_section=COMMANDS,
    help="""Boards, cards and attempts of a Holdfast server.

    HOLDFAST_URL and HOLDFAST_TOKEN say which server and who you are; `holdfast login` keeps
    both instead. Most commands print a table, and JSON with --json.
    """,
)


def main() -> None:
    """Run the command line and exit with its status, see ``exits``."""
    root.main(prog_name="holdfast")
