"""Input without meaning: one line, the right exit status, in bounded time; and files that are no files."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.result import ExitCode

CERTIFY = ("certify", "reference:notebook", "--level", "structure")


def run(*arguments: str) -> int:
    """Run the program in this process, and return its exit status."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("count", "--classes", "1000000000000"), "classes: must be at most 1,000,000, but got 1000000000000"),
        (("show", "--classes", "9" * 30), f"classes: must be at most 1,000,000, but got {'9' * 30}"),
        (("count", "--choose", "middle_blocks=1000000000"), "middle_blocks: must be at most 1000, but got 1000000000"),
        (("show", "--choose", "middle_blocks=100000"), "middle_blocks: must be at most 1000, but got 100000"),
        (("count", "--size", f"{'9' * 20}x5"), "size: height and width must be at most 1,000,000"),
        ((*CERTIFY, "--classes", "1000000000000"), "classes: must be at most 1,000,000, but got 1000000000000"),
        ((*CERTIFY, "--seed", "9" * 30), f"seed: must be from 0 to 2^63 - 1, but got {'9' * 30}"),
        ((*CERTIFY, "--seed", "-1"), "seed: must be from 0 to 2^63 - 1, but got -1"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_number_without_meaning_is_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would otherwise be computed for hours, or be an error of the framework."""
    assert run(*arguments) == ExitCode.USAGE

    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line


def waivers(tmp_path: Path, kind: str) -> Path:
    """Return what is no file of waivers."""
    path = tmp_path / "waivers.toml"
    match kind:
        case "nested":
            path.write_text(f"a = {'[' * 100_000}")
        case "a number without end":
            path.write_text(f"a = {'9' * 100_000}")
        case "a file without end":
            return Path("/dev/zero")
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "long":
            path.write_text("#" * 2_000_000)
        case "no text":
            path.write_bytes(b"\xff\xfe")
    return path


@pytest.mark.parametrize(
    "kind", ["nested", "a number without end", "a file without end", "a pipe", "a folder", "long", "no text"]
)
def test_what_is_no_file_of_waivers_is_one_line(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is read without a limit, and a pipe that nothing writes to is not waited for."""
    assert run(*CERTIFY, "--waivers", str(waivers(tmp_path, kind))) == ExitCode.USAGE

    (line,) = capsys.readouterr().err.splitlines()
    assert "must be" in line
    assert len(line) < 400


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    """The report goes where the link leads, also where nothing is yet."""
    link, file = tmp_path / "link.json", tmp_path / "file.json"
    link.symlink_to(file)

    assert run("count", "--json", "--output", str(link)) == ExitCode.DONE

    assert link.is_symlink()
    assert file.read_text(encoding="utf-8").startswith("{")


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """Another program reads the report as it is written."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()

    assert run("count", "--json", "--output", str(pipe)) == ExitCode.DONE

    reader.join(10)
    assert read[0].startswith("{")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="not run: there is no /dev/full")
def test_a_device_is_written_to_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk is one line; the device is not replaced by a file."""
    assert run("count", "--json", "--output", "/dev/full") == ExitCode.COULD_NOT_RUN

    assert "/dev/full: cannot be written: No space left on device" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="not run: there is no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    """It is not lost, and not a traceback when the interpreter ends."""
    code = "import sys; from deeplab_spec.cli.app import main; main(sys.argv[1:])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "count", "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == ExitCode.COULD_NOT_RUN
    assert done.stderr == "deeplab-spec: stdout: cannot be written: No space left on device\n"
