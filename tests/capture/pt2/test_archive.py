"""Untrusted ``.pt2`` files: nothing in them is executed."""

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deeplab_spec.capture.pt2.archive import check_pt2
from deeplab_spec.capture.target import SUFFIXES, open_file
from deeplab_spec.errors import TargetError
from tests.support.archives import (
    PROGRAM,
    Touch,
    changed,
    members_of,
    packed,
    pickled,
    saved,
    torch_saved,
    touching,
    with_text,
)
from tests.support.modules import CHANNELS, Buffered

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"
EXECUTES = "files that execute code are refused"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small program, as the exporter saves it."""
    return saved(torch.export.export(Buffered().eval(), (torch.ones(1, CHANNELS, 4, 5),)))


@pytest.fixture(scope="module")
def free() -> bytes:
    """A small program of any height."""
    height = {0: {2: torch.export.Dim("height", min=2, max=64)}}
    module, image = nn.Conv2d(CHANNELS, 2, 1).eval(), torch.ones(1, CHANNELS, 4, 5)
    return saved(torch.export.export(module, (image,), dynamic_shapes=list(height.values())))


def refused(tmp_path: Path, content: bytes) -> str:
    """Return the one line of the refusal; nothing may have been executed."""
    path = tmp_path / "network.pt2"
    path.write_bytes(content)
    witness = tmp_path / "executed"
    with pytest.raises(TargetError) as caught:
        open_file(path, "network.pt2")
    line = str(caught.value)
    assert not witness.exists()
    assert line.startswith("network.pt2: ")
    assert line.isprintable()
    assert len(line) < 500
    return line


def accepted(tmp_path: Path, content: bytes) -> None:
    """Assert that a file passes the check."""
    path = tmp_path / "network.pt2"
    path.write_bytes(content)
    check_pt2(path, "network.pt2")


def test_saved_programs_are_accepted(tmp_path: Path, content: bytes, free: bytes) -> None:
    """Also with free sizes, and repacked."""
    accepted(tmp_path, content)
    accepted(tmp_path, free)
    accepted(tmp_path, packed(members_of(content), folder="anything"))


def pickled_weight(table: str, member: str) -> Callable[[bytes, object], bytes]:
    """Return a change that makes a table's first tensor a pickle."""

    def change(content: bytes, value: object) -> bytes:
        def mark(text: Any) -> None:
            entry = next(iter(text["config"].values()))
            entry |= {"use_pickle": True, "path_name": member.rpartition("/")[2]}

        return changed(with_text(content, mark, table), {member: torch_saved(value)})

    return change


PICKLES: dict[str, Callable[[bytes, object], bytes]] = {
    "sample inputs": lambda content, value: changed(content, {SAMPLES: torch_saved(value)}),
    "bare sample inputs": lambda content, value: changed(content, {SAMPLES: pickled(value)}),
    "weights of an older layout": lambda content, value: changed(
        content, {"data/weights/model.pt": torch_saved(value), WEIGHTS: None}
    ),
    "constants of an older layout": lambda content, value: changed(
        content, {"data/constants/model.pt": torch_saved(value), CONSTANTS: None}
    ),
    "a weight": pickled_weight(WEIGHTS, "data/weights/weight_0"),
    "a constant": pickled_weight(CONSTANTS, "data/constants/tensor_0"),
}


@pytest.mark.parametrize("place", PICKLES)
def test_a_pickle_that_would_execute_code_is_refused(tmp_path: Path, content: bytes, place: str) -> None:
    """In every member that the framework would unpickle; the error names the function."""
    line = refused(tmp_path, PICKLES[place](content, ((Touch(tmp_path / "executed"),), {})))

    assert "would call" in line
    assert "builtins.eval" in line or "__builtin__.eval" in line
    assert line.endswith(EXECUTES)


@pytest.mark.parametrize("place", ["sample inputs", "a weight"])
def test_the_framework_would_execute_the_payload(tmp_path: Path, content: bytes, place: str) -> None:
    """So the payload of the test above works."""
    path = tmp_path / "network.pt2"
    path.write_bytes(PICKLES[place](content, ((Touch(tmp_path / "executed"),), {})))

    with pytest.raises(Exception, match=r"."):
        torch.export.load(path)

    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("place", [place for place in PICKLES if place != "bare sample inputs"])
def test_a_pickle_of_plain_tensors_is_accepted(tmp_path: Path, content: bytes, place: str) -> None:
    """The same members with plain tensors."""
    value = {"a": torch.ones(2), "b": nn.Parameter(torch.ones(2, dtype=torch.float16))}
    accepted(tmp_path, PICKLES[place](content, ((torch.ones(2), value), {})))


