"""Every form of an operation is translated; unknown calls are kept and can be run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.execute.interpreter import run
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Multiply,
    Op,
    Opaque,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from tests.support.assertions import assert_same
from tests.support.modules import CHANNELS, Wrapped
from tests.support.programs import read_exported
from tests.support.weights import make_whole, whole

HEIGHT, WIDTH = 8, 10
C3: Any = {"channels_in": CHANNELS, "channels_out": CHANNELS, "kernel": (3, 3)}


def conv(**fields: Any) -> nn.Conv2d:
    """Return a 3x3 convolution without bias."""
    return nn.Conv2d(CHANNELS, CHANNELS, 3, bias=False, **fields)


def resized(mode: str, **fields: Any) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return a function that doubles the map."""
    return lambda _, x: functional.interpolate(x, scale_factor=2, mode=mode, **fields)


RELU6 = Activation(kind=ActivationKind.RELU6)
HARD_SIGMOID = Activation(kind=ActivationKind.HARDSIGMOID)
HARD_SWISH = Activation(kind=ActivationKind.HARDSWISH)
DOUBLE = (2 * HEIGHT, 2 * WIDTH)

CALLS: dict[str, tuple[Any, dict[str, nn.Module], list[Op]]] = {
    "F.relu": (lambda _, x: functional.relu(x), {}, [Activation()]),
    "method relu": (lambda _, x: x.relu(), {}, [Activation()]),
    "clamp": (lambda _, x: x.clamp(min=0), {}, [Activation()]),
    "clamp_min": (lambda _, x: x.clamp_min(0), {}, [Activation()]),
    "F.relu6": (lambda _, x: functional.relu6(x), {}, [RELU6]),
    "clamp to six": (lambda _, x: x.clamp(0, 6), {}, [RELU6]),
    "leaky": (
        lambda _, x: functional.leaky_relu(x, 0.25),
        {},
        [Activation(kind=ActivationKind.LEAKY_RELU, slope=0.25)],
    ),
    "mean": (lambda _, x: x.mean((2, 3), keepdim=True), {}, [GlobalAveragePool()]),
    "mean, counted from the end": (lambda _, x: x.mean((-2, -1), keepdim=True), {}, [GlobalAveragePool()]),
    "adaptive pool": (lambda _, x: functional.adaptive_avg_pool2d(x, 1), {}, [GlobalAveragePool()]),
    "average pool of the whole map": (lambda _, x: functional.avg_pool2d(x, x.shape[2:]), {}, [GlobalAveragePool()]),
    "average pool": (
        lambda _, x: functional.avg_pool2d(x, 2),
        {},
        [Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2))],
    ),
    "max pool": (
        lambda _, x: functional.max_pool2d(x, 3, 2, 1),
        {},
        [Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))],
    ),
    "conv": (
        lambda layers, x: layers.a(x),
        {"a": conv(padding=2, dilation=2)},
        [Conv2d(**C3, rate=(2, 2), padding=(2, 2, 2, 2))],
    ),
    "F.conv2d": (
        lambda layers, x: functional.conv2d(x, layers.a.weight, stride=2),
        {"a": conv()},
        [Conv2d(**C3, stride=(2, 2))],
    ),
    "padding same": (
        lambda layers, x: layers.a(x),
        {"a": conv(padding="same", dilation=3)},
        [Conv2d(**C3, rate=(3, 3), padding=(3, 3, 3, 3))],
    ),
    "padding valid": (lambda layers, x: layers.a(x), {"a": conv(padding="valid")}, [Conv2d(**C3)]),
    "F.pad and conv": (
        lambda layers, x: layers.a(functional.pad(x, (1, 2, 3, 0))),
        {"a": conv()},
        [Pad(margins=(3, 0, 1, 2)), Conv2d(**C3)],
    ),
    "batch norm": (
        lambda layers, x: layers.a(x),
        {"a": nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.2)},
        [BatchNorm(channels=CHANNELS, eps=1e-3, momentum=0.2)],
    ),
    "gate, channels last": (
        lambda _, x: (x.movedim(1, 3) * x.mean((2, 3))[:, None, None]).movedim(3, 1),
        {},
        [GlobalAveragePool(), Multiply()],
    ),
    "sum": (lambda _, x: x + x, {}, [Add()]),
    "gate": (lambda _, x: x * x.mean((2, 3), keepdim=True), {}, [GlobalAveragePool(), Multiply()]),
    "gate, factor first": (lambda _, x: x.mean((2, 3), keepdim=True) * x, {}, [GlobalAveragePool(), Multiply()]),
    "concatenation": (lambda _, x: torch.cat([x, x], 1), {}, [Concat()]),
    "concatenation, counted from the end": (lambda _, x: torch.cat([x, x], -3), {}, [Concat()]),
    "bilinear": (resized("bilinear", align_corners=True), {}, [Resize(align_corners=True, size=DOUBLE)]),
    "half pixel": (resized("bilinear", align_corners=False), {}, [Resize(align_corners=False, size=DOUBLE)]),
    "nearest": (resized("nearest"), {}, [Resize(mode=ResizeMode.NEAREST, align_corners=False, size=DOUBLE)]),
    "cubic": (
        resized("bicubic", align_corners=False),
        {},
        [Resize(mode=ResizeMode.BICUBIC, align_corners=False, size=DOUBLE)],
    ),
    "detached and contiguous": (lambda _, x: x.detach().contiguous().clone().relu(), {}, [Activation()]),
}
WRITTEN_OUT: dict[str, Any] = {
    "gate, repeated": (lambda _, x: x * x.mean((2, 3), keepdim=True).expand_as(x), [GlobalAveragePool(), Multiply()]),
    "hard sigmoid": (lambda _, x: (x + 3).clamp(0, 6) / 6, [HARD_SIGMOID]),
    "hard sigmoid by a factor": (lambda _, x: functional.relu6(x + 3) * (1 / 6), [HARD_SIGMOID]),
    "hard swish": (lambda _, x: x * functional.relu6(x + 3) / 6, [HARD_SWISH]),
    "hard swish of a hard sigmoid": (lambda _, x: functional.hardsigmoid(x) * x, [HARD_SWISH]),
    "hard swish of its parts": (lambda _, x: x * (functional.hardtanh(x + 3, 0, 6) / 6), [HARD_SWISH]),
}
"""Operations in several calls; what only they read is not live."""

