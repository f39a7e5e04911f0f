"""docs/cli.md has every command and every status, and its examples are understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from holdfast.cli import root
from holdfast.cli.exits import Exit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    context = click.Context(root)
    for name in root.list_commands(context):
        found = root.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {sub}", command) for sub, command in found.commands.items())
        else:
            yield name, found


def sections() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_command_and_no_other():
    assert sorted(sections()) == sorted(name for name, _ in commands())


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_each_has_an_example_with_options_that_there_are(name, command):
    section = sections()[name]
    examples = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S))
    called = "board PAY" if name == "board show" else name
    assert f"holdfast {called}" in examples
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--"}
    for line in examples.replace("\\\n", " ").splitlines():
        if not line.startswith(f"holdfast {name} "):
            continue
        for word in shlex.split(re.split(r" (?:--|\|\|?) ", line)[0], comments=True):
            if word.startswith("--"):
                assert word in known, line


def test_the_table_has_every_status():
    table = PAGE.read_text().partition("## Statuses")[2].partition("## A shell")[0]
    told = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for n in row.split(",")}
    assert told == {int(status) for status in Exit}
