"""Split convolutions are merged, and a convolution whose result is split becomes several; near misses are kept."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.merged_convolutions import merge_concatenated, merge_summed
from deeplab_spec.capture.equivalences.split_convolutions import split_by_channels
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Op, Pad
from tests.support.assertions import assert_same
from tests.support.modules import assert_capture_runs

SHAPE = (2, 6, 9, 12)


class Parts(nn.Module):
    """Layers with a forward pass of the test.

    Args:
        forward: What it does with them.
        layers: The layers.
    """

    def __init__(self, forward: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        self.layers = nn.ModuleList(layers)
        for number, tensor in enumerate(self.state_dict().values(), start=1):
            drawn = torch.randint(1, 4, tensor.shape, generator=torch.Generator().manual_seed(number))
            tensor.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        return self.run(x, *self.layers)


def conv(reads: int, makes: int, **fields: int | bool) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the map's size."""
    rate = int(fields.pop("rate", 1))
    return nn.Conv2d(reads, makes, 3, padding=rate, dilation=rate, **fields)  # type: ignore[arg-type]


def read(module: nn.Module) -> Capture:
    """Read a module's graph."""
    return capture(module.eval(), (torch.zeros(SHAPE),))


def operations(captured: Capture) -> list[Op]:
    """Return the operations, in order."""
    return [node.op for node in captured.network if isinstance(node.op, Conv2d | BatchNorm | Activation | Add | Concat)]


def check_runs(module: nn.Module, captured: Capture) -> None:
    """Check that the operations, and the captured steps one by one, give the module's result.

    In float64, one convolution and the sum of its parts differ by rounding at most.
    """
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_capture_runs(module.double(), captured, image, tolerance=1e-10)


