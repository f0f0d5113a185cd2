"""How commands write: reports to stdout or a file, summaries to stderr."""

import os
import sys
import tempfile
from pathlib import Path

from deeplab_spec.errors import TargetError
from deeplab_spec.render.table import Grid, plain


def report(text: str, output: Path | None = None) -> None:
    """Write a report, whole or not at all.

    Args:
        text: The report.
        output: The file that it replaces; stdout by default.

    Raises:
        TargetError: If the file cannot be written.
    """
    if output is None:
        write(f"{text}\n")
        return
    try:
        _replace(output, f"{text}\n")
    except OSError as error:
        raise TargetError(str(output), f"cannot be written: {error.strerror}") from error


def _replace(output: Path, text: str) -> None:
    """Write beside the file and rename, so that a reader never sees half of it."""
    with tempfile.NamedTemporaryFile("w", dir=output.parent, prefix=f".{output.name}.", delete=False) as half:
        half.write(text)
    permissions = output.stat().st_mode if output.exists() else 0o666 & ~_umask()
    Path(half.name).chmod(permissions)
    Path(half.name).replace(output)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def table(grid: Grid, output: Path | None = None) -> None:
    """Write a table: drawn on a terminal, as text into a pipe or a file."""
    if output is not None or not sys.stdout.isatty():
        report(plain(grid), output)
        return
    from rich.console import Console

    from deeplab_spec.render.terminal import drawn

    Console().print(drawn(grid))


def write(text: str) -> None:
    """Write to stdout; a reader that has seen enough is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit


def summary(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")
