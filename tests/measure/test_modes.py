"""Modes: their names, where they run, and that each computes what the module computes."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.errors import SpecError
from deeplab_spec.measure.agreement import Standard, agreement, ends
from deeplab_spec.measure.folding import folded
from deeplab_spec.measure.modes import DEFAULTS, EAGER, PARTS, Kind, Mode, Precision, modes_for, read_mode
from deeplab_spec.measure.shifted import ShiftedDepthwise, shifted
from tests.measure.networks import Named, Shared, Small, images, norms

REWRITES = (
    "eager",
    "channels_last",
    "bn_folded",
    "shifted",
    "bn_folded+channels_last",
    "bn_folded+shifted+channels_last",
)


def test_mode_parts_may_be_named_in_any_order() -> None:
    """The order in which they are applied is that of the table."""
    assert read_mode("channels_last+bn_folded") == read_mode("bn_folded+channels_last")
    assert read_mode("channels_last+bn_folded").name == "bn_folded+channels_last"
    assert read_mode(EAGER) == Mode()


@pytest.mark.parametrize("text", ["fast", "", "bn_folded+", "bn_folded+bn_folded", "eager+bn_folded"])
def test_unknown_mode_is_refused_with_those_that_exist(text: str) -> None:
    """As is a part that is named twice."""
    with pytest.raises(SpecError, match=r"mode: must be eager, or some of bn_folded, .*cuda_graph, each once"):
        read_mode(text)


@pytest.mark.parametrize("text", ["tf32+amp_fp16", "inductor+inductor_freezing"])
def test_parts_that_exclude_each_other_are_refused(text: str) -> None:
    """A network has one precision and one compiler."""
    with pytest.raises(SpecError, match=r"at most one part of the kind (precision|compiler)"):
        read_mode(text)


@pytest.mark.parametrize("device", DEFAULTS)
def test_default_modes_are_modes_with_eager_first(device: str) -> None:
    """Every other is timed against the first."""
    modes = modes_for(device)

    assert modes[0] == Mode()
    assert len(modes) == len(DEFAULTS[device])


def test_modes_of_a_gpu_say_so_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot run is not run; it has not passed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert read_mode("cuda_graph").missing("cpu") == "no CUDA device"
    assert read_mode(EAGER).missing("cuda") == "no CUDA device"
    assert not read_mode("bn_folded").missing("cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert read_mode("tf32").missing("cpu") == "only for a CUDA device"


def test_lower_precision_has_a_float32_form_of_its_rewrites() -> None:
    """It is certified first, since a low precision hides faults."""
    mode = read_mode("bn_folded+channels_last+amp_fp16+cuda_graph")

    assert mode.precision is Precision.FP16
    assert mode.float32_form == read_mode("bn_folded+channels_last")


@pytest.mark.parametrize("name", REWRITES)
@pytest.mark.parametrize("kind", [Small, Shared, Named])
def test_rewrites_compute_what_the_module_computes_in_float64(name: str, kind: type[nn.Module]) -> None:
    """In float64 rounding is far below any fault of a rewrite; and the module stays as it was."""
    module = kind().double()
    before = copy.deepcopy(module.state_dict())
    x = images().double()

    changed = read_mode(name).apply(module, x)

    result, expected = (_tensor(each(x)) for each in (changed, module))
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert list(module.state_dict()) == list(before)


def _tensor(result: Tensor | dict[str, Tensor]) -> Tensor:
    return (result["out"] if isinstance(result, dict) else result).detach()


def test_every_rewrite_is_tested() -> None:
    """A part that is added to the table is to be added here too."""
    tested = {part for name in REWRITES for part in name.split("+")}

    assert tested >= {part.name for part in PARTS if part.kind is Kind.REWRITE}


class Rectified(nn.BatchNorm2d):
    """A normalisation that does more."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and rectify."""
        return super().forward(x).relu()


def test_folding_leaves_what_it_may_not_fold() -> None:
    """A normalisation goes only where it alone reads a convolution that is called once."""
    assert norms(folded(Small(), images())) == 1
    assert norms(folded(Shared(), images())) == 3  # late, pointwise, and the one that is not called
    rectified = Small()
    rectified.stem_norm = Rectified(6)
    assert norms(folded(rectified, images())) == 2
    tied = Small()
    tied.read_twice.weight = tied.pointwise.weight
    assert norms(folded(tied, images())) == 2


def test_shifting_replaces_atrous_depthwise_convolutions_only() -> None:
    """The others are fast as they are."""
    changed = shifted(Small())

    assert [name for name, layer in changed.named_modules() if isinstance(layer, ShiftedDepthwise)] == ["depthwise"]


@pytest.mark.parametrize("options", [{"padding": "same"}, {"stride": 2, "padding": (0, 3)}, {"bias": False}])
def test_shifted_maps_are_the_convolution(options: dict[str, object]) -> None:
    """At any stride, rate, padding and kernel."""
    conv = nn.Conv2d(4, 4, (3, 5), dilation=(2, 3), groups=4, **options).double()  # type: ignore[arg-type]
    x = torch.randn(2, 4, 13, 15, dtype=torch.float64)

    torch.testing.assert_close(ShiftedDepthwise(conv)(x), conv(x), rtol=1e-12, atol=1e-12)


def test_standard_refuses_a_fold_with_the_wrong_eps() -> None:
    """The float32 rule sees it: the module's own error is 1e-7, the fault's 1e-3."""
    module = Small()
    standard = Standard(module, images())
    wrong = copy.deepcopy(module)
    wrong.depthwise_norm.eps = 1e-5

    assert standard.agreement(module).equal
    assert not standard.agreement(wrong).equal


def test_lower_precision_does_not_hide_a_wrong_rewrite() -> None:
    """In bfloat16 the fault is below the error that is allowed; the float32 form shows it."""
    module = Small()
    standard = Standard(module, images())
    fold = next(part for part in PARTS if part.name == "bn_folded")
    bf16 = next(part for part in PARTS if part.name == "amp_bf16")

    def wrong(module: nn.Module, _example: Tensor) -> nn.Module:
        changed = copy.deepcopy(module)
        assert isinstance(changed, Small)
        changed.depthwise_norm.eps = 1.1e-3
        return changed

    mode = Mode(parts=(replace(fold, apply=wrong), bf16))
    running = mode.apply(module, images())

    assert standard.agreement(running, Precision.BF16).equal
    assert not agreement(standard, running, mode).equal


def test_standard_refuses_a_result_of_another_shape_and_one_that_is_no_number() -> None:
    """Both differ by infinitely much."""
    standard = Standard(Small(), images())

    for wrong in (lambda x: x, lambda x: standard.module(x)[:, :1], lambda x: standard.module(x) * float("nan")):
        assert not standard.agreement(wrong).equal


def test_standard_refuses_a_module_without_finite_values() -> None:
    """Nothing could be compared with them."""
    module = Small()
    nn.init.constant_(module.stem.weight, float("inf"))

    with pytest.raises(SpecError, match="values must be finite"):
        Standard(module, images())


def test_first_and_last_image_of_a_large_batch_are_compared() -> None:
    """An error in either is seen."""
    batch = images(4)
    module = Small()
    standard = Standard(module, batch)

    assert torch.equal(ends(batch), batch[[0, 3]])
    for number in (0, 3):

        def wrong(x: Tensor, number: int = number) -> Tensor:
            result = module(x).detach().clone()
            result[number] += 1
            return result

        assert not standard.agreement(wrong).equal
    assert standard.agreement(module).equal
