"""Weights move between modules, exported programs and ONNX files, and between convolutions and matrix products."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.capture.target import Target, load
from deeplab_spec.port.equivalent_forms import ROUNDED
from deeplab_spec.port.service import move
from tests.support.onnx_files import export
from tests.support.port_networks import SIZE, in_form, small, trained


def _program(module: nn.Module, image: Tensor, path: Path) -> Path:
    torch.export.save(torch.export.export(module, (image,), strict=False), path / "network.pt2")
    return path / "network.pt2"


FILES: dict[str, Callable[[nn.Module, Tensor, Path], Path]] = {
    "pt2": _program,
    "onnx": lambda module, image, path: export(module, image, path / "new.onnx", dynamo=True),
    "onnx of TorchScript": lambda module, image, path: export(module, image, path / "old.onnx", dynamo=False),
}


@pytest.mark.parametrize("kind", FILES)
def test_weights_move_out_of_a_file_and_into_it(kind: str, tmp_path: Path) -> None:
    """A .pt2 file keeps normalisations, so that weights are copied bit-equal; both ONNX exporters fold them."""
    path = FILES[kind](small(), torch.zeros(1, 3, *SIZE), tmp_path)

    def opened() -> nn.Module:
        return load(Target(name=str(path)), 16, 4)

    for source, dest in ((opened(), trained(in_form("norm"), 5)), (trained(in_form("norm"), 6), opened())):
        moved = move(source, dest)
        assert moved.verdict == "moved", (moved.reason, moved.map.gaps, moved.differences)
        assert moved.proof
        assert moved.proof.runs[0].error < 1e-14
        copies = not any(entry.action in ROUNDED for entry in moved.map.moves.values())
        assert copies is (kind == "pt2")
        assert all(run.bit_equal for run in moved.proof.runs) or not copies


class Convolved(nn.Module):
    """A 1x1 convolution between others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(6, 2, 3)
        self.middle: nn.Module | None = nn.Conv2d(4, 6, 1)

    def between(self, x: Tensor) -> Tensor:
        """Run the middle layer."""
        return cast("Tensor", cast("nn.Module", self.middle)(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the result."""
        return cast("Tensor", self.last(self.between(self.first(x))))


class Linear(Convolved):
    """The same network with a linear layer on the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Linear(4, 6)

    def between(self, x: Tensor) -> Tensor:
        """Run the middle layer on the last axis."""
        return super().between(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Product(Convolved):
    """The same network with a matrix product; the rows of the matrix are the input channels."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = None
        self.matrix, self.bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))

    def between(self, x: Tensor) -> Tensor:
        """Multiply the last axis."""
        return (x.permute(0, 2, 3, 1) @ self.matrix + self.bias).permute(0, 3, 1, 2)


@pytest.mark.parametrize("other", [Linear, Product])
def test_a_1x1_convolution_becomes_a_matrix_product_and_back(other: type[Convolved]) -> None:
    """The weight gets the shape and the axis order of each network."""
    source, dest, back = Convolved(), other(), Convolved()

    for first, second in ((source, dest), (dest, back)):
        moved = move(first, second, size=SIZE)
        assert moved.verdict == "moved", (moved.reason, moved.map.gaps, moved.differences)
        assert moved.proof
        assert not any(entry.action in ROUNDED for entry in moved.map.moves.values())
        assert moved.proof.runs[0].error < 1e-14  # six products are summed in another order

    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in source.state_dict().items())
    if isinstance(dest, Product):
        weight = cast("nn.Conv2d", source.middle).weight[:, :, 0, 0]
        assert torch.equal(dest.matrix, weight.T)