@pytest.mark.parametrize("member", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0"])
def test_an_object_beyond_tensors_is_refused(tmp_path: Path, content: bytes, member: str) -> None:
    """The framework would unpickle it."""
    line = refused(tmp_path, changed(content, {member: pickled(Touch(tmp_path / "executed"))}))

    assert line.endswith(EXECUTES)


def test_a_compiled_library_is_refused(tmp_path: Path, content: bytes) -> None:
    """The framework would load it into the process."""
    line = refused(tmp_path, changed(content, {"data/aotinductor/model/network.so": b"\x7fELF"}))

    assert line == f"network.pt2: holds a compiled library; {EXECUTES}"


def named(text: Any, old: str, name: str) -> None:
    """Rename a value everywhere in the JSON."""
    new = json.loads(json.dumps(text).replace(f'"{old}"', json.dumps(name)))
    text.clear()
    text.update(new)


def sized(text: Any, expression: str) -> None:
    """Replace a side of the image by an expression."""
    graph = text["graph_module"]["graph"]
    name = graph["inputs"][-1]["as_tensor"]["name"]
    graph["tensor_values"][name]["sizes"][2] = {"as_expr": {"expr_str": expression, "hint": {"as_int": 4}}}


def structured(text: Any, kind: str, context: object) -> None:
    """Change the kind of container that the program returns."""
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf]}])
    text["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = spec


def called(text: Any, target: str) -> None:
    """Replace the operator of the first call."""
    text["graph_module"]["graph"]["nodes"][0]["target"] = target


def tabled(text: Any, key: str, value: object) -> None:
    """Add a field to the first argument of the first call."""
    text["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {key: value}


TEXTS: dict[str, tuple[Callable[[Any, Path], object], str]] = {
    "a name that is code": (
        lambda text, witness: named(text, "x", f"x={touching(witness)}"),
        "which is not a name",
    ),
    "a name of a call that is code": (
        lambda text, witness: named(text, "conv2d", f"x = 1; {touching(witness)}; y"),
        "which is not a name",
    ),
    "a name of an argument that is code": (
        lambda text, witness: text["graph_module"]["module_call_graph"][0]["signature"].update(
            forward_arg_names=[f"x={touching(witness)}"]
        ),
        "which is not a name",
    ),
    "a size that is code": (lambda text, witness: sized(text, touching(witness)), "has a size"),
    "a size with code inside": (
        lambda text, witness: sized(text, f"Mul(Integer(2), {touching(witness)})"),
        "has a size",
    ),
    "a size that is a huge power": (lambda text, _: sized(text, "Pow(Integer(9), Integer(999999999))"), "has a size"),
    "a size that is too long": (lambda text, _: sized(text, f"Add({'Integer(1), ' * 1000}Integer(1))"), "has a size"),
    "a size that is deep": (lambda text, _: sized(text, "Add(" * 400), "has a size"),
    "a structure that imports": (
        lambda text, _: structured(text, "builtins.dict", '{"__enum__": true, "fqn": "antigravity:x", "name": "a"}'),
        "has a structure",
    ),
    "a structure with a factory": (
        lambda text, _: structured(text, "collections.defaultdict", "{}"),
        "returns a 'collections.defaultdict'",
    ),
    "a parameter's name with quotes": (
        lambda text, _: text["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name='a"b(c'),
        "has a parameter_name that no exporter writes",
    ),
    "a function that is no operator": (lambda text, _: called(text, "torch.load"), "calls 'torch.load'"),
    "an operator of files": (
        lambda text, _: called(text, "torch.ops.aten.from_file.default"),
        "calls 'aten.from_file.default'",
    ),
    "an operator of another library": (lambda text, _: called(text, "torch.ops.mine.op.default"), "is not an operator"),
    "an operator of an extension": (lambda text, _: called(text, "#mine:op"), "is not an operator"),
    "a program within": (lambda text, _: tabled(text, "as_graph", {}), "holds a program within the program"),
    "an object as an argument": (lambda text, _: tabled(text, "as_custom_obj", {}), "an object of a custom class"),
    "sizes that depend on values": (
        lambda text, _: text["range_constraints"].update(u999999999={"min_val": 0, "max_val": 1}),
        "sizes that depend on values",
    ),
    "no graph": (lambda text, _: text.update(graph_module={}), "it has no graph"),
    "a graph of another kind": (lambda text, _: text["graph_module"].update(graph=[1]), "it has no graph"),
    "values of another kind": (
        lambda text, _: text["graph_module"]["graph"].update(tensor_values=[1]),
        "whose tensor_values are a list",
    ),
    "no version": (lambda text, _: text.pop("schema_version"), "it has no version"),
    "another version": (
        lambda text, _: text.update(schema_version={"major": 7, "minor": 3}, torch_version="2.4.1"),
        "written by torch 2.4.1 in another layout; export it again",
    ),
    "another version that says nothing": (
        lambda text, _: text.update(schema_version={"major": 9, "minor": 3}, torch_version="\n\x1b[2J"),
        "written by torch of an unknown version in another layout",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_modified_json_is_refused(tmp_path: Path, content: bytes, case: str) -> None:
    """Each place that the framework evaluates as code, or uses to look something up."""
    change, reason = TEXTS[case]

    line = refused(tmp_path, with_text(content, lambda text: change(text, tmp_path / "executed")))

    assert reason in line


@pytest.mark.parametrize("case", ["a size that is code", "a name that is code", "a guard"])
def test_the_framework_would_execute_the_json(tmp_path: Path, content: bytes, case: str) -> None:
    """So the cases above and below work."""
    change = TEXTS[case][0] if case in TEXTS else guarded
    path, witness = tmp_path / "network.pt2", tmp_path / "executed"
    path.write_bytes(with_text(content, lambda text: change(text, witness)))

    with contextlib.suppress(Exception):  # it may fail afterwards
        torch.export.load(path).module()(torch.ones(1, CHANNELS, 4, 5))

    assert witness.exists()


def guarded(text: Any, witness: Path) -> None:
    """Add code that the framework runs before the program."""
    text["guards_code"] = [touching(witness)]


def test_guards_and_paths_are_removed(tmp_path: Path, content: bytes) -> None:
    """Guards are code too, and paths of the exporter's machine are not part of the network."""
    path = tmp_path / "network.pt2"
    path.write_bytes(with_text(content, lambda text: guarded(text, tmp_path / "executed")))

    text = check_pt2(path, "network.pt2")[PROGRAM]

    assert text["guards_code"] == []
    assert {key for node in text["graph_module"]["graph"]["nodes"] for key in node["metadata"]} == {"nn_module_stack"}
    open_file(path, "network.pt2")(torch.ones(1, CHANNELS, 4, 5))
    assert not (tmp_path / "executed").exists()


def tables(entry: dict[str, Any]) -> Callable[[Any], None]:
    """Return a change of the first entry of a table."""

    def change(text: Any) -> None:
        text["config"][next(iter(text["config"]))] |= entry

    return change


HUGE = {"dtype": 7, "sizes": [{"as_int": 1 << 40}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}


@pytest.mark.parametrize(
    "entry",
    [{"path_name": "../../secret"}, {"path_name": "weight_999"}, {"tensor_meta": HUGE}, {"tensor_meta": None}],
    ids=str,
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, entry: dict[str, Any]) -> None:
    """A tensor must exist and have its stated size."""
    line = refused(tmp_path, with_text(content, tables(entry), WEIGHTS))

    assert "has no member for" in line or "does not hold the tensor" in line


def bomb(content: bytes) -> bytes:
    """State four gigabytes for a member of a few bytes, in both headers."""
    name = b"archive/extra/large"
    result = bytearray(packed({**members_of(content), "extra/large": b"0123456789"}))
    for sizes in (result.index(name) - 30 + 18, result.rindex(name) - 46 + 20):
        struct.pack_into("<II", result, sizes, 0xFFFFFFF0, 0xFFFFFFF0)
    return bytes(result)


def squeezed(content: bytes) -> bytes:
    """Compress many megabytes into a few kilobytes."""
    return packed({**members_of(content), "extra/large": bytes(50 << 20)}, method=zipfile.ZIP_DEFLATED)


def laid_over(content: bytes) -> bytes:
    """Let two members have the same offset."""
    result = bytearray(packed({**members_of(content), "extra/aa": b"x" * 9, "extra/ab": b"y" * 9}))
    first, second = (result.rindex(b"archive/extra/" + name) - 46 for name in (b"aa", b"ab"))
    result[second + 42 : second + 46] = result[first + 42 : first + 46]
    return bytes(result)


def twice(content: bytes) -> bytes:
    """Write a member twice."""
    result = packed({**members_of(content), "extra/aa": b"x", "extra/ab": b"y"})
    return result.replace(b"archive/extra/ab", b"archive/extra/aa")


def encrypted(content: bytes) -> bytes:
    """Mark a member as encrypted."""
    result = bytearray(content)
    result[result.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(result)


def zipped(**members: str) -> bytes:
    """Write another archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_SLASH_", "/"), text)
    return buffer.getvalue()


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no zip": (lambda _: b"hello", "is not a zip archive"),
    "cut off": (lambda content: content[: len(content) // 2], "is not a zip archive, or is damaged"),
    "cut at the end": (lambda content: content[:-30], "is not a zip archive, or is damaged"),
    "empty archive": (lambda _: zipped(), "has 0 members"),
    "another archive": (lambda _: zipped(a_SLASH_notes="hello"), "but not an exported program"),
    "files without a folder": (lambda _: zipped(notes="hello"), "but not an exported program"),
    "weights": (lambda _: torch_saved({"a": torch.ones(1)}), "but not an exported program"),
    "a name that leads out": (lambda content: changed(content, {"../../secret": b""}), "leads outside the archive"),
    "an absolute name": (lambda _: packed({"tmp/secret": b""}, folder="/"), "leads outside the archive"),
    "a name with a line": (lambda content: changed(content, {"extra/a\nb": b""}), "leads outside the archive"),
    "compressed": (squeezed, "a compressed member"),
    "a bomb": (bomb, "bytes, but the file has"),
    "something before": (lambda content: b"#!/bin/sh\n" + content, "it begins with something else"),
    "members over each other": (laid_over, "overlapping members"),
    "a duplicate member": (twice, "a duplicate member"),
    "an encrypted member": (encrypted, "an encrypted member"),
    "an unknown member": (lambda content: changed(content, {"data/more": b""}), "that exported programs do not have"),
    "broken text": (lambda content: changed(content, {PROGRAM: b'{"graph'}), "models/model.json is not JSON"),
    "deep text": (lambda content: changed(content, {PROGRAM: b"[" * 100_000}), "models/model.json is not JSON"),
    "text that is a list": (lambda content: changed(content, {PROGRAM: b"[1]"}), "it has no version"),
    "broken table": (lambda content: changed(content, {WEIGHTS: b"{"}), "is not JSON"),
    "table of another kind": (lambda content: changed(content, {WEIGHTS: b"[]"}), "has no table of tensors"),
    "no table": (lambda content: changed(content, {CONSTANTS: None}), f"has no {CONSTANTS}"),
    "no program": (lambda content: changed(content, {PROGRAM: None}), "must hold one program"),
    "two programs": (lambda content: changed(content, {"models/b.json": b"{}"}), "but holds 2"),
    "damaged sample inputs": (lambda content: changed(content, {SAMPLES: b"PK\x03\x04"}), f"{SAMPLES} is not a zip"),
    "sample inputs of text": (lambda content: changed(content, {SAMPLES: b"hello"}), f"{SAMPLES} is not a pickle"),
    "another order of bytes": (lambda content: changed(content, {"byteorder": b"big"}), "another byte order"),
    "another archive version": (
        lambda content: changed(content, {"archive_version": b"7"}),
        f"written by torch {torch.__version__} in another layout; export it again",
    ),
    "the layout before": (
        lambda _: packed({"serialized_exported_program.json": b'{"torch_version": "2.6.0"}', "version": b"8.5"}),
        "written by torch 2.6.0 in another layout; export it again",
    ),
    "the layout before, without a folder": (
        lambda _: packed({"serialized_exported_program.json": b"{}", "version": b"8.5"}, folder=""),
        "written by torch of an unknown version in another layout; export it again",
    ),
    "TorchScript": (lambda _: packed({"constants.pkl": b"", "code/a.py": b""}), "is an archive of TorchScript"),
}


@pytest.mark.parametrize("case", FILES)
def test_another_or_damaged_file_is_refused(tmp_path: Path, content: bytes, case: str) -> None:
    """The reason is one line."""
    change, reason = FILES[case]

    assert reason in refused(tmp_path, change(content))


def test_an_archive_beyond_the_limits_is_refused(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of it is read."""
    monkeypatch.setattr("deeplab_spec.capture.pt2.zip_archive.MAX_BYTES", len(content) - 1)
    assert "are read" in refused(tmp_path, content)

    monkeypatch.undo()
    monkeypatch.setattr("deeplab_spec.capture.pt2.zip_archive.MAX_MEMBERS", 3)
    assert "there must be 1 to 3" in refused(tmp_path, content)


def test_a_damaged_tensor_is_found(tmp_path: Path, content: bytes) -> None:
    """The archive's checksums show a flipped bit of a weight."""
    weight = members_of(content)["data/weights/weight_0"]
    damaged = bytearray(content)
    damaged[content.index(weight)] ^= 1

    assert "Bad CRC-32" in refused(tmp_path, bytes(damaged))


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    """Missing, a directory, empty, or of another kind."""

    def line(path: Path) -> str:
        with pytest.raises(TargetError) as caught:
            open_file(path, "it")
        return str(caught.value)

    (tmp_path / "directory.pt2").mkdir()
    (tmp_path / "empty.pt2").touch()
    (tmp_path / "notes.txt").write_text("hello")

    assert line(tmp_path / "missing.pt2") == "it: there is no such file"
    assert line(tmp_path / "directory.pt2") == "it: is not a file"
    assert line(tmp_path / "empty.pt2") == "it: is an empty file"
    assert line(tmp_path / "notes.txt") == f"it: must be a file whose name ends in {' or '.join(SUFFIXES)}"
