"""The program ``deeplab-spec``: its commands, its error messages and its exit status."""

import atexit
import gc
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import typer

from deeplab_spec.child_process import end_with_parent, python_module, settle_threads
from deeplab_spec.cli.bench import bench
from deeplab_spec.cli.certify import certify
from deeplab_spec.cli.choices import choices
from deeplab_spec.cli.clauses import clauses
from deeplab_spec.cli.compare import compare
from deeplab_spec.cli.count import count
from deeplab_spec.cli.gate import gate
from deeplab_spec.cli.identify import identify
from deeplab_spec.cli.lock import lock
from deeplab_spec.cli.merge import merge
from deeplab_spec.cli.mutants import mutants
from deeplab_spec.cli.port import port
from deeplab_spec.cli.profile import profile
from deeplab_spec.cli.show import show
from deeplab_spec.cli.sign import sign
from deeplab_spec.cli.verify import verify
from deeplab_spec.errors import DeepLabSpecError, RenamedWarning, SpecError, one_line, printable
from deeplab_spec.result import ExitCode

PROGRAM: Final = "deeplab-spec"
_CHILD: Final = "DEEPLAB_SPEC_APART"
"""In the environment of a child process: the descriptor to which it writes when its command is done."""
_TRACEBACK: Final = "DEEPLAB_SPEC_TRACEBACK"
"""Set to see where an unexpected error was raised."""
_INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""
_LONGEST: Final = 1000
"""Characters of an error; names in it may come from a file."""
_FILES: Final = (".pt2", ".onnx")
_BUILDS: Final = frozenset({"profile"})
"""Commands that build and run the target in their own process."""

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
app.command()(choices)
app.command()(certify)
app.command()(identify)
app.command()(lock)
app.command()(port)
app.command()(mutants)
app.command()(merge)
app.command()(bench)
app.command()(profile)
app.command()(compare)
app.command()(gate)
app.command()(verify)
app.command()(sign)


def _print_version(requested: bool) -> None:
    if not requested:
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
    """The executable specification of DeepLabV3+, and the judge of its implementations."""
    del show_version  # its callback has printed it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; an expected error is one line on stderr.

    A command that reads an untrusted file or runs the target itself runs in a child process, so that what ends that
    process is one line too.
    """
    used = sys.argv[1:] if arguments is None else arguments
    settle_threads(_CHILD)
    atexit.register(gc.freeze)  # the interpreter ends sooner if it need not look for what can be freed
    try:
        if _CHILD not in os.environ and any(word in _BUILDS or word.lower().endswith(_FILES) for word in used):
            sys.exit(_run_in_child(used))
        _run(arguments)
    except KeyboardInterrupt:
        if _CHILD not in os.environ:  # its parent says so
            _write_error("interrupted")
        sys.exit(_INTERRUPTED)


def _run(arguments: Sequence[str] | None) -> None:
    """Run a command in this process and exit."""
    if _CHILD in os.environ:
        end_with_parent()
    try:
        with _renamed_warnings_on_stderr():
            app(arguments, prog_name=PROGRAM)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            raise KeyboardInterrupt from end
        raise
    except DeepLabSpecError as error:
        _write_error(str(error))
        sys.exit(ExitCode.USAGE if isinstance(error, SpecError) else ExitCode.COULD_NOT_RUN)
    except Exception as error:
        reason = _reason(error)
        if not reason or _TRACEBACK in os.environ:
            raise
        _write_error(reason)
        sys.exit(ExitCode.COULD_NOT_RUN)
    finally:
        if _CHILD in os.environ:
            os.write(int(os.environ[_CHILD]), b".")


def _write_error(text: str) -> None:
    shown = printable(text)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 2]}...{shown[-_LONGEST // 2 :]}"
    sys.stderr.write(f"{PROGRAM}: {shown}\n")


def _reason(error: Exception) -> str:
    """Return the line of an unexpected error; empty if its traceback says more: its cause is no file."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "there is not enough memory"
    return f"internal error: {one_line(error)} (set {_TRACEBACK}=1 to see where)" if _CHILD in os.environ else ""


def _run_in_child(arguments: Sequence[str]) -> int:
    """Run a command in a child process, and return its exit status; one that ends before it is done could not run."""
    command = [*python_module("deeplab_spec"), *arguments]
    reading, writing = os.pipe()
    environment = {**os.environ, _CHILD: str(writing)}
    try:
        code = subprocess.run(command, env=environment, pass_fds=[writing], check=False).returncode
        done = bool(select.select([reading], [], [], 0)[0])
    finally:
        os.close(reading)
        os.close(writing)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if done:
        return code
    ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    _write_error(f"the process of the command {ending} before it was done")
    return ExitCode.COULD_NOT_RUN


@contextmanager
def _renamed_warnings_on_stderr() -> Iterator[None]:
    """Write a line to stderr for every old name that is used; other warnings are not changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        show = warnings.showwarning

        def write_line(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:  # noqa: ANN401
            if issubclass(category, RenamedWarning):
                sys.stderr.write(f"{PROGRAM}: {message}\n")
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = write_line
        yield
