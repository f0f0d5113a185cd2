"""Results of every form, names of shared layers, state, and errors in one line."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.interpreter import run
from deeplab_spec.graph.ops import Conv2d, Opaque, Output
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_whole, whole
from tests.support.modules import CHANNELS, Buffered, Result, Shared, Wrapped

IMAGE = whole((1, CHANNELS, 4, 5), 0)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda _, x: x.relu(), [""]),
        (lambda _, x: (x.relu(), x), ["[0]", "[1]"]),
        (lambda _, x: [x.relu(), (x, x.sin())], ["[0]", "[1][0]", "[1][1]"]),
        (lambda _, x: {"out": x.relu(), "aux": x}, ["['out']", "['aux']"]),
        (lambda _, x: Result(out=x.relu(), aux=x), [".out", ".aux"]),
        (lambda _, x: (x.relu(), None, 3), ["[0]"]),
    ],
    ids=["tensor", "tuple", "nested", "dict", "namedtuple", "with others"],
)
def test_every_tensor_that_is_returned_is_an_output(function: Any, names: list[str]) -> None:
    """An output is named as it is reached in the result."""
    captured = capture(Wrapped(function), [IMAGE])
    outputs = captured.network.outputs

    assert [node.op for node in outputs] == [Output(name=name) for name in names]
    values = run(captured.network, {}, {"input": IMAGE}, opaque=lambda _, inputs: inputs[0].sin())
    assert_same(values[outputs[0].path], IMAGE.relu(), names[0])


def test_a_layer_that_is_called_twice_has_two_nodes_and_one_weight() -> None:
    """Paths are unique; the second call has the same parameters."""
    module = make_whole(Shared(), 0)
    captured = capture(module, [IMAGE])
    convs = [node.path for node in captured.network if isinstance(node.op, Conv2d)]

    assert convs == ["conv", "conv#2"]
    assert {captured.parameters[f"{path}.weight"] for path in convs} == {"conv.weight"}


def test_state_has_the_buffers_that_are_not_saved() -> None:
    """What a module computes depends on them all the same."""
    module = Buffered()
    state = state_of(module)

    assert set(state) == {"offset", "scale", "conv.weight", "conv.bias"}
    assert set(state) - set(module.state_dict()) == {"offset"}
    state["offset"].zero_()
    assert not module.get_buffer("offset").any(), "the state is the module's own, not a copy"


def test_buffers_that_are_not_saved_are_read_when_a_step_runs() -> None:
    """The opaque calls find them by name in the state."""
    module = make_whole(Buffered(), 0)
    captured = capture(module, [IMAGE])
    state = state_of(module)
    value = IMAGE
    for node in captured.network:
        if isinstance(node.op, Opaque | Conv2d):
            value = captured.step(node.path, [value], state)

    with torch.no_grad():
        assert_same(value, module(IMAGE), "scaled, moved and convolved")


def test_several_inputs_are_captured_in_order() -> None:
    """As the arguments of the call."""
    module = Wrapped(lambda _, x, y: torch.cat([x, y], 1))
    captured = capture(module, [IMAGE, IMAGE[:, :1]])

    assert [(node.path, node.op.channels) for node in captured.network.inputs] == [("input", 3), ("input#2", 1)]  # type: ignore[union-attr]


def branching(_: nn.Module, x: Tensor) -> Tensor:
    """Depend on the data."""
    return x.relu() if x.sum() > 0 else x


def failing(_: nn.Module, __: Tensor) -> Tensor:
    """Raise an error of many lines."""
    message = "first line\nsecond line"
    raise ValueError(message)


@pytest.mark.parametrize("function", [branching, failing], ids=["depends on the data", "raises"])
def test_a_module_that_cannot_be_exported_is_refused_in_one_line(function: Any) -> None:
    """The reason is the exporter's first line."""
    with pytest.raises(CaptureError, match="refused the module") as caught:
        capture(Wrapped(function), [IMAGE])

    assert "\n" not in str(caught.value)


def test_capture_reads_evaluation() -> None:
    """Dropout and batch statistics are training's business."""
    module = Wrapped(
        lambda layers, x: layers.drop(layers.norm(x)), norm=nn.BatchNorm2d(CHANNELS), drop=nn.Dropout(0.5)
    ).train()
    captured = capture(module.double(), [IMAGE])

    assert not any(isinstance(node.op, Opaque) for node in captured.network)
