"""A map may be cropped before or after what treats every pixel by itself; nowhere else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.graph.ops import Conv2d, Pad
from tests.capture.equivalences.test_merged_convolutions import Parts, check_runs, conv, read

NORM = nn.BatchNorm2d(5)


def _after(x: Tensor, mixed: nn.Module, norm: nn.Module) -> Tensor:
    return norm(mixed(functional.pad(x, (0, 2, 0, 1)))).relu()[:, :, :9, :12]  # type: ignore[no-any-return]


def test_a_crop_after_a_normalisation_belongs_to_the_convolution() -> None:
    """The convolution has smaller margins, and what follows it smaller maps."""
    module = Parts(_after, conv(6, 5), NORM)
    captured = read(module)
    (found,) = (node for node in captured.network if isinstance(node.op, Conv2d))

    assert found.op.padding == (1, 0, 1, -1)
    assert [node.op.margins for node in captured.network if isinstance(node.op, Pad)] == [(0, 1, 0, 2)]
    assert captured.shapes[found.path] == (2, 5, 9, 12)
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
def test_a_crop_of_anything_else_stays_where_it_is(name: str) -> None:
    """A stride, another reader or a call between would make it another function."""
    forward, layers = LATE[name]
    captured = read(Parts(forward, *layers))

    assert [node for node in captured.network if isinstance(node.op, Pad) and min(node.op.margins) < 0]


def test_a_crop_with_another_number_is_another_convolution() -> None:
    """One column more is cut: the margins say so."""
    module = Parts(lambda x, mixed, norm: norm(mixed(x))[:, :, :, :11], conv(6, 5), NORM)
    captured = read(module)
    (found,) = (node for node in captured.network if isinstance(node.op, Conv2d))

    assert found.op.padding == (1, 1, 1, 0)
    check_runs(module, captured)
    assert torch.equal(torch.tensor(captured.shapes[found.path]), torch.tensor((2, 5, 9, 11)))
