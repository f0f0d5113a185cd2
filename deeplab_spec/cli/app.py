"""The program ``deeplab-spec``: its commands, and how their errors end."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, TextIO

import typer

from deeplab_spec.cli.apart import run_apart, runs_apart
from deeplab_spec.cli.bench import bench_command
from deeplab_spec.cli.certify import certify
from deeplab_spec.cli.clauses import clauses
from deeplab_spec.cli.compare import compare
from deeplab_spec.cli.count import count
from deeplab_spec.cli.gate import gate
from deeplab_spec.cli.identify import identify
from deeplab_spec.cli.lock import lock
from deeplab_spec.cli.mutants import mutants
from deeplab_spec.cli.port import port
from deeplab_spec.cli.profile import profile
from deeplab_spec.cli.show import show
from deeplab_spec.errors import DeepLabSpecError, RenamedWarning, SpecError
from deeplab_spec.exit_codes import ExitCode

PROGRAM = "deeplab-spec"

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: readable at any width, and in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(show)
app.command()(count)
app.command()(clauses)
app.command()(certify)
app.command()(identify)
app.command()(lock)
app.command()(port)
app.command()(mutants)
app.command("bench")(bench_command)
app.command()(profile)
app.command()(compare)
app.command()(gate)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
    except PackageNotFoundError:
        typer.echo(f"{PROGRAM} (not installed)")
    raise typer.Exit(ExitCode.DONE)


@app.callback()
def program(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """The executable specification of DeepLabV3+ with the modified aligned Xception, and the judge of other code."""
    del show_version  # its callback has printed it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; an expected error is one line on stderr.

    Args:
        arguments: Instead of those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if runs_apart(given):
        sys.exit(run_apart(PROGRAM, given))
    try:
        with _renamed_things_said():
            app(arguments, prog_name=PROGRAM)
    except DeepLabSpecError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        sys.exit(ExitCode.USAGE if isinstance(error, SpecError) else ExitCode.COULD_NOT_RUN)


@contextmanager
def _renamed_things_said() -> Iterator[None]:
    """Write a line to stderr for every old name that is used, and leave other warnings as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        show = warnings.showwarning

        def say(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, RenamedWarning):
                sys.stderr.write(f"{PROGRAM}: {message}\n")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = say
        yield
