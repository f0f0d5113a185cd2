"""Each operation against PyTorch's own, with whole numbers: no rounding, so no tolerance."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.analysis.sizes import explicit_padding
from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import run, step
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
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
from tests.support.graphs import chain
from tests.support.strategies import seeds
from tests.support.weights import whole

MARGINS = st.tuples(*[st.integers(0, 4)] * 4)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def compute(op: Op, *inputs: Tensor, **weights: Tensor) -> Tensor:
    """Run one operation."""
    node = Node(path="n", op=op, inputs=tuple(f"x{number}" for number, _ in enumerate(inputs)))
    return step(node, list(inputs), {f"n.{role}": value for role, value in weights.items()})


@given(
    kernel=PAIRS,
    stride=PAIRS,
    rate=PAIRS,
    padding=MARGINS | st.just("same"),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    seed=seeds,
)
def test_a_convolution_is_pytorchs_on_the_padded_map(
    *, kernel: Any, stride: Any, rate: Any, padding: Any, groups: int, bias: bool, seed: int
) -> None:
    """Margins of each side, and of the SAME rule, are zeros put around the map before."""
    x = whole((2, 2 * groups, 9, 10), seed)
    op = Conv2d(
        channels_in=2 * groups,
        channels_out=3 * groups,
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=padding,
        groups=groups,
        bias=bias,
    )
    weight, offset = whole((3 * groups, 2, *kernel), seed + 1), whole((3 * groups,), seed + 2)
    top, bottom, left, right = explicit_padding(padding, (9, 10), kernel, stride, rate)

    padded = functional.pad(x, (left, right, top, bottom))
    expected = functional.conv2d(padded, weight, offset if bias else None, stride, 0, rate, groups)

    assert_same(compute(op, x, weight=weight, **({"bias": offset} if bias else {})), expected, "convolution")


@given(
    kernel=PAIRS,
    stride=PAIRS,
    rate=PAIRS,
    padding=MARGINS | st.just("same"),
    multiplier=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bias=st.booleans(),
    seed=seeds,
)
def test_a_depthwise_convolution_is_pytorchs_in_each_dtype(
    *, kernel: Any, stride: Any, rate: Any, padding: Any, multiplier: int, dtype: torch.dtype, bias: bool, seed: int
) -> None:
    """Each dtype has its faster way to sum the taps; whole numbers show any difference."""
    x = whole((2, 3, 9, 10), seed).to(dtype)
    op = Conv2d(
        channels_in=3,
        channels_out=3 * multiplier,
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=padding,
        groups=3,
        bias=bias,
    )
    weight, offset = (
        whole((3 * multiplier, 1, *kernel), seed + 1).to(dtype),
        whole((3 * multiplier,), seed + 2).to(dtype),
    )
    given_weight = weight.clone()
    top, bottom, left, right = explicit_padding(padding, (9, 10), kernel, stride, rate)

    padded = functional.pad(x, (left, right, top, bottom))
    expected = functional.conv2d(padded, weight, offset if bias else None, stride, 0, rate, 3)

    assert_same(compute(op, x, weight=weight, **({"bias": offset} if bias else {})), expected, "convolution")
    assert_same(weight, given_weight, "the weights are not changed")


def test_a_depthwise_kernel_wider_than_the_map_is_refused_in_each_dtype() -> None:
    """The kernel has no position."""
    op = Conv2d(channels_in=2, channels_out=2, kernel=(3, 3), rate=(2, 2), groups=2)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(RuntimeError):
            compute(op, torch.ones(1, 2, 4, 4, dtype=dtype), weight=torch.ones(2, 1, 3, 3, dtype=dtype))


@pytest.mark.parametrize(
    ("size", "padding", "expected"),
    [
        (4, (1, 1, 1, 1), [[14, 43], [43, 84]]),
        (4, "same", [[48, 37], [37, 22]]),
        (5, (1, 1, 1, 1), [[14, 43, 34], [43, 84, 55], [34, 55, 30]]),
        (5, "same", [[14, 43, 34], [43, 84, 55], [34, 55, 30]]),
    ],
)
def test_strided_convolutions_have_the_values_that_the_release_publishes(
    size: int, padding: Any, expected: list[list[int]]
) -> None:
    """The release's own test vectors distinguish SAME from explicit padding at an even size only."""
    ramp = torch.arange(size).double()
    x = (ramp[:, None] + ramp).view(1, 1, size, size)
    weight = (torch.arange(3)[:, None] + torch.arange(3)).double().view(1, 1, 3, 3)
    op = Conv2d(channels_in=1, channels_out=1, kernel=(3, 3), stride=(2, 2), padding=padding)

    assert compute(op, x, weight=weight)[0, 0].tolist() == expected


