"""Writes the output of commands: reports to stdout or a file, summaries to stderr."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer
from pydantic import BaseModel

from deeplab_spec.errors import TargetError
from deeplab_spec.views.document import to_json, to_schema, write_whole
from deeplab_spec.views.table import Grid, plain


def report(text: str, output: Path | None = None) -> None:
    """Write a report to stdout, or to a file, completely or not at all."""
    if output is None:
        write(f"{text}\n")
        return
    write_whole(output, f"{text}\n")


def schema(document: type[BaseModel], output: Path | None = None) -> NoReturn:
    """Write the JSON Schema of a document, and end the command."""
    report(to_schema(document), output)
    raise typer.Exit


def document(document: BaseModel, text: str, headline: str, output: Path | None, *, as_json: bool) -> None:
    """Write a document or its text; the headline goes to stderr where the text is not on stdout."""
    report(to_json(document) if as_json else text, output)
    if as_json or output:
        summary(headline)


def table(grid: Grid, output: Path | None = None, heading: str = "") -> None:
    """Write a table below a heading, if any: drawn on a terminal, as plain text into a pipe or a file."""
    above = f"{heading}\n\n" if heading else ""
    if output is not None or not sys.stdout.isatty():
        report(f"{above}{plain(grid)}", output)
        return
    write(above)
    from rich.console import Console

    from deeplab_spec.views.table import rich_table

    Console().print(rich_table(grid))


def write(text: str) -> None:
    """Write to stdout; a closed pipe is not an error.

    Raises:
        TargetError: If it cannot be written, as on a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
        if not isinstance(error, BrokenPipeError):
            raise TargetError("stdout", f"cannot be written: {error.strerror}") from error


def summary(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")
