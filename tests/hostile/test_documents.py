"""Files that earlier runs wrote - locks, profiles, weights, recordings - as somebody else might write them."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deeplab_spec.align import lock_file
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import CPU_FORWARD, Device
from deeplab_spec.gate.recordings import Recorder
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import Side
from deeplab_spec.port.weights import load_weights
from tests.align.test_lock_refused import CONTENT, sealed
from tests.hostile.conftest import Refused
from tests.support.archives import Touch, torch_saved
from tests.support.profile_samples import profile

PORT = ("port", "reference:notebook", "reference:notebook", "--choose", "width=0.03125", "--choose", "middle_blocks=1")
NESTED = "[" * 100_000
BLOCK = {"stem": (10, 12), "unattributed": (1, 2)}


def changed(edit: Callable[[dict[str, Any]], object]) -> str:
    """Return a profile after an edit."""
    document = json.loads(profile(BLOCK).model_dump_json())
    edit(document)
    return json.dumps(document)


def all_steps(value: float) -> Callable[[dict[str, Any]], None]:
    """Return an edit that gives every step one time, so that the times still add up if it is 0."""

    def edit(document: dict[str, Any]) -> None:
        for row in (document["total"], *document["blocks"], document["unattributed"]):
            row["host"]["steps"] = [value, value]

    return edit


PROFILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "is not a profile: document: "),
    "no text": (b"\xff\xfe\0", "is not a profile: document: "),
    "lists in lists": (NESTED, "is not a profile: document: "),
    "objects in objects": ('{"a":' * 100_000, "is not a profile: document: "),
    "a number without end": ("9" * 100_000, "is not a profile: document: "),
    "a list": ("[]", "is not a profile: document: "),
    "a name without end": (changed(lambda it: it.update({"k" * 10**6: 1})), "is not a profile: kkk"),
    "a name in red": (changed(lambda it: it.update({"\x1b[31m\n": 1})), "is not a profile: ?[31m?: "),
    "times of 10^400": (changed(all_steps(10**400)), "is not a profile: total.host.steps.0: "),
    "times below 0": (changed(all_steps(-1)), "is not a profile: total.host.steps.0: "),
    "a mean of NaN": (changed(lambda it: it["total"]["host"].update(mean=float("nan"))), "total.host.mean: "),
    "no total": (changed(lambda it: it.update(total=None)), "is not a profile: total: "),
    "blocks that are text": (changed(lambda it: it.update(blocks="x" * 1000)), "is not a profile: blocks: "),
    "another version": (changed(lambda it: it.update(schema_version=2)), "is not a profile: schema_version: "),
}


@pytest.mark.parametrize("case", PROFILES)
def test_what_is_no_profile_is_one_line(case: str, tmp_path: Path, refused: Refused) -> None:
    """A comparison needs numbers, and enough of them."""
    content, reason = PROFILES[case]
    (tmp_path / "a.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "b.json").write_text(changed(lambda _: None), encoding="utf-8")

    assert reason in refused("compare", "b.json", "a.json")


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        (("compare", "it", "it"), ""),
        ((*PORT, "-o", "o.safetensors", "--weights", "it.pt"), ".pt"),
        (("identify", "it.onnx"), ".onnx"),
        (("lock", "it.pt2", "-o", "o.lock"), ".pt2"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("kind", ["pipe", "link to a file without end"])
def test_what_has_no_end_is_not_read(
    arguments: tuple[str, ...], suffix: str, kind: str, tmp_path: Path, refused: Refused
) -> None:
    """A pipe that nothing writes to is not waited for, and /dev/zero not read to its end."""
    if kind == "pipe":
        os.mkfifo(tmp_path / f"it{suffix}")
    else:
        (tmp_path / f"it{suffix}").symlink_to("/dev/zero")

    assert refused(*arguments).endswith("is not a file")


LOCKS: dict[str, Callable[[str], str]] = {
    "rates of 10^12": lambda content: content.replace('"rate": [6, 6]', '"rate": [1000000000000, 6]'),
    "a stride of 2^40": lambda content: content.replace('"stride": [2, 2]', f'"stride": [2, {2**40}]'),
    "an image of 10^9": lambda content: content.replace('"image": [289, 300]', '"image": [1000000000, 1000000000]'),
    "a map of 10^9": lambda content: content.replace('"shape": [4, 145, 150]', '"shape": [4, 1000000000, 1000000000]'),
    "classes of NaN": lambda content: content.replace('"classes": 5', '"classes": NaN'),
    "classes of 10^5000": lambda content: content.replace('"classes": 5', f'"classes": {"9" * 5000}'),
    "lists in lists": lambda content: content.replace('"classes": 5', f'"classes": {NESTED}'),
    "a field without end": lambda content: content.replace('"classes": 5', f'"{"k" * 10**6}": 5'),
    "a field in red": lambda content: content.replace('"classes": 5', '"\\u001b[31m": 5'),
    "30000 lines": lambda content: content.replace("\n", '\n{"type": "tap", "name": "a", "path": "x"}\n' * 30_000, 2),
}


@pytest.mark.parametrize("kind", ["pipe", "link to a file without end"])
def test_a_lock_that_has_no_end_is_not_read(kind: str, tmp_path: Path) -> None:
    """As any other file."""
    path = tmp_path / "it.lock"
    path.symlink_to("/dev/zero") if kind != "pipe" else os.mkfifo(path)

    with pytest.raises(TargetError, match="is not a file"):
        lock_file.load(path)


@pytest.mark.parametrize("case", LOCKS)
def test_a_lock_that_states_what_no_network_has_is_one_line(case: str, tmp_path: Path) -> None:
    """Although its digest is right."""
    content = LOCKS[case](CONTENT)
    assert content != CONTENT
    (tmp_path / "it.lock").write_text(sealed(content), encoding="utf-8")

    with pytest.raises(TargetError) as caught:
        lock_file.load(tmp_path / "it.lock")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def tensors(path: Path, **content: object) -> None:
    """Write what is a state dict by its form."""
    path.write_bytes(torch_saved(content))


def safe(path: Path, length: int, header: bytes = b"") -> None:
    """Write a file of the safetensors format."""
    path.write_bytes(length.to_bytes(8, "little") + header)


def stated(path: Path, **entry: object) -> None:
    """Write a file of the safetensors format that states one tensor."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4], **entry}}).encode()
    safe(path, len(header), header + bytes(4))


