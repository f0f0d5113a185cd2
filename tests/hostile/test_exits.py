"""A target that ends its process: one line and exit status 3, whatever status it ends with, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_spec.result import ExitCode

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
MODULE = """
import os, sys
from torch import nn

def build():
    {building}
    return Network()

class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 21, 1))

    def forward(self, image):
        if not image.is_meta and type(image).__name__ != "FakeTensor":
            {running}
        return super().forward(image)
"""
COMMANDS = {
    "count": ("--size", "33"),
    "identify": ("--json",),
    "lock": ("-o", "reports.lock"),
    "port": ("reference:notebook", "-o", "weights.safetensors"),
    "profile": ("-o", "reports", "--size", "33", "--no-ceilings"),
    "bench": ("--save", "reports", "--size", "33", "--mode", "eager", "--runs", "3"),
}
ENDINGS = {"os._exit(0)": "ended with exit status 0", "sys.exit(0)": "SystemExit: 0"}


def run(folder: Path, command: str, **statements: str) -> tuple[int, str, str]:
    """Run a command on a target that has these statements; return its status, and both of its outputs."""
    (folder / "mine.py").write_text(MODULE.format(**{"building": "pass", "running": "pass"} | statements))
    line = [sys.executable, "-m", "deeplab_spec", command, "mine:build", *COMMANDS[command]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    (folder / "mine.py").unlink()
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_target_that_ends_its_process_while_it_is_built_is_one_line(
    command: str, ending: str, tmp_path: Path
) -> None:
    """A status of 0 with nothing written would read as success."""
    status, printed, errors = run(tmp_path, command, building=ending)

    assert status == ExitCode.COULD_NOT_RUN
    assert printed == ""
    assert len(errors.splitlines()) == 1
    assert errors.startswith("deeplab-spec: ")
    assert ENDINGS[ending] in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_target_that_ends_its_process_while_it_is_profiled_is_one_line(ending: str, tmp_path: Path) -> None:
    """The process that runs it is not the one that answers for the command."""
    status, printed, errors = run(tmp_path, "profile", running=ending)

    assert (status, printed) == (ExitCode.COULD_NOT_RUN, "")
    assert len(errors.splitlines()) == 1
    assert ENDINGS[ending] in errors


def test_a_profile_of_a_target_that_does_not_end_its_process_is_written(tmp_path: Path) -> None:
    """The tests above can fail."""
    status, _, errors = run(tmp_path, "profile")

    assert status == ExitCode.DONE, errors
    assert (tmp_path / "reports" / "profile.json").is_file()
