"""The process of a candidate that starts before PyTorch is imported, and the requests that wait in its pipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_spec.capture.candidate.start import ProcessSettings, starting
from deeplab_spec.errors import ChildError

pytestmark = pytest.mark.own_process

PROGRAM = """
import sys
from deeplab_spec.capture.candidate.start import ProcessSettings, starting
with starting(ProcessSettings(), *sys.argv[1:]) as settings:
    assert "torch" not in sys.modules
    print(len(settings.begun))
    for process in settings.begun:
        print(process.greeting()["torch"])
        folder = process.folder
        print(folder.is_dir())
if settings.begun:
    print(folder.exists())
"""


def printed(*targets: str) -> list[str]:
    """Return what is printed about the processes that are begun for targets, in a process without PyTorch."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", PROGRAM, *targets]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=120).stdout.split()


def test_a_process_starts_first_and_ends_unused() -> None:
    """It has imported PyTorch before this one; nothing stays of it."""
    torch = pytest.importorskip("torch")

    assert printed("mine:build") == ["1", str(torch.__version__), "True", "False"]


def test_no_process_starts_for_what_this_one_builds() -> None:
    """A reference and a lock need none."""
    assert printed("reference:notebook", "other.lock") == ["0"]


def test_a_process_that_was_begun_is_used_once() -> None:
    """The next one is new."""
    pytest.importorskip("torch")
    settings = ProcessSettings()
    first = settings.process()
    settings.begun.append(first)

    used, new = settings.process(), settings.process()

    assert used is first
    assert new is not first
    for process in (used, new):
        process.end()
        assert not process.folder.exists()


def test_what_cannot_start_is_left_to_the_first_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error belongs where a process is asked for."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    settings = ProcessSettings(python=str(tmp_path / "missing"))

    with starting(settings, "mine:build") as same:
        assert not same.begun
        with pytest.raises(ChildError, match="no Python interpreter"):
            same.process()


@pytest.mark.cold_start
def test_a_request_does_not_wait_for_what_the_process_does() -> None:
    """One that is longer than a usual pipe is sent while the process imports PyTorch."""
    pytest.importorskip("torch")
    process = ProcessSettings(timeout=60.0).process()
    names = [f"tensor{number}" for number in range(20_000)]

    process.send({"do": "read", "on": 1, "names": names, "id": 1})

    assert process._child.poll() is None
    assert process.greeting()
    assert "error" in process.receive()
    process.end()
