"""Runs blocks of a candidate, and of the specification, in a lower precision on the oracle's values.

Both are held against the oracle: where a candidate errs more than a few times as much as the specification
in the same precision, rounding is not why.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deeplab_spec.align.channels import channel_orders
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.capture.module import state_of
from deeplab_spec.checks.evidence import Ratio
from deeplab_spec.errors import one_line
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Input, Output
from deeplab_spec.judge.precision import Precision
from deeplab_spec.judge.steps import Loaded

RATIO = 3.0
"""Error of a candidate over that of the specification in the same precision: correct rewrites of whole
networks stay below 1.7."""

LUCK = 8
"""A value that errs less than this part of one rounding does so by luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far a value is from the oracle's.

    Attributes:
        mean: Root mean square of the difference, over that of the oracle's value.
        most: Largest difference, over the largest element of the oracle's value.
    """

    mean: float
    most: float

    def over(self, other: "Error", least: float) -> float:
        """Return how many times another error this one is, by the measure that is worse.

        Args:
            other: The other one.
            least: What the other one is taken to be at least.
        """
        return max(self.mean / max(other.mean, least), self.most / max(other.most, least))


def error(actual: Tensor, oracle: Tensor) -> Error:
    """Return how far a value is from the oracle's; a value of another shape, or no number, is infinitely far."""
    if actual.shape != oracle.shape or not bool(actual.isfinite().all()):
        return Error(mean=torch.inf, most=torch.inf)
    off = actual.double() - oracle.double()
    scale, highest = float(oracle.double().square().mean().sqrt()), float(oracle.abs().max())
    return Error(
        mean=float(off.square().mean().sqrt()) / (scale or 1.0), most=float(off.abs().max()) / (highest or 1.0)
    )


