"""Shows the progress of a command: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

Progress = Callable[[str, int, int], None]
"""Receives the stage, the number of finished units, and their total (0 if it is not known)."""

_LINE_SECONDS: Final = 8.0


def silent(_stage: str, _done: int, _total: int) -> None:
    """Show nothing."""


@contextmanager
def progress(*, lines: bool = False) -> Iterator[Progress]:
    """Show progress on a terminal while the body of a ``with`` statement runs; elsewhere in lines, or not at all."""
    if not sys.stderr.isatty():
        yield _lines() if lines else silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def _lines() -> Progress:
    """Return a function that writes at most one line to stderr every few seconds; its numbers are seconds."""
    last = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            sys.stderr.write(f"{done} of about {total} s: {stage}\n")

    return report
