"""Untrusted ONNX files: every kind of invalid file is refused in one line, before anything is run or written."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, external_data_helper, helper

from deeplab_spec.capture import target
from deeplab_spec.capture.onnx import model as onnx_model
from deeplab_spec.capture.onnx import values as onnx_values
from deeplab_spec.capture.onnx.file import read_onnx
from deeplab_spec.errors import MissingExtraError, TargetError
from tests.support.onnx_files import IMAGE, conv, graph, opened, weight

KERNEL = weight(6, 4, 3, 3)
BYTES = KERNEL.nbytes


def good() -> ModelProto:
    """Return a valid model."""
    return graph([conv()], {"weight": KERNEL})


def refused(path: Path) -> str:
    """Return the one line of the refusal; no other file may be created."""
    before = sorted(path.parent.iterdir()) if path.parent.exists() else []
    with pytest.raises(TargetError) as caught:
        read_onnx(path, "it.onnx")
    text = str(caught.value)
    assert text.startswith("it.onnx: ")
    assert len(text) < 400
    assert text.isprintable(), "one line, without what a terminal would obey"
    assert not path.parent.exists() or sorted(path.parent.iterdir()) == before
    return text.removeprefix("it.onnx: ")


def written(folder: Path, content: bytes) -> Path:
    """Write a file."""
    path = folder / "it.onnx"
    path.write_bytes(content)
    return path


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder."""
    assert refused(tmp_path / "none.onnx") == "there is no such file"
    assert refused(tmp_path / "none" / "none.onnx") == "there is no such file"
    assert refused(tmp_path) == "is a folder or a device"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must have 1 to 2147483647 bytes to be an ONNX file, but has 0"),
        (b"PK\x03\x04" + bytes(400), "is not an ONNX file, or only a part of one"),
        (b"<html>\n<body>not found</body></html>", "is not an ONNX file, or only a part of one"),
        (b"\x08\x08", "must use one opset from 7"),
        (bytes(range(256)) * 4, "is not an ONNX file, or only a part of one"),
    ],
    ids=["empty", "zip", "text", "only a version", "random bytes"],
)
def test_other_bytes_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """For any bytes."""
    assert refused(written(tmp_path, content)).startswith(reason)


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    """Wherever it is cut."""
    content = good().SerializeToString()
    for length in range(1, len(content), 29):
        refused(written(tmp_path, content[:length]))


def test_a_file_with_changed_bytes_is_refused_or_read(tmp_path: Path) -> None:
    """A changed byte gives no other error."""
    content = good().SerializeToString()
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        changed = bytearray(content)
        changed[generator.integers(len(changed))] = generator.integers(256)
        outcomes.add(_outcome(written(tmp_path, bytes(changed))))
    assert outcomes == {"ONNX file", "refused"}


def _outcome(path: Path) -> str:
    try:
        return read_onnx(path, "it.onnx").kind
    except TargetError as error:
        return "refused" if str(error).isprintable() else str(error)


def test_a_file_larger_than_the_format_allows_is_not_opened(tmp_path: Path) -> None:
    """A sparse file takes no space on the disk, but would in memory."""
    path = written(tmp_path, good().SerializeToString())
    with path.open("r+b") as file:
        file.truncate(2**31)
    assert refused(path) == "must have 1 to 2147483647 bytes to be an ONNX file, but has 2147483648"


def _no_weight(model: ModelProto) -> None:
    del model.graph.initializer[:]


def _cycle(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "b"
    model.graph.node[0].output[0] = "a"
    model.graph.node.extend([helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])])


def _twice(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))


def _no_result(model: ModelProto) -> None:
    model.graph.output[0].name = "z"


def _no_output(model: ModelProto) -> None:
    del model.graph.output[:]


def _unknown(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Konv"


def _custom(model: ModelProto) -> None:
    model.graph.node[0].domain = "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))


def _opset(version: int) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return edit


def _two_opsets(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))


def _loop(model: ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], name="choice", then_branch=body, else_branch=body))


def _function(model: ModelProto) -> None:
    relu = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("f", "Twice", ["a"], ["b"], [relu], list(model.opset_import)))


def _sparse(model: ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    tensor = helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [4])
    model.graph.sparse_initializer.append(tensor)


def _few_bytes(model: ModelProto) -> None:
    model.graph.initializer[0].raw_data = bytes(8)


def _few_values(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 5)


