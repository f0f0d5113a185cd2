"""A report of several files appears whole or not at all; names in it stay names."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.align import lock_file
from deeplab_spec.capture import target
from deeplab_spec.cli import output
from deeplab_spec.cli.app import main
from deeplab_spec.errors import TargetError, printable
from deeplab_spec.graph.ops import Output
from deeplab_spec.profile.document import TENSORBOARD, TRACE
from deeplab_spec.profile.trace import STEP
from deeplab_spec.result import ExitCode
from deeplab_spec.spec.variants import TF_RELEASE
from deeplab_spec.views.document import write_whole, written_together
from deeplab_spec.views.table import Grid, markdown, plain, rich_table
from tests.align.test_lock_file import locked, short
from tests.hostile.conftest import Refused

NAMES = (
    'a"b<script>alert(1)</script>',
    "c|d`e`",
    "f\ng",
    "h\x1b[31m",
    "\u202eabc",
    "i\tj",
    "[/x]",
    "[red]",
    "k'l\\",
    "<!--",
)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file become larger than 100 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def broken(folder: Path, error: type[BaseException]) -> None:
    """Write one of two files, then fail."""
    with written_together(folder) as new:
        (new / "a.txt").write_text("new", encoding="utf-8")
        (new / "deeper").mkdir()
        (new / "deeper" / "b.txt").write_text("new", encoding="utf-8")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError, MemoryError])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_between_two_files_leaves_the_folder_as_it_was(
    error: type[BaseException],
    exists: bool,  # noqa: FBT001 - a parameter
    tmp_path: Path,
) -> None:
    """Also where there was none."""
    folder = tmp_path / "deep" / "folder"
    if exists:
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("old", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(TargetError if error is OSError else error):
        broken(folder, error)

    assert sorted(tmp_path.rglob("*")) == before
    assert not exists or (folder / "a.txt").read_text(encoding="utf-8") == "old"


def test_all_files_take_their_places_together(tmp_path: Path) -> None:
    """Old files are replaced, and others stay."""
    (tmp_path / "a.txt").write_text("old", encoding="utf-8")
    (tmp_path / "other.txt").write_text("old", encoding="utf-8")

    with written_together(tmp_path) as new:
        write_whole(new / "a.txt", "new")
        (new / "deeper").mkdir()
        write_whole(new / "deeper" / "b.txt", "new")
        assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"

    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a.txt": "new", "other.txt": "old", "deeper/b.txt": "new"}


KILLED = """
import os, pathlib, signal, sys
from deeplab_spec.views.document import written_together

