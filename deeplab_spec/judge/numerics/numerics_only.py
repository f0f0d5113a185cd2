"""Judges a candidate by its outputs only: its graph is not used, but its weights can be set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.weights import Draw, challenge, roles
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.numerics.end_to_end import END_TO_END_LIMIT
from deeplab_spec.judge.precision.run import cast, dtype_of
from deeplab_spec.precision import BFLOAT16, FLOAT16, FLOAT32, RATIO_LIMIT

CAST: Final = {each.name: dtype_of(each.storage) for each in (FLOAT32, BFLOAT16, FLOAT16)}
"""Precisions in which the limit is a multiple of the specification's own error, by name: the dtype of every tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One input, one draw of weights, and the specification's values for them.

    Attributes:
        network: The specification.
        weights: By path and role, in float64.
        inputs: A float64 tensor by the path of each input.
        values: The specification's values by path, in float64.
        lower: The values in other dtypes, computed when they are needed.
        errors: The error of the specification's own output in a dtype; None if a value is not finite.
    """

    network: Network
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    values: Values
    lower: dict[torch.dtype, Values] = field(default_factory=dict, repr=False)
    errors: dict[torch.dtype, float | None] = field(default_factory=dict, repr=False)

    @property
    def oracle(self) -> Tensor:
        """The specification's output."""
        return self.values[self.network.outputs[0].path]

    def values_in(self, dtype: torch.dtype) -> Values:
        """Return the specification's own values in a dtype."""
        if dtype is torch.float64:
            return self.values
        if dtype not in self.lower:
            self.lower[dtype] = run(self.network, cast(self.weights, dtype), cast(self.inputs, dtype))
        return self.lower[dtype]

    def own_error(self, dtype: torch.dtype) -> float | None:
        """Return the relative error of the specification's own output in a dtype, at least one rounding.

        Returns:
            None if a value of the specification is not finite in that dtype.
        """
        if dtype not in self.errors:
            values = self.values_in(dtype)
            finite = all(bool(value.isfinite().all()) for value in values.values())
            found = relative_error(values[self.network.outputs[0].path], self.oracle)
            self.errors[dtype] = max(found, torch.finfo(dtype).eps) if finite else None
        return self.errors[dtype]


def trial(network: Network, image: Pair, draw: Draw, seed: int) -> Trial:
    """Draw an image and weights to judge candidates with.

    Args:
        network: The specification; it has one input.
        image: Height and width.
        draw: The purpose of the weights.
        seed: Seed of image and weights.
    """
    (entry,) = network.inputs
    generator = torch.Generator().manual_seed(seed)
    inputs = {entry.path: torch.randn(1, 3, *image, generator=generator, dtype=torch.float64)}
    weights, values = challenge(network, inputs, draw, seed)
    return Trial(network=network, weights=weights, inputs=inputs, values=values)


def refused(found: float) -> bool:
    """Tell whether the relative error of an output in float64 exceeds the limit."""
    return not found <= END_TO_END_LIMIT


def refused_in(found: float, own: float) -> bool:
    """Tell whether the error of an output in a lower precision exceeds the limit.

    Args:
        found: The candidate's error.
        own: The specification's own error in that precision.

    Raises:
        ValueError: If the specification's own error is not finite.
    """
    if not isfinite(own):
        raise ValueError(f"the specification's own error must be finite, but is {own}")
    return not found <= RATIO_LIMIT * own


def unmatched_tensors(network: Network, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the tensors of the specification that are missing in a network, or have another shape there."""
    stored = {f"{node.path}.{role}": shape for node in network for role, shape in roles(node.op).items()}
    return tuple(name for name, tensor in weights.items() if stored.get(name) != tuple(tensor.shape))