def _no_values(model: ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")


def _negative_side(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -6


def _huge(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def _no_type(model: ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def _text(model: ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.STRING


def _half(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def _bell(model: ModelProto) -> None:
    model.graph.initializer[0].name = "weight\x1b[31m\n"
    model.graph.initializer[0].raw_data = bytes(8)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_no_weight, "is not a well-formed ONNX file: ValidationError: Nodes in a graph must be topologically sorted"),
        (_cycle, "is not a well-formed ONNX file: ValidationError: Nodes in a graph must be topologically sorted"),
        (_twice, "is not a well-formed ONNX file: ValidationError: Graph must be in single static assignment"),
        (_no_result, "is not a well-formed ONNX file: ValidationError: Graph output 'z' is not an output of any node"),
        (_no_output, "the graph has no input or no output"),
        (_unknown, "is not a well-formed ONNX file: ValidationError: No Op registered for Konv"),
        (_custom, "holds a non-standard operator: my.own.Conv"),
        (_opset(6), "must use one opset from 7 to"),
        (_opset(1000), "must use one opset from 7 to"),
        (_two_opsets, "must use one opset from 7 to"),
        (_loop, "holds a nested graph, in If 'choice', which is not read"),
        (_function, "holds a function, 'Twice', which is not read"),
        (_sparse, "holds sparse tensors or a training graph, which are not read"),
        (_few_bytes, f"the tensor 'weight' of sides (6, 4, 3, 3) must hold {BYTES} bytes, but holds 8"),
        (_few_values, "the tensor 'weight' of sides (6, 4, 3, 3) must hold 216 values, but holds 5"),
        (_no_values, "the tensor 'weight' of sides (6, 4, 3, 3) must hold 216 values, but holds 0"),
        (_negative_side, "the tensor 'weight' must have no negative side, but has (-6, 4, 3, 3)"),
        (_huge, "must hold weights of at most 2147483647 bytes, but the tensor 'weight' exceeds that"),
        (_no_type, "the tensor 'weight' must have a type of ONNX, but states 99"),
        (_text, "the tensor 'weight' must hold numbers in one segment, but holds text or several segments"),
        (_half, "the input 'x' must be a float32 tensor with a shape"),
        (_bell, f"the tensor 'weight?[31m?' of sides (6, 4, 3, 3) must hold {BYTES} bytes, but holds 8"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_model_that_is_not_well_formed_is_refused(tmp_path: Path, edit: Any, reason: str) -> None:
    """The error names the place and the reason; the unchanged model is accepted."""
    model = good()
    assert opened(model, tmp_path).tensors["weight"].shape == KERNEL.shape
    edit(model)
    assert refused(written(tmp_path, model.SerializeToString())).startswith(reason)


def test_the_number_of_nodes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph with more nodes is not parsed further."""
    monkeypatch.setattr(onnx_model, "_MOST_NODES", 1)
    path = written(tmp_path, good().SerializeToString())
    assert read_onnx(path, "it.onnx").kind == "ONNX file"
    path = written(tmp_path, graph([conv(gives="z"), conv(reads="z")], {"weight": KERNEL}).SerializeToString())
    assert refused(path) == "must have at most 1 nodes, but has 2"


def test_constants_that_would_be_computed_to_any_size_are_refused(tmp_path: Path) -> None:
    """A few bytes can state a tensor of any size; it is not computed."""
    many = np.array([2**20, 2**20], dtype=np.int64)
    fill = helper.make_node("ConstantOfShape", ["many"], ["z"], name="fill")
    path = written(tmp_path, graph([conv(), fill], {"weight": KERNEL, "many": many}).SerializeToString())
    assert refused(path) == "ConstantOfShape 'fill': the size of its result is unknown or too large"


def test_constants_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small results add up."""
    side = np.array([10], dtype=np.int64)
    fills = [helper.make_node("ConstantOfShape", ["side"], [f"z{number}"], name=f"fill{number}") for number in range(3)]
    path = written(tmp_path, graph([conv(), *fills], {"weight": KERNEL, "side": side}).SerializeToString())
    assert read_onnx(path, "it.onnx").kind == "ONNX file"
    monkeypatch.setattr(onnx_values, "_MOST_VALUES", 25)
    assert "ConstantOfShape 'fill2'" in refused(path)


def external(folder: Path, **entries: str) -> Path:
    """Write the model with its weight as external data."""
    model = good()
    tensor = model.graph.initializer[0]
    (folder / "weights").write_bytes(bytes(100) + tensor.raw_data)
    external_data_helper.set_external_data(tensor, location="weights", offset=100, length=BYTES)
    tensor.ClearField("raw_data")
    stated = {entry.key: entry for entry in tensor.external_data}
    for key, value in entries.items():
        stated[key].value = value
    return written(folder, model.SerializeToString())


def test_external_weights_are_read(tmp_path: Path) -> None:
    """From the stated location; without a length, as many as the sides need."""
    path = external(tmp_path)
    assert np.array_equal(read_onnx(path, "it.onnx").tensors["weight"].numpy(), KERNEL)

    model = onnx.load_model(path, load_external_data=False)
    del model.graph.initializer[0].external_data[2]
    assert [entry.key for entry in model.graph.initializer[0].external_data] == ["location", "offset"]
    with (tmp_path / "weights").open("ab") as file:
        file.write(bytes(50))
    path = written(tmp_path, model.SerializeToString())
    assert np.array_equal(read_onnx(path, "it.onnx").tensors["weight"].numpy(), KERNEL)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "none"}, "the tensor 'weight' is in 'none', which is missing in the file's folder"),
        ({"location": ""}, "the tensor 'weight' must be in the file's folder, but its stated location is ''"),
        ({"location": "/etc/passwd"}, "the tensor 'weight' must be in the file's folder"),
        ({"location": "../outside"}, "the tensor 'weight' must be in the file's folder"),
        ({"location": "sub/../../outside"}, "the tensor 'weight' must be in the file's folder"),
        ({"location": "..\\outside"}, "the tensor 'weight' must be in the file's folder"),
        ({"location": "C:\\outside"}, "the tensor 'weight' must be in the file's folder"),
        ({"location": "link"}, "the tensor 'weight' must be in a regular file in the file's folder, unlike 'link'"),
        ({"location": "linked/outside"}, "the tensor 'weight' must be in a regular file in the file's folder"),
        ({"location": "sub"}, "the tensor 'weight' must be in a regular file in the file's folder, unlike 'sub'"),
        ({"offset": "-4"}, "the tensor 'weight' must have a whole offset of at least 0, but states '-4'"),
        ({"offset": "many"}, "the tensor 'weight' must have a whole offset of at least 0, but states 'many'"),
        ({"length": "-1"}, "the tensor 'weight' must have a whole length of at least 0, but states '-1'"),
        ({"offset": "101"}, f"the tensor 'weight' of sides (6, 4, 3, 3) must hold {BYTES} bytes, but states"),
        ({"offset": str(10**18)}, f"the tensor 'weight' of sides (6, 4, 3, 3) must hold {BYTES} bytes, but states"),
        ({"length": "16"}, f"the tensor 'weight' of sides (6, 4, 3, 3) must hold {BYTES} bytes, but states"),
    ],
)
def test_external_weights_elsewhere_are_refused(tmp_path: Path, entries: dict[str, str], reason: str) -> None:
    """Not outside the file's folder, not through a link, not beyond the end."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(bytes(100 + BYTES))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "linked").symlink_to(tmp_path)
    assert refused(external(folder, **entries)).startswith(reason)


def test_many_tensors_of_the_same_bytes_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a copy in memory."""
    path = external(tmp_path)
    model = onnx.load_model(path, load_external_data=False)
    second = model.graph.initializer.add()
    second.CopyFrom(model.graph.initializer[0])
    second.name = "again"
    path = written(tmp_path, model.SerializeToString())
    monkeypatch.setattr(onnx_model, "_MOST_BYTES", 2 * BYTES)
    assert read_onnx(path, "it.onnx").kind == "ONNX file"
    monkeypatch.setattr(onnx_model, "_MOST_BYTES", 2 * BYTES - 1)
    assert "but the tensor 'again' exceeds that" in refused(path)


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, before the file is parsed."""
    (tmp_path / "it.onnx").write_bytes(b"other bytes")
    monkeypatch.setattr(target, "_ONNX_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(MissingExtraError, match=r"ONNX files needs the extra 'onnx': pip install"):
        target.open_file(tmp_path / "it.onnx", "it.onnx")


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and running a file leaves no file behind, in its folder or the temporary one."""
    import torch

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    file = opened(good(), tmp_path)
    file(torch.zeros(IMAGE))
    file.double()(torch.zeros(IMAGE, dtype=torch.float64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.onnx", "temporary"]
    assert not list(folder.iterdir())
