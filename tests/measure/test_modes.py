"""Modes: their names, where they run, and that each computes what the module computes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.errors import NotFiniteError, RenamedWarning, SpecError
from deeplab_spec.execute.tensor_error import Error
from deeplab_spec.measure import modes
from deeplab_spec.measure.agreement import Reference, agreement, first_and_last
from deeplab_spec.measure.modes import APPLY, AUTOMATIC, DEFAULTS, Mode, modes_for, read_mode, reference_mode
from deeplab_spec.measure.parts import EAGER, OLD_PARTS, PARTS, Kind
from deeplab_spec.measure.rewrites import ShiftedDepthwise, folded, shifted
from deeplab_spec.precision import AUTOCAST_BFLOAT16, AUTOCAST_FLOAT16, FLOAT32, LOWER
from tests.support.networks import Named, Shared, Small, images, norms

REWRITES = (
    "eager",
    "channels_last",
    "folded",
    "shifted",
    "folded+channels_last",
    "folded+shifted+channels_last",
)


def test_mode_parts_may_be_named_in_any_order() -> None:
    """They are applied in the order of the table."""
    assert read_mode("channels_last+folded") == read_mode("folded+channels_last")
    assert read_mode("channels_last+folded").name == "folded+channels_last"
    assert read_mode(EAGER) == Mode()


@pytest.mark.parametrize("text", ["fast", "", "folded+", "folded+folded", "eager+folded"])
def test_unknown_mode_is_refused_with_a_list_of_the_parts(text: str) -> None:
    """A part that occurs twice is refused too."""
    with pytest.raises(SpecError, match=r"mode: must be eager, or some of folded, .*cuda_graph, each once"):
        read_mode(text)


@pytest.mark.parametrize("text", ["tf32+autocast-float16", "compiled+compiled_frozen", "onnxruntime+openvino"])
def test_parts_that_exclude_each_other_are_refused(text: str) -> None:
    """A network has one precision and one compiler."""
    with pytest.raises(SpecError, match=r"at most one part of the kind (precision|compiler|engine)"):
        read_mode(text)


@pytest.mark.parametrize("device", DEFAULTS)
def test_default_modes_are_modes_with_eager_first(device: str) -> None:
    """Every other mode is compared with the first."""
    modes = modes_for(device)

    assert modes[0] == Mode()
    assert len(modes) == len(DEFAULTS[device])


def test_modes_of_a_gpu_are_missing_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode that cannot run is not run, and has not passed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert read_mode("cuda_graph").missing("cpu") == "no CUDA device"
    assert read_mode(EAGER).missing("cuda") == "no CUDA device"
    assert not read_mode("folded").missing("cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert read_mode("tf32").missing("cpu") == "only for a CUDA device"


def test_lower_precision_has_a_float32_form_of_its_rewrites() -> None:
    """It is certified first, because a low precision hides faults."""
    mode = read_mode("folded+channels_last+autocast-float16+cuda_graph")

    assert mode.precision is AUTOCAST_FLOAT16
    assert mode.float32_form == read_mode("folded+channels_last")


@pytest.mark.parametrize("name", REWRITES)
@pytest.mark.parametrize("kind", [Small, Shared, Named])
def test_rewrites_compute_what_the_module_computes_in_float64(name: str, kind: type[nn.Module]) -> None:
    """In float64 rounding is far below any fault of a rewrite. The module is not changed."""
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
    """A new rewrite in the table must be added here."""
    tested = {part for name in REWRITES for part in name.split("+")}

    assert tested >= {part.name for part in PARTS if part.kind is Kind.REWRITE}


class Rectified(nn.BatchNorm2d):
    """A normalisation that also activates."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and rectify."""
        return super().forward(x).relu()


