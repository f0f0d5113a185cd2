"""Runs every aligned step of a candidate on the oracle's own values.

So no fault hides behind the error of another, and each is found at its origin.
"""

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.differences import Origins
from deeplab_spec.align.match import channel_orders
from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.capture.capture import Candidate
from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Conv2d, Output
from deeplab_spec.judge.evidence import UnmatchedParameter
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.load_weights import Place, copy_weights
from deeplab_spec.judge.outputs import in_double, overflow_of
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.precision import FLOAT64

STEP_LIMIT: Final = 1e-11
"""Largest relative error of one step in float64. The longest sum, over 18,432 products, rounds to 1e-14; the smallest
known fault of one step, a misplaced eps in a channel of low variance, is at 1e-2."""

CLIP: Final = 6.0
"""The value above which a ReLU6 differs from a ReLU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A candidate whose parameters are matched with the specification's.

    Attributes:
        module: The candidate, in float64.
        reading: Its graph, aligned with the expected one.
        places: Where each tensor of the specification is stored in it.
        unmatched: Unmatched parameters.
    """

    module: Candidate
    reading: Reading
    places: tuple[Place, ...]
    unmatched: tuple[UnmatchedParameter, ...]

    @property
    def expected(self) -> Network:
        """The expected network, folded as the candidate is."""
        return self.reading.expected

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the candidate."""
        copy_weights(weights, self.places, self.module.tensors)


class Steps:
    """Runs every aligned step of a candidate on the oracle's values.

    Args:
        loaded: The candidate.
        oracle: The values.
        only_size: Whether the candidate accepts no other size, so that a rate wider than its maps has no effect.
    """

    def __init__(self, loaded: Loaded, oracle: Values, *, only_size: bool = False) -> None:
        self.capture = in_double(loaded.reading.capture)
        self.expected = loaded.expected
        self.alignment = loaded.reading.alignment
        self.partner = self.alignment.partner
        self.back = {right: left for left, right in self.partner.items()}
        self.orders = channel_orders(self.alignment, self.capture.network)
        self.state = loaded.module.tensors
        self.oracle = oracle
        self.only_size = only_size
        self.origins = Origins(self.alignment)
        self.positive = never_negative(self.expected)
        self.readers = self.expected.readers()

    def on(self, values: Values) -> "Steps":
        """Return the same steps on other values of the oracle."""
        other = copy.copy(self)
        other.oracle = values
        return other

    def compare(self, paths: Collection[str] | None = None) -> tuple[Deviation, ...]:
        """Compare aligned nodes, in the order of the alignment.

        Args:
            paths: The specification's nodes to compare; None for all.
        """
        ordered = (left for left, _ in self.alignment.pairs if left is not None and left in self.partner)
        chosen = (left for left in ordered if paths is None or left in paths)
        return tuple(self._deviation(left) for left in chosen if self.expected[left].inputs)

    def _deviation(self, path: str) -> Deviation:
        bridge: list[str] = []
        error: float | None
        try:
            error = relative_error(*self.values(path, bridge))
        except (RuntimeError, IndexError, KeyError, ValueError):
            error = math.inf  # the step does not run on the specification's values
        reason = overflow_of(path, self.oracle[path], FLOAT64.name)
        if reason:
            error = None
        else:
            reason = self._uncovered(self.expected[path])
        return Deviation(
            path=path,
            candidate_path=self.partner[path],
            origin=self._origin(path, bridge),
            error=error,
            allowed=STEP_LIMIT,
            covered=not reason,
            reason=reason,
        )

    def values(self, path: str, bridge: list[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return the candidate's value of an aligned node on the oracle's values, and the oracle's.

        Args:
            path: The specification's node.
            bridge: A list to which the unmatched nodes of the candidate before this one are added.

        Raises:
            RuntimeError: If the step does not run on the oracle's values; or another error of the framework.
        """
        other = self.partner[path]
        with torch.no_grad():
            return self._value(other, [] if bridge is None else bridge, first=True), self._oracle_value(path, other)

    def _oracle_value(self, path: str, other: str) -> Tensor:
        """Return the specification's value with its channels in the candidate's order."""
        value = self.oracle[path]
        order = self.orders.get(other)
        return value if order is None or max(order) >= value.shape[1] else value[:, list(order)]

    def _value(self, path: str, bridge: list[str], *, first: bool = False) -> Tensor:
        """Compute a candidate's value from the oracle's values of the aligned nodes before it."""
        node = self.capture.network[path]
        if not first:
            if path in self.back:
                return self._oracle_value(self.back[path], path)
            if path in self.alignment.candidate.network:
                bridge.append(path)
        if not node.inputs:
            return self.oracle[self.back[path]]
        inputs = [self._value(before, bridge) for before in node.inputs]
        if isinstance(node.op, Output):
            return inputs[0]
        return self.capture.step(path, inputs, self.state)

    def _origin(self, path: str, bridge: list[str]) -> str:
        """Return the origin of a deviation: a missing node, else the node at an extra one, else the node itself."""
        missing = path
        for before in self.alignment.expected.network[path].inputs:
            while before not in self.partner:
                missing = before
                before = self.alignment.expected.network[before].inputs[0]  # noqa: PLW2901 - walking back
        if missing == path and bridge:
            return self.origins.anchor(self.alignment.candidate.network[bridge[-1]])
        return missing

    def _uncovered(self, node: Node) -> str:
        """Return which values are missing to show a fault of a node; empty if none are."""
        match node.op:
            case Activation():
                arriving = self.oracle[node.inputs[0]]
                if not bool(arriving.max() > CLIP):
                    return f"no value above {CLIP:g} arrived, so a clipped ReLU would not show"
                if node.inputs[0] not in self.positive and not bool(arriving.min() < 0):
                    return "no negative value arrived, so a missing ReLU would not show"
            case Conv2d() as op if op.kernel != (1, 1) and not self.only_size:
                height, width = self.oracle[node.inputs[0]].shape[2:]
                if max(op.rate) >= min(height, width):
                    least = max(op.rate) + 1
                    return f"a map of {height}x{width} cannot show rate {max(op.rate)}; it takes a side of {least}"
            case _:
                pass
        return ""
