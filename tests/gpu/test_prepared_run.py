"""The prepared run on a GPU, rehearsed on the CPU: every step is done, and results survive a kill."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run"


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a rehearsal."""
    command = [sys.executable, str(RUN), "--device", "cpu", "--tiny", "--output", str(folder), *arguments]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def summary(folder: Path) -> list[dict[str, Any]]:
    """Read the steps."""
    steps: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text())["steps"]
    return steps


def wait_for(folder: Path, done: int, seconds: float = 240) -> None:
    """Wait until so many steps are done."""
    deadline = time.monotonic() + seconds
    while not (folder / "summary.json").exists() or sum(s["status"] == "done" for s in summary(folder)) < done:
        assert time.monotonic() < deadline, "the steps take too long"
        time.sleep(0.1)


def read_everything(folder: Path) -> list[str]:
    """Read every document of a folder; a truncated one is an error."""
    documents = sorted(folder.rglob("*.json"))
    for document in documents:
        if document.name != "trace.json":
            json.loads(document.read_text())
    return [str(document.relative_to(folder)) for document in documents]


def test_results_are_complete_and_readable_when_the_run_is_killed(tmp_path: Path) -> None:
    """A borrowed machine can be taken back at any moment."""
    folder, archive = tmp_path / "results", tmp_path / "results.tgz"
    run = started(folder, "--archive", str(archive))
    wait_for(folder, 1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()

    assert next(step["name"] for step in summary(folder) if step["status"] == "done") == "machine"
    assert json.loads((folder / "machine.log").read_text())["torch"]
    read_everything(folder)
    with tarfile.open(archive) as tar:
        assert "results/summary.json" in tar.getnames()


def test_a_run_without_time_lists_the_steps_that_were_not_run(tmp_path: Path) -> None:
    """The exit status shows that steps are missing."""
    run = started(tmp_path, "--budget", "1")

    assert run.wait(120) == 1
    assert {step["status"] for step in summary(tmp_path)} == {"not run: no time is left"}
    assert len(summary(tmp_path)) > 10


@pytest.mark.deep
def test_rehearsal_does_every_step(tmp_path: Path) -> None:
    """The commands, their options and their documents are those of this checkout."""
    run = started(tmp_path, "--budget", "1500")

    code = run.wait(1500)

    steps = summary(tmp_path)
    assert {step["name"]: step["status"] for step in steps if step["status"] != "done"} == {}
    assert code == 0
    names = read_everything(tmp_path)
    for name in ("certificate-notebook.json", "benchmarks.json", "profile-os8/profile.json"):
        assert name in names
    assert sum("reports/speed/" in name for name in names) == 2
    assert sum("reports/gate/" in name for name in names) == 3


@pytest.mark.deep
@pytest.mark.parametrize("seconds", [20, 60, 100])
def test_a_rehearsal_that_is_killed_later_leaves_whole_documents(seconds: int, tmp_path: Path) -> None:
    """In any step."""
    run = started(tmp_path, "--budget", "1500")
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()

    assert any(step["status"] == "done" for step in summary(tmp_path))
    read_everything(tmp_path)