with written_together(pathlib.Path(sys.argv[1])) as new:
    (new / "trace.json").write_text("{")
    print(new.is_dir(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_no_temporary_folder(tmp_path: Path) -> None:
    """No code of the process runs after that: another process removes the folder."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "True\n")
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError])
def test_a_single_file_leaves_no_part(
    interrupt: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part lies beside it until it is whole."""

    def stop(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises((KeyboardInterrupt, TargetError)):
        write_whole(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("count", "--report", "it"),
        ("count", "--json", "-o", "it"),
        ("show", "--format", "svg", "-o", "it"),
    ],
    ids=" ".join,
)
def test_a_full_disk_leaves_nothing(arguments: tuple[str, ...], tmp_path: Path, refused: Refused) -> None:
    """One line, and no file that is half written."""
    with full_disk():
        assert refused(*arguments).endswith("cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []


class Part(nn.Module):
    """A convolution under a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_module(f"conv{name}", nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Call it."""
        return torch.relu(getattr(self, f"conv{self.name}")(image))


class Named(nn.Module):
    """Parts under names that end a string, a line, a cell or a tag."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        for name in NAMES:
            self.add_module(name, Part(name))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Call one part after the other."""
        image = self.stem(image)
        for name in NAMES:
            image = getattr(self, name)(image)
        return {"out\n|<b>": image}


def build() -> Named:
    """Build it."""
    return Named()


NAMED = f"{__name__}:build"


@pytest.fixture(scope="module", name="folder")
def folder_of_a_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the profile of the network."""
    folder = tmp_path_factory.mktemp("named")
    sys.modules.setdefault(__name__, sys.modules[Named.__module__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "table", lambda *_: None)
        main_of("profile", NAMED, "-o", str(folder / "it"), "--size", "33", "--steps", "2", "--no-ceilings")
    return folder / "it"


def main_of(*arguments: str) -> None:
    """Run the program to its end."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code


@pytest.mark.parametrize("name", [TRACE, TENSORBOARD])
def test_the_traces_are_json_whatever_the_names(name: str | Path, folder: Path) -> None:
    """The framework writes names into them as they are."""
    events = json.loads((folder / name).read_text(encoding="utf-8"))["traceEvents"]

    assert any(str(event.get("name")).startswith(STEP) for event in events)


def test_a_page_has_no_tag_of_a_name(folder: Path) -> None:
    """A name that holds a tag is text."""
    page = (folder / "index.html").read_text(encoding="utf-8")

    assert "b&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


@pytest.mark.parametrize("form", ["table", "markdown", "html", "csv", "json"])
def test_a_comparison_obeys_no_name(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does its table break."""
    capsys.readouterr()
    main_of("compare", str(folder), str(folder), "--format", form)

    text = capsys.readouterr().out
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
    if form == "markdown":
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
        assert "<script>" not in text.replace("\\<", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_of_any_name_is_read_again(name: str) -> None:
    """Every name is a JSON string in it."""
    lock = locked(short(TF_RELEASE))
    nodes = (
        replace(node, op=Output(name=name)) if isinstance(node.op, Output) else node for node in lock.normal.network
    )
    lock = replace(lock, target=name, normal=lock.normal.with_network(lock.normal.network.with_nodes(nodes)))

    assert lock_file.read(lock_file.text(lock), "it.lock") == lock


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [plain, markdown, lambda grid: str(rich_table(grid).row_count)])
def test_a_cell_is_one_cell(name: str, write: Callable[[Grid], str]) -> None:
    """In text, in Markdown and on a terminal."""
    text = write(Grid(headers=("a", "b"), rows=((name, "1"), ("x", "2"))))

    assert len(text.splitlines()) in (1, 4)
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    "name", [b"a\nb.onnx", b"\x1b[31m.pt2", b"\xff\xfe.onnx", "\u202ex.pt2".encode(), b"m:\xff", b"a\nb:build"]
)
@pytest.mark.parametrize("command", [("identify",), ("count",), ("lock", "-o", "o.lock")], ids=lambda it: it[0])
def test_a_target_whose_name_cannot_be_shown_is_one_line(
    name: bytes, command: tuple[str, ...], tmp_path: Path, refused: Refused
) -> None:
    """It would break every report that names it."""
    text = os.fsdecode(name)
    if b":" not in name:
        (tmp_path / text).write_bytes(b"x")

    assert refused(command[0], text, *command[1:]).endswith("must have a name of printable characters")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("./-x.onnx", "is not an ONNX file, or only a part of one"),
        ("<script>.pt2", "is not a zip archive"),
        ("a|b`c.onnx", "is not an ONNX file, or only a part of one"),
        ("folder.onnx", "is not a file"),
        ("x" * 5000 + ".onnx", "File name too long"),
        ("none.pt2", "there is no such file"),
    ],
)
def test_a_file_of_any_name_is_one_line(name: str, reason: str, tmp_path: Path, refused: Refused) -> None:
    """With its reason."""
    (tmp_path / "folder.onnx").mkdir()
    if len(name) < 100 and "none" not in name and "folder" not in name:
        (tmp_path / name).write_bytes(b"x")

    assert reason in refused("identify", name)


def test_an_error_that_nothing_expects_is_one_line_where_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other exit status would be a result."""

    def fail(*_: object) -> None:
        raise RuntimeError("a\nb")

    monkeypatch.setenv("DEEPLAB_SPEC_APART", "1")
    monkeypatch.setattr(target, "open_file", fail)
    with pytest.raises(SystemExit) as end:
        main(("identify", str(tmp_path / "it.onnx")))

    assert end.value.code == ExitCode.COULD_NOT_RUN
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("deeplab-spec: internal error: RuntimeError: a (set DEEPLAB_SPEC_TRACEBACK=1")
