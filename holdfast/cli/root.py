"""The command groups: commands found by name, and every way to end turned into a status."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn

import click

from holdfast.cli.exits import Exit, status_of
from holdfast.errors import ApiError, Error


class Root(click.Group):
    """Finds commands in a table of ``module:name``; see ``holdfast.cli``.

    Whatever goes wrong ends in one sentence on standard error and a status, never a traceback.
    """

    def __init__(
        self, name: str, *, commands_by_section: Mapping[str, Mapping[str, str]], **options: Any
    ) -> None:
        super().__init__(name, context_settings={"help_option_names": ["-h", "--help"]}, **options)
        self.sections = commands_by_section
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_print_version,
                help="Print the version, and end.",
            )
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in self.sections.values():
            if path := section.get(cmd_name):
                module, _, attribute = path.partition(":")
                command: click.Command = getattr(
                    importlib.import_module(f"holdfast.cli.{module}"), attribute
                )
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in self.sections.items():
            rows = []
            for name in section:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name, command.get_short_help_str(70)))
            with formatter.section(title):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end the process with a status."""
        words = list(sys.argv[1:] if args is None else args)
        _forgive_encodings()
        with _sigterm_unwinds():
            sys.exit(self._status(words, prog_name, complete_var, extra))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None  # click would make it a status of its own

    def _status(
        self,
        words: list[str],
        prog_name: str | None,
        complete_var: str | None,
        extra: MutableMapping[str, Any],
    ) -> int:
        ours = words[: words.index("--")] if "--" in words else words
        try:
            try:
                ended = super().main(words, prog_name, complete_var, False, **extra)
                sys.stdout.flush()
            except click.ClickException as error:
                error.show()
                return error.exit_code
            except Error as error:
                complain(error, as_json="--json" in ours)
                return status_of(error)
            return ended if isinstance(ended, int) else Exit.OK
        except (click.Abort, KeyboardInterrupt):
            return Exit.INTERRUPTED
        except Terminated:
            return Exit.TERMINATED
        except (BrokenPipeError, ReaderGone):
            # Nobody reads on; the interpreter's last flush must not complain about that either.
            quiet = os.open(os.devnull, os.O_WRONLY)
            with contextlib.suppress(OSError, ValueError):
                os.dup2(quiet, sys.stdout.fileno())
            return Exit.BROKEN_PIPE
        except OSError as error:
            complain(Error(f"{error}."), as_json="--json" in ours)
            return Exit.ERROR


class ReaderGone(BaseException):
    """Nobody reads the output any more."""


class Terminated(BaseException):
    """SIGTERM came, and nobody else listened to it."""


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the stack meanwhile, so that what was started is ended."""

    def told(*_: object) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, told)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def complain(error: Error, *, as_json: bool) -> None:
    """Say on standard error what went wrong."""
    from holdfast.cli.printing import clean, encoded

    status = int(status_of(error))
    if as_json:
        said: dict[str, Any] = {"detail": str(error), "exit_status": status}
        if isinstance(error, ApiError):
            said |= {"code": error.code, "status": error.status, "errors": error.errors}
        click.echo(encoded(said), err=True)
        return
    click.echo(f"holdfast: {clean(error)}", err=True)
    if isinstance(error, ApiError):
        for name, sentences in error.errors.items():
            for sentence in [sentences] if isinstance(sentences, str) else sentences:
                # Of a single field, the sentence above may have said it all.
                if f"{name}: {sentence}" not in str(error):
                    click.echo(f"  {clean(name)}: {clean(sentence)}", err=True)


def _forgive_encodings() -> None:
    """Have characters that the terminal can't show replaced, rather than raising."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from holdfast.cli.places import version

        click.echo(f"holdfast {version()}")
        ctx.exit()
