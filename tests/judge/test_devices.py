"""A candidate is called on the device to which it was moved, for every kind of candidate.

No accelerator is needed: a module can say which device its arguments are on, and the device ``meta`` stands in.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.capture.capture import CallSettings, Returned
from deeplab_spec.capture.pt2.file import ExportedFile, read_pt2
from deeplab_spec.judge.outputs import call_candidate
from deeplab_spec.judge.precision.run import moved

META = torch.device("meta")
IMAGE = torch.zeros(1, 3, 4, 4)
TAPS = [("logits", (1, 3, 4, 4))]


class Telling(nn.Module):
    """Records the device of its argument, and returns numbers of the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        """Record the device."""
        self.devices.append(x.device.type)
        return torch.zeros(x.shape)


def _file(tmp_path: Path) -> ExportedFile:
    path = tmp_path / "network.pt2"
    torch.export.save(torch.export.export(nn.Conv2d(3, 3, 1).eval(), (IMAGE,)), path)
    found = read_pt2(path, "network.pt2")
    assert isinstance(found, ExportedFile)
    return found


def test_a_candidate_without_weights_is_called_where_it_was_put() -> None:
    """It has no tensor that shows its device, so the device is an argument."""
    module = Telling()
    with moved(module, META):
        answer = call_candidate(module, [IMAGE], TAPS, device=META)

    assert answer.error == ""
    assert module.devices == ["meta"]
    assert answer.results["logits"].device.type == "cpu"


def test_an_exported_file_is_called_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds tensors, and neither parameters nor buffers as a module has them."""
    file = _file(tmp_path)
    devices: list[tuple[str, set[str]]] = []

    def call(self: ExportedFile, inputs: list[Tensor], _: CallSettings) -> Returned:
        devices.append((inputs[0].device.type, {tensor.device.type for tensor in self.tensors.values()}))
        return Returned(kind="Tensor", tensors={"": torch.zeros(1)})

    monkeypatch.setattr(ExportedFile, "call", call)
    call_candidate(file, [IMAGE], TAPS)
    call_candidate(file.to("meta"), [IMAGE], TAPS)

    assert devices == [("cpu", {"cpu"}), ("meta", {"meta"})]
