"""Writes the evidence of a run: one file for each reader, all of them or none."""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.evidence.exports import annotations, badge_json, badge_svg, junit, summary
from deeplab_spec.evidence.page import page
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.statement import text_of
from deeplab_spec.judge.text import MOST_FINDINGS, text
from deeplab_spec.views.document import to_json, writer_of, written_together

Writer = Callable[[Certificate], str]

FILES: Final[Mapping[str, Writer]] = {
    "certificate.json": text_of,
    "report.html": page,
    "summary.md": summary,
    "junit.xml": junit,
    "annotations.txt": annotations,
    "badge.svg": badge_svg,
    "badge.json": badge_json,
}
"""The files of a report. The certificate is the statement that ``verify`` checks."""

_FORMS: Final[Mapping[str, Writer]] = {".html": page, ".json": to_json, ".md": summary}


def form_of(file: Path | None, *, as_json: bool, most: int | None = MOST_FINDINGS) -> Writer:
    """Return what writes a certificate to a file, by its suffix; a device or a pipe gets the text."""
    return writer_of(file, {**_FORMS, ".txt": partial(text, most=most)}, as_json=as_json)


def check_folder(directory: Path | None) -> None:
    """Check that a report can be written there, before anything runs.

    Raises:
        SpecError: If something else than a folder is there.
    """
    if directory and directory.exists() and not directory.is_dir():
        raise SpecError("--report", "must be a folder, or not be there", str(directory))


def write_report(certificate: Certificate, directory: Path) -> None:
    """Write every file of a report; a new directory appears whole, or not at all.

    Raises:
        TargetError: If it cannot be written.
    """
    contents = {name: f"{write(certificate)}\n" for name, write in FILES.items()}
    if directory.exists():
        with written_together(directory) as folder:
            _write(contents, folder)
        return
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
            folder = Path(scratch) / "report"
            folder.mkdir()
            _write(contents, folder)
            folder.rename(directory)
    except OSError as error:
        raise TargetError(str(directory), f"cannot be written: {error.strerror}") from error


def _write(contents: Mapping[str, str], folder: Path) -> None:
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
