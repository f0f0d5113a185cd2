"""Runs blocks of a candidate, and of the specification, in a lower precision on the oracle's values.

The candidate's error may be at most three times the specification's error in the same precision: rounding does not
explain more.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from deeplab_spec.align.match import channel_orders
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import one_line
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.tensor_error import error_of
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Input, Output
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.outputs import Overflow, overflow_of
from deeplab_spec.judge.precision.run import OnDevice, cast
from deeplab_spec.precision import FLOAT32, RATIO_LIMIT

NEGLIGIBLE = 8
"""An error of the specification below this part of one rounding counts as that part: it is small by chance."""


def deviation_of(path: str, actual: Tensor | str, oracle: Tensor, reference: Tensor, precision: OnDevice) -> Deviation:
    """Return the error of a value, as a multiple of the specification's error in the same precision.

    Args:
        path: The specification's node.
        actual: The value, or the reason why there is none.
        oracle: The expected value, in float64.
        reference: The specification's value in the same precision.
        precision: The precision.

    Returns:
        The comparison; undecided if the specification's value is not finite.
    """
    overflow = overflow_of(path, reference, precision.name)
    if overflow:
        return undecided(path, overflow, precision)
    least = precision.rounding / NEGLIGIBLE
    times, reason = torch.inf, ""
    if isinstance(actual, str):
        reason = actual
    else:
        times = error_of(actual.cpu(), oracle).over(error_of(reference.cpu(), oracle), least)
        if not bool(actual.isfinite().all()):
            reason = f"not finite in {precision.name}, where the specification is"
    return Deviation(
        path=path, candidate_path=None, dtype=precision.name, error=times, allowed=RATIO_LIMIT, reason=reason
    )


def undecided(path: str, reason: str, precision: OnDevice) -> Deviation:
    """Return a comparison that could not be made.

    Args:
        path: The specification's node.
        reason: Why nothing could be compared.
        precision: The precision.
    """
    return Deviation(
        path=path, candidate_path=None, dtype=precision.name, error=None, allowed=RATIO_LIMIT, reason=reason
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """The outputs of a region in the specification.

    Attributes:
        values: The values of its outputs, in a lower precision.
        overflow: Why nothing can be compared with them; empty if all values of the region are finite.
    """

    values: Values
    overflow: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Nodes that run together.

    Attributes:
        nodes: Paths of the specification's nodes.
        outputs: Those whose values are inputs of nodes outside.
    """

    nodes: frozenset[str]
    outputs: tuple[str, ...]


def blocks(loaded: Loaded) -> tuple[Region, ...]:
    """Return the blocks of the specification, in order."""
    found: dict[str, set[str]] = {}
    for node in loaded.expected:
        if not isinstance(node.op, Input | Output):
            found.setdefault(block_of(node.path), set()).add(node.path)
    return tuple(_region(loaded, paths) for paths in found.values())


def constants(loaded: Loaded) -> tuple[Region, ...]:
    """Return every normalisation and every activation as a region of one node."""
    compared = loaded.reading.alignment.expected.network
    return tuple(_region(loaded, {node.path}) for node in compared if isinstance(node.op, BatchNorm | Activation))


def _region(loaded: Loaded, paths: Collection[str]) -> Region:
    """Return a region of nodes; its outputs are the compared nodes that are inputs of nodes outside."""
    compared = loaded.reading.alignment.expected.network
    readers = compared.readers()
    outputs = (path for path in paths if path in compared and any(reader not in paths for reader in readers[path]))
    return Region(nodes=frozenset(paths), outputs=tuple(sorted(outputs)))


