"""What a captured call makes itself, it makes where the values are that it is given.

The device ``meta`` stands in for an accelerator: its tensors have no elements, and cannot be mixed with others.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.capture.pt2.file import ExportedFile, read_pt2
from tests.support.modules import CHANNELS, Wrapped

IMAGE = torch.randn(1, CHANNELS, 8, 6, generator=torch.Generator().manual_seed(0))


def _ramp(layers: nn.Module, x: Tensor) -> Tensor:
    """Add how far down each pixel is: numbers that are made while it runs."""
    return layers.conv(x + torch.arange(x.shape[2], dtype=x.dtype, device=x.device)[:, None])


def _margin(layers: nn.Module, x: Tensor) -> Tensor:
    """Put a row of zeros in front."""
    return layers.conv(torch.cat([torch.zeros(1, CHANNELS, 1, x.shape[3], device=x.device), x], dim=2))


def _full(layers: nn.Module, x: Tensor) -> Tensor:
    """Choose between the value and a constant."""
    return functional.relu(layers.conv(x)) + torch.full((1, CHANNELS, 1, 1), 0.5, device=x.device)


def _moved(layers: nn.Module, x: Tensor) -> Tensor:
    """Copy a constant to where the value is."""
    return layers.conv(x) * torch.ones(1, 1, 1, 1, dtype=torch.float64, device=x.device).to(x.device, x.dtype)


MAKERS = {"ramp": _ramp, "margin": _margin, "constant": _full, "copy": _moved}


def _module(name: str) -> nn.Module:
    torch.manual_seed(1)
    return Wrapped(MAKERS[name], conv=nn.Conv2d(CHANNELS, CHANNELS, 1)).eval()


@pytest.mark.parametrize("name", MAKERS)
def test_a_captured_call_is_made_on_the_device_of_its_values(name: str) -> None:
    """A capture writes down the device that it was made on, which is always the processor."""
    module = _module(name)
    captured = capture(module, [IMAGE])
    state = {key: tensor.to("meta") for key, tensor in {**captured.constants, **state_of(module)}.items()}
    values = {"input": IMAGE.to("meta")}
    for node in captured.network:
        if node.path in captured.steps:
            values[node.path] = captured.step(node.path, [values[before] for before in node.inputs], state)
        elif node.inputs:
            values[node.path] = values[node.inputs[0]]

    assert {value.device.type for value in values.values()} == {"meta"}


@pytest.mark.parametrize("name", MAKERS)
def test_an_exported_file_runs_on_the_device_of_its_weights(name: str, tmp_path: Path) -> None:
    """Its program holds the processor's name at every call that makes a tensor."""
    path = tmp_path / "network.pt2"
    torch.export.save(torch.export.export(_module(name), (IMAGE,)), path)
    artefact = read_pt2(path, "network.pt2")
    assert isinstance(artefact, ExportedFile)
    with torch.no_grad():
        here = artefact(IMAGE)
        there = artefact.to("meta")(IMAGE.to("meta"))

    assert torch.allclose(here, _module(name)(IMAGE))
    assert (there.device.type, there.shape) == ("meta", here.shape)
