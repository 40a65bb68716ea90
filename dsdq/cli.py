"""The ``dsdq`` command: finds its subcommands by entry point; an expected error is one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from dsdq.errors import DsdqError
from dsdq.settings import settings
from dsdq.telemetry import traces
from dsdq.telemetry.logs import LEVELS, configure

BAD_INPUT = 2
INTERRUPTED = 130


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if wanted:
        typer.echo(f"dsdq {version('dsdq')}")
        raise typer.Exit


def _start(
    context: typer.Context,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
    _version: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Distributed speculative decoding over Redis Streams."""
    level = (log_level or settings().log_level).lower()
    if level not in LEVELS:
        msg = f"expected one of {', '.join(LEVELS)}, got {level!r}"
        raise typer.BadParameter(msg, param_hint="--log-level")
    configure(level)
    traces.configure(context.invoked_subcommand or "")


def build(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the application with every installed subcommand, in the order of their names.

    Where ``arguments`` begin with the name of one, with that one alone: to import the others takes a third of a start.
    """
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_start)
    installed = sorted(entry_points(group="dsdq.commands"), key=lambda e: e.name)
    for found in [one for one in installed if one.name in arguments[:1]] or installed:
        command = found.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=found.name)
        else:
            app.command(name=found.name)(command)
    return app


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = build(sys.argv[1:])(standalone_mode=False)
    except (DsdqError, typer.TyperException) as error:
        sys.stderr.write(f"dsdq: {error.format_message() if isinstance(error, typer.TyperException) else error}\n")
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
