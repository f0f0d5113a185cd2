"""The evidence about a candidate, from which checks decide, and faults that are planted in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deeplab_spec.align.counts import BlockCounts
from deeplab_spec.align.differences import Aspect
from deeplab_spec.judge.finding import Decision, Deviation, Verdict
from deeplab_spec.judge.training.evidence import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """The recorded facts about a tensor.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, e.g. ``float32``.
        finite: Whether every element is finite.
    """

    shape: tuple[int, ...]
    dtype: str
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One evaluation of the candidate.

    Attributes:
        purpose: What it tests: ``size``, ``batch``, ``values``, ``rank``, ``channels``.
        subject: What is special about it, in words; empty if its size is.
        legal: Whether the variant accepts the input.
        inputs: Shapes of the arguments.
        dtype: Dtype of the arguments.
        expected: The expected shapes of the results, by tap.
        results: The returned tensors, by tap.
        returned: The returned type, e.g. ``Tensor`` or ``dict``; empty after an error.
        error: The error, in one line; empty if there was none.
        difference: Relative error of the values; None if they were not compared.
        allowed: Largest error that is not a finding.
        reason: Why the values were not compared.
    """

    purpose: str
    subject: str = ""
    legal: bool
    inputs: tuple[tuple[int, ...], ...]
    dtype: str
    expected: tuple[tuple[str, tuple[int, ...]], ...]
    results: tuple[tuple[str, Tensor], ...] = ()
    returned: str = ""
    error: str = ""
    difference: float | None = None
    allowed: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two evaluations that must agree.

    Attributes:
        purpose: ``repeat``, ``batch``, ``layout``, ``input`` or ``state``.
        subject: What was compared, e.g. a shape or the name of a buffer.
        difference: Largest difference, relative to the largest value; None if nothing could be compared.
        allowed: Largest difference that is not a finding.
        reason: Why nothing could be compared.
    """

    purpose: str
    subject: str
    difference: float | None
    allowed: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedParameter:
    """A parameter or buffer that the other side does not have, or has in another shape.

    Attributes:
        path: The specification's node.
        candidate_path: The candidate's node.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``.
        expected: Shape in the specification; None if it is missing there.
        actual: Shape in the candidate; None if it is missing there.
    """

    path: str
    candidate_path: str | None
    role: str
    expected: tuple[int, ...] | None
    actual: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence at one output stride.

    Attributes:
        output_stride: The output stride that the candidate was built with.
        part: The part that is judged; None for the whole network.
        inside: Why nothing is decided about calls and training of a part in a whole network; empty for any other.
        named_results: Whether results are expected by name, and not as a tensor.
        fixed_size: Whether the candidate is a file that fixes the size of its input.
        fixed_batch: Whether it fixes the number of images.
        folded: Whether all normalisations are folded into convolutions.
        folded_convs: Paths of the convolutions that a normalisation is folded into.
        calls: Evaluations at the interface.
        comparisons: Evaluations that must agree.
        aspects: Every fact of the aligned graphs by the clause that decides it; None without a graph.
        counts: The costs of every block on both sides; None without a graph.
        graph_reason: Why the graph could not be read.
        values_reason: Why the values of calls could not be compared.
        other_architecture: Why the candidate has another architecture; empty if it does not.
        parameters: The number of matched parameters and buffers; None if numerics did not run.
        unmatched: Unmatched parameters.
        steps: Local comparisons in float64.
        end_to_end: End-to-end comparisons in float64.
        end_to_end_float32: End-to-end comparisons in float32.
        lower: Comparisons in lower precisions, by the clause that decides them.
        numerics_reason: Why numerics did not run.
        trained: The evidence from training; None if the candidate was not trained.
    """

    output_stride: int
    part: str | None
    inside: str = ""
    named_results: bool = False
    fixed_size: bool = False
    fixed_batch: bool = False
    folded: bool = False
    folded_convs: frozenset[str] = frozenset()
    calls: tuple[Call, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    aspects: Mapping[str, tuple[Aspect, ...]] | None = None
    counts: tuple[BlockCounts, ...] | None = None
    graph_reason: str = ""
    values_reason: str = ""
    other_architecture: str = ""
    parameters: int | None = None
    unmatched: tuple[UnmatchedParameter, ...] = ()
    steps: tuple[Deviation, ...] = ()
    end_to_end: tuple[Deviation, ...] = ()
    end_to_end_float32: tuple[Deviation, ...] = ()
    lower: Mapping[str, tuple[Deviation, ...]] = field(default_factory=dict)
    numerics_reason: str = ""
    trained: Trained | None = None


Check = Callable[[Evidence], Decision]
"""Decides one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFault:
    """A planted fault.

    Attributes:
        clause: Id of the clause that must refuse it.
        fault: What is wrong, in words.
        plant: Replaces the evidence about the candidate by evidence with the fault.
        path: The node that a finding must name; empty for any.
        needs: What would show the fault if this run does not; empty if unknown.
    """

    clause: str
    fault: str
    plant: Callable[[Evidence], Evidence]
    path: str = ""
    needs: str = ""

    @property
    def unseen(self) -> str:
        """Why a clause is undecided if its check does not refuse the fault."""
        reason = f"this run could not have seen {self.fault}: a planted one passed"
        return f"needs {self.needs}: {reason}" if self.needs else reason

    def killed(self, check: Check, evidence: Evidence) -> bool:
        """Whether the check of a clause, which passes the candidate, refuses the fault where it was planted."""
        decision = check(self.plant(evidence))
        named = any(self.path in {"", finding.path} for finding in decision.findings)
        return decision.verdict is Verdict.FAILED and named
