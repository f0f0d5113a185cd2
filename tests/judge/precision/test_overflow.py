"""Where a value is not finite nothing is certified: what the specification cannot hold itself decides nothing."""

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.execute import weights
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.numerics import draws, end_to_end
from deeplab_spec.judge.numerics.steps import Steps
from deeplab_spec.judge.outputs import Answer, Overflow
from deeplab_spec.judge.precision.blocks import deviation_of
from deeplab_spec.judge.precision.run import OnDevice
from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.precision import FLOAT16
from deeplab_spec.strength.document import JudgedMutant, Lower
from deeplab_spec.strength.levels import Subject
from tests.judge.precision.test_precision import CPU, clause, judged, right

ENDS = {"float64": "END-TO-END", "float32": "FLOAT32"}
"""What the clause about whole runs in a precision is called."""


class Overflowing(nn.Module):
    """The pyramid, whose result in float16 is a number of another kind."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.aspp = right()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Run the pyramid."""
        found: Tensor = self.aspp(x)
        return found if x.dtype != torch.float16 else torch.full_like(found, self.value)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_result_that_is_the_first_value_not_finite_fails(value: float) -> None:
    """The specification is finite there, so the precision is not why."""
    end = clause(judged(Overflowing(value), "float16"), "END-TO-END")

    assert end.verdict is Verdict.FAILED
    assert [finding.actual for finding in end.findings] == ["not finite in float16, where the specification is"]


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw weights of convolutions with which values exceed what float16 holds, and so does nothing else."""
    drawn = weights._draw_conv

    def louder(path: str, op: Conv2d, found: dict[str, Tensor], generator: torch.Generator, *, loud: bool) -> None:
        drawn(path, op, found, generator, loud=loud)
        found[f"{path}.weight"] *= 1e6

    monkeypatch.setattr(weights, "_draw_conv", louder)


@pytest.mark.usefixtures("loud")
@pytest.mark.parametrize("wrong", [False, True])
def test_an_overflow_of_the_specification_certifies_nothing(*, wrong: bool) -> None:
    """Its own error is infinite there, and anything is at most three times as far off."""
    module = right(aspp_rates=[6, 13, 18]) if wrong else right()
    certificate = judged(module, "float16")

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    for name in ("BLOCKS", "NORMS", "END-TO-END"):
        record = clause(certificate, name)
        assert record.verdict is Verdict.UNDECIDED
        assert re.match(r"the specification itself is not finite in float16 at aspp\.[a-z0-9.]+$", record.reason), (
            record
        )


@pytest.mark.usefixtures("loud")
def test_a_precision_that_holds_large_numbers_is_decided_although_another_overflows() -> None:
    """bfloat16 reaches as far as float32."""
    certificate = judged(right(), "bfloat16")

    assert certificate.verdict is not RunVerdict.DEVIATES
    assert clause(certificate, "BLOCKS").verdict is Verdict.PASSED


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
def test_a_value_that_is_not_finite_is_compared_with_nothing(wrong: float) -> None:
    """Neither a right value, nor one that is not finite either."""
    oracle = torch.ones(2, 3, dtype=torch.float64)
    reference = torch.full((2, 3), wrong, dtype=torch.float16)
    for actual in (oracle.half(), reference, "it does not run"):
        found = deviation_of("aspp.conv", actual, oracle, reference, OnDevice(precision=FLOAT16, device=CPU))
        assert (found.error, found.reason) == (None, "the specification itself is not finite in float16 at aspp.conv")


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_is_not_compared_with_a_specification_that_is_not_finite(
    dtype: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 its error was the measure of the candidate's, and is none."""
    found = end_to_end.run if dtype == "float32" else draws.challenge

    def overflowing(*arguments: object, **named: object) -> object:
        result = found(*arguments, **named)  # type: ignore[arg-type]
        values = result if dtype == "float32" else result[1]
        values["output.aspp"] = torch.full_like(values["output.aspp"], value)
        watch = named.get("watch")
        if isinstance(watch, Overflow):
            watch("output.aspp", values["output.aspp"])
        return result

    monkeypatch.setattr(end_to_end if dtype == "float32" else draws, found.__name__, overflowing)
    certificate = judged(right(), dtype)
    record = next(entry for entry in certificate.clauses if entry.id == f"VALUES-{ENDS[dtype]}")

    assert record.verdict is Verdict.UNDECIDED
    assert record.reason == f"the specification itself is not finite in {dtype} at output.aspp"
    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    assert certificate.model_dump_json()