def bomb(path: Path) -> None:
    """Write an archive of 64 MB that is compressed to some kilobytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(2**26))


def cut(path: Path) -> None:
    """Write the first half of an archive."""
    path.write_bytes(torch_saved({"weight": torch.ones(100)})[:300])


WEIGHTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a header of 2^63": (".safetensors", lambda path: safe(path, 2**63), "cannot be read"),
    "a header beyond the end": (".safetensors", lambda path: safe(path, 10**6), "cannot be read"),
    "a header of lists": (".safetensors", lambda path: safe(path, 10**5, NESTED.encode()), "cannot be read"),
    "no header": (".safetensors", lambda path: path.write_bytes(b"\0"), "cannot be read"),
    "2^40 values": (".safetensors", stated, "cannot be read"),
    "values beyond the end": (
        ".safetensors",
        lambda path: stated(path, shape=[1], data_offsets=[2**62, 2**62 + 4]),
        "",
    ),
    "an unknown type": (".safetensors", lambda path: stated(path, dtype="\x1b[31m"), "cannot be read"),
    "code": (".pt", lambda path: tensors(path, weight=Touch(path.with_suffix(".ran"))), "as that could execute code"),
    "a compressed archive": (".pt", bomb, "it has a compressed member"),
    "half an archive": (".pth", cut, "is not a file of weights"),
    "2^40 values, one stored": (".pt", lambda path: tensors(path, weight=torch.ones(1).expand(2**40)), "does not fit"),
    "sparse values": (".pt", lambda path: tensors(path, weight=torch.eye(3).to_sparse()), ""),
    "names in red": (".pt", lambda path: tensors(path, **{"\x1b[31m\n": torch.ones(1)}), "does not fit"),
    "names that are numbers": (".pt", lambda path: path.write_bytes(torch_saved({5: torch.ones(1)})), "by name"),
    "lists in lists": (".pt", lambda path: path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"a" * 10**5 + b"."), ""),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none_are_one_line(case: str, tmp_path: Path) -> None:
    """Nothing in them is executed, and nothing is allocated that the file does not hold."""
    suffix, write, reason = WEIGHTS[case]
    path = tmp_path / f"it{suffix}"
    write(path)

    with pytest.raises(TargetError) as caught:
        load_weights(local(torch.nn.Linear(1, 1)), path)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


RECORDINGS: dict[str, str] = {
    "nothing": "",
    "lists in lists": NESTED,
    "a number": "5",
    "a case of text": '{"case": "x"}',
    "no case": "{}",
    "a number without end": "9" * 100_000,
}


@pytest.mark.parametrize("case", RECORDINGS)
def test_what_is_no_file_of_recordings_is_one_line(case: str, tmp_path: Path) -> None:
    """Nothing is measured before."""
    (tmp_path / "it.jsonl").write_text(RECORDINGS[case], encoding="utf-8")
    side = Side(name="m:build", target="m:build", paths=())
    device = Device(name="a processor", file="a-processor")
    recorder = Recorder(case=CPU_FORWARD, side=side, rule=Rule(), device=device, timeout=9.0, ahead=1)

    with pytest.raises(TargetError, match=r"line 1 is not a recording: remove it$"):
        recorder.record(tmp_path / "it.jsonl", 0, lambda *_: None)
