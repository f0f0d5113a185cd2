"""The cases and their modes: what is there, what an option changes, and names of earlier releases."""

from dataclasses import replace

import pytest

from deeplab_spec.errors import RenamedWarning, SpecError
from deeplab_spec.gate.cases import CASES, CPU_FORWARD, case, case_for, changed, read_mode


def test_there_are_at_most_eight_cases_each_with_a_reason() -> None:
    """A case that shows nothing that another does not is none."""
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
    """Before any process is started."""
    with pytest.raises(SpecError):
        replace(CPU_FORWARD, **fields)  # type: ignore[arg-type]


def test_a_case_claims_no_network() -> None:
    """What is built is said by the process that has built it."""
    assert CPU_FORWARD.title == "1x3x97x97, forward, eager, cpu"


def test_each_device_has_a_case_of_its_own() -> None:
    """``--device cuda`` alone times a case that is made for it."""
    assert (case_for("cpu"), case_for("cuda").device) == (CPU_FORWARD, "cuda")
    with pytest.raises(SpecError, match="--device: must be one of cpu, cuda"):
        case_for("tpu")


def test_a_changed_case_says_so_and_what_it_requires_of_the_builder() -> None:
    """Its times are not those of the case; choices are added to those of the case."""
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
def test_a_mode_of_an_earlier_release_is_accepted_with_a_line_that_says_the_new_name(old: str, new: str) -> None:
    """One thing has one name; what people have typed goes on working."""
    with pytest.warns(RenamedWarning, match="is now called"):
        assert read_mode(old) == new


def test_todays_modes_warn_of_nothing_and_others_are_refused() -> None:
    """The error names the option."""
    assert read_mode("folded+compiled") == "folded+compiled"
    with pytest.raises(SpecError, match=r"--plant: must be of eager, channels_last, .* but got 'quick'"):
        read_mode("quick", "--plant")


def test_the_cases_use_todays_names() -> None:
    """Reading their modes warns of nothing."""
    assert [read_mode(entry.mode) for entry in CASES] == [entry.mode for entry in CASES]
