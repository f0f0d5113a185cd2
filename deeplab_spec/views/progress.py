"""Shows how far something is: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

Progress = Callable[[str, int, int], None]
"""Receives the stage, how many are done, and how many there are."""

_LINE_SECONDS: Final = 8.0


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
            sys.stderr.write(f"{done} of about {total} s: {stage}\n")

    return tell
