"""Progress where there is no terminal: a line now and then, or nothing."""

import itertools

import pytest

from deeplab_spec.views import progress as module
from deeplab_spec.views.progress import progress


def test_lines_are_written_at_most_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told once a second for a minute, a log has no gap of more than ten seconds, and few lines."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    with progress(lines=True) as tell:
        for second in range(100, 160):
            now[0] = float(second)
            tell("preparing", second - 100, 60)

    lines = capsys.readouterr().err.splitlines()
    seconds = [int(line.split()[0]) for line in lines]
    assert lines[0] == "0 of about 60 s: preparing"
    assert 4 < len(lines) < 10
    assert all(later - earlier <= 10 for earlier, later in itertools.pairwise(seconds))


def test_nothing_is_written_where_no_lines_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose output goes into a pipe stays silent."""
    with progress() as tell:
        tell("preparing", 0, 1)

    assert capsys.readouterr().err == ""