def _ranges(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    return first(x[:, :2]) + second(x[:, 2:])  # type: ignore[no-any-return]


def _concatenated(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    return torch.cat([first(x), second(x)], dim=1)


def _split(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    left, right = x.split([4, 2], dim=1)
    return torch.cat([first(left), second(right)], dim=1)


SAME = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}
MERGED = {
    "results": (_concatenated, (conv(6, 3), conv(6, 5)), Conv2d(channels_in=6, channels_out=8, bias=True, **SAME)),
    "results without bias": (
        _concatenated,
        (conv(6, 3, bias=False), conv(6, 5, bias=False)),
        Conv2d(channels_in=6, channels_out=8, **SAME),
    ),
    "groups": (
        _split,
        (conv(4, 4, groups=4), conv(2, 2, groups=2)),
        Conv2d(channels_in=6, channels_out=6, groups=6, bias=True, **SAME),
    ),
    "reads": (
        _ranges,
        (conv(2, 5), conv(4, 5, bias=False)),
        Conv2d(channels_in=6, channels_out=5, bias=True, **SAME),
    ),
    "reads in chunks": (
        lambda x, first, second: second(x.chunk(2, dim=1)[1]) + first(x.chunk(2, dim=1)[0]),
        (conv(3, 5, bias=False), conv(3, 5)),
        Conv2d(channels_in=6, channels_out=5, bias=True, **SAME),
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_convolutions_in_parts_are_merged(name: str) -> None:
    """It has all their channels, and gives the same result."""
    forward, layers, expected = MERGED[name]
    module = Parts(forward, *layers)
    captured = (merge_concatenated if forward in {_concatenated, _split} else merge_summed)(read(module))

    assert operations(captured) == [expected]
    check_runs(module, captured)


def test_a_sum_of_convolutions_is_one_of_the_concatenation() -> None:
    """Convolutions of three values are summed: one convolution of their concatenation."""

    def forward(x: Tensor, *layers: nn.Module) -> Tensor:
        first, second, third = layers
        return first(x) + (second(x.relu()) + third(x.mean((2, 3), keepdim=True).expand_as(x)))  # type: ignore[no-any-return]

    module = Parts(forward, conv(6, 5), conv(6, 5, bias=False), conv(6, 5, bias=False))
    captured = merge_summed(read(module))

    assert operations(captured)[-2:] == [Concat(), Conv2d(channels_in=18, channels_out=5, bias=True, **SAME)]
    check_runs(module, captured)


NOT_MERGED = {
    "another rate": (_concatenated, (conv(6, 3), conv(6, 5, rate=2))),
    "a bias less": (_concatenated, (conv(6, 3), conv(6, 5, bias=False))),
    "two biases": (_ranges, (conv(2, 5), conv(4, 5))),
    "a range read twice": (lambda x, first, second: first(x[:, :3]) + second(x[:, 1:4]), (conv(3, 5), conv(3, 5))),
    "ranges in another order": (
        lambda x, first, second: torch.cat([first(x[:, 2:]), second(x[:, :2])], dim=1),
        (conv(4, 4, groups=4), conv(2, 2, groups=2)),
    ),
    "a part read again": (
        lambda x, first, second: torch.cat([first(x), second(x), first(x).relu()], dim=1),
        (conv(6, 3), conv(6, 5)),
    ),
}


@pytest.mark.parametrize("name", NOT_MERGED)
def test_other_convolutions_are_not_merged(name: str) -> None:
    """Every convolution that was captured is still there."""
    module = Parts(*NOT_MERGED[name][:1], *NOT_MERGED[name][1])
    captured = read(module)

    for form in (merge_concatenated, merge_summed):
        assert len(operations(form(captured))) == len(operations(captured))


def _split_results(x: Tensor, mixed: nn.Module, norm: nn.Module, last: nn.Module) -> Tensor:
    left, right = norm(mixed(x)).relu().split([2, 5], dim=1)
    return torch.cat([last(right), left, x], dim=1)


def _together(x: Tensor, first: nn.Module, second: nn.Module, norm: nn.Module) -> Tensor:
    return torch.cat([x, norm(torch.cat([first(x), second(x.relu())], dim=1)).relu()], dim=1)


def _grouped(x: Tensor, both: nn.Module) -> Tensor:
    return torch.cat([both(torch.cat([x, x.relu()], dim=1)), x], dim=1)


SPLIT = {
    "results that go to different nodes": (
        _split_results,
        (conv(6, 7), nn.BatchNorm2d(7), conv(5, 5)),
        {"convolutions": 3, "normalisations": 2},
    ),
    "a normalisation of two values": (
        _together,
        (conv(6, 3), conv(6, 4), nn.BatchNorm2d(7)),
        {"convolutions": 2, "normalisations": 2},
    ),
    "a convolution of two values": (
        _grouped,
        (nn.Conv2d(12, 8, 1, groups=2),),
        {"convolutions": 2, "normalisations": 0},
    ),
}


@pytest.mark.parametrize("name", SPLIT)
def test_operations_on_concatenated_values_are_split(name: str) -> None:
    """Every part has its own channels, and gives the same result as before."""
    forward, layers, expected = SPLIT[name]
    module = Parts(forward, *layers)
    captured = split_by_channels(read(module))
    ops = operations(captured)

    assert {
        "convolutions": sum(isinstance(op, Conv2d) for op in ops),
        "normalisations": sum(isinstance(op, BatchNorm) for op in ops),
    } == expected
    check_runs(module, captured)


def test_ranges_across_a_boundary_are_not_split() -> None:
    """Ranges that do not end at the boundaries of a concatenation cannot be split."""

    def forward(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        both = torch.cat([first(x), second(x)], dim=1)
        return torch.cat([both[:, 3:], both[:, :3]], dim=1)

    module = Parts(forward, conv(6, 4), conv(6, 5))
    captured = read(module)

    assert operations(split_by_channels(captured)) == operations(captured)


def test_writing_to_slices_changes_the_module() -> None:
    """Writing to the slices of a kernel changes the module."""
    module = Parts(_concatenated, conv(6, 3), conv(6, 5))
    captured = merge_concatenated(read(module))
    state = state_of(module)
    (where,) = (where for where in captured.parts if where.endswith("weight"))
    kernel = torch.arange(8 * 6 * 9.0).view(8, 6, 3, 3)

    with torch.no_grad():
        for part in captured.parts[where]:
            part.view_of(state[part.name]).copy_(kernel.narrow(part.axis, part.at, part.size))

    assert_same(torch.cat([layer.weight for layer in module.layers]), kernel, "kernel")  # type: ignore[misc]


NORM = nn.BatchNorm2d(5)


def _after(x: Tensor, mixed: nn.Module, norm: nn.Module) -> Tensor:
    return norm(mixed(functional.pad(x, (0, 2, 0, 1)))).relu()[:, :, :9, :12]  # type: ignore[no-any-return]


def test_a_crop_after_a_normalisation_belongs_to_the_convolution() -> None:
    """The convolution has smaller margins, and the operations after it smaller maps."""
    module = Parts(_after, conv(6, 5), NORM)
    captured = read(module)
    (node,) = (node for node in captured.network if isinstance(node.op, Conv2d))

    assert node.op.padding == (1, 0, 1, -1)
    assert [node.op.margins for node in captured.network if isinstance(node.op, Pad)] == [(0, 1, 0, 2)]
    assert captured.shapes[node.path] == (2, 5, 9, 12)
    check_runs(module, captured)


LATE: dict[str, tuple[Callable[..., Tensor], tuple[nn.Module, ...]]] = {
    "before another kernel": (
        lambda x, mixed, norm, last: last(norm(mixed(x)))[:, :, :1],
        (nn.Conv2d(6, 5, 3, stride=2), NORM, nn.Conv2d(5, 5, 1, stride=2)),
    ),
    "after a value that is read whole": (
        lambda x, mixed, norm: (y := norm(mixed(x)))[:, :, :1] + y.mean((2, 3), keepdim=True),
        (conv(6, 5, bias=False), NORM),
    ),
    "after a mean": (
        lambda x, mixed, norm: norm(mixed(x).softmax(1))[:, :, :4],
        (conv(6, 5), NORM),
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_other_crops_stay(name: str) -> None:
    """A stride, another consumer or a call between would change the result."""
    forward, layers = LATE[name]
    captured = read(Parts(forward, *layers))

    assert [node for node in captured.network if isinstance(node.op, Pad) and min(node.op.margins) < 0]


def test_a_crop_with_another_number_is_another_convolution() -> None:
    """One more column is cropped, and the margins show it."""
    module = Parts(lambda x, mixed, norm: norm(mixed(x))[:, :, :, :11], conv(6, 5), NORM)
    captured = read(module)
    (node,) = (node for node in captured.network if isinstance(node.op, Conv2d))

    assert node.op.padding == (1, 1, 1, 0)
    check_runs(module, captured)
    assert torch.equal(torch.tensor(captured.shapes[node.path]), torch.tensor((2, 5, 9, 11)))
