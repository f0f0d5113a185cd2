"""Two cases for every rule of the table: an operator that it translates, and one with another attribute.

The reference is onnxruntime: the captured graph must give its results.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, helper

from deeplab_spec.capture.capture import Capture
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Op,
    Opaque,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from tests.support.onnx_files import IMAGE, graph, opened, weight
from tests.support.weights import whole

KERNEL = {"weight": weight(6, 4, 3, 3)}
PLAIN = Conv2d(channels_in=4, channels_out=6, kernel=(3, 3))
NORM = {name: abs(weight(4, seed=number)) + 1 for number, name in enumerate(("scale", "offset", "mean", "variance"))}


def node(operator: str, *reads: str, gives: str = "y", **attributes: Any) -> NodeProto:
    """Return an operator at ``here``."""
    return helper.make_node(operator, ["x", *reads], [gives], name="here", **attributes)


def ints(*values: int) -> Any:
    """Return a constant of whole numbers."""
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> Any:
    """Return a constant of float32."""
    return np.array(values, dtype=np.float32)


def read(model: Any, folder: Path, shape: tuple[int, ...] = IMAGE) -> Capture:
    """Read a model, and compare the captured graph with the runtime."""
    file = opened(model, folder)
    images = [whole(shape, number, -9, 9).float() / 2 for number in range(len(file.shapes))]
    captured = file.read(images)
    single = file(*images)
    exact = file.double()(*[image.double() for image in images])
    torch.testing.assert_close(exact.float(), single, rtol=1e-5, atol=1e-5)
    assert exact.dtype is torch.float64
    return captured


def op_of(captured: Capture) -> Op:
    """Return the operation of the operator at ``here``."""
    return captured.network["here"].op


def bilinear(*size: int, align: bool) -> Resize:
    """Return a bilinear resize."""
    return Resize(align_corners=align, size=(size[0], size[1]))


NEAREST = Resize(mode=ResizeMode.NEAREST, align_corners=False, size=(12, 14))
RESIZE = {"sizes": ints(1, 4, 12, 14)}
UP = ("", "", "sizes")
TORCH_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
ALIGNED = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
CENTRED = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
OLD = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
CUBIC = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}
MAX = Pool(kind=PoolKind.MAX, kernel=(3, 2), stride=(2, 2), padding=(1, 1, 0, 0))
MEAN = Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2), count_margin=False)

# fmt: off
CASES: list[tuple[str, NodeProto, dict[str, Any], int, Op | None]] = [
    # name, operator, constants, opset, its operation; None if it is opaque
    ("conv", node("Conv", "weight"), KERNEL, 21, PLAIN),
    ("conv with a bias", node("Conv", "weight", "bias"), KERNEL | {"bias": weight(6)}, 21, replace(PLAIN, bias=True)),
    ("conv with a stride", node("Conv", "weight", strides=[2, 1]), KERNEL, 11, replace(PLAIN, stride=(2, 1))),
    ("conv with a rate", node("Conv", "weight", dilations=[1, 2]), KERNEL, 11, replace(PLAIN, rate=(1, 2))),
    ("conv with margins", node("Conv", "weight", pads=[1, 0, 2, 3]), KERNEL, 22, replace(PLAIN, padding=(1, 2, 0, 3))),
    ("conv with groups", node("Conv", "weight", group=2), {"weight": weight(6, 2, 3, 3)}, 21, replace(PLAIN, groups=2)),
    ("conv valid", node("Conv", "weight", auto_pad="VALID"), KERNEL, 21, PLAIN),
    ("conv same upper", node("Conv", "weight", auto_pad="SAME_UPPER", strides=[2, 2]), KERNEL, 21,
     replace(PLAIN, stride=(2, 2), padding=(0, 1, 1, 1))),
    ("conv same lower", node("Conv", "weight", auto_pad="SAME_LOWER", strides=[2, 2]), KERNEL, 21,
     replace(PLAIN, stride=(2, 2), padding=(1, 0, 1, 1))),
    ("norm", node("BatchNormalization", *NORM), NORM, 15, BatchNorm(channels=4, eps=1e-5, momentum=0.1)),
    ("norm stated", node("BatchNormalization", *NORM, epsilon=1e-3, momentum=0.9997), NORM, 9,
     BatchNorm(channels=4, eps=1e-3, momentum=3e-4)),
    ("relu", node("Relu"), {}, 14, Activation()),
    ("clip to relu", node("Clip", "low"), {"low": np.float32(0)}, 13, Activation()),
    ("clip to relu6", node("Clip", "low", "high"), {"low": np.float32(0), "high": np.float32(6)}, 11,
     Activation(kind=ActivationKind.RELU6)),
    ("clip by attributes", node("Clip", min=0.0, max=6.0), {}, 10, Activation(kind=ActivationKind.RELU6)),
    ("clip elsewhere", node("Clip", "low", "high"), {"low": np.float32(0), "high": np.float32(5)}, 13, None),
    ("clip above", node("Clip", "", "high"), {"high": np.float32(6)}, 13, None),
    ("leaky relu", node("LeakyRelu"), {}, 16, Activation(kind=ActivationKind.LEAKY_RELU, slope=0.01)),
    ("leakier relu", node("LeakyRelu", alpha=0.1), {}, 16, Activation(kind=ActivationKind.LEAKY_RELU, slope=0.1)),
    ("elu", node("Elu", alpha=0.5), {}, 7, Activation(kind=ActivationKind.ELU, slope=0.5)),
    ("gelu", node("Gelu"), {}, 20, Activation(kind=ActivationKind.GELU)),
    ("gelu by tanh", node("Gelu", approximate="tanh"), {}, 20, None),
    ("hard sigmoid", node("HardSigmoid", alpha=1 / 6), {}, 7, Activation(kind=ActivationKind.HARDSIGMOID)),
    ("hard sigmoid of another slope", node("HardSigmoid"), {}, 7, None),
    ("hard swish", node("HardSwish"), {}, 14, Activation(kind=ActivationKind.HARDSWISH)),
    ("sigmoid", node("Sigmoid"), {}, 13, Activation(kind=ActivationKind.SIGMOID)),
    ("tanh", node("Tanh"), {}, 13, Activation(kind=ActivationKind.TANH)),
    ("softplus", node("Softplus"), {}, 13, None),
    ("global pool", node("GlobalAveragePool"), {}, 7, GlobalAveragePool()),
    ("mean", node("ReduceMean", "axes"), {"axes": ints(-2, 3)}, 18, GlobalAveragePool()),
    ("mean by attribute", node("ReduceMean", axes=[2, 3]), {}, 13, GlobalAveragePool()),
    ("mean of rows", node("ReduceMean", axes=[3]), {}, 13, None),
    ("mean of all", node("ReduceMean"), {}, 18, None),
    ("pool of all", node("AveragePool", kernel_shape=[6, 7]), {}, 11, GlobalAveragePool()),
    ("average pool", node("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), {}, 11, MEAN),
    ("average pool by step 1", node("AveragePool", kernel_shape=[2, 2]), {}, 11, replace(MEAN, stride=(1, 1))),
    ("average pool with its margin", node("AveragePool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1],
     count_include_pad=1), {}, 11, replace(MEAN, padding=(1, 1, 1, 1), count_margin=True)),
    ("max pool", node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]), {}, 12, MAX),
    ("max pool that overhangs", node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0], ceil_mode=1),
     {}, 12, replace(MAX, ceil_mode=True)),
    ("max pool, lopsided", node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 0]), {}, 12, None),
    ("max pool with a rate", node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), {}, 12, None),
    ("resize, corners aligned", node("Resize", *UP, **ALIGNED), RESIZE, 13, bilinear(12, 14, align=True)),
    ("resize of opset 11", node("Resize", "none", "none", "sizes", **ALIGNED), RESIZE | {"none": floats()}, 11,
     bilinear(12, 14, align=True)),
    ("resize, pixels centred", node("Resize", *UP, **CENTRED), RESIZE, 13, bilinear(12, 14, align=False)),
    ("resize, as torch wrote once", node("Resize", *UP, **OLD), RESIZE, 19, bilinear(12, 14, align=False)),
    ("resize to a row", node("Resize", *UP, **CENTRED), {"sizes": ints(1, 4, 1, 14)}, 13, bilinear(1, 14, align=False)),
    ("resize to a row, as torch wrote once", node("Resize", *UP, **OLD), {"sizes": ints(1, 4, 1, 14)}, 13, None),
    ("resize by scales", node("Resize", "", "scales", **CENTRED), {"scales": floats(1, 1, 2, 2)}, 13,
     bilinear(12, 14, align=False)),
    ("resize by scales that leave a rest", node("Resize", "", "scales", **CENTRED), {"scales": floats(1, 1, 1.6, 2)},
     13, None),
    ("resize of axes", node("Resize", *UP, **CENTRED, axes=[2, 3]), {"sizes": ints(12, 14)}, 18,
     bilinear(12, 14, align=False)),
    ("resize without alignment", node("Resize", *UP, mode="linear", coordinate_transformation_mode="asymmetric"),
     RESIZE, 13, None),
    ("resize, smoothed", node("Resize", *UP, **CENTRED, antialias=1), {"sizes": ints(1, 4, 3, 4)}, 18, None),
    ("resize, cubic", node("Resize", *UP, **CUBIC), RESIZE, 13,
     Resize(mode=ResizeMode.BICUBIC, align_corners=False, size=(12, 14))),
    ("resize, cubic of another constant", node("Resize", *UP, **CUBIC | {"cubic_coeff_a": -0.5}), RESIZE, 13, None),
    ("resize, nearest", node("Resize", *UP, **TORCH_NEAREST), RESIZE, 13, NEAREST),
    ("resize, nearest, rounded up", node("Resize", *UP, **TORCH_NEAREST | {"nearest_mode": "ceil"}), RESIZE, 13, None),
    ("resize, nearest, centred", node("Resize", *UP, mode="nearest"), RESIZE, 13, None),
    ("resize of opset 10", node("Resize", "scales", mode="nearest"), {"scales": floats(1, 1, 2, 2)}, 10, NEAREST),
    ("upsample", node("Upsample", "scales", mode="nearest"), {"scales": floats(1, 1, 2, 2)}, 9, NEAREST),
    ("pad", node("Pad", "pads"), {"pads": ints(0, 0, 1, 2, 0, 0, 3, 4)}, 13, Pad(margins=(1, 3, 2, 4))),
    ("pad with a value", node("Pad", "pads", "value"), {"pads": ints(0, 0, 1, 2, 0, 0, 3, 4), "value": np.float32(0.5)},
     13, Pad(margins=(1, 3, 2, 4), value=0.5)),
    ("pad of axes", node("Pad", "pads", "", "axes"), {"pads": ints(1, 2), "axes": ints(3)}, 18,
     Pad(margins=(0, 0, 1, 2))),
    ("pad by reflection", node("Pad", "pads", mode="reflect"), {"pads": ints(0, 0, 1, 2, 0, 0, 1, 2)}, 13,
     Pad(margins=(1, 1, 2, 2), mode="reflect")),
    ("pad by the edge", node("Pad", "pads", mode="edge"), {"pads": ints(0, 0, 1, 2, 0, 0, 1, 2)}, 13,
     Pad(margins=(1, 1, 2, 2), mode="replicate")),
    ("pad by attribute", node("Pad", pads=[0, 0, 1, 2, 0, 0, 3, 4], value=0.5), {}, 7,
     Pad(margins=(1, 3, 2, 4), value=0.5)),
    ("pad of channels", node("Pad", "pads"), {"pads": ints(0, 1, 0, 0, 0, 0, 0, 0)}, 13, None),
    ("dropout", node("Dropout", "ratio"), {"ratio": np.float32(0.1)}, 13, Dropout(probability=0.1)),
    ("dropout by attribute", node("Dropout", ratio=0.2), {}, 10, Dropout(probability=0.2)),
    ("add a constant", node("Add", "offset"), {"offset": weight(1, 4, 1, 1)}, 14, None),
    ("add a value to itself", node("Add", "x"), {}, 14, Add()),
    ("product with itself", node("Mul", "x"), {}, 14, None),
    ("product with a constant", node("Mul", "offset"), {"offset": weight(1, 4, 1, 1)}, 14, None),
    ("sum of two", node("Sum", "x"), {}, 13, Add()),
    ("sum of three", node("Sum", "x", "x"), {}, 13, None),
    ("concat", node("Concat", "x", axis=1), {}, 13, Concat()),
    ("concat from the end", node("Concat", "x", axis=-3), {}, 13, Concat()),
    ("concat of rows", node("Concat", "x", axis=2), {}, 13, None),
    ("concat with a constant", node("Concat", "more", axis=1), {"more": weight(1, 2, 6, 7)}, 13, None),
    ("transpose", node("Transpose", perm=[0, 1, 3, 2]), {}, 13, None),
    ("matmul", node("MatMul", "matrix"), {"matrix": weight(7, 3)}, 13, None),
]
# fmt: on


@pytest.mark.parametrize(
    ("operator", "constants", "opset", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_operator_is_translated_to_an_equal_operation(
    tmp_path: Path, operator: NodeProto, constants: dict[str, Any], opset: int, expected: Op | None
) -> None:
    """Known operations and opaque operators both compute what the runtime does."""
    captured = read(graph([operator], constants, opset=opset), tmp_path)
    op = op_of(captured)

    assert captured.network["here"].source == Source(work="ONNX", place=operator.op_type)
    if expected is None:
        assert isinstance(op, Opaque)
        assert op.target == f"onnx.{operator.op_type}"
    else:
        assert op == expected
    assert [where.partition(".")[2] for where in captured.parameters] == {
        Conv2d: ["weight", "bias"][: len(operator.input) - 1],
        BatchNorm: ["weight", "bias", "running_mean", "running_var"],
    }.get(type(op), [])


@pytest.mark.parametrize("operator", [node("Identity"), node("Cast", to=1), node("Sum"), node("Concat", axis=1)])
def test_an_operator_that_returns_its_input_is_removed(tmp_path: Path, operator: NodeProto) -> None:
    """Its consumers read its input."""
    after = helper.make_node("Relu", ["same"], ["y"], name="relu")
    operator.output[0] = "same"
    captured = read(graph([operator, after], opset=21), tmp_path)

    assert [each.path for each in captured.network] == ["input", "relu", "output"]


@pytest.mark.parametrize(
    ("operator", "constants"),
    [
        (node("Expand", "shape"), {"shape": ints(1, 4, 5, 3)}),
        (node("Tile", "times"), {"times": ints(1, 1, 5, 3)}),
        (node("Resize", *UP, mode="nearest"), {"sizes": ints(1, 4, 5, 3)}),
        (node("Resize", *UP, **ALIGNED), {"sizes": ints(1, 4, 5, 3)}),
    ],
    ids=["expand", "tile", "nearest", "linear"],
)
def test_every_broadcast_of_a_pixel_is_a_resize(tmp_path: Path, operator: NodeProto, constants: dict[str, Any]) -> None:
    """With every operator; the repetition of a larger map is not."""
    shape = (1, 4, 1, 1)
    captured = read(graph([operator], constants, shape=shape, opset=21), tmp_path, shape)
    assert op_of(captured) == Resize(mode=ResizeMode.NEAREST, align_corners=False, size=(5, 3))

    row = (1, 4, 1, 3)
    if operator.op_type == "Expand":
        assert isinstance(op_of(read(graph([operator], constants, shape=row, opset=21), tmp_path, row)), Opaque)


NUMBERS = {name: floats(number).reshape(()) for name, number in (("0", 0), ("3", 3), ("6", 6), ("sixth", 1 / 6))}
SHIFTED = "Add x 3 s; Clip s 0 6 c; "
"""The beginning of a hard sigmoid, as older exporters write it."""


def chain(text: str) -> list[NodeProto]:
    """Return operators, each with its inputs and its result; the one with the result ``y`` is at ``here``."""
    words = [step.split() for step in text.split("; ")]
    return [
        helper.make_node(kind, reads, [gives], name="here" if gives == "y" else "", **attributes)
        for kind, *reads, gives in words
        for attributes in ([{"alpha": 1 / 6}] if kind == "HardSigmoid" else [{}])
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SHIFTED + "Div c 6 y", ActivationKind.HARDSIGMOID),
        ("Add 3 x s; Clip s 0 6 c; Mul sixth c y", ActivationKind.HARDSIGMOID),
        (SHIFTED + "Mul x c m; Div m 6 y", ActivationKind.HARDSWISH),
        (SHIFTED + "Mul c x m; Mul m sixth y", ActivationKind.HARDSWISH),
        (SHIFTED + "Div c 6 d; Mul d x y", ActivationKind.HARDSWISH),
        ("HardSigmoid x h; Mul x h y", ActivationKind.HARDSWISH),
        (SHIFTED + "Div c 3 y", None),
        (SHIFTED + "Div 6 c y", None),
        ("Add x 6 s; Clip s 0 6 c; Div c 6 y", None),
        ("Add x 3 s; Clip s 0 3 c; Div c 6 y", None),
        (SHIFTED + "Mul s c m; Div m 6 y", None),
        (SHIFTED + "Div c 6 d; Mul d s y", None),
    ],
)
def test_a_hard_activation_that_is_written_out_is_read_as_one(
    tmp_path: Path, text: str, kind: ActivationKind | None
) -> None:
    """With the division before or after the product, or a factor; not with another number or another operand."""
    captured = read(graph(chain(text), NUMBERS, opset=13), tmp_path)
    nodes = [each.op for each in captured.network.live() if each.path not in {"input", "output"}]

    if kind is None:
        assert any(isinstance(op, Opaque) for op in nodes)
    else:
        assert nodes == [Activation(kind=kind)]


def test_each_result_of_an_operator_is_a_node(tmp_path: Path) -> None:
    """Parts of a split are nodes; the indices of a pooling do not hide the pooling."""
    split = helper.make_node("Split", ["x"], ["a", "b"], name="here", axis=1, num_outputs=2)
    join = helper.make_node("Concat", ["b", "a"], ["y"], name="join", axis=1)
    captured = read(graph([split, join], opset=21), tmp_path)
    assert captured.network["join"].inputs == ("here[1]", "here")

    pool = helper.make_node("MaxPool", ["x"], ["y", "where"], name="here", kernel_shape=[2, 2])
    captured = read(graph([pool], opset=21), tmp_path)
    assert isinstance(op_of(captured), Pool)


def test_a_normalisation_in_training_mode_is_opaque(tmp_path: Path) -> None:
    """It computes its statistics from the batch."""
    for training, kind in ((1, Opaque), (0, BatchNorm)):
        outputs = ["y", "m", "v"] if training else ["y"]
        norm = helper.make_node("BatchNormalization", ["x", *NORM], outputs, name="here", training_mode=training)
        assert isinstance(op_of(read(graph([norm], NORM, opset=15), tmp_path)), kind)


def test_names_are_kept_unique_and_printable(tmp_path: Path) -> None:
    """A node without a name is named by its operator and position; control characters are replaced."""
    names = ["input", "", "bell\a", "bell\b"]
    nodes = [
        helper.make_node("Relu", ["x" if not number else f"v{number}"], [f"v{number + 1}"], name=name)
        for number, name in enumerate(names)
    ]
    nodes[-1].output[0] = "y"
    captured = read(graph(nodes), tmp_path)
    assert [each.path for each in captured.network] == ["input", "input#2", "Relu_1", "bell?", "bell?#2", "output"]


def test_several_outputs_are_named_and_several_inputs_are_read_in_order(tmp_path: Path) -> None:
    """By their names in the graph."""
    nodes = [helper.make_node("Sub", ["x", "z"], ["less"]), helper.make_node("Relu", ["z"], ["more"])]
    file = opened(graph(nodes, inputs=("x", "z"), outputs=("less", "more")), tmp_path)
    first, second = whole(IMAGE, 0).float(), whole(IMAGE, 1).float()
    captured = file.read([first, second])

    assert [each.path for each in captured.network.inputs] == ["input", "input#2"]
    assert [each.path for each in captured.network.outputs] == ["output['less']", "output['more']"]
    for dtype in (torch.float32, torch.float64):
        results = file.to(dtype)(first.to(dtype), second.to(dtype))
        assert torch.equal(results["['less']"], (first - second).to(dtype))
        assert torch.equal(results["['more']"], second.relu().to(dtype))
