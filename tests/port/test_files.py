"""Files as sources, destinations and weights: they are read as data, and bad ones are rejected in one line."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deeplab_spec.capture.candidate.module import local
from deeplab_spec.capture.target import open_file
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.port.equivalent_forms import ROUNDED
from deeplab_spec.port.service import move
from deeplab_spec.port.weights import load_weights
from tests.support.onnx_files import export
from tests.support.port_networks import SIZE, in_form, small, trained


def network() -> nn.Module:
    """Return a small network."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def state() -> dict[str, Tensor]:
    """Return weights for the network."""
    return {name: torch.full_like(tensor, 5) for name, tensor in network().state_dict().items()}


def prefixed() -> dict[str, Tensor]:
    """Return the weights with the prefix of a wrapper module."""
    return {f"module.{name}": tensor for name, tensor in state().items()}


WRAPPED: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "plain": (state, []),
    "state_dict": (lambda: {"state_dict": state(), "epoch": 3}, ["the weights were read from 'state_dict'"]),
    "model": (lambda: {"model": state()}, ["the weights were read from 'model'"]),
    "prefix": (prefixed, ["the prefix 'module.' was removed from every name"]),
    "both": (
        lambda: {"state_dict": prefixed()},
        ["the weights were read from 'state_dict'", "the prefix 'module.' was removed from every name"],
    ),
}


CASES = [(wrapped, ending) for wrapped in WRAPPED for ending in (".pt", ".pth")]
CASES += [(wrapped, ".safetensors") for wrapped in ("plain", "prefix")]  # such a file has no nesting


@pytest.mark.parametrize(("wrapped", "ending"), CASES)
def test_wrapped_weights_are_loaded(wrapped: str, ending: str, tmp_path: Path) -> None:
    """Notes say what was unwrapped."""
    make, notes = WRAPPED[wrapped]
    path = tmp_path / f"weights{ending}"
    save_file(make(), path) if ending == ".safetensors" else torch.save(make(), path)
    module = local(network())

    assert list(load_weights(module, path)) == notes
    assert all(tensor.eq(5).all() for tensor in module.saved.values())


def test_a_network_whose_own_names_have_the_prefix_keeps_it(tmp_path: Path) -> None:
    """There the prefix is a part of the name."""
    module = local(nn.ModuleDict({"module": network()}))
    save_file({f"module.{name}": tensor for name, tensor in state().items()}, tmp_path / "weights.safetensors")

    assert load_weights(module, tmp_path / "weights.safetensors") == ()
    assert all(tensor.eq(5).all() for tensor in module.saved.values())


class Evil:
    """Executes code when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what unpickling calls."""
        return (Path.touch, (self.sign,))


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_executes_code_is_rejected_without_execution(
    archive: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """The message does not suggest to load the file anyway; the same file executes code when it is unpickled."""
    sign, path = tmp_path / "executed", tmp_path / "weights.pt"
    if archive:
        torch.save({"state_dict": state(), "extra": Evil(sign)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(sign)))
    module = local(network())
    before = {name: tensor.clone() for name, tensor in module.saved.items()}

    with pytest.raises(TargetError) as rejected:
        load_weights(module, path)

    assert str(rejected.value).startswith(f"{path}: holds more than plain weights, or is damaged; it is not loaded")
    assert len(str(rejected.value).splitlines()) == 1
    assert "weights_only" not in str(rejected.value)
    assert not sign.exists()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.saved.items())
    if not archive:
        pickle.loads(path.read_bytes())  # noqa: S301 - the test's own file: it shows that the code can run
        assert sign.exists()


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (lambda: {"0.weight": state()["0.weight"]}, r"6 names are missing \(first '0\.bias'\)"),
    "unknown": (lambda: {**state(), "x": torch.ones(1)}, r"1 names are unknown \(first 'x'\)"),
    "shape": (
        lambda: {**state(), "0.bias": torch.ones(9)},
        r"1 have another shape \(first '0\.bias': is \(9,\), must be \(4,\)\)",
    ),
    "list": (lambda: [torch.ones(1)], "must hold a state dict, but holds a list"),
    "number": (lambda: {"epoch": 3}, "must hold tensors by name, but holds a int at 'epoch'"),
    "nothing": (dict, "7 names are missing"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_weights_that_do_not_fit_are_one_line_and_change_nothing(unfit: str, tmp_path: Path) -> None:
    """The line names the first of each kind."""
    make, message = UNFIT[unfit]
    torch.save(make(), tmp_path / "weights.pt")
    module = local(network())
    before = {name: tensor.clone() for name, tensor in module.saved.items()}

    with pytest.raises(TargetError, match=message) as rejected:
        load_weights(module, tmp_path / "weights.pt")

    assert len(str(rejected.value).splitlines()) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.saved.items())


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 64, b"PK\x03\x04broken"])
def test_damaged_files_are_one_line(ending: str, content: bytes, tmp_path: Path) -> None:
    """Any error of the library becomes one line."""
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)

    with pytest.raises(TargetError) as rejected:
        load_weights(local(network()), path)

    assert str(rejected.value).startswith(f"{path}: ")
    assert len(str(rejected.value).splitlines()) == 1


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_truncated_file_is_one_line(ending: str, tmp_path: Path) -> None:
    """The file is cut in half."""
    path = tmp_path / f"weights{ending}"
    torch.save(state(), path) if ending == ".pt" else save_file(state(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(TargetError) as rejected:
        load_weights(local(network()), path)

    assert len(str(rejected.value).splitlines()) == 1


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_missing_file_is_one_line(ending: str, tmp_path: Path) -> None:
    """There is no traceback."""
    with pytest.raises(TargetError, match="cannot be read: "):
        load_weights(local(network()), tmp_path / f"none{ending}")


def test_another_suffix_is_a_usage_error(tmp_path: Path) -> None:
    """A file of another kind is not opened."""
    with pytest.raises(SpecError, match=r"--weights: must be a file \.safetensors, \.pt or \.pth, but got "):
        load_weights(local(network()), tmp_path / "weights.pkl")


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
        return open_file(path, str(path))

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
