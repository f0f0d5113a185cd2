"""Judges values with the graph hidden: the candidate is a mere function whose weights can be set.

A fault that shows must show in the result, whatever the depth.
"""

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
"""Precisions in which a candidate is held to the error that the specification has itself, by name: the dtype to which
every tensor is cast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One input, one draw of weights, and what the specification makes of them.

    Attributes:
        network: The specification.
        weights: By path and role, in float64.
        inputs: A float64 tensor by the path of each input.
        values: The specification's values by path, in float64.
        lower: Those in other dtypes, as they are asked for.
        errors: The error of the specification's own result there; None where it is not finite.
    """

    network: Network
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    values: Values
    lower: dict[torch.dtype, Values] = field(default_factory=dict, repr=False)
    errors: dict[torch.dtype, float | None] = field(default_factory=dict, repr=False)

    @property
    def oracle(self) -> Tensor:
        """The specification's result."""
        return self.values[self.network.outputs[0].path]

    def values_in(self, dtype: torch.dtype) -> Values:
        """Return the specification's own values in a dtype."""
        if dtype is torch.float64:
            return self.values
        if dtype not in self.lower:
            self.lower[dtype] = run(self.network, cast(self.weights, dtype), cast(self.inputs, dtype))
        return self.lower[dtype]

    def own_error(self, dtype: torch.dtype) -> float | None:
        """Return the relative error of the specification's own result in a dtype; at least the dtype's rounding.

        Returns:
            None if a value of the specification is not finite there: then no error says anything.
        """
        if dtype not in self.errors:
            values = self.values_in(dtype)
            finite = all(bool(value.isfinite().all()) for value in values.values())
            found = relative_error(values[self.network.outputs[0].path], self.oracle)
            self.errors[dtype] = max(found, torch.finfo(dtype).eps) if finite else None
        return self.errors[dtype]


def trial(network: Network, image: Pair, draw: Draw, seed: int) -> Trial:
    """Draw what candidates for a network are judged with.

    Args:
        network: The specification; one image goes in.
        image: Height and width.
        draw: What the weights are good at.
        seed: Seed of image and weights.
    """
    (entry,) = network.inputs
    generator = torch.Generator().manual_seed(seed)
    inputs = {entry.path: torch.randn(1, 3, *image, generator=generator, dtype=torch.float64)}
    weights, values = challenge(network, inputs, draw, seed)
    return Trial(network=network, weights=weights, inputs=inputs, values=values)


def refused(found: float) -> bool:
    """Tell whether a result in float64 is refused, by its relative error."""
    return not found <= END_TO_END_LIMIT


def refused_in(found: float, own: float) -> bool:
    """Tell whether a result in a lower precision is refused: by the error that the specification has there.

    Raises:
        ValueError: If the specification's own error is not finite: nothing can be held to it.
    """
    if not isfinite(own):
        raise ValueError(f"the specification's own error must be finite, but is {own}")
    return not found <= RATIO_LIMIT * own


def unmatched_tensors(network: Network, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the tensors of the specification that have no place of their shape in a network."""
    held = {f"{node.path}.{role}": shape for node in network for role, shape in roles(node.op).items()}
    return tuple(name for name, tensor in weights.items() if held.get(name) != tuple(tensor.shape))
