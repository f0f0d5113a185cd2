"""A target that ends its process: one line and exit status 3, whatever status it ends with, and nothing is written."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from deeplab_spec.result import ExitCode

pytest.importorskip("torch")

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


USUAL = {"profile": tuple(ENDINGS), "count": tuple(ENDINGS)}
"""The others have one ending in the usual run: the status that reads as success."""

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(name="run")
def run_in_a_folder(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command on a target that has some statements."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, **statements: str) -> CompletedProcess[str]:
        file = tmp_path / "mine.py"
        file.write_text(MODULE.format(**{"building": "pass", "running": "pass"} | statements), encoding="utf-8")
        done = command(name, "mine:build", *COMMANDS[name])
        file.unlink()
        return done

    return run


@pytest.mark.parametrize(
    ("command_name", "ending"),
    [
        pytest.param(name, ending, marks=() if ending in USUAL.get(name, ["os._exit(0)"]) else pytest.mark.deep)
        for name, ending in product(COMMANDS, ENDINGS)
    ],
)
def test_a_target_that_ends_its_process_while_it_is_built_is_one_line(
    run: Run, command_name: str, ending: str, tmp_path: Path
) -> None:
    """A status of 0 with nothing written would read as success."""
    done = run(command_name, building=ending)

    assert done.returncode == ExitCode.COULD_NOT_RUN
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("deeplab-spec: ")
    assert ENDINGS[ending] in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_target_that_ends_its_process_while_it_is_profiled_is_one_line(run: Run, ending: str) -> None:
    """The process that runs it is not the one that answers for the command."""
    done = run("profile", running=ending)

    assert (done.returncode, done.stdout) == (ExitCode.COULD_NOT_RUN, "")
    assert len(done.stderr.splitlines()) == 1
    assert ENDINGS[ending] in done.stderr


def test_a_profile_of_a_target_that_does_not_end_its_process_is_written(run: Run, tmp_path: Path) -> None:
    """The tests above can fail."""
    done = run("profile")

    assert done.returncode == ExitCode.DONE, done.stderr
    assert (tmp_path / "reports" / "profile.json").is_file()
