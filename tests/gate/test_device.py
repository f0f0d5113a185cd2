"""The device of a case: what tells two of them apart."""

import json

import pytest

from deeplab_spec.errors import TargetError
from deeplab_spec.gate import device as gate_device
from deeplab_spec.gate.cases import CPU_FORWARD, case
from deeplab_spec.gate.device import cpu, device_of, machine

XEON = "processor : 0\nmodel name\t: Intel(R) Xeon(R) Processor\ncpu family : 6\nmodel\t: 207\nstepping : 2\n"


def test_two_models_of_one_architecture_are_two_devices() -> None:
    """Hosts call different processors by one name; the number of their model tells them apart."""
    one, other = cpu(XEON, 2), cpu(XEON.replace("207", "143"), 2)

    assert one.name == "Intel(R) Xeon(R) Processor, cpu family 6, model 207, stepping 2, 2 cores"
    assert one.file == "cpu-intel-xeon-processor-6-207-2-2-cores"
    assert len({one.file, other.file, cpu(XEON, 4).file, cpu("model name : EPYC", 2).file}) == 4


def test_a_device_names_a_file_and_no_host() -> None:
    """No slash, no blank; a kernel that says nothing leaves the architecture."""
    device = device_of(CPU_FORWARD)

    assert device.file == json.loads(json.dumps(device.file)).lower().replace(" ", "").replace("/", "")
    assert device.file.startswith("cpu-")
    assert device.name == machine()["model"]
    assert cpu("", 2).file.endswith("-2-cores")


def test_a_gpu_is_called_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where there is none, that is one line."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")

    assert gate_device.device_of(case("gpu-latency")).file == "nvidia-h100-80gb-hbm3"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match="gpu-latency: needs a CUDA device, and there is none"):
        gate_device.device_of(case("gpu-latency"))
