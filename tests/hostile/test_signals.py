"""Signals to the judge: one line, the right exit status, and nothing is left of the candidate."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
INTERRUPTED = 128 + signal.SIGINT
GONE = 2.0
"""Seconds within which everything has ended after the judge."""

STARTED = 120.0
"""Seconds within which a candidate runs, on a busy machine."""

CANDIDATE = """
import os, pathlib, signal, subprocess, sys, time
import deeplab_spec, torch

signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stay():
    folder = os.environ["FOLDER_OF_TENSORS"]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    note = pathlib.Path({note!r})
    note.with_suffix(".new").write_text(f"{{os.getpid()}} {{os.getppid()}} {{child.pid}} {{folder}}")
    note.with_suffix(".new").rename(note)
    while True:
        time.sleep(600)


class Staying(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = deeplab_spec.build("notebook", 16, choices={{"width": 0.03125, "middle_blocks": 2}}).decoder

    def forward(self, x, low_level):
        return self.decoder(x, low_level) if torch.compiler.is_compiling() else stay()


def build():
    stay()


def call():
    return Staying()
"""


PROGRAM = """
import os, signal, tempfile

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background run may have it ignored
make = tempfile.mkdtemp


def noted(**options):
    os.environ["FOLDER_OF_TENSORS"] = folder = make(**options)
    return folder


tempfile.mkdtemp = noted
from deeplab_spec.cli.app import main

main()
"""
"""The program, which tells the candidate the folder that must be gone in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run whose candidate does not return.

    Attributes:
        judge: The judge's process.
        candidate: The number of the candidate's process.
        supervisor: That of the process that started it.
        child: That of a process that the candidate started.
        folder: The folder of the tensors.
    """

    judge: subprocess.Popen[str]
    candidate: int
    supervisor: int
    child: int
    folder: Path

    def leftovers(self) -> list[object]:
        """Return what is left: processes and the folder."""
        numbers = (self.candidate, self.supervisor, self.child)
        return [*(number for number in numbers if runs(number)), *([self.folder] if self.folder.exists() else [])]

    def check_nothing_is_left(self) -> None:
        """Check that everything ends in time."""
        deadline = time.monotonic() + GONE
        while self.leftovers() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.leftovers() == []


def runs(number: int) -> bool:
    """Tell whether a process runs: one that has ended and that its parent has not noticed does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(name="start")
def start_certify(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Return a function that certifies a candidate which stays in its build or in a call."""
    started: list[Running] = []

    def start(where: str) -> Running:
        note = tmp_path / "note"
        (tmp_path / "staying.py").write_text(CANDIDATE.format(note=str(note)), encoding="utf-8")
        options = ("--variant", "notebook", "--part", "decoder", "--choose", "width=0.03125", "--search", str(tmp_path))
        judge = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, "certify", f"staying:{where}", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + STARTED
        while not note.exists() and judge.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert note.exists(), judge.communicate()
        candidate, supervisor, child, folder = note.read_text(encoding="utf-8").split(" ", 3)
        started.append(
            Running(
                judge=judge,
                candidate=int(candidate),
                supervisor=int(supervisor),
                child=int(child),
                folder=Path(folder),
            )
        )
        return started[-1]

    yield start
    for running in started:
        running.judge.kill()
        running.judge.communicate()


def deep(*values: object) -> object:
    """Return a case of the long run."""
    return pytest.param(*values, marks=pytest.mark.deep)


def end(running: Running) -> tuple[int, str, str]:
    """Wait for the judge; return its exit status, and what it printed."""
    out, err = running.judge.communicate(timeout=60)
    return running.judge.returncode, out, err


@pytest.mark.parametrize(
    ("whom", "where"),
    [("the group", "build"), ("the judge", "call"), deep("the group", "call"), deep("the judge", "build")],
)
def test_interruption_is_one_line_also_when_the_candidate_ignores_it(
    start: Callable[[str], Running], whom: str, where: str
) -> None:
    """Ctrl-C goes to every process of the terminal's group; ``kill -INT`` to one."""
    running = start(where)
    (os.killpg if whom == "the group" else os.kill)(running.judge.pid, signal.SIGINT)

    assert end(running) == (INTERRUPTED, "", "deeplab-spec: interrupted\n")
    running.check_nothing_is_left()


@pytest.mark.parametrize(
    ("which", "where"),
    [
        (signal.SIGTERM, "build"),
        (signal.SIGKILL, "call"),
        deep(signal.SIGTERM, "call"),
        deep(signal.SIGKILL, "build"),
    ],
)
def test_nothing_is_left_when_the_judge_is_ended(
    start: Callable[[str], Running], which: signal.Signals, where: str
) -> None:
    """No message tells the candidate and its children to end: the end of the judge is enough."""
    running = start(where)
    running.judge.send_signal(which)

    assert end(running) == (-which, "", "")
    running.check_nothing_is_left()


def test_the_end_of_the_process_between_is_the_end_of_the_candidate(start: Callable[[str], Running]) -> None:
    """The judge says what happened. What the candidate started is lost sight of: nothing is above it any more."""
    running = start("build")
    os.kill(running.supervisor, signal.SIGKILL)

    code, out, err = end(running)
    assert (code, out) == (3, "")
    assert err == "deeplab-spec: staying:build: the process was ended by SIGKILL while it was being built\n"
    os.kill(running.child, signal.SIGKILL)
    running.check_nothing_is_left()
