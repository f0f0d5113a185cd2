"""How commands write: reports to stdout or a file, summaries to stderr."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from deeplab_spec.render.files import write_whole
from deeplab_spec.render.table import Grid, plain

_LINE_SECONDS = 8.0

Progress = Callable[[str, int, int], None]
"""Told the stage, how many are done, and how many there are."""


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
    write_whole(output, f"{text}\n")


@contextmanager
def progress(*, lines: bool = False) -> Iterator[Progress]:
    """Give what tells how far something is.

    Args:
        lines: Where stderr is no terminal that could show a bar, write a line now and then; else nothing.
    """
    if not sys.stderr.isatty():
        yield _lines() if lines else lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def _lines() -> Progress:
    """Return what writes a line to stderr, at most one in so many seconds; done and total are seconds."""
    last = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            summary(f"{done} of about {total} s: {stage}")

    return tell


def table(grid: Grid, output: Path | None = None, heading: str = "") -> None:
    """Write a table, below a heading if there is one: drawn on a terminal, as text into a pipe or a file."""
    above = f"{heading}\n\n" if heading else ""
    if output is not None or not sys.stdout.isatty():
        report(f"{above}{plain(grid)}", output)
        return
    write(above)
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
