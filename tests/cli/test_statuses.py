"""What the exit status says, and what is said beside it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from holdfast.cli import COMMANDS, root
from holdfast.cli.exits import Exit
from tests import ports


def test_each_trouble_has_a_status_of_its_own(desk):
    card = desk.card()
    told = desk.claimed("--card", card)
    assert desk("card", "show", "NO-1", status=Exit.NOT_FOUND).stdout == ""
    desk("card", "move", card, "nowhere", status=Exit.REFUSED)
    desk("claim", "--card", card, status=Exit.REFUSED)
    desk("claim", status=Exit.NOTHING)
    desk("card", "list", status=Exit.NOT_ALLOWED, HOLDFAST_TOKEN="x" * 40)
    desk("card", "list", status=Exit.NOT_ALLOWED, HOLDFAST_TOKEN=None)
    desk("checkpoint", "half", status=Exit.USAGE)
    desk("checkpoint", "half", status=Exit.USAGE, HOLDFAST_ATTEMPT="../x", HOLDFAST_LEASE="y")
    desk("nonsense", status=Exit.USAGE)
    desk("goal", "add", "Only one")
    desk("goal", "edit", "", "--status", "abandoned", status=Exit.USAGE)
    desk("complete", "Done.", **told)
    desk("checkpoint", "half", status=Exit.LEASE_LOST, **told)


def test_a_viewer_may_look_and_not_touch(desk):
    card = desk.card()
    viewer = desk.site.new_token(desk.board, "viewer")["token"]
    desk("card", "show", card, HOLDFAST_TOKEN=viewer)
    desk("card", "pause", card, status=Exit.NOT_ALLOWED, HOLDFAST_TOKEN=viewer)
    desk("claim", status=Exit.NOT_ALLOWED, HOLDFAST_TOKEN=viewer)


def test_a_server_that_is_away_is_waited_for_and_then_named(desk):
    nowhere = f"http://127.0.0.1:{ports.free()}"
    said = desk("me", status=Exit.UNREACHABLE, HOLDFAST_URL=nowhere).stderr
    assert nowhere in said
    assert "Is the server running" in said
    desk("me", status=Exit.ERROR, HOLDFAST_URL="nonsense")


def test_with_json_a_refusal_is_json_on_standard_error(desk):
    ran = desk(
        "card", "add", "x", "--goal", "0" * 8 + "-0000-0000-0000-" + "0" * 12, "--json", status=4
    )
    said = json.loads(ran.stderr)
    assert (said["exit_status"], said["status"]) == (4, 422)
    assert list(said["errors"]) == ["goal"]
    assert ran.stdout == ""


def test_fields_that_are_refused_are_named(desk):
    said = desk("card", "add", "x" * 301, status=Exit.REFUSED).stderr
    assert said.startswith("holdfast: ")
    assert said.count("title: ") == 1
    flow = desk.home / "flow.json"
    flow.write_text("[]")
    said = desk("card", "add", "x" * 301, "--workflow", str(flow), status=Exit.REFUSED).stderr
    assert said.count("title: ") == 1


def test_every_status_is_told_apart():
    assert len({int(status) for status in Exit}) == len(Exit)


@pytest.mark.parametrize("name", [name for section in COMMANDS.values() for name in section])
def test_every_command_has_help(desk, name):
    out = desk(name, "--help").stdout
    assert out.startswith(f"Usage: holdfast {name}")
    command = root.get_command(None, name)
    for sub in getattr(command, "commands", {}):
        assert desk(name, sub, "--help").stdout.startswith("Usage: holdfast")


def test_the_version_is_the_projects(desk):
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert desk("--version").stdout == f"holdfast {project['version']}\n"


def test_a_login_is_kept_for_the_user_alone(desk):
    url, token = desk.site.web.origin, desk.token
    told = {"HOLDFAST_URL": None, "HOLDFAST_TOKEN": None}
    desk("login", "--url", url, input=f"{token}\n", **told)
    (kept,) = (desk.home / "config").rglob("login.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert desk.json("me", **told)["boards"][0]["key"] == desk.board
    # The environment goes before it.
    desk("me", status=Exit.NOT_ALLOWED, HOLDFAST_URL=None, HOLDFAST_TOKEN="x" * 40)
    assert [path.name for path in kept.parent.iterdir()] == ["login.json"]


def test_a_kept_token_goes_to_no_other_server(desk):
    told = {"HOLDFAST_URL": None, "HOLDFAST_TOKEN": None}
    desk("login", "--url", desk.site.web.origin, input=f"{desk.token}\n", **told)
    other = f"http://localhost:{desk.site.web.port}"  # another name is another server
    said = desk("me", status=Exit.NOT_ALLOWED, HOLDFAST_URL=other, HOLDFAST_TOKEN=None).stderr
    assert "There is no token" in said


def test_a_token_that_is_not_valid_is_not_kept(desk):
    told = {"HOLDFAST_URL": None, "HOLDFAST_TOKEN": None}
    url = desk.site.web.origin
    desk("login", "--url", url, input="wrong\n", status=Exit.NOT_ALLOWED, **told)
    desk("login", "--url", url, input="\n", status=Exit.USAGE, **told)
    assert not list(desk.home.rglob("login.json"))


def test_a_broken_login_is_said_in_a_sentence(desk):
    told = {"HOLDFAST_URL": None, "HOLDFAST_TOKEN": None}
    file = desk.home / "config" / "holdfast" / "login.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert str(file) in desk("me", status=Exit.ERROR, **told).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(desk, shell):
    out = desk("completion", shell).stdout
    assert "_HOLDFAST_COMPLETE" in out
    assert "holdfast" in out


def completed(desk, *words: str) -> list[str]:
    """What bash would be offered for the last of ``words``."""
    told = {
        "_HOLDFAST_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["holdfast", *words]),
        "COMP_CWORD": str(len(words)),
    }
    out = desk.real(**told).stdout.decode()
    return [line.partition(",")[2] for line in out.splitlines()]


def test_commands_cards_and_boards_are_completed(desk):
    card = desk.card()
    assert completed(desk, "ch") == ["checkpoint"]
    assert completed(desk, "card", "sh") == ["show"]
    assert completed(desk, "card", "show", card[:4].lower()) == [card]
    assert completed(desk, "board", "show", "") == [desk.board]


def test_completion_is_silent_without_a_server(desk):
    told = {"HOLDFAST_URL": f"http://127.0.0.1:{ports.free()}"}
    told |= {
        "_HOLDFAST_COMPLETE": "bash_complete",
        "COMP_WORDS": "holdfast card show ",
        "COMP_CWORD": "3",
    }
    ran = desk.real(**told)
    assert (ran.stdout.strip(), ran.stderr) == (b"", b"")