@given(kernel=PAIRS, stride=PAIRS, ceil_mode=st.booleans(), count=st.booleans(), seed=seeds, data=st.data())
def test_pools_are_pytorchs(
    *, kernel: Any, stride: Any, ceil_mode: bool, count: bool, seed: int, data: st.DataObject
) -> None:
    """The same windows, and the same divisor where a window overhangs the margin."""
    margin = tuple(data.draw(st.integers(0, side // 2), label="margin") for side in kernel)
    padding = (margin[0], margin[0], margin[1], margin[1])
    x = whole((1, 2, 7, 8), seed)
    fields = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_margin": count}

    largest = nn.MaxPool2d(kernel, stride, margin, ceil_mode=ceil_mode)
    average = nn.AvgPool2d(kernel, stride, margin, ceil_mode=ceil_mode, count_include_pad=count)

    assert_same(compute(Pool(kind=PoolKind.MAX, **fields), x), largest(x), "maximum")
    assert_same(compute(Pool(kind=PoolKind.AVERAGE, **fields), x), average(x), "average")


def test_a_mean_with_uneven_margins_is_refused() -> None:
    """PyTorch has no such pool."""
    op = Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2), padding=(0, 1, 0, 1))
    with pytest.raises(GraphError, match="margins of an average must be symmetric"):
        compute(op, torch.zeros(1, 1, 4, 4))


@given(size=st.tuples(*[st.integers(1, 9)] * 2), kernel=st.integers(1, 3), stride=st.integers(1, 3), seed=seeds)
def test_a_maximum_under_the_rule_same_is_that_of_every_window_inside_the_map(
    size: tuple[int, int], kernel: int, stride: int, seed: int
) -> None:
    """A result is ``ceil(side / stride)``; padding never wins, also over a map below zero."""
    x = whole((1, 2, *size), seed) - 9
    op = Pool(kind=PoolKind.MAX, kernel=(kernel, kernel), stride=(stride, stride), padding="same")
    result = compute(op, x)

    assert result.shape[2:] == tuple(-(-side // stride) for side in size)
    starts = [max((-(-side // stride) - 1) * stride + kernel - side, 0) // 2 for side in size]
    for row, column in product(*map(range, result.shape[2:])):
        top, left = (place * stride - start for place, start in zip((row, column), starts, strict=True))
        window = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        assert torch.equal(result[:, :, row, column], window.amax(dim=(2, 3)))


@given(mode=st.sampled_from(ResizeMode), align=st.booleans(), size=st.tuples(*[st.integers(1, 9)] * 2), seed=seeds)
def test_resizes_are_pytorchs(*, mode: ResizeMode, align: bool, size: Any, seed: int) -> None:
    """To the size of the second input, or to a stated size."""
    x = whole((1, 2, 4, 5), seed)
    corners = {} if mode is ResizeMode.NEAREST else {"align_corners": align}
    expected = functional.interpolate(x, size=size, mode=mode.value, **corners)

    like = torch.zeros(1, 7, *size)
    assert_same(compute(Resize(mode=mode, align_corners=align), x, like), expected, "resize to a map")
    assert_same(compute(Resize(mode=mode, align_corners=align, size=size), x), expected, "resize to a size")


MODULES: dict[ActivationKind, nn.Module] = {
    ActivationKind.RELU: nn.ReLU(),
    ActivationKind.RELU6: nn.ReLU6(),
    ActivationKind.LEAKY_RELU: nn.LeakyReLU(0.25),
    ActivationKind.ELU: nn.ELU(0.25),
    ActivationKind.GELU: nn.GELU(),
    ActivationKind.SILU: nn.SiLU(),
    ActivationKind.HARDSWISH: nn.Hardswish(),
    ActivationKind.HARDSIGMOID: nn.Hardsigmoid(),
    ActivationKind.SIGMOID: nn.Sigmoid(),
    ActivationKind.TANH: nn.Tanh(),
}


@pytest.mark.parametrize("kind", ActivationKind)
def test_activations_are_pytorchs(kind: ActivationKind) -> None:
    """Every kind, below zero, between, and above six."""
    x = whole((1, 3, 8, 8), 0, -9, 9)

    assert_same(compute(Activation(kind=kind, slope=0.25), x), MODULES[kind](x), kind.value)


@given(affine=st.booleans(), seed=seeds)
def test_a_normalisation_uses_its_running_statistics(*, affine: bool, seed: int) -> None:
    """Evaluation ignores the statistics of the batch."""
    x = whole((2, 3, 4, 5), seed)
    layer = nn.BatchNorm2d(3, eps=2.0, affine=affine).double().eval()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(whole((3,), seed + 1))
    layer.running_var.copy_(torch.full((3,), 2.0))
    if affine:
        layer.weight.data.copy_(whole((3,), seed + 2))
        layer.bias.data.copy_(whole((3,), seed + 3))
    op = BatchNorm(channels=3, eps=2.0, momentum=None, affine=affine)

    expected = (x - layer.running_mean.view(3, 1, 1)) / 2
    if affine:
        expected = expected * layer.weight.view(3, 1, 1) + layer.bias.view(3, 1, 1)

    assert_same(compute(op, x, **layer.state_dict()), layer(x), "as the module")
    assert_same(compute(op, x, **layer.state_dict()), expected, "by the formula")


@given(margins=MARGINS, seed=seeds)
def test_concatenations_sums_means_and_pads_follow_their_definition(margins: Any, seed: int) -> None:
    """The operations without weights, each by its definition."""
    x, z = whole((2, 3, 8, 4), seed), whole((2, 3, 8, 4), seed + 1)
    top, bottom, left, right = margins
    border = torch.full((2, 3, 8 + top + bottom, 4 + left + right), 5.0, dtype=torch.float64)
    border[:, :, top : top + 8, left : left + 4] = x

    assert_same(compute(Add(), x, z), x + z, "sum")
    assert_same(compute(Concat(), x, z, x)[:, 3:6], z, "second of three")
    assert_same(compute(GlobalAveragePool(), x)[:, :, 0, 0], x.sum((2, 3)) / 32, "mean")
    assert_same(compute(Dropout(probability=0.9), x), x, "dropout in evaluation")
    assert_same(compute(Pad(margins=margins, value=5.0), x), border, "border")


def test_pads_can_reflect() -> None:
    """Modes without a value work too."""
    x = whole((1, 1, 5, 5), 0)
    for mode in ("reflect", "replicate", "circular"):
        assert_same(compute(Pad(margins=(1, 2, 0, 1), mode=mode), x), functional.pad(x, (0, 1, 1, 2), mode=mode), mode)


def test_an_unknown_operation_is_run_by_the_caller_or_refused() -> None:
    """Nothing is skipped in silence."""
    graph = chain(Opaque(target="aten.sin"))
    x = torch.ones(1, 4, 2, 2)

    with pytest.raises(GraphError, match=r"n1: must be a known operation, but got 'aten\.sin'"):
        run(graph, {}, {"x": x})
    assert_same(run(graph, {}, {"x": x}, opaque=lambda _, inputs: inputs[0].sin())["y"], x.sin(), "sine")


def test_an_input_without_a_value_is_refused() -> None:
    """The error names the input."""
    with pytest.raises(GraphError, match="x: must be given a value"):
        run(chain(Activation()), {}, {})


def test_an_unknown_operation_may_have_no_input() -> None:
    """A constant inside a network has no input."""
    constant = Node(path="constant", op=Opaque(target="aten.ones"))
    x = Node(path="x", op=Input(channels=1))
    graph = Network(nodes=(x, constant, Node(path="y", op=Output(name=""), inputs=("constant",))))

    values = run(graph, {}, {"x": torch.zeros(1, 1, 1, 1)}, opaque=lambda *_: torch.ones(1, 1, 2, 2))

    assert_same(values["y"], torch.ones(1, 1, 2, 2), "ones")


@given(keep=st.sets(st.sampled_from(["x", "n1", "n2", "n3"])))
def test_only_requested_values_are_returned(keep: set[str]) -> None:
    """A value is freed after its last consumer; outputs stay."""
    graph = chain(Activation(), Activation(), Activation())
    x = whole((1, 4, 2, 2), 0)

    values = run(graph, {}, {"x": x}, keep=keep)

    assert set(values) == keep | {"y"}
    assert_same(values["y"], x.relu(), "output")
    assert set(run(graph, {}, {"x": x})) == {"x", "n1", "n2", "n3", "y"}
