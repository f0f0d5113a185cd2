"""Every command that reads a target ends it in time, and says so in one line, with exit status 3."""

from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("torch")

from deeplab_spec.cli.app import main
from deeplab_spec.result import ExitCode

pytestmark = pytest.mark.cold_start

MODULE = """
import ctypes

import torch


class Network(torch.nn.Conv2d):
    def forward(self, image):
        if torch.compiler.is_compiling():
            ctypes.string_at(0)
        return super().forward(image)


def loop():
    while True:
        pass


def take():
    return bytearray(2**34)


def crash():
    return Network(3, 21, 1)
"""
COMMANDS = {
    "identify": (),
    "lock": ("-o", "reports.lock"),
    "count": ("--size", "33"),
    "port": ("reference:notebook", "-o", "weights.safetensors"),
}


LIMITS = (
    ("loop", ("--timeout", "2"), "no answer within 2 s while it was being built"),
    ("take", ("--memory", "8"), "cannot be built: MemoryError"),
    ("crash", (), "the process was ended by SIGSEGV"),
    ("crash", ("--python", "/nonexistent"), "it is no Python interpreter"),
)
USUAL = set(zip(COMMANDS, LIMITS, strict=True))
"""Every command and every limit once; all of them with each other are deep tests."""


@pytest.mark.parametrize(
    ("command", "target", "options", "reason"),
    [
        pytest.param(command, *limit, marks=() if (command, limit) in USUAL else pytest.mark.deep)
        for command, limit in product(COMMANDS, LIMITS)
    ],
)
def test_a_target_that_does_not_answer_is_one_line(
    command: str,
    target: str,
    options: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is written, and nothing is waited for."""
    (tmp_path / "limits.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        main((command, f"limits:{target}", *COMMANDS[command], *options))

    assert end.value.code == ExitCode.COULD_NOT_RUN
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"deeplab-spec: limits:{target}: ")
    assert reason in line
    assert not {path.suffix for path in tmp_path.iterdir()} & {".lock", ".safetensors"}


def test_a_folder_is_searched_for_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The counter-test: the same module is found, and counted."""
    (tmp_path / "limits_elsewhere.py").write_text(MODULE.replace("ctypes.string_at(0)", "pass"), encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    options = ("--search", str(tmp_path), "--memory", "8", "--timeout", "60", "--size", "33", "--json")

    with pytest.raises(SystemExit) as end:
        main(("count", "limits_elsewhere:crash", *options))

    assert not end.value.code
    assert '"parameters"' in capsys.readouterr().out