class Regions:
    """Runs regions in a lower precision on the oracle's values.

    Args:
        loaded: The candidate, with the weights of the oracle.
        weights: The specification's weights, in float64.
        oracle: Its values.
        precision: The precision, and its device.
    """

    def __init__(self, loaded: Loaded, weights: Mapping[str, Tensor], oracle: Values, precision: OnDevice) -> None:
        self.loaded = loaded
        captured, self.alignment = loaded.reading.capture, loaded.reading.alignment
        self.exact = weights
        self.capture = replace(captured, constants=cast(captured.constants, precision.storage, precision.device))
        self.state = cast(state_of(loaded.module), precision.storage, precision.device)
        self.weights = cast(weights, precision.storage, precision.device)
        self.network = loaded.expected
        self.oracle = oracle
        self.precision = precision
        self.partner = self.alignment.partner
        self.back = {right: left for left, right in self.partner.items()}
        self.orders = channel_orders(self.alignment, captured.network)

    def compare(self, region: Region, references: ReferenceValues) -> Iterator[Deviation]:
        """Compare the candidate's outputs of a region with the oracle's values.

        Args:
            region: The region to run.
            references: The specification's outputs, in the same precision.
        """
        known: Values = {}
        for end in region.outputs:
            if end not in self.partner:
                continue
            if references.overflow:
                yield self._undecided(end, references.overflow)
                continue
            actual = self.candidate(region, end, known)
            if isinstance(actual, str) and isinstance(self.single.candidate(region, end, {}), Tensor):
                yield self._undecided(end, f"it does not run in {self.precision.name}: {actual}")
                continue
            if isinstance(actual, str):
                actual = f"it does not run on the specification's values: {actual}"
            yield self.ratio(end, self._ordered(end, actual), references.values[end])

    @cached_property
    def single(self) -> "Regions":
        """The same regions in float32."""
        single = OnDevice(precision=FLOAT32, device=self.precision.device)
        return Regions(self.loaded, self.exact, self.oracle, single)

    def _undecided(self, end: str, reason: str) -> Deviation:
        return replace(undecided(end, reason, self.precision), candidate_path=self.partner.get(end))

    def ratio(self, end: str, actual: Tensor | str, reference: Tensor) -> Deviation:
        """Compare a value with the oracle's, relative to the specification's error.

        Args:
            end: Path of the value.
            actual: The value, in the specification's order of channels, or the reason why there is none.
            reference: The specification's value in the same precision.
        """
        found = deviation_of(end, actual, self.oracle[end], reference, self.precision)
        return replace(found, candidate_path=self.partner.get(end))

    def specified(self, region: Region, wrong: Mapping[str, Node] | None = None) -> ReferenceValues:
        """Run a region of the specification.

        Args:
            region: The region to run.
            wrong: Nodes that replace the right ones, by path.
        """
        known: Values = {}
        with torch.no_grad(), self.precision.active():
            values = {end: self._specified(region, end, wrong or {}, known) for end in region.outputs}
        overflow = Overflow()
        for path, value in known.items():
            overflow(path, value)
        return ReferenceValues(values=values, overflow=overflow.reason(self.precision.name))

    def _specified(self, region: Region, path: str, wrong: Mapping[str, Node], known: Values) -> Tensor:
        if path not in known and path not in region.nodes:
            known[path] = self._arriving(path)
        if path not in known:
            node = wrong.get(path, self.network[path])
            inputs = [self._specified(region, before, wrong, known) for before in node.inputs]
            known[path] = step(node, inputs, self.weights)
        return known[path]

    def candidate(self, region: Region, end: str, known: Values) -> Tensor | str:
        """Run a region of the candidate, with the unmatched nodes between its nodes.

        Args:
            region: The region to run.
            end: The specification's node to compute.
            known: The values that are computed already, by the candidate's path; more are added.

        Returns:
            The value, or the reason why there is none.
        """
        try:
            with torch.no_grad(), self.precision.active():
                return self._value(region, self.partner[end], known)
        except (RuntimeError, IndexError, KeyError, ValueError) as reason:
            return one_line(reason)

    def _value(self, region: Region, path: str, known: Values) -> Tensor:
        expected = self.back.get(path)
        if expected is not None and expected not in region.nodes:
            return self._permuted(path, self._arriving(expected))
        if path not in known:
            node = self.capture.network[path]
            inputs = [self._value(region, before, known) for before in node.inputs]
            known[path] = self._handed_on(self.capture.step(path, inputs, self.state))
        return known[path]

    def _handed_on(self, value: Tensor) -> Tensor:
        """Return a value in the dtype in which the next operation gets it.

        A captured call that creates a tensor creates it in float32; it is cast if every tensor is cast.
        """
        every = self.precision.between is self.precision.storage
        return value.to(self.precision.storage) if every and value.is_floating_point() else value

    def _arriving(self, path: str) -> Tensor:
        """Return the oracle's value as an input of the region: images in the storage dtype, others as between nodes."""
        image = isinstance(self.network[path].op, Input)
        return self.oracle[path].to(self.precision.device, self.precision.storage if image else self.precision.between)

    def _permuted(self, other: str, value: Tensor) -> Tensor:
        order = self.orders.get(other)
        return value if order is None or max(order) >= value.shape[1] else value[:, list(order)]

    def _ordered(self, end: str, value: Tensor | str) -> Tensor | str:
        """Put the channels of a candidate's value in the specification's order."""
        order = self.orders.get(self.partner[end])
        if isinstance(value, str) or order is None or len(order) != value.shape[1]:
            return value
        return value[:, torch.tensor(order, device=value.device).argsort()]
