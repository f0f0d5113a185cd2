"""The program in this process, as it runs in the child process that reads a file."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deeplab_spec.cli.app import main

SECONDS = 60
"""What a refusal may take at most; nearly all take less than one."""

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that runs a command and returns its one line of error."""
    monkeypatch.setenv("DEEPLAB_SPEC_APART", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 3) -> str:
        before, begin = sorted(tmp_path.rglob("*")), time.monotonic()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = capsys.readouterr()
        assert end.value.code == code, captured.err
        assert time.monotonic() - begin < SECONDS
        assert captured.out == ""
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
        line = captured.err.removesuffix("\n")
        assert line.isprintable(), "one line, without what a terminal would obey"
        assert len(line) < 1100
        assert "internal error" not in line
        return line.removeprefix("deeplab-spec: ")

    return run
