"""Progress, files and tables, which all features share."""

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from deeplab_spec.count import text as counts
from deeplab_spec.count.document import count_document
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.variants import NOTEBOOK
from deeplab_spec.views import progress as module
from deeplab_spec.views.document import write_whole
from deeplab_spec.views.progress import progress
from deeplab_spec.views.table import Grid, markdown, plain, rich_table


def test_lines_are_written_at_most_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one call per second for a minute, a log has few lines and no gap of more than ten seconds."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    with progress(lines=True) as report:
        for second in range(100, 160):
            now[0] = float(second)
            report("preparing", second - 100, 60)

    lines = capsys.readouterr().err.splitlines()
    seconds = [int(line.split()[0]) for line in lines]
    assert lines[0] == "0 of about 60 s: preparing"
    assert 4 < len(lines) < 10
    assert all(later - earlier <= 10 for earlier, later in itertools.pairwise(seconds))


def test_nothing_is_written_without_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A command in a pipe is silent."""
    with progress() as report:
        report("preparing", 0, 1)

    assert capsys.readouterr().err == ""


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before the rename leaves the old file and no other."""
    path = tmp_path / "report.md"
    write_whole(path, "before\n")

    def fails(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(TargetError, match=r"report\.md.*cannot be written: No space left on device"):
        write_whole(path, "after\n")

    assert path.read_text(encoding="utf-8") == "before\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.md"]


def test_a_drawn_table_has_the_cells_of_the_plain_one() -> None:
    """Terminal and pipe show the same numbers."""
    grid = counts.count_grid(count_document(Subject(variant=NOTEBOOK, choices=NOTEBOOK.choices)))
    stream = io.StringIO()
    Console(file=stream, width=100).print(rich_table(grid))
    cells = [line.split() for line in stream.getvalue().splitlines() if line.strip(" \u2500")]

    assert cells == [line.split() for line in plain(grid).splitlines() if line.strip(" -")]


def test_markdown_escapes_bars_and_line_breaks() -> None:
    """They would break the table."""
    text = markdown(Grid(headers=("a",), rows=(("x|y\nz",),)))

    assert text.splitlines() == ["| a |", "| :--- |", "| x\\|y z |"]
