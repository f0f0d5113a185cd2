"""An ONNX file as a module: its weights, its runtime, and its graph in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper

from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.capture.onnx.file import OnnxFile
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.ops import Conv2d, Input, Opaque, Output
from tests.support.assertions import assert_same
from tests.support.onnx_files import IMAGE, conv, graph, opened, weight
from tests.support.weights import whole

KERNEL = weight(6, 4, 3, 3)


def plain(folder: Path, **options: Any) -> OnnxFile:
    """Return a file of one convolution."""
    return opened(graph([conv()], {"weight": KERNEL}, **options), folder)


def test_a_file_is_captured_like_a_module(tmp_path: Path) -> None:
    """Whole numbers: the runtime, the interpreter and the steps agree bit for bit."""
    file = plain(tmp_path)
    image = whole(IMAGE, 0).float()
    captured = capture(file, [image])

    assert [node.op for node in captured.network] == [
        Input(channels=4),
        Conv2d(channels_in=4, channels_out=6, kernel=(3, 3)),
        Output(name=""),
    ]
    assert captured.shapes == {"input": IMAGE, "conv": (1, 6, 4, 5), "output": (1, 6, 4, 5)}
    assert captured.parameters == {"conv.weight": "weight"}
    expected = file(image)
    values = captured.run({"input": image}, state_of(file))
    assert_same(values["output"], expected, "executed")
    assert_same(captured.step("conv", [image], state_of(file)), expected, "one step")
    assert_same(file.double()(image.double()), expected.double(), "in float64")


def test_changed_weights_are_used(tmp_path: Path) -> None:
    """In place, replaced, and converted to float64 and back; also if nothing changed in between."""
    file = plain(tmp_path)
    image = torch.ones(IMAGE)
    first = file(image)
    assert first.any()
    assert_same(file(image), first, "run again")

    file.tensors["weight"].mul_(2)
    assert_same(file(image), 2 * first, "changed in place")
    file.tensors["weight"] = 3 * torch.from_numpy(KERNEL)
    assert_same(file(image), 3 * first, "replaced")
    file.double().tensors["weight"].copy_(torch.from_numpy(KERNEL) * 5)
    assert_same(file(image.double()), 5 * first.double(), "in float64")
    assert_same(file.float()(image), 5 * first, "back in float32")


def test_a_session_is_kept_while_the_weights_are(tmp_path: Path) -> None:
    """Starting a session costs more than running it."""
    file = plain(tmp_path)
    image = torch.ones(IMAGE)
    file(image)
    session = file.remote.number
    file(image)
    assert file.remote.number == session
    file.tensors["weight"].add_(1)
    file(image)
    assert file.remote.number != session


def test_a_capture_is_kept_for_every_size(tmp_path: Path) -> None:
    """The same graph for the same size."""
    file = plain(tmp_path, shape=("n", 4, "h", "w"))
    one, other = torch.zeros(1, 4, 5, 5), torch.zeros(2, 4, 9, 3)
    assert file.shapes == ((None, 4, None, None),)
    assert file.read([one]) is file.read([one + 1])
    assert file.read([other]).shapes["output"] == (2, 6, 7, 1)
    assert file(other).shape == (2, 6, 7, 1)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([(1, 3, 6, 7)], r"takes an input of shape \(1, 4, 6, 7\), but got \(1, 3, 6, 7\)"),
        ([(1, 4, 6)], r"takes an input of shape \(1, 4, 6, 7\), but got \(1, 4, 6\)"),
        ([IMAGE, IMAGE], "takes 1 inputs, but got 2"),
        ([], "takes 1 inputs, but got 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, shapes: list[tuple[int, ...]], reason: str) -> None:
    """In one line, read or run."""
    file = plain(tmp_path)
    images = [torch.zeros(shape) for shape in shapes]
    for ask in (lambda: file(*images), lambda: file.read(images)):
        with pytest.raises(CaptureError, match=reason):
            ask()


def test_a_free_side_takes_no_map_that_is_empty_or_too_small(tmp_path: Path) -> None:
    """An empty batch is refused; for a small map, the error names the operator."""
    file = plain(tmp_path, shape=("n", 4, "h", "w"))
    with pytest.raises(CaptureError, match=r"^the ONNX file takes no empty input$"):
        file.read([torch.zeros(0, 4, 6, 7)])
    with pytest.raises(CaptureError, match=r"ONNXRuntimeError.*Conv node"):
        file(torch.zeros(1, 4, 1, 1))


def _by_identity(model: ModelProto) -> None:
    model.graph.initializer[0].name = "elsewhere"
    model.graph.node.insert(0, helper.make_node("Identity", ["elsewhere"], ["weight"]))


def _by_constant(model: ModelProto) -> None:
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weight"], value=numpy_helper.from_array(KERNEL)))


def _by_transpose(model: ModelProto) -> None:
    turned = np.ascontiguousarray(KERNEL.transpose(3, 2, 1, 0))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(turned, "elsewhere"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["elsewhere"], ["weight"], perm=[3, 2, 1, 0]))


def _as_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("weight", 1, KERNEL.shape))


@pytest.mark.parametrize("edit", [_by_identity, _by_constant, _by_transpose, _as_input])
def test_weights_are_found_in_every_place_of_a_file(tmp_path: Path, edit: Any) -> None:
    """Under the name that the convolution uses; it can be changed."""
    model = graph([conv()], {"weight": KERNEL})
    expected = opened(model, tmp_path)(torch.ones(IMAGE))
    edit(model)
    file = opened(model, tmp_path)

    assert len(file.shapes) == 1
    assert_same(file.tensors["weight"], torch.from_numpy(KERNEL), "weight")
    assert_same(file(torch.ones(IMAGE)), expected, "as it was")
    file.tensors["weight"].mul_(2)
    assert_same(file(torch.ones(IMAGE)), 2 * expected, "changed")
    assert_same(file.double()(torch.ones(IMAGE).double()), 2 * expected.double(), "executed")


def test_an_opaque_operator_reads_the_current_weight(tmp_path: Path) -> None:
    """Also where another operator than its convolution reads it."""
    again = helper.make_node("ConvTranspose", ["y0", "weight"], ["y"], name="back")
    file = opened(graph([conv(gives="y0"), again], {"weight": KERNEL}), tmp_path)
    image = torch.ones(IMAGE)
    assert isinstance(file.read([image]).network["back"].op, Opaque)
    before = file(image)
    file.tensors["weight"].mul_(2)
    assert_same(file(image), 4 * before, "both read the weight")
    assert_same(file.double()(image.double()), 4 * before.double(), "executed")


def test_a_weight_that_two_convolutions_read_is_one_weight(tmp_path: Path) -> None:
    """Like a layer that is called twice."""
    kernel = weight(4, 4, 1, 1)
    nodes = [conv("first", gives="z"), conv("second", reads="z")]
    captured = opened(graph(nodes, {"weight": kernel}), tmp_path).read([torch.zeros(IMAGE)])
    assert captured.parameters == {"first.weight": "weight", "second.weight": "weight"}


def test_an_output_that_no_input_reaches_is_refused(tmp_path: Path) -> None:
    """A graph of constants is not a network."""
    model = graph([helper.make_node("Identity", ["weight"], ["y"])], {"weight": KERNEL})
    with pytest.raises(CaptureError, match="the output 'y' does not depend on any input"):
        opened(model, tmp_path).read([torch.zeros(IMAGE)])
