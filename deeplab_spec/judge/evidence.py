"""What was observed of a candidate: the only thing that checks look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deeplab_spec.align.counts import BlockCounts
from deeplab_spec.align.differences import Aspect
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.finding import Decision
from deeplab_spec.judge.training.evidence import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What is recorded of a tensor.

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
        purpose: What it was made for: ``size``, ``batch``, ``layout``, ``rank``, ``channels``.
        legal: Whether the input is one that the variant accepts.
        inputs: Shapes of the arguments.
        dtype: Dtype of the arguments.
        expected: Shapes that the results must have, by tap.
        results: The tensors that came back, by tap; empty if none did.
        returned: The type that came back, e.g. ``Tensor`` or ``dict``; empty after an error.
        error: The error, in one line; empty if there was none.
    """

    purpose: str
    legal: bool
    inputs: tuple[tuple[int, ...], ...]
    dtype: str
    expected: tuple[tuple[str, tuple[int, ...]], ...]
    results: tuple[tuple[str, Tensor], ...] = ()
    returned: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two evaluations that must agree.

    Attributes:
        purpose: ``repeat``, ``batch``, ``layout``, ``input`` or ``state``.
        subject: What was compared, e.g. a shape or the name of a buffer.
        difference: Largest difference, relative to the largest value; None if it could not be made.
        allowed: Largest difference that is no finding.
        reason: Why it could not be made.
    """

    purpose: str
    subject: str
    difference: float | None
    allowed: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedParameter:
    """A parameter that has no place, or not its shape, on the other side.

    Attributes:
        path: The specification's node.
        candidate_path: The candidate's node.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``.
        expected: Shape in the specification; None if it has no such parameter.
        actual: Shape in the candidate; None if it has none.
    """

    path: str
    candidate_path: str | None
    role: str
    expected: tuple[int, ...] | None
    actual: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was observed at one output stride.

    Attributes:
        output_stride: The output stride that the candidate was built with.
        part: The part that is judged; None for the whole network.
        fixed_size: Whether the candidate, a file, states the size of its input.
        fixed_batch: Whether it states how many images there are.
        folded: Whether all normalisations are folded into convolutions.
        folded_convs: Paths of the convolutions that one is folded into.
        calls: Evaluations at the interface.
        comparisons: Evaluations that must agree.
        aspects: Every fact of the aligned graphs by the clause that decides it; None if the graph
            could not be read.
        counts: What every block costs on both sides; None if the graph could not be read.
        graph_reason: Why the graph could not be read.
        stranger: Why the candidate is another network; empty if it is not.
        parameters: How many parameters were placed; None if numerics did not run.
        unmatched: Parameters without a place.
        steps: Local comparisons in float64.
        end_to_end: End-to-end comparisons in float64.
        end_to_end_float32: End-to-end comparisons in float32.
        lower: Comparisons in lower precisions, by the clause that decides them.
        numerics_reason: Why numerics did not run.
        trained: What was observed in training; None if the candidate was not trained.
    """

    output_stride: int
    part: str | None
    fixed_size: bool = False
    fixed_batch: bool = False
    folded: bool = False
    folded_convs: frozenset[str] = frozenset()
    calls: tuple[Call, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    aspects: Mapping[str, tuple[Aspect, ...]] | None = None
    counts: tuple[BlockCounts, ...] | None = None
    graph_reason: str = ""
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