UNKNOWN: dict[str, Any] = {
    "sine": lambda _, x: x.sin(),
    "another clamp": lambda _, x: x.clamp(-1, 1),
    "weighted sum": lambda _, x: torch.add(x, x, alpha=2),
    "sum with a broadcast": lambda _, x: x + x[:, :, :1],
    "sum with a number": lambda _, x: x + 1,
    "mean over one side": lambda _, x: x.mean(2, keepdim=True).expand_as(x),
    "hard sigmoid of another slope": lambda _, x: (x + 3).clamp(0, 6) / 5,
    "hard swish of another value": lambda _, x: x * functional.hardsigmoid(x + 1),
    "product": lambda _, x: x * x.sigmoid(),
    "factor per pixel": lambda _, x: x * x[:, :1],
    "mean of everything": lambda _, x: x * x.mean(),
    "rows concatenated": lambda _, x: torch.cat([x, x], 2),
    "channels split": lambda _, x: torch.cat(list(x.split([1, 2], 1))[::-1], 1),
    "pool to two pixels": lambda _, x: functional.adaptive_avg_pool2d(x, 2),
    "convolution of its own weights": lambda _, x: functional.conv2d(x, x[:, :, :3, :3]),
}


@pytest.mark.parametrize("form", WRITTEN_OUT)
def test_an_operation_in_several_calls_is_one(form: str) -> None:
    """Running it gives the module's result."""
    function, expected = WRITTEN_OUT[form]
    module = Wrapped(function).double()
    image = torch.randn(1, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    captured = capture(module, [4 * image])

    live = captured.network.live()
    assert [node.op for node in live if not isinstance(node.op, Input | Output)] == expected
    found = run(live, {}, {"input": 4 * image})["output"]
    assert torch.allclose(found, module(4 * image), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", CALLS)
def test_every_form_of_an_operation_is_translated(form: str) -> None:
    """Running the operations gives the module's result."""
    function, layers, expected = CALLS[form]
    module = make_whole(Wrapped(function, **layers), 0)
    image = whole((1, CHANNELS, HEIGHT, WIDTH), 1)
    captured = capture(module, [image])

    assert [node.op for node in captured.network if not isinstance(node.op, Input | Output)] == expected
    with torch.no_grad():
        assert_same(captured.run({"input": image}, state_of(module))["output"], module(image), form)


@pytest.mark.parametrize("form", UNKNOWN)
def test_unknown_calls_are_kept_and_can_be_run(form: str) -> None:
    """Nothing is dropped: the captured calls, run in order, give the module's result."""
    module = Wrapped(UNKNOWN[form]).double()
    image = whole((1, CHANNELS, HEIGHT, WIDTH), 1)
    captured = capture(module, [image])

    assert any(isinstance(node.op, Opaque) for node in captured.network)
    assert_same(captured.run({"input": image}, state_of(module))["output"], module(image), form)


DECOMPOSED = ("conv", "padding same", "F.pad and conv", "batch norm", "max pool", "clamp to six", "adaptive pool")


@pytest.mark.parametrize("form", DECOMPOSED)
def test_decomposed_operators_are_translated(form: str) -> None:
    """Operators of the core set, with results that only training needs, are translated too."""
    function, layers, expected = CALLS[form]
    module = make_whole(Wrapped(function, **layers), 0)
    image = whole((1, CHANNELS, HEIGHT, WIDTH), 1)
    captured = read_exported(torch.export.export(module, (image,)).run_decompositions())

    assert [node.op for node in captured.network if not isinstance(node.op, Input | Output)] == expected
    values = captured.run({"input": image}, state_of(module))
    with torch.no_grad():
        assert_same(values["output"], module(image), form)
    node = next(node for node in captured.network if node.op in expected)
    assert_same(captured.step(node.path, [image], state_of(module)), values[node.path], "its own call")


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_each_padding_operator_is_translated(mode: str) -> None:
    """The exporter has separate operators for some modes of padding."""
    module = Wrapped(lambda _, x: functional.pad(x, (1, 2, 3, 0), mode=mode))
    program = torch.export.export(module, (torch.ones(1, CHANNELS, 4, 5),))
    captured = read_exported(program.run_decompositions({}))

    assert [node.op for node in captured.network][1:-1] == [Pad(margins=(3, 0, 1, 2), mode=mode)]


def test_a_pooling_whose_indices_are_used_is_opaque() -> None:
    """It has two results, which no operation has."""
    module = Wrapped(lambda _, x: functional.max_pool2d(x, 2, return_indices=True)[1].double())
    image = whole((1, CHANNELS, HEIGHT, WIDTH), 1)
    captured = capture(module, [image])

    assert not any(isinstance(node.op, Pool) for node in captured.network)
    assert_same(captured.run({"input": image}, {})["output"], module(image), "indices")


def test_every_call_can_be_repeated_without_changing_its_inputs() -> None:
    """A step that overwrites works on a copy."""
    module = Wrapped(lambda _, x: functional.relu_(x * 2))
    image = whole((1, CHANNELS, 4, 4), 1)
    captured = capture(module, [image.clone()])
    path = next(node.path for node in captured.network if isinstance(node.op, Activation))
    value = image.clone()

    assert_same(captured.step(path, [value], {}), image.relu(), "relu")
    assert_same(value, image, "the input")
