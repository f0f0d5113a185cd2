"""A file that is not a lock, or is damaged, is refused in one line."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align import lock_file as lock_text
from deeplab_spec.align.lock_file import load, read, text
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.variants import TF_RELEASE
from tests.align.test_lock_file import locked, short

CONTENT = text(locked(short(TF_RELEASE)))
CONV = '{"type": "Conv2d", "path": "part1.unit1.conv"'
SHAPE = '"shape": [4, 145, 150]'
NORM = '"inputs": ["part1.unit1.conv"]'
AGAIN = "make it again: deeplab-spec lock TARGET -o FILE"


def sealed(content: str) -> str:
    """Return the text of a lock with a correct digest, as an editor can make it on purpose."""
    body = content.rpartition('{"type": "digest"')[0]
    digest = hashlib.sha256(body.encode()).hexdigest()
    return body + json.dumps({"type": "digest", "sha256": digest}) + "\n"


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
        lambda content: content.replace('"rate": [6, 6]', '"rate": [7, 7]'),
        lambda content: content.replace('"classes": 5', '"classes": 6'),
        lambda content: content[: len(content) // 2],
        lambda content: content + "more\n",
        lambda content: content.replace('"sha256": "', '"sha256": "0'),
        lambda content: content.rpartition('{"type": "digest"')[0],
        lambda content: content.partition("\n")[0] + "\n",
        lambda content: f"{content}\n{content}",
        lambda content: content.replace("\n", "\n<<<<<<< HEAD\n", 1),
        lambda content: content.removesuffix("\n"),
    ],
)
def test_an_edited_lock_is_refused(edit: Callable[[str], str]) -> None:
    """The digest covers everything before it."""
    assert edit(CONTENT) != CONTENT
    assert refusal(edit(CONTENT)) == f"was edited or damaged; {AGAIN}"


@pytest.mark.parametrize("content", ["", "\n", "# a text\n", "{}", '{"type": "digest"}', "PK\x03\x04"])
def test_other_files_are_refused(content: str) -> None:
    """The first line identifies a lock."""
    assert refusal(content) == "is not a lock"


@pytest.mark.parametrize(
    "content", ["deeplab-spec lock, schema 1\nMade by", CONTENT.replace('"format": 2', '"format": 3', 1)]
)
def test_locks_in_another_format_are_refused_with_the_command_that_makes_them_again(content: str) -> None:
    """Nothing else of the file is read."""
    assert refusal(content) == f"is a lock in another format; {AGAIN}"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (CONV, CONV.replace("Conv2d", "Conv3d"), ": Input tag 'Conv3d' found using 'type' does not match"),
        ('"stride": [2, 2]', '"step": [2, 2]', "Conv2d: step: Extra inputs are not permitted"),
        ('"stride": [2, 2]', '"stride": [2, "2"]', "Conv2d: stride: 1: Input should be a valid integer"),
        ('"stride": [2, 2]', '"stride": [2]', "Conv2d: stride: 1: Field required"),
        ('"stride": [2, 2]', '"stride": [0, 2]', "kernel, stride and rate must be positive"),
        ('"stride": [2, 2]', f'"stride": [2, {10**13}]', "Input should be less than or equal to 1000000000000"),
        ('"stride": [2, 2]', f'"stride": [2, {"9" * 5000}]', "line "),
        ('"stride": [2, 2]', f'"stride": {"[" * 10000}', ": Invalid JSON: "),
        (SHAPE, f'"shape": [4, {10**10}, 1]', "Input should be less than or equal to 1000000000"),
        (NORM, '"inputs": ["part1.unit1.activation"]', "an input must stand before its reader"),
        (NORM, '"inputs": ["part1.unit1.norm"]', "an input must stand before its reader"),
        (NORM, '"inputs": []', "part1.unit1.norm: must have 1 inputs, but got 0"),
        (NORM, '"inputs": ["part1.unit1.conv", "input"]', "must have 1 inputs, but got 2"),
        ('"path": "part1.unit1.activation"', '"path": "part1.unit1.norm"', "a path must be unique"),
        (SHAPE, '"shape": [4, 145, 149]', "the shape must be (4, 145, 150), which follows from its inputs"),
        (SHAPE, '"shape": [4, 145]', "a shape must be channels, height and width"),
        (SHAPE, '"shape": [4, 145, 0]', "a shape must be channels, height and width"),
        (f", {SHAPE}", "", "Conv2d: shape: Field required"),
        ('"like": "input"', '"like": "nothing"', "only a resize takes the size of another node"),
        (SHAPE, f'{SHAPE}, "like": "input"', "only a resize takes the size of another node"),
        ('"name": "logits", "path": "', '"name": "logits", "path": "x.', "a tap must name a node"),
        ('"type": "network"', '"type": "tap"', "tap: name: Field required"),
        ('"classes": 5', '"classes": "5"', "line 2: network: classes: Input should be a valid integer"),
        ('"image": [289, 300]', '"image": [289]', "line 2: network: image: 1: Field required"),
        ('"image": [289, 300]', '"image": [289, 301]', "input: must have the image's size (289, 301)"),
        ('"variant": "tf-release"', '"variant": "tf"', "variant: must be one of notebook"),
        ("middle_blocks=2", "middle_blocks=two", "middle_blocks: must be a number"),
        ("middle_blocks=2", "middle_block=2", "choice: must be one of"),
        ('"results": []', '"results": [1]', "line 5: response: results: 0: Input should be an object"),
        ('"type": "response"', '"type": ["response"]', "line 4: "),
    ],
)
def test_a_lock_that_was_sealed_again_must_still_be_one(old: str, new: str, reason: str) -> None:
    """The digest is no secret: an editor can make it again. The file must still describe a network."""
    edited = CONTENT.replace(old, new, 1)
    assert edited != CONTENT

    assert reason in refusal(sealed(edited))


def test_a_lock_must_say_what_was_locked() -> None:
    """The second line is required."""
    edited = re.sub(r'{"type": "network".*\n', "", CONTENT)

    assert refusal(sealed(edited)) == "network: must be described by one line, but got 'none'"


@pytest.mark.parametrize(
    ("pattern", "new", "line"),
    [
        (r'"parameters": \d+', '"parameters": 1', '{"type": "network"'),
        (r'"multiply_adds": \d+', '"multiply_adds": 1', '{"type": "network"'),
        (r'("part1\.unit1", "parameters": )\d+', r"\g<1>1", '{"type": "block", "path": "part1.unit1"'),
        (r"Do not edit.", "Edited.", '{"type": "lock"'),
        (r'"classes": 5', '"classes":  5', '{"type": "network"'),
        (r'"classes": 5', '"classes": 5, "classes": 5', '{"type": "network"'),
        (r'{"type": "block".*\n', "", '{"type": "block", "path": "input"'),
        (r'({"type": "network".*\n)', r"\1\1", '{"type": "nearest"'),
        (r'({"type": "nearest".*\n)({"type": "response".*\n)', r"\2\1", '{"type": "nearest"'),
        (r'("kernel": \[3, 3\]), ("stride": \[2, 2\])', r"\2, \1", CONV),
        (r'("bias": true)', r'\1, "shared": false', '{"type": "Conv2d"'),
    ],
)
def test_only_what_this_program_writes_is_accepted(pattern: str, new: str, line: str) -> None:
    """Costs must follow from the nodes, and every line has one valid form."""
    edited = re.sub(pattern, new, CONTENT, count=1)
    assert edited != CONTENT

    expected = rf"line \d+ contradicts the other lines: it must be {re.escape(line)}.*"
    message = refusal(sealed(edited))
    assert re.fullmatch(expected, message) or message == f"is a lock in another format; {AGAIN}"


@given(line=st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_any_other_line_is_refused(line: str) -> None:
    """Always by a TargetError."""
    title, _, rest = CONTENT.partition("\n")

    refusal(sealed(f"{title}\n{line}\n{rest}"))


def test_a_file_of_too_many_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligning two networks takes the square of their length."""
    monkeypatch.setattr(lock_text, "MOST_LINES", 100)

    assert refusal(CONTENT) == "is not a lock: it has more than 100 lines"


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """As it was written."""
    path = tmp_path / "a.lock"
    path.write_text(CONTENT, newline="\n")

    assert load(path) == read(CONTENT, "a.lock")


def test_a_file_that_cannot_be_a_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, not a file, binary, or too large to read."""
    binary, large, pipe = tmp_path / "binary.lock", tmp_path / "large.lock", tmp_path / "pipe.lock"
    binary.write_bytes(bytes(range(256)))
    with large.open("wb") as file:
        file.truncate(lock_text.MOST_BYTES + 1)
    os.mkfifo(pipe)
    reasons = {
        tmp_path / "missing.lock": "is not a file",
        tmp_path: "is not a file",
        pipe: "is not a file",
        binary: "is not a lock: it is not text",
        large: "is not a lock: it is larger than 64 MiB",
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