def test_folding_keeps_normalisations_that_cannot_be_folded() -> None:
    """A normalisation is folded only if it is the only user of a convolution that is called once."""
    assert norms(folded(Small(), images())) == 1
    assert norms(folded(Shared(), images())) == 3  # late, pointwise, and the one that is not called
    rectified = Small()
    rectified.stem_norm = Rectified(6)
    assert norms(folded(rectified, images())) == 2
    tied = Small()
    tied.read_twice.weight = tied.pointwise.weight
    assert norms(folded(tied, images())) == 2


def test_shifting_replaces_atrous_depthwise_convolutions_only() -> None:
    """The others are fast already."""
    changed = shifted(Small())

    assert [name for name, layer in changed.named_modules() if isinstance(layer, ShiftedDepthwise)] == ["depthwise"]


@pytest.mark.parametrize("options", [{"padding": "same"}, {"stride": 2, "padding": (0, 3)}, {"bias": False}])
def test_shifted_maps_are_the_convolution(options: dict[str, object]) -> None:
    """At any stride, rate, padding and kernel."""
    conv = nn.Conv2d(4, 4, (3, 5), dilation=(2, 3), groups=4, **options).double()  # type: ignore[arg-type]
    x = torch.randn(2, 4, 13, 15, dtype=torch.float64)

    torch.testing.assert_close(ShiftedDepthwise(conv)(x), conv(x), rtol=1e-12, atol=1e-12)


def test_reference_refuses_a_fold_with_the_wrong_eps() -> None:
    """In float32 the module's own error is 1e-7, the fault's 1e-3."""
    module = Small()
    reference = Reference(module, images())
    wrong = copy.deepcopy(module)
    wrong.depthwise_norm.eps = 1e-5

    assert reference.agreement(module).equal
    assert not reference.agreement(wrong).equal


def test_lower_precision_does_not_hide_a_wrong_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 the fault is below the allowed error; the float32 form shows it."""
    module = Small()
    reference = Reference(module, images())

    def wrong(module: nn.Module, _example: Tensor) -> nn.Module:
        changed = copy.deepcopy(module)
        assert isinstance(changed, Small)
        changed.depthwise_norm.eps = 1.1e-3
        return changed

    monkeypatch.setattr(modes, "APPLY", {**APPLY, "folded": wrong})
    mode = read_mode("folded+autocast-bfloat16")
    running = mode.apply(module, images())

    assert reference.agreement(running, AUTOCAST_BFLOAT16).equal
    assert not agreement(reference, running, mode).equal


def test_reference_refuses_an_output_of_another_shape_and_nan() -> None:
    """Both have an infinite error."""
    reference = Reference(Small(), images())

    for wrong in (lambda x: x, lambda x: reference.module(x)[:, :1], lambda x: reference.module(x) * float("nan")):
        assert not reference.agreement(wrong).equal


def test_reference_refuses_a_module_without_finite_values() -> None:
    """They cannot be compared."""
    module = Small()
    nn.init.constant_(module.stem.weight, float("inf"))

    with pytest.raises(SpecError, match="values must be finite"):
        Reference(module, images())


def test_first_and_last_image_of_a_large_batch_are_compared() -> None:
    """An error in either is detected."""
    batch = images(4)
    module = Small()
    reference = Reference(module, batch)

    assert torch.equal(first_and_last(batch), batch[[0, 3]])
    for number in (0, 3):

        def wrong(x: Tensor, number: int = number) -> Tensor:
            result = module(x).detach().clone()
            result[number] += 1
            return result

        assert not reference.agreement(wrong).equal
    assert reference.agreement(module).equal


@pytest.mark.parametrize(("old", "new"), OLD_PARTS.items())
def test_an_old_part_is_accepted_and_warns_with_the_new_name(old: str, new: str) -> None:
    """Scripts for earlier releases still work."""
    with pytest.warns(RenamedWarning, match=f"^'{old}' is now called '{new}'$"):
        assert read_mode(old).name == new


def test_an_engine_takes_a_graph_of_float32_only() -> None:
    """It does not use torch's layout and autocast; folding changes the graph itself."""
    assert read_mode("folded+openvino").name == "folded+openvino"
    with pytest.raises(SpecError, match="mode: can combine onnxruntime with folded only"):
        read_mode("channels_last+onnxruntime")


