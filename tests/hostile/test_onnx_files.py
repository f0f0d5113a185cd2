"""ONNX files that state what no network has: one line and exit status 3 from every command, at once."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from torch import Tensor

import deeplab_spec
from deeplab_spec.capture.fx import module
from tests.hostile.conftest import Refused
from tests.support.onnx_files import conv, graph, weight

PROFILE = ("profile", "-o", "profile", "--steps", "2", "--no-ceilings", "--size", "64")
CERTIFY = ("certify", "--variant", "notebook", "--level", "structure")
"""It starts a process of its own, which takes a while."""

SHAPE = (1, 4, 64, 64)
KERNEL = weight(6, 4, 3, 3)
COMMANDS = (
    ("identify",),
    ("count", "--size", "64"),
    ("lock", "-o", "it.lock"),
    ("port", "reference:notebook", "-o", "it.safetensors", "--choose", "width=0.03125"),
)


def node(operator: str, *reads: str, gives: str = "y", **attributes: Any) -> ModelProto:
    """Return a model of one node that reads the image, and constants that its caller adds."""
    return graph([helper.make_node(operator, ["x", *reads], [gives], **attributes)], shape=SHAPE)


def with_constants(model: ModelProto, **constants: Sequence[float]) -> ModelProto:
    """Return the model with constants: whole numbers in int64, others in float32."""
    for name, values in constants.items():
        kind = TensorProto.INT64 if all(isinstance(value, int) for value in values) else TensorProto.FLOAT
        model.graph.initializer.append(helper.make_tensor(name, kind, [len(values)], values))
    return model


def convolution(**attributes: Any) -> ModelProto:
    """Return a convolution with attributes."""
    return graph([conv(**attributes)], {"weight": KERNEL}, shape=SHAPE)


def image(*shape: int) -> ModelProto:
    """Return a convolution of an image of a stated shape."""
    return graph([conv()], {"weight": KERNEL}, shape=shape)


def dims(*sides: int) -> ModelProto:
    """Return a convolution whose kernel states other sides than it holds."""
    model = convolution()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(sides)
    return model


def external(**entries: str) -> ModelProto:
    """Return a convolution whose kernel is in another file."""
    model = convolution()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


def doubled(operator: str, times: int, **attributes: Any) -> ModelProto:
    """Return a chain of nodes, each of which reads the value before it twice."""
    names = ["x", *(f"v{number}" for number in range(times - 1)), "y"]
    nodes = [helper.make_node(operator, [a, a], [b], **attributes) for a, b in itertools.pairwise(names)]
    return graph(nodes, shape=SHAPE)


def computed(operator: str, reads: Sequence[str], **constants: Any) -> ModelProto:
    """Return an addition of what is computed from constants alone."""
    nodes = [helper.make_node(operator, reads, ["t"]), helper.make_node("Add", ["x", "t"], ["y"])]
    return graph(nodes, {name: np.array(value) for name, value in constants.items()}, shape=SHAPE)


def many(inputs: Sequence[str], outputs: Sequence[str], reads: str = "x") -> ModelProto:
    """Return one node per output, beside inputs that nothing reads."""
    nodes = [helper.make_node("Relu", [reads], [output]) for output in outputs]
    return graph(nodes, inputs=["x", *inputs], outputs=outputs, shape=SHAPE)


def resized(*scales: float) -> ModelProto:
    """Return a resize by scales."""
    return with_constants(node("Resize", "", "s", mode="linear"), s=[float(scale) for scale in scales])


def sized(*sides: int) -> ModelProto:
    """Return a resize to sides."""
    return with_constants(node("Resize", "", "", "s", mode="linear"), s=sides)


def padded(*sides: int) -> ModelProto:
    """Return a padding."""
    return with_constants(node("Pad", "p"), p=sides)


TOO_LARGE = "the size of its result is unknown or too large"
LARGE = "a tensor must have at most 536,870,912 values"
CASES: dict[str, tuple[Any, str]] = {
    "image of 2^40": (lambda: image(1, 4, 2**40, 2**40), f"input: {LARGE}"),
    "image of 2^40 by 1": (lambda: image(1, 4, 2**40, 1), f"input: {LARGE}"),
    "image of 2^63": (lambda: image(1, 4, 2**63 - 1, 2**63 - 1), f"input: {LARGE}"),
    "image of 20000": (lambda: image(1, 4, 20000, 20000), f"input: {LARGE}"),
    "batch of 10^9": (lambda: image(10**9, 4, 64, 64), f"input: {LARGE}"),
    "batch of 2^62": (lambda: image(2**62, 4, 64, 64), f"input: {LARGE}"),
    "channels of 2^40": (lambda: image(1, 2**40, 64, 64), f"input: {LARGE}"),
    "5000 sides": (lambda: image(*[1] * 5000), ""),
    "image of 1 pixel": (lambda: image(1, 4, 1, 1), ""),
    "image without sides": (image, ""),
    "padding of 10^9": (lambda: convolution(pads=[10**9] * 4), f"Conv 'conv': {LARGE}"),
    "padding of 2^62": (lambda: convolution(pads=[0, 0, 2**62, 2**62]), f"Conv 'conv': {LARGE}"),
    "negative padding": (lambda: convolution(pads=[-(2**62)] * 4), ""),
    "one padding": (lambda: convolution(pads=[1]), ""),
    "strides of 0": (lambda: convolution(strides=[0, 0]), ""),
    "strides of 2^40": (lambda: convolution(strides=[2**40] * 2), "stride must be at most 1,048,576"),
    "negative strides": (lambda: convolution(strides=[-1, -1]), ""),
    "dilations of 0": (lambda: convolution(dilations=[0, 0]), ""),
    "dilations of 10^12": (lambda: convolution(dilations=[10**12] * 2), ""),
    "dilations of 2^62": (lambda: convolution(dilations=[2**62] * 2), ""),
    "group of 0": (lambda: convolution(group=0), ""),
    "group of 2^62": (lambda: convolution(group=2**62), ""),
    "kernel of 2^40": (lambda: convolution(kernel_shape=[2**40] * 2), ""),
    "text for strides": (lambda: convolution(strides="a\x1b[31m"), ""),
    "an unknown attribute": (lambda: convolution(**{"a\n\x1b[31m" * 100: 1}), ""),
    "0 classes": (lambda: graph([conv()], {"weight": KERNEL[:0]}, shape=SHAPE), ""),
    "0 taps": (lambda: graph([conv()], {"weight": KERNEL[:, :, :0]}, shape=SHAPE), ""),
    "a kernel of 2^40": (lambda: dims(2**40, 4, 3, 3), "must hold weights of at most 2147483647 bytes"),
    "a kernel of 2^124": (lambda: dims(2**62, 2**62, 1, 1), "must hold weights of at most 2147483647 bytes"),
    "weights in /dev/zero": (lambda: external(location="/dev/zero"), "must be in the file's folder"),
    "weights in a line": (lambda: external(location="a\nb"), "which is missing in the file's folder"),
    "weights with a long name": (lambda: external(location="x" * 5000), "cannot be read: File name too long"),
    "weights at 10^18": (lambda: external(location="it.onnx", offset=str(10**18)), "but states bytes 1000000000"),
    "weights at -1": (lambda: external(location="it.onnx", offset="-1"), "must have a whole offset of at least 0"),
    "weights at 10^5000": (lambda: external(location="it.onnx", offset="9" * 5000), "must have a whole offset"),
    "scales of 10^9": (lambda: resized(1, 1, 1e9, 1e9), f"Resize without a name: {LARGE}"),
    "scales of 0": (lambda: resized(1, 1, 0, 0), "its result is empty, 1x4x0x0"),
    "scales of -1": (lambda: resized(1, 1, -1, -1), ""),
    "scales of NaN": (lambda: resized(1, 1, math.nan, math.nan), ""),
    "scales of infinity": (lambda: resized(1, 1, math.inf, 1), ""),
    "two scales": (lambda: resized(1, 1), ""),
    "sizes of 2^40": (lambda: sized(1, 4, 2**40, 2**40), LARGE),
    "sizes of 0": (lambda: sized(1, 4, 0, 0), ""),
    "pads of 10^9": (lambda: padded(0, 0, 10**9, 10**9, 0, 0, 10**9, 10**9), LARGE),
    "pads of -100": (lambda: padded(0, 0, -100, -100, 0, 0, -100, -100), ""),
    "no pads": (padded, ""),
    "tiles of 10^9": (lambda: with_constants(node("Tile", "r"), r=(1, 1, 10**9, 10**9)), LARGE),
    "an expansion to 2^62": (lambda: with_constants(node("Expand", "r"), r=(1, 1, 2**62, 2**62)), ""),
    "a reshape to 2^62": (lambda: with_constants(node("Reshape", "r"), r=(2**62, 2**62, 1, 1)), ""),
    "a constant of 2^62": (lambda: computed("ConstantOfShape", ["r"], r=[2**62, 1, 1, 1]), TOO_LARGE),
    "a constant of 10^9": (lambda: computed("ConstantOfShape", ["r"], r=[10**9, 1, 1, 1]), TOO_LARGE),
    "tiles of a constant": (lambda: computed("Tile", ["c", "r"], c=KERNEL, r=[10**9, 1, 1, 1]), TOO_LARGE),
    "a product of 10^10": (lambda: computed("Mul", "ab", a=np.ones((10**5, 1)), b=np.ones((1, 10**5))), TOO_LARGE),
    "a range of 10^12": (lambda: computed("Range", ["a", "b", "c"], a=0, b=10**12, c=1), TOO_LARGE),
    "a pool of 2^40": (lambda: node("MaxPool", kernel_shape=[2**40] * 2), ""),
    "a pool of padding": (lambda: node("AveragePool", kernel_shape=[2**31] * 2, pads=[2**30] * 4), ""),
    "a pool of stride 0": (lambda: node("MaxPool", kernel_shape=[2, 2], strides=[0, 0]), ""),
    "channels that double": (lambda: doubled("Concat", 40, axis=1), LARGE),
    "a cycle": (lambda: graph([helper.make_node("Relu", ["y"], ["y"])], shape=SHAPE), "topologically sorted"),
    "101 outputs": (lambda: many([], [f"y{number}" for number in range(101)]), "it returns 101 tensors"),
    "101 inputs": (lambda: many([str(number) for number in range(100)], ["y"]), ""),
    "no graph": (lambda: graph([], inputs=[], outputs=[]), ""),
    "an operator named in red": (lambda: node("\x1b[31mRelu\n"), "No Op registered for ?[31mRelu"),
    "a domain named in red": (lambda: node("Relu", domain="\x1b[31m\n"), "holds a non-standard operator: ?[31m?.Relu"),
    "an input named in red": (lambda: many([], ["y"], reads="\x1b[31m\n"), ""),
    "a name from right to left": (lambda: node("Relu", domain="\u202ex"), "?x.Relu"),
}  # fmt: skip


@pytest.mark.parametrize(("case", "command"), list(zip(CASES, itertools.cycle(COMMANDS), strict=False)), ids=str)
def test_a_file_that_states_what_no_network_has_is_one_line(
    case: str, command: tuple[str, ...], tmp_path: Path, refused: Refused
) -> None:
    """No command allocates, loops or prints what the file states."""
    make, reason = CASES[case]
    (tmp_path / "it.onnx").write_bytes(make().SerializeToString())
    name, *options = command

    line = refused(name, "it.onnx", *options)

    assert line.startswith("it.onnx: ")
    assert reason in line


@pytest.mark.parametrize("command", [*COMMANDS, PROFILE, CERTIFY], ids=lambda command: command[0])
def test_every_command_refuses_an_image_of_2_to_the_40(
    command: tuple[str, ...], tmp_path: Path, refused: Refused
) -> None:
    """One reader serves them all."""
    (tmp_path / "it.onnx").write_bytes(image(1, 4, 2**40, 2**40).SerializeToString())
    name, *options = command

    assert f"input: {LARGE}" in refused(name, "it.onnx", *options)


@pytest.mark.parametrize(
    "command", [*(one for one in COMMANDS if one[0] in {"lock", "port"}), CERTIFY], ids=lambda command: command[0]
)
def test_a_file_of_a_large_image_is_not_run(command: tuple[str, ...], tmp_path: Path, refused: Refused) -> None:
    """A batch of 4x8000x8000 and its maps would take many gigabytes."""
    (tmp_path / "it.onnx").write_bytes(image(1, 4, 8000, 8000).SerializeToString())
    name, *options = command

    assert "it would be run with inputs of 1x8000x8000 pixels" in refused(name, "it.onnx", *options)


def test_the_graph_of_a_file_is_read_without_an_image_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the shape of the image counts."""
    (tmp_path / "it.onnx").write_bytes(image(1, 4, 8000, 8000).SerializeToString())
    held: list[int] = []
    read = module.capture
    monkeypatch.setattr(module, "capture", lambda file, images: held.append(_bytes(images)) or read(file, images))

    document = deeplab_spec.count(str(tmp_path / "it.onnx"), size=(8000, 8000))

    assert document.total.macs == 6 * 4 * 9 * 7998 * 7998
    assert set(held) == {4}


def _bytes(images: Sequence[Tensor]) -> int:
    return sum(image.untyped_storage().nbytes() for image in images)


def test_a_name_that_is_not_utf_8_is_one_line(tmp_path: Path, refused: Refused) -> None:
    """The format's names are text."""
    content = convolution().SerializeToString().replace(b"weight", b"w\xff\xfeght")
    (tmp_path / "it.onnx").write_bytes(content)

    assert refused("identify", "it.onnx").startswith("it.onnx: ")