def ratio_of(path: str, actual: Tensor | str, oracle: Tensor, reference: Tensor, precision: Precision) -> Ratio:
    """Return how many times as much a value errs as the specification's in the same precision.

    Args:
        path: The specification's node.
        actual: The value; text for why there is none.
        oracle: The right one, in float64.
        reference: The specification's in the same precision.
        precision: The precision. What the specification errs less than a part of a rounding is luck.
    """
    least = precision.rounding / LUCK
    times = torch.inf
    if isinstance(actual, Tensor):
        times = error(actual.cpu(), oracle).over(error(reference.cpu(), oracle), least)
    return Ratio(
        path=path,
        candidate_path=None,
        dtype=precision.name,
        ratio=times,
        allowed=RATIO,
        reason=actual if isinstance(actual, str) else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Nodes that run together.

    Attributes:
        nodes: Paths of the specification's nodes.
        ends: Those whose values others read.
    """

    nodes: frozenset[str]
    ends: tuple[str, ...]


def blocks(loaded: Loaded) -> tuple[Region, ...]:
    """Return the blocks of the specification, in order."""
    found: dict[str, set[str]] = {}
    for node in loaded.expected:
        if not isinstance(node.op, Input | Output):
            found.setdefault(block_of(node.path), set()).add(node.path)
    return tuple(_region(loaded, paths) for paths in found.values())


def constants(loaded: Loaded) -> tuple[Region, ...]:
    """Return every normalisation and every activation alone: what they are is one number each."""
    compared = loaded.reading.alignment.expected.network
    return tuple(_region(loaded, {node.path}) for node in compared if isinstance(node.op, BatchNorm | Activation))


def _region(loaded: Loaded, paths: Collection[str]) -> Region:
    """Return a set of nodes with those that are compared and read from outside."""
    compared = loaded.reading.alignment.expected.network
    readers = compared.readers()
    ends = (path for path in paths if path in compared and any(reader not in paths for reader in readers[path]))
    return Region(nodes=frozenset(paths), ends=tuple(sorted(ends)))


class Regions:
    """Runs regions in a lower precision on the oracle's values.

    Args:
        loaded: The candidate, with the weights of the oracle.
        weights: The specification's weights, in float64.
        oracle: Its values.
        precision: The precision, and where it runs.
    """

    def __init__(self, loaded: Loaded, weights: Mapping[str, Tensor], oracle: Values, precision: Precision) -> None:
        self.loaded = loaded
        captured, self.alignment = loaded.reading.capture, loaded.reading.alignment
        self.capture = replace(captured, constants=self._single(captured.constants, precision))
        self.state = self._single(state_of(loaded.module), precision)
        self.weights = self._single(weights, precision)
        self.network = loaded.expected
        self.oracle = oracle
        self.precision = precision
        self.partner = self.alignment.partner
        self.back = {right: left for left, right in self.partner.items()}
        self.orders = channel_orders(self.alignment, captured.network)

    def compare(self, region: Region, references: Values) -> Iterator[Ratio]:
        """Compare what a region gives in the candidate with the oracle's values.

        Args:
            region: What runs.
            references: What it gives in the specification, in the same precision.
        """
        known: Values = {}
        for end in region.ends:
            if end in self.partner:
                yield self.ratio(end, self._ordered(end, self._candidate(region, end, known)), references[end])

    def ratio(self, end: str, actual: Tensor | str, reference: Tensor) -> Ratio:
        """Hold a value to the error of the specification's.

        Args:
            end: Path of the value.
            actual: The value, in the specification's order of channels; text for why there is none.
            reference: The specification's in the same precision.
        """
        found = ratio_of(end, actual, self.oracle[end], reference, self.precision)
        return replace(found, candidate_path=self.partner.get(end))

    def specified(self, region: Region, wrong: Mapping[str, Node] | None = None) -> Values:
        """Run a region of the specification; return the values of its ends.

        Args:
            region: What runs.
            wrong: Nodes that take the place of the right ones, by path.
        """
        known: Values = {}
        with torch.no_grad(), self.precision.on():
            return {end: self._specified(region, end, wrong or {}, known) for end in region.ends}

    def _specified(self, region: Region, path: str, wrong: Mapping[str, Node], known: Values) -> Tensor:
        if path not in region.nodes:
            return self._arriving(path)
        if path not in known:
            node = wrong.get(path, self.network[path])
            inputs = [self._specified(region, before, wrong, known) for before in node.inputs]
            known[path] = step(node, inputs, self.weights)
        return known[path]

    def _candidate(self, region: Region, end: str, known: Values) -> Tensor | str:
        """Run a region of the candidate, with what stands between its nodes."""
        try:
            with torch.no_grad(), self.precision.on():
                return self._value(region, self.partner[end], known)
        except (RuntimeError, IndexError, KeyError, ValueError) as reason:
            return f"it does not run on the specification's values: {one_line(reason)}"

    def _value(self, region: Region, path: str, known: Values) -> Tensor:
        expected = self.back.get(path)
        if expected is not None and expected not in region.nodes:
            return self._permuted(path, self._arriving(expected))
        if path not in known:
            node = self.capture.network[path]
            inputs = [self._value(region, before, known) for before in node.inputs]
            known[path] = self.capture.step(path, inputs, self.state)
        return known[path]

    def _arriving(self, path: str) -> Tensor:
        """Return the oracle's value as it arrives: an image in float32, any other value as it is handed on."""
        image = isinstance(self.network[path].op, Input)
        return self.oracle[path].to(self.precision.device, torch.float32 if image else self.precision.between)

    def _permuted(self, other: str, value: Tensor) -> Tensor:
        order = self.orders.get(other)
        return value if order is None or max(order) >= value.shape[1] else value[:, list(order)]

    def _ordered(self, end: str, value: Tensor | str) -> Tensor | str:
        """Put the channels of a candidate's value in the specification's order."""
        order = self.orders.get(self.partner[end])
        if isinstance(value, str) or order is None or len(order) != value.shape[1]:
            return value
        return value[:, torch.tensor(order, device=value.device).argsort()]

    @staticmethod
    def _single(tensors: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).to(precision.device)
            for name, tensor in tensors.items()
        }