def test_every_part_can_be_applied_and_every_default_mode_read() -> None:
    """The names and the functions are two tables, because the names need no framework."""
    assert set(APPLY) == {part.name for part in PARTS}
    for names in (*DEFAULTS.values(), *AUTOMATIC.values()):
        assert [read_mode(name).name for name in names] == list(names)


def test_every_lower_precision_is_a_mode() -> None:
    """``optimize`` and ``bench`` use the same names as ``certify``."""
    assert [reference_mode(precision).name for precision in LOWER] == [precision.name for precision in LOWER]


def test_cast_network_answers_in_the_dtype_of_its_input() -> None:
    """Its values are representable in the dtype that it computes in."""
    result = read_mode("bfloat16").apply(Small(), images())(images())

    assert result.dtype is torch.float32
    assert torch.equal(result, result.bfloat16().float())


class Overflows(nn.Module):
    """A network whose values are finite in float32 and overflow in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.back = nn.Conv2d(4, 2, 1)
        nn.init.constant_(self.conv.weight, 1e6)
        nn.init.constant_(self.back.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        result: Tensor = self.back(self.conv(x))
        return result


@pytest.mark.parametrize("name", ["float16", "autocast-float16"])
def test_nothing_is_certified_where_the_modules_own_values_are_not_finite(name: str) -> None:
    """An infinite own error would allow every error. The message names the layer that overflows."""
    reference = Reference(Overflows(), images())
    mode = read_mode(name)

    with pytest.raises(NotFiniteError, match=r"not finite in .*float16: conv reaches .*, the largest .* is 65504$"):
        agreement(reference, mode.apply(reference.module, reference.example), mode)
    assert agreement(reference, reference.module, Mode()).equal


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_an_error_that_is_not_finite_is_never_within_the_allowed_one(number: float) -> None:
    """The comparison alone would accept infinity, which is at most infinity."""
    finite, infinite = Error(mean=1e-7, most=1e-7), Error(mean=number, most=number)

    assert finite.within(finite)
    assert not any((infinite.within(infinite), finite.within(infinite), infinite.within(finite)))


def test_own_error_is_measured_with_the_batch_of_the_mode() -> None:
    """Libraries choose algorithms, which round differently, by the batch size."""
    seen: list[int] = []

    class Watched(Small):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype is torch.float32:
                seen.append(len(x))
            return super().forward(x)

    reference = Reference(Watched(), images(5))
    reference.agreement(reference.module)

    assert set(seen) == {5}


def test_a_switch_is_set_while_a_mode_runs_and_restored() -> None:
    """CuDNN's search for algorithms is a setting of the process."""
    seen: list[bool] = []

    class Watched(Small):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.benchmark)
            return super().forward(x)

    before = torch.backends.cudnn.benchmark
    running = read_mode("cudnn_benchmark").apply(Watched(), images())
    torch.backends.cudnn.benchmark = False
    running(images())

    assert seen[-1]
    assert not torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before


def test_own_error_is_the_largest_over_examples_that_are_one_rounding_apart() -> None:
    """A small error on one input, by luck, would make a correct rewrite look wrong."""

    class Lucky(Small):
        def forward(self, x: Tensor) -> Tensor:
            result = super().forward(x)
            exact = x.dtype is torch.float64 or torch.equal(x, images())
            return result if exact else result * (1 + 1e-4)

    reference = Reference(Lucky(), images())

    assert reference.own(FLOAT32).mean == pytest.approx(1e-4, rel=0.01)
    assert reference.agreement(lambda x: Small.forward(reference.module, x) * (1 - 2e-4)).equal
    assert not reference.agreement(lambda x: Small.forward(reference.module, x) * (1 - 4e-4)).equal