def test_no_step_is_compared_with_a_value_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it passed, nor is it failed."""
    oracle = Steps._oracle_value

    def overflowing(self: Steps, path: str, other: str) -> Tensor:
        if path == "aspp.projection.conv":
            self.oracle[path] = torch.full_like(self.oracle[path], torch.inf)
        return oracle(self, path, other)

    monkeypatch.setattr(Steps, "_oracle_value", overflowing)
    record = next(entry for entry in judged(right(), "float64").clauses if entry.id.endswith("-ASPP"))

    assert "aspp.projection.conv" not in {finding.path for finding in record.findings}
    assert record.verdict is not Verdict.PASSED


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_buffer_that_becomes_something_else_than_a_number_has_changed(value: float) -> None:
    """However large a difference is allowed, and however many other buffers stay; what stays the same has not."""
    before = torch.tensor([1.0, value])

    assert interface._changed("state", "buffer", torch.ones(2), before).difference == torch.inf
    assert interface._changed("state", "buffer", before, before.clone()).difference == 0.0
    assert interface._changed("state", "counter", torch.tensor(1), torch.tensor(1)).difference == 0.0


def test_results_that_are_no_numbers_do_not_hide_behind_equal_ones() -> None:
    """The largest difference over the results counts, and none is larger than that of no number."""
    equal, other = torch.ones(2), torch.tensor([1.0, torch.nan])
    left = Answer(results={"backbone": equal, "low_level": equal})
    right = Answer(results={"backbone": equal, "low_level": other})

    assert interface._compare("repeat", left, right, 0.0).difference == torch.inf


SUBJECT = Subject(variant="notebook", output_stride=16, width=1 / 32, overrides=("middle_blocks=1",))


def test_a_mutant_is_not_compared_with_an_error_that_is_not_finite() -> None:
    """Three times infinity allows everything, so such a trial is left out; in the others the mutant is refused."""
    subject = replace(SUBJECT)
    mutant = next(mutant for mutant in subject.mutants.mutants if mutant.shows is Shows.EVALUATION)
    for number in range(6):
        subject.trial(number).values_in(torch.float16)
    first = subject.trial(0)
    path = first.network.nodes[5].path
    first.lower[torch.float16][path] = torch.full_like(first.lower[torch.float16][path], torch.inf)

    assert first.own_error(torch.float16) is None
    assert subject.trial(1).own_error(torch.float16) is not None
    assert subject.judge(mutant.name, lower=True).lower.keys() == {"float32", "bfloat16", "float16"}


def test_a_precision_in_which_the_specification_overflows_says_nothing_of_a_mutant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts neither as refused nor as accepted there."""
    monkeypatch.setattr(end_to_end.Trial, "own_error", lambda _self, dtype: None if dtype is torch.float16 else 1e-3)
    mutant = next(mutant for mutant in SUBJECT.mutants.mutants if mutant.shows is Shows.EVALUATION)

    assert SUBJECT.judge(mutant.name, lower=True).lower.keys() == {"float32", "bfloat16"}


def test_own_error_is_the_largest_over_inputs_one_rounding_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small error on one input, by luck, would make a correct rewrite look wrong."""
    trial = replace(SUBJECT).trial(1)
    plain = relative_error(trial.values_in(torch.float32)[trial.network.outputs[0].path], trial.oracle)
    other = {path: value.float() * 1.01 for path, value in trial.inputs.items()}
    monkeypatch.setattr(end_to_end, "one_rounding_apart", lambda _inputs: [other])

    assert plain < 1e-4 < (trial.own_error(torch.float32) or 0.0)


def test_inputs_one_rounding_apart_differ_as_little_as_they_can() -> None:
    """Above and below, in every value."""
    value = torch.tensor([1.0, -3.0, 1e-3])
    above, below = (inputs["x"] for inputs in end_to_end.one_rounding_apart({"x": value}))

    assert bool(((below.abs() < value.abs()) & (value.abs() < above.abs())).all())
    assert float(((above - below) / value).max()) < 4e-7


@pytest.mark.parametrize("own", [torch.inf, torch.nan])
def test_an_error_that_is_not_finite_is_no_measure(own: float) -> None:
    """Such an error is refused with a message."""
    with pytest.raises(ValueError, match="own error must be finite"):
        end_to_end.refused_in(1.0, own)


def test_an_infinite_error_is_read_from_a_piece_as_it_was_written() -> None:
    """JSON has no infinity; as null it would say that the mutant was not run."""
    entry = JudgedMutant(
        subject="notebook@16",
        width=1.0,
        kind="rate",
        name="rate 2 at a",
        path="a",
        shows=Shows.EVALUATION,
        proof="",
        error=torch.inf,
        lower={"float32": Lower(ratio=torch.inf, killed=True)},
    )

    assert JudgedMutant.model_validate_json(entry.model_dump_json()) == entry
