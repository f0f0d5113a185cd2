"""In lower precisions the limit is a multiple of the specification's own error; what cannot show is undecided."""

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import deeplab_spec
from deeplab_spec.capture.candidate.module import LocalModule
from deeplab_spec.capture.candidate.process import rounded
from deeplab_spec.capture.capture import Capture
from deeplab_spec.errors import RenamedWarning, SpecError, TargetError
from deeplab_spec.execute.tensor_error import Error, error_of
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.outputs import Answer
from deeplab_spec.judge.precision import blocks
from deeplab_spec.judge.precision import observe as lower
from deeplab_spec.judge.precision.blocks import Regions, deviation_of
from deeplab_spec.judge.precision.run import OnDevice, stored
from deeplab_spec.judge.text import text
from deeplab_spec.measure.rewrites import folded
from deeplab_spec.measure.wrappers import ChannelsLast
from deeplab_spec.precision import BFLOAT16, LOWER, TF32
from tests.support.candidates import SMALL

PREFIX = "VALUES-LOWER-PRECISION-"
CPU = torch.device("cpu")


def right(part: str | None = "aspp", **choices: object) -> nn.Module:
    """Build the authors' release, narrow, or a part of it."""
    module = deeplab_spec.build("tf-release", choices={**SMALL, **choices})  # type: ignore[dict-item]
    found: nn.Module = module.get_submodule(part) if part else module
    return found.eval()


def judged(module: nn.Module, *dtypes: str, part: str | None = "aspp") -> Certificate:
    """Judge the values of a module in some dtypes."""
    return deeplab_spec.certify(module, "tf-release", choices=SMALL, part=part, levels=["numerics"], dtypes=dtypes)


def clause(certificate: Certificate, name: str) -> ClauseRecord:
    """Return what was decided of one clause about lower precisions."""
    return next(record for record in certificate.clauses if record.id == f"{PREFIX}{name}")


def as_it_is(module: nn.Module) -> nn.Module:
    """Return a module as it is."""
    return module


@pytest.mark.parametrize("dtype", [each.name for each in LOWER])
@pytest.mark.parametrize("rewrite", [as_it_is, ChannelsLast])
def test_a_right_network_has_the_error_of_the_specification(
    dtype: str, rewrite: Callable[[nn.Module], nn.Module]
) -> None:
    """Whatever it is rewritten to: nothing is refused, and the blocks and their norms are decided."""
    certificate = judged(rewrite(right()), dtype)

    assert certificate.verdict is not RunVerdict.DEVIATES
    for name in ("BLOCKS", "NORMS"):
        assert clause(certificate, name).verdict is Verdict.PASSED, clause(certificate, name)
        assert clause(certificate, name).decisions == clause(certificate, name).required > 0


def test_a_folded_network_has_the_error_of_the_folded_specification() -> None:
    """No normalisation is left, so none is decided; the blocks are."""
    certificate = judged(folded(right(part=None), torch.zeros(1, 3, 65, 65)), "bfloat16", part=None)

    assert not [record.id for record in certificate.clauses if record.findings]
    assert clause(certificate, "BLOCKS").verdict is Verdict.PASSED
    assert clause(certificate, "NORMS").verdict is Verdict.NOT_APPLICABLE


def test_a_wrong_rate_is_seen_in_bfloat16_in_its_block() -> None:
    """It stands out by more than ten times what is allowed, and nowhere else."""
    certificate = judged(right(aspp_rates=[6, 13, 18]), "bfloat16")
    findings = clause(certificate, "BLOCKS").findings

    assert certificate.verdict is RunVerdict.DEVIATES
    assert {finding.path.rpartition(".")[0] for finding in findings} == {"aspp.atrous2.pointwise"}
    assert {finding.attribute for finding in findings} == {"bfloat16 value"}
    assert "bfloat16 value off by" in text(certificate)
    assert float(str(findings[0].actual).removesuffix(" times")) > 30
    assert clause(certificate, "NORMS").findings == ()


