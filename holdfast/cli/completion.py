"""``holdfast completion``: the lines that teach a shell to complete."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, boards and cards.

    For bash, put `eval "$(holdfast completion bash)"` into ~/.bashrc.
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "holdfast", "_HOLDFAST_COMPLETE").source())
