"""Plants faults at the interface: stand-in modules, each with one fault.

A stand-in has no layers, but behaves as a candidate must: it accepts the inputs of the plan, rejects bad inputs, and
returns results of the expected shapes. It is called like the candidate.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import ShapeError
from deeplab_spec.graph.ops import Input, Pair
from deeplab_spec.judge.evidence import Call, Comparison, Evidence, PlantedFault
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.plan import Plan, Taps

OFF: Final = 1e-6
"""Relative difference planted in a result that must be bit for bit the same."""

FAR: Final = 0.1
"""Relative difference planted in a result that may differ by rounding."""

_FAR: Final = 100.0
"""Factor on the largest accepted error."""

Results = dict[str, Tensor]


class StandIn(nn.Module):
    """Behaves at its interface as a candidate must.

    Args:
        plan: The plan of the candidate's calls.
        shapes: Shapes of the results by the sizes of the inputs.
    """

    calls: Tensor

    def __init__(self, plan: Plan, shapes: Mapping[tuple[Pair, ...], Taps]) -> None:
        super().__init__()
        self.plan = plan
        self.channels = [node.op.channels for node in plan.network.inputs if isinstance(node.op, Input)]
        self.shapes = shapes
        self.register_buffer("calls", torch.zeros(()))
        self.called = 0

    def forward(self, *inputs: Tensor) -> object:
        """Return one tensor of the expected shape; several by their names."""
        self.called += 1
        self.refuse(*inputs)
        results = self.results(*inputs)
        return results if self.plan.named_results else next(iter(results.values()))

    def refuse(self, *inputs: Tensor) -> None:
        """Reject inputs of a wrong rank or with a wrong number of channels."""
        for value, channels in zip(inputs, self.channels, strict=True):
            if value.ndim != 4 or value.shape[1] != channels:  # noqa: PLR2004 - images, channels, height, width
                raise ShapeError("input", ("n", channels, "h", "w"), tuple(value.shape))

    def results(self, *inputs: Tensor) -> Results:
        """Return the results by tap: the mean of every image, at every pixel."""
        level = 1 + inputs[0].mean(dim=(1, 2, 3), keepdim=True)
        return {tap: level.expand(-1, *shape[1:]).clone() for tap, shape in self.taps(*inputs)}

    def taps(self, *inputs: Tensor) -> Taps:
        """Return the shapes of the results of one image."""
        return self.shapes[tuple((int(value.shape[-2]), int(value.shape[-1])) for value in inputs)]


class _WrappedResult(StandIn):
    """Returns one result in a dictionary, or without one where it must have a name."""

    def forward(self, *inputs: Tensor) -> object:
        """Return the last result only."""
        self.refuse(*inputs)
        _, last = self.results(*inputs).popitem()
        return last if self.plan.named_results else {"out": last}


class _WrongShape(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return maps with one row less."""
        return {tap: value[..., : max(1, value.shape[-2] - 1), :] for tap, value in super().results(*inputs).items()}