def test_a_wrong_eps_is_seen_in_bfloat16_at_its_normalisation() -> None:
    """Alone on the specification's value it stands out; behind a block of others it need not."""
    module = right()
    module.get_submodule("projection").norm.eps = 1e-3

    findings = clause(judged(module, "bfloat16"), "NORMS").findings

    assert [finding.path for finding in findings] == ["aspp.projection.norm"]


def test_a_fault_that_bfloat16_cannot_show_needs_float64() -> None:
    """End to end a slope in the middle is lost in rounding, so the whole run decides nothing."""
    certificate = judged(right(part=None), "float64", "bfloat16", part=None)
    whole_run = clause(certificate, "END-TO-END")

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    assert whole_run.verdict is Verdict.UNDECIDED
    assert whole_run.reason.startswith("needs float64: this run could not have seen ")
    assert whole_run.reason.endswith(" in bfloat16: a planted one passed")
    assert certificate.canaries.killed < certificate.canaries.planted
    undecided = [record for record in certificate.clauses if record.verdict is Verdict.UNDECIDED]
    assert all(record.reason.startswith(("needs float64", "this dtype")) for record in undecided)


def test_every_result_of_a_part_has_a_planted_fault_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault downstream of a tap would pass there, and the clause would be undecided."""
    planted: list[tuple[str, float | None]] = []
    made = lower.planted_fault
    monkeypatch.setattr(
        lower,
        "planted_fault",
        lambda clause, fault, each: planted.append((each.path, each.error)) or made(clause, fault, each),
    )
    judged(right("backbone"), "tf32", part="backbone")

    for tap in ("output.backbone", "output.low_level"):
        assert max(ratio or 0.0 for path, ratio in planted if path == tap) > 3, tap


def test_a_slope_hides_behind_its_block_in_bfloat16() -> None:
    """The blocks need not see it, and do not claim to: the activations do, or are undecided."""
    module = right()
    module.get_submodule("projection").activation = nn.LeakyReLU(0.01)
    certificate = judged(module, "bfloat16")

    path = "aspp.projection.activation"
    assert {finding.path for finding in clause(certificate, "BLOCKS").findings} <= {path}
    assert [finding.path for finding in clause(certificate, "ACTIVATIONS").findings] == [path]


def test_a_module_keeps_its_weights_and_their_dtype() -> None:
    """It is copied before its weights are cast; mixed precision converts while it runs, and only then."""
    module = right()
    before = copy.deepcopy(module.state_dict())

    judged(module, *(each.name for each in LOWER))

    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_tf32_on_a_processor_is_called_emulated() -> None:
    """No processor computes in it."""
    (case,) = judged(right(), "tf32").cases

    assert (case.dtype, case.device) == ("tf32", "cpu (emulated)")


def test_lower_precisions_are_decided_on_request_only() -> None:
    """A default certificate does not speak of them."""
    certificate = judged(right(), "float64", "float32")

    assert not [record.id for record in certificate.clauses if record.id.startswith(PREFIX)]
    assert certificate.verdict is RunVerdict.CONFORMS


@pytest.mark.parametrize(("options", "message"), [({"dtypes": ["int8"]}, "dtype"), ({"device": "tpu"}, "device")])
def test_an_unknown_dtype_or_device_is_refused(options: dict[str, object], message: str) -> None:
    """With what there is."""
    with pytest.raises(SpecError, match=message):
        deeplab_spec.certify("reference:notebook", **options)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built before."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match="no CUDA device is available"):
        deeplab_spec.certify("reference:notebook", device="cuda")


def _tolerates_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blocks, "RATIO_LIMIT", torch.inf)


def _sees_no_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blocks, "error_of", lambda _actual, _oracle: Error(mean=0.0, most=0.0))


def _skips_blocks(patch: pytest.MonkeyPatch) -> None:
    found = blocks.blocks
    patch.setattr(lower, "blocks", lambda loaded: found(loaded)[:2])


def _plants_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lower, "_wrong", lambda *_: None)


def _compares_with_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Regions,
        "ratio",
        lambda self, end, actual, _reference: deviation_of(end, actual, actual.double(), actual, self.precision),
    )


@pytest.mark.parametrize(
    "sabotage", [_tolerates_all, _sees_no_error, _skips_blocks, _plants_nothing, _compares_with_itself]
)
def test_a_broken_judge_of_blocks_passes_none(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a right network nor of a wrong one."""
    sabotage(monkeypatch)

    assert clause(judged(right(), "bfloat16"), "BLOCKS").verdict is Verdict.UNDECIDED
    assert clause(judged(right(aspp_rates=[6, 13, 18]), "bfloat16"), "BLOCKS").verdict is not Verdict.PASSED


