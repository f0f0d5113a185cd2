"""A file that is no lock, or is one no longer, is refused in one line."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deeplab_spec.align import lock_file as lock_text
from deeplab_spec.align.lock_file import load, read, text
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.variants import TF_RELEASE
from tests.align.test_lock_file import locked, short

CONTENT = text(locked(short(TF_RELEASE)))
CONV = "part1.unit1.conv = Conv2d("


def sealed(content: str) -> str:
    """Return the text of a lock under a right digest, as somebody may make it on purpose."""
    body = content.rpartition("digest ")[0]
    return f"{body}digest sha256:{hashlib.sha256(body.encode()).hexdigest()}\n"


def refusal(content: str) -> str:
    """Return the one line with which a text is refused."""
    with pytest.raises(TargetError) as caught:
        read(content, "a.lock")
    message = str(caught.value)
    assert message.startswith("a.lock: ")
    assert "\n" not in message
    assert len(message) < 900
    return message.removeprefix("a.lock: ")


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.replace("rate=6x6", "rate=7x7"),
        lambda content: content.replace("classes: 5", "classes: 6"),
        lambda content: content[: len(content) // 2],
        lambda content: content + "more\n",
        lambda content: content.replace("digest sha256:", "digest sha256:0"),
        lambda content: content.rpartition("digest")[0],
        lambda content: content.partition("\n")[0],
        lambda content: f"{content}\n{content}",
        lambda content: content.replace("# nodes\n", "# nodes\n<<<<<<< HEAD\n"),
    ],
)
def test_an_edited_lock_is_refused(edit: Callable[[str], str]) -> None:
    """Its digest is of everything before it."""
    assert edit(CONTENT) != CONTENT
    assert refusal(edit(CONTENT)) == "was edited by hand, or damaged; lock it again"


@pytest.mark.parametrize("content", ["", "\n", "# a text\n", "digest sha256:", "PK\x03\x04"])
def test_what_is_no_lock_is_refused(content: str) -> None:
    """Whatever it is."""
    assert refusal(content) == "is no lock"


def test_another_schema_is_refused() -> None:
    """Before anything of it is read."""
    assert refusal(CONTENT.replace("schema 1", "schema 2", 1)) == (
        "is a lock of schema '2'; this version reads schema 1: lock it again"
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (CONV, "part1.unit1.conv = Conv3d(", ": part1.unit1.conv: the operator must be one of"),
        ("kernel=3x3, stride=2x2", "kernel=3x3, step=2x2", "a field of Conv2d must be one of"),
        ("<- part1.unit1.conv", "<- part1.unit1.activation", "an input must stand before its reader"),
        ("<- part1.unit1.conv", "<- part1.unit1.norm", "an input must stand before its reader"),
        ("<- part1.unit1.conv", "", ": part1.unit1.norm: behind a node must stand its shape"),
        ("part1.unit1.activation = ", "part1.unit1.norm = ", "a path must be unique"),
        ("-> 4x145x150", "-> 4x145x149", "the shape must be (4, 145, 150), which follows from what it reads"),
        ("-> 4x145x150", "-> 4x145", "a shape must be channels, height and width"),
        ("-> 4x145x150", "-> 4x145x0", "a shape must be channels, height and width"),
        ("-> 4x145x150", "->", "behind a node must stand its shape"),
        ("<- part1.unit1.norm ->", "<- part1.unit1.norm, input ->", "must read 1 values, but got 2"),
        ("like input", "like nothing", "must be a resize to the size of a node"),
        ("-> 4x145x150", "-> 4x145x150 like input", "must be a resize to the size of a node"),
        ("tap logits = ", "tap logits = x.", "a tap must name a node"),
        ("# inputs\n", "", "file: must have a line '# inputs', but got 'its end'"),
        ("# nodes\n", "", "file: must have a line '# nodes', but got 'its end'"),
        ("classes: 5\n", "", "header: must state 'classes' once, but got 0"),
        ("classes: 5\n", "classes: 5\nclasses: 5\n", "header: must state 'classes' once, but got 2"),
        ("classes: 5", "classes: five", "header: must be a number, but got 'five'"),
        ("image: 289x300", "image: 289", "image: must be HEIGHTxWIDTH"),
        ("image: 289x300", "image: 289x0", "image: must be HEIGHTxWIDTH"),
        ("image: 289x300", "image: 289x301", "input: must have the image's size (289, 301)"),
        ("nearest: tf-release", "nearest: tf", "variant: must be one of notebook"),
        ("choice: middle_blocks=2", "choice: middle_blocks=two", "middle_blocks: must be a number"),
        ("choice: middle_blocks=2", "choice: middle_block=2", "choice: must be one of"),
        ("float32 -> logits", "float32 logits", "line 17: inputs: must be SHAPES DTYPE -> RESULTS"),
        ("-> logits 2x5x64x96 float32", "-> logits", "line 17: inputs: a result must be NAME SHAPE DTYPE"),
    ],
)
def test_a_lock_that_was_sealed_again_must_still_be_one(old: str, new: str, reason: str) -> None:
    """The digest is no secret: whoever edits can make it. Then the rules of a network are left."""
    edited = CONTENT.replace(old, new, 1)
    assert edited != CONTENT

    assert reason in refusal(sealed(edited))


@pytest.mark.parametrize(
    ("pattern", "new", "line"),
    [
        (r"parameters: [\d,]+", "parameters: 1", "parameters: "),
        (r"multiply-adds: [\d,]+", "multiply-adds: 1", "multiply-adds: "),
        (r"(part1\.unit1): [\d,]+", r"\1: 1", "part1.unit1: "),
        (r"Not edited.", "Edited.", "Made by"),
        (r"classes: 5", "classes: 05", "classes: 5"),
        (r"# blocks\n.*\n", "# blocks\n", "input: 0 parameters"),
        (r"\n\ndigest", "\ndigest", ""),
        (r"stride: 16", "stride: 16\ncolour: red", "classes: 5"),
        (r"kernel=3x3, stride=2x2", "stride=2x2, kernel=3x3", CONV),
    ],
)
def test_what_is_stated_twice_must_agree(pattern: str, new: str, line: str) -> None:
    """Counts that are not those of the nodes, and anything that this program would not have written so."""
    edited = re.sub(pattern, new, CONTENT, count=1)
    assert edited != CONTENT

    assert re.fullmatch(rf"line \d+ contradicts the nodes: it must be '{re.escape(line)}.*'", refusal(sealed(edited)))


def test_a_network_of_too_many_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compares networks takes the square of their length."""
    monkeypatch.setattr(lock_text, "MOST_NODES", 100)

    assert refusal(CONTENT).endswith(": nodes: must be at most 100, but got 'more'")


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """As it was written."""
    path = tmp_path / "a.lock"
    path.write_text(CONTENT, newline="\n")

    assert load(path) == read(CONTENT, "a.lock")


def test_a_file_that_cannot_be_a_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, no file, binary, or so large that it is not even read."""
    binary, large, pipe = tmp_path / "binary.lock", tmp_path / "large.lock", tmp_path / "pipe.lock"
    binary.write_bytes(bytes(range(256)))
    with large.open("wb") as file:
        file.truncate(lock_text.MOST_BYTES + 1)
    os.mkfifo(pipe)
    reasons = {
        tmp_path / "missing.lock": "is no file",
        tmp_path: "is no file",
        pipe: "is no file",
        binary: "is no lock: it is not text",
        large: "is no lock: it is larger than 64 MiB",
    }
    for path, reason in reasons.items():
        with pytest.raises(TargetError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: {reason}"

    monkeypatch.setattr(Path, "open", _refuses)
    lock_file = tmp_path / "a.lock"
    lock_file.touch()
    with pytest.raises(TargetError, match="cannot be read: Permission denied"):
        load(lock_file)


def _refuses(*_: object) -> None:
    raise PermissionError(13, "Permission denied")