class _WrongDtype(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return results in the other dtype."""
        other = torch.float32 if inputs[0].dtype is torch.float64 else torch.float64
        return {tap: value.to(other) for tap, value in super().results(*inputs).items()}


class _NotFinite(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return results whose last element is nan."""
        results = super().results(*inputs)
        for value in results.values():
            value.view(-1)[-1] = torch.nan
        return results


class _SizeRefused(StandIn):
    def refuse(self, *inputs: Tensor) -> None:
        """Reject the last size too."""
        super().refuse(*inputs)
        last = [self.plan.sizes[-1][node.path] for node in self.plan.network.inputs]
        if [tuple(value.shape[-2:]) for value in inputs] == last:
            raise ValueError("planted: this size is refused")


class _BatchRefused(StandIn):
    def refuse(self, *inputs: Tensor) -> None:
        """Reject the largest batch too."""
        super().refuse(*inputs)
        if len(inputs[0]) == (self.plan.limits.batch or interface.BATCHES[-1]):
            raise ValueError("planted: this batch is refused")


class _AnythingTaken(StandIn):
    def refuse(self, *inputs: Tensor) -> None:
        """Reject a wrong rank only."""
        if inputs[0].ndim != 4:  # noqa: PLR2004 - images, channels, height, width
            super().refuse(*inputs)


class _OtherLayout(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return another result for inputs in channels-last layout."""
        factor = 1.0 if inputs[0].is_contiguous() else 1.0 + FAR
        return {tap: value * factor for tap, value in super().results(*inputs).items()}


class _Unsteady(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return another result in every call."""
        return {tap: value * (1 + OFF * self.called) for tap, value in super().results(*inputs).items()}


class _BatchMixed(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Return another result for every batch size."""
        return {tap: value * (1 + FAR * len(inputs[0])) for tap, value in super().results(*inputs).items()}


class _InputChanged(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Overwrite the last element of the last input."""
        results = super().results(*inputs)
        inputs[-1].view(-1)[-1:].add_(1)
        return results


class _StateChanged(StandIn):
    def results(self, *inputs: Tensor) -> Results:
        """Count the calls."""
        self.calls.add_(1)
        return super().results(*inputs)


CALLED: Final = {
    "OUTPUT-TENSOR": (_WrappedResult, "a result in a dictionary"),
    "OUTPUT-SHAPE": (_WrongShape, "a result with one row missing"),
    "OUTPUT-DTYPE": (_WrongDtype, "a result of another dtype"),
    "OUTPUT-FINITE": (_NotFinite, "one element that is no number"),
    "SIZES-ACCEPTED": (_SizeRefused, "one size that is refused"),
    "BATCHES-ACCEPTED": (_BatchRefused, "one batch that is refused"),
    "BAD-INPUT-REFUSED": (_AnythingTaken, "another number of channels that is taken"),
}
"""Stand-ins that a call shows, with what is wrong, by the clause that must refuse them."""

COMPARED: Final = {
    "LAYOUTS-ACCEPTED": (_OtherLayout, "a result that depends on the layout"),
    "DETERMINISM": (_Unsteady, "a result that changes by a millionth"),
    "BATCH-INDEPENDENCE": (_BatchMixed, "a result that depends on the batch"),
    "INPUT-UNCHANGED": (_InputChanged, "one element of the image that is overwritten"),
    "STATE-UNCHANGED": (_StateChanged, "a buffer that is overwritten"),
}
"""Stand-ins that the difference of two calls shows, by the clause that must refuse them."""


def shapes_of(plan: Plan) -> dict[tuple[Pair, ...], Taps]:
    """Return the shapes of the results of one image by the sizes of the inputs, for every size."""
    return {tuple(sizes[node.path] for node in plan.network.inputs): plan.taps(sizes, 1) for sizes in plan.sizes}


def of_calls(plan: Plan) -> Iterator[PlantedFault]:
    """Plant faults that a call shows."""
    shapes = shapes_of(plan)
    for clause, (stand_in, fault) in CALLED.items():
        seen = interface.calls(stand_in(plan, shapes), plan, _quiet)
        yield PlantedFault(clause=clause, fault=fault, plant=_with_calls(seen))


def of_comparisons(plan: Plan, dtype: torch.dtype) -> Iterator[PlantedFault]:
    """Plant faults that the difference of two calls shows.

    Args:
        plan: The plan of the candidate's calls.
        dtype: The dtype in which the candidate is compared.
    """
    shapes = shapes_of(plan)
    for clause, (stand_in, fault) in COMPARED.items():
        seen = interface.comparisons(stand_in(plan, shapes).to(dtype), plan, dtype, _quiet)
        yield PlantedFault(clause=clause, fault=fault, plant=_with_comparisons(seen))


def of_values(seen: tuple[Call, ...]) -> Iterator[PlantedFault]:
    """Plant an error in the last call whose values were compared."""
    compared = [call for call in seen if call.difference is not None]
    if compared:
        wrong = replace(compared[-1], difference=_FAR * compared[-1].allowed)
        calls = tuple(wrong if call is compared[-1] else call for call in seen)
        fault = f"other values {wrong.subject or 'at another size'}"
        yield PlantedFault(clause="VALUES-EVERY-CALL", fault=fault, plant=_with_calls(calls))


def _quiet(_what: str) -> None:
    """Report no progress: these calls take no time."""


def _with_calls(seen: tuple[Call, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, calls=seen)


def _with_comparisons(seen: tuple[Comparison, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, comparisons=seen)
