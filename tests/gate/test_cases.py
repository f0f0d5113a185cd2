"""The cases, their modes and the devices that run them."""

import json
from dataclasses import replace

import pytest

from deeplab_spec.errors import RenamedWarning, SpecError, TargetError
from deeplab_spec.gate import cases as gate_cases
from deeplab_spec.gate.cases import CASES, CPU_FORWARD, case, case_for, changed, cpu, device_of, machine, read_mode


def test_there_are_at_most_eight_cases_each_with_a_reason() -> None:
    """Each case must show something that the others do not."""
    assert len(CASES) <= 8
    assert len({entry.name for entry in CASES}) == len({entry.reason for entry in CASES}) == len(CASES)
    assert all(case(entry.name) is entry for entry in CASES)
    with pytest.raises(SpecError, match=r"--case: must be one of cpu-forward, .* but got 'fast'"):
        case("fast")


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "quick"},
        {"mode": "bf16"},
        {"batch": 0},
        {"output_stride": 0},
        {"device": "tpu"},
        {"direction": "back"},
        {"direction": "train", "mode": "folded"},
    ],
)
def test_a_case_refuses_what_cannot_be_run(fields: dict[str, object]) -> None:
    """It is refused before a process starts."""
    with pytest.raises(SpecError):
        replace(CPU_FORWARD, **fields)  # type: ignore[arg-type]


def test_the_title_of_a_case_names_no_network() -> None:
    """The side decides what is built, and its process reports it."""
    assert CPU_FORWARD.title == "1x3x97x97, forward, eager, cpu"


def test_each_device_has_a_default_case() -> None:
    """``--device cuda`` without ``--case`` times a case for a GPU."""
    assert (case_for("cpu"), case_for("cuda").device) == (CPU_FORWARD, "cuda")
    with pytest.raises(SpecError, match="--device: must be one of cpu, cuda"):
        case_for("tpu")


def test_a_changed_case_has_another_name_and_requires_the_arguments_that_were_set() -> None:
    """Choices are added to those of the case."""
    other = changed(CPU_FORWARD, {"batch": 2, "choices": {"middle_blocks": 8}})

    assert (other.name, other.batch, other.size) == ("cpu-forward-changed", 2, CPU_FORWARD.size)
    assert other.choices == {"width": 0.25, "middle_blocks": 8}
    assert other.required == ("choices",)
    assert changed(CPU_FORWARD, {}) is CPU_FORWARD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bf16", "autocast-bfloat16"),
        ("fp16", "autocast-float16"),
        ("bn_folded", "folded"),
        ("inductor", "compiled"),
        ("channels_last+bf16", "channels_last+autocast-bfloat16"),
    ],
)
def test_an_old_name_of_a_mode_is_accepted_with_a_warning(old: str, new: str) -> None:
    """The warning has the new name."""
    with pytest.warns(RenamedWarning, match="is now called"):
        assert read_mode(old) == new


def test_an_unknown_mode_is_refused() -> None:
    """The error names the option."""
    assert read_mode("folded+compiled") == "folded+compiled"
    with pytest.raises(SpecError, match=r"--plant: must be one or more of eager, channels_last, .* but got 'quick'"):
        read_mode("quick", "--plant")


def test_the_cases_use_todays_names() -> None:
    """Reading their modes warns of nothing."""
    assert [read_mode(entry.mode) for entry in CASES] == [entry.mode for entry in CASES]


XEON = "processor : 0\nmodel name\t: Intel(R) Xeon(R) Processor\ncpu family : 6\nmodel\t: 207\nstepping : 2\n"


def test_two_models_of_one_architecture_are_two_devices() -> None:
    """Hosts report one name for different processors; the model number tells them apart."""
    one, other = cpu(XEON, 2), cpu(XEON.replace("207", "143"), 2)

    assert one.name == "Intel(R) Xeon(R) Processor, cpu family 6, model 207, stepping 2, 2 cores"
    assert one.file == "cpu-intel-xeon-processor-6-207-2-2-cores"
    assert len({one.file, other.file, cpu(XEON, 4).file, cpu("model name : EPYC", 2).file}) == 4


def test_the_name_of_a_device_can_be_part_of_a_file_name() -> None:
    """Without ``/proc/cpuinfo`` the architecture remains."""
    device = device_of(CPU_FORWARD)

    assert device.file == json.loads(json.dumps(device.file)).lower().replace(" ", "").replace("/", "")
    assert device.file.startswith("cpu-")
    assert device.name == machine()["model"]
    assert cpu("", 2).file.endswith("-2-cores")


def test_a_gpu_has_the_name_that_torch_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU gives an error."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")

    assert gate_cases.device_of(case("gpu-latency")).file == "nvidia-h100-80gb-hbm3"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match="gpu-latency: needs a CUDA device, and there is none"):
        gate_cases.device_of(case("gpu-latency"))