def test_a_precision_that_was_not_in_force_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the specification's error is far below one rounding of TF32."""
    monkeypatch.setattr(OnDevice, "active", lambda _self: contextlib.nullcontext())
    record = clause(judged(right(), "tf32"), "END-TO-END")

    assert record.verdict is Verdict.UNDECIDED
    assert "it did not run in that precision" in record.reason


def test_a_precision_that_a_device_does_not_have_is_undecided_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the candidate."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(blocks, "step", refuse)
    monkeypatch.setattr(lower, "run", refuse)
    certificate = judged(right(), "float16")

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    for name in ("BLOCKS", "NORMS", "ACTIVATIONS", "END-TO-END"):
        assert "float16 does not run on cpu: RuntimeError: not implemented" in clause(certificate, name).reason


def test_a_result_that_is_no_number_is_infinitely_far() -> None:
    """So is one of another shape; an equal one is at zero."""
    value = torch.ones(2, 3)

    assert error_of(value * torch.nan, value).over(Error(mean=1.0, most=1.0), 0.1) == torch.inf
    assert error_of(value[:1], value).over(Error(mean=1.0, most=1.0), 0.1) == torch.inf
    assert error_of(value, value).over(Error(mean=0.0, most=0.0), 0.1) == 0.0


def test_the_worse_of_both_measures_counts() -> None:
    """One element far off is seen, though the mean hides it."""
    oracle = torch.ones(1000, dtype=torch.float64)
    actual = oracle.clone()
    actual[-1] = 2.0

    assert error_of(actual, oracle).over(Error(mean=1.0, most=0.1), 0.01) == pytest.approx(10.0)


def test_the_emulation_rounds_only_the_factors_of_products() -> None:
    """Ten bits make 4096 of 4097; what is multiplied and added then is a multiple of 2**24, and so exact."""
    image, kernel, matrix = (torch.full(shape, 4097.0) for shape in ((1, 4, 9, 9), (5, 4, 3, 3), (9, 9)))
    with OnDevice(precision=TF32, device=CPU).active():
        convolved, added, multiplied = functional.conv2d(image, kernel), image + image, matrix @ matrix

    assert set(convolved.unique().tolist()) == {4 * 9 * 2.0**24}
    assert set(multiplied.unique().tolist()) == {9 * 2.0**24}
    assert set(added.unique().tolist()) == {2 * 4097.0}


def test_rounding_keeps_values_of_ten_bits_and_nan() -> None:
    """It moves any other number by at most half of the last of them."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    special = torch.tensor([torch.inf, -torch.inf, 0.0, 1.0, -2.5])

    assert torch.equal(rounded(special), special)
    assert bool(rounded(torch.tensor(torch.nan)).isnan())
    assert float(((rounded(values) - values) / values).abs().max()) <= 2**-11
    assert torch.equal(rounded(rounded(values)), rounded(values))


@pytest.mark.parametrize("tf32", [True, False])
def test_the_switches_of_the_framework_are_put_back(*, tf32: bool) -> None:
    """Also after an error."""
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)

    def fail() -> Tensor:
        with float32_products(tf32=tf32):
            assert torch.backends.cudnn.allow_tf32 is tf32
            raise RuntimeError("an error")

    with pytest.raises(RuntimeError, match="an error"):
        fail()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


class Watched(nn.Module):
    """Holds the pyramid, and a buffer of its own; records in which precision it is called."""

    def __init__(self, aspp: nn.Module) -> None:
        super().__init__()
        self.aspp = aspp
        self.register_buffer("tenth", torch.tensor(0.1))
        self.calls: list[tuple[torch.dtype, torch.dtype, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Run the pyramid."""
        if not torch.compiler.is_exporting():
            weight = next(self.parameters())
            self.calls.append((x.dtype, weight.dtype, torch.is_autocast_enabled("cpu")))
        found: Tensor = self.aspp(x)
        return found


