"""In lower precisions a candidate is held to the specification's own error, and what cannot be seen is undecided."""

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import deeplab_spec
from deeplab_spec.checks.certificate import Certificate, ClauseRecord
from deeplab_spec.checks.verdicts import RunVerdict, Verdict
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.execute.products import products
from deeplab_spec.judge import blocks, lower
from deeplab_spec.judge.blocks import Error, Regions, error, ratio_of
from deeplab_spec.judge.precision import Precision, rounded
from deeplab_spec.measure.folding import folded
from deeplab_spec.measure.running import ChannelsLast
from deeplab_spec.render.certificate import text
from tests.judge.candidates import SMALL

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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "tf32"])
@pytest.mark.parametrize("rewrite", [as_it_is, ChannelsLast])
def test_a_right_network_errs_as_the_specification_does(dtype: str, rewrite: Callable[[nn.Module], nn.Module]) -> None:
    """Whatever it is rewritten to: nothing is refused, and the blocks and their norms are decided."""
    certificate = judged(rewrite(right()), dtype)

    assert certificate.verdict is not RunVerdict.DEVIATES
    for name in ("BLOCKS", "NORMS"):
        assert clause(certificate, name).verdict is Verdict.PASSED, clause(certificate, name)
        assert clause(certificate, name).decisions == clause(certificate, name).required > 0


def test_a_folded_network_errs_as_the_specification_does_when_it_is_folded() -> None:
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


def test_what_bfloat16_cannot_show_needs_float64() -> None:
    """End to end a slope in the middle is lost in rounding, so the whole run decides nothing."""
    certificate = judged(right(part=None), "float64", "bfloat16", part=None)
    ends = clause(certificate, "END-TO-END")

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    assert ends.verdict is Verdict.UNDECIDED
    assert ends.reason.startswith("needs float64: this run could not have seen ")
    assert ends.reason.endswith(" in bfloat16: a planted one passed")
    assert certificate.canaries.killed < certificate.canaries.planted
    undecided = [record for record in certificate.clauses if record.verdict is Verdict.UNDECIDED]
    assert all(record.reason.startswith(("needs float64", "this dtype")) for record in undecided)


def test_every_result_of_a_part_has_a_planted_fault_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault behind a tap would pass there, and make the run blind."""
    planted: list[tuple[str, float | None]] = []
    made = lower.canary
    monkeypatch.setattr(
        lower,
        "canary",
        lambda clause, fault, ratio: planted.append((ratio.path, ratio.ratio)) or made(clause, fault, ratio),
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
    """Mixed precision converts while it runs, and only then."""
    module = right()
    before = copy.deepcopy(module.state_dict())

    judged(module, "bfloat16", "float16")

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
    patch.setattr(blocks, "RATIO", torch.inf)


def _sees_no_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blocks, "error", lambda _actual, _oracle: Error(mean=0.0, most=0.0))


def _skips_blocks(patch: pytest.MonkeyPatch) -> None:
    found = blocks.blocks
    patch.setattr(lower, "blocks", lambda loaded: found(loaded)[:2])


def _plants_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lower, "_wrong", lambda *_: None)


def _compares_with_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Regions,
        "ratio",
        lambda self, end, actual, _reference: ratio_of(end, actual, actual.double(), actual, self.precision),
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
    """In float32 the specification errs far less than TF32 rounds."""
    monkeypatch.setattr(Precision, "on", lambda _self: contextlib.nullcontext())
    record = clause(judged(right(), "tf32"), "END-TO-END")

    assert record.verdict is Verdict.UNDECIDED
    assert "it did not run in it" in record.reason


def test_a_precision_that_a_device_lacks_is_undecided_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
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

    assert error(value * torch.nan, value).over(Error(mean=1.0, most=1.0), 0.1) == torch.inf
    assert error(value[:1], value).over(Error(mean=1.0, most=1.0), 0.1) == torch.inf
    assert error(value, value).over(Error(mean=0.0, most=0.0), 0.1) == 0.0


def test_the_worse_of_both_measures_counts() -> None:
    """One element far off is seen, though the mean hides it."""
    oracle = torch.ones(1000, dtype=torch.float64)
    actual = oracle.clone()
    actual[-1] = 2.0

    assert error(actual, oracle).over(Error(mean=1.0, most=0.1), 0.01) == pytest.approx(10.0)


def test_the_emulation_rounds_the_factors_of_products_and_nothing_else() -> None:
    """Ten bits make 4096 of 4097; what is multiplied and added then is a multiple of 2**24, and so exact."""
    image, kernel, matrix = (torch.full(shape, 4097.0) for shape in ((1, 4, 9, 9), (5, 4, 3, 3), (9, 9)))
    with Precision(name="tf32", device=CPU).on():
        convolved, added, multiplied = functional.conv2d(image, kernel), image + image, matrix @ matrix

    assert set(convolved.unique().tolist()) == {4 * 9 * 2.0**24}
    assert set(multiplied.unique().tolist()) == {9 * 2.0**24}
    assert set(added.unique().tolist()) == {2 * 4097.0}


def test_rounding_keeps_what_has_ten_bits_and_what_is_no_number() -> None:
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
        with products(tf32=tf32):
            assert torch.backends.cudnn.allow_tf32 is tf32
            raise RuntimeError("an error")

    with pytest.raises(RuntimeError, match="an error"):
        fail()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