@pytest.mark.parametrize(
    ("dtype", "call"),
    [
        ("tf32", (torch.float32, torch.float32, False)),
        ("bfloat16", (torch.bfloat16, torch.bfloat16, False)),
        ("float16", (torch.float16, torch.float16, False)),
        ("autocast-bfloat16", (torch.float32, torch.float32, True)),
        ("autocast-float16", (torch.float32, torch.float32, True)),
    ],
)
def test_a_precision_is_what_its_name_says(
    dtype: str, call: tuple[torch.dtype, torch.dtype, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dtype is that of weights and images alike; automatic mixed precision leaves both in float32."""
    module = Watched(right())
    calls: list[tuple[torch.dtype, torch.dtype, bool]] = []
    original = lower.call_candidate

    def call_candidate(candidate: nn.Module, *arguments: object, **named: object) -> Answer:
        before = len(module_of(candidate).calls)
        answer = original(candidate, *arguments, **named)  # type: ignore[arg-type]
        calls.extend(module_of(candidate).calls[before:])
        return answer

    def module_of(candidate: nn.Module) -> Watched:
        assert isinstance(candidate, LocalModule)
        (inside,) = candidate._module
        assert isinstance(inside, Watched)
        return inside

    monkeypatch.setattr(lower, "call_candidate", call_candidate)
    judged(module, dtype)

    assert calls == [call]


def test_a_module_that_was_cast_gets_every_digit_back() -> None:
    """Turned to a dtype of fewer digits and to float64 again, a number would have lost them."""
    module = Watched(right()).double()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(1 / 3)
    before = copy.deepcopy(module.state_dict())

    with contextlib.suppress(KeyError), stored(module, torch.bfloat16):
        during = module.state_dict()
        assert {tensor.dtype for tensor in during.values() if tensor.is_floating_point()} == {torch.bfloat16}
        raise KeyError

    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_old_names_are_accepted_with_a_line_that_says_the_new_one() -> None:
    """They meant automatic mixed precision."""
    with pytest.warns(RenamedWarning, match="^'bf16' is now called 'autocast-bfloat16'$"):
        certificate = judged(right(), "bf16")

    assert [case.dtype for case in certificate.cases] == ["autocast-bfloat16"]


def test_the_report_says_how_a_lower_precision_was_measured() -> None:
    """In a line of its own; of float64 there is nothing to say."""
    lines = text(judged(right(), "float64", "bfloat16", "autocast-bfloat16")).splitlines()

    assert "  bfloat16: weights and input cast to bfloat16" in lines
    assert "  autocast-bfloat16: automatic mixed precision with bfloat16" in lines
    assert not [line for line in lines if line.startswith("  float64")]


def test_a_candidate_that_does_not_run_in_a_precision_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same values it runs in float32, so only the precision is not supported."""
    step = Capture.step

    def refuse(self: Capture, path: str, inputs: Sequence[Tensor], state: Mapping[str, Tensor]) -> Tensor:
        if inputs[0].dtype is torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return step(self, path, inputs, state)

    monkeypatch.setattr(Capture, "step", refuse)
    certificate = judged(right(), BFLOAT16.name)

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    record = clause(certificate, "BLOCKS")
    assert record.reason == "it does not run in bfloat16: RuntimeError: not implemented for 'BFloat16'"


def test_a_candidate_whose_numbers_are_made_in_float32_is_compared_in_the_precision() -> None:
    """A captured call that makes numbers holds the dtype of the capture; where every tensor is cast, they are too."""

    class Zeroed(nn.Module):
        """Adds zeros to what the pyramid gives and to its input."""

        def __init__(self) -> None:
            super().__init__()
            self.aspp = right()

        def forward(self, x: Tensor) -> Tensor:
            """Run the pyramid."""
            found: Tensor = self.aspp(x + torch.zeros(1, x.shape[1], 1, 1, dtype=x.dtype))
            return found

    record = clause(judged(Zeroed(), "bfloat16"), "BLOCKS")

    assert record.findings == ()
    assert record.verdict is Verdict.PASSED
