"""Samples the weights that a candidate was built with, and compares them with distributions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.evidence import Initial, Sample
from deeplab_spec.spec.choices import Initialisation, choose
from deeplab_spec.spec.distributions import CUT, Distribution, Shape, distribution, initials
from deeplab_spec.spec.network import rows
from deeplab_spec.spec.rows import Init

TESTED: Final = 4096
"""The number of values of a tensor that are sorted; the other tests use all values."""

NOT_DRAWN: Final = (
    "it is built with the same weights every time: it was built before, is read from a file, or sets a seed"
)

Inits = Mapping[str, Mapping[str, Init]]
"""The initialisation of the weight of a convolution, by choice and by path, including the specified one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """The values of one tensor.

    Attributes:
        place: Where the tensor is stored.
        tensor: The values, in float64.
        among: The distributions by choice.
    """

    place: Place
    tensor: Tensor
    among: Mapping[str, Distribution]


def sample_weights(
    network: Network,
    inits: Inits,
    places: Sequence[Place],
    state: Mapping[str, Tensor],
    again: Mapping[str, Tensor] | None,
) -> Initial:
    """Sample the weights that a candidate was built with.

    Args:
        network: The expected network.
        inits: The initialisations.
        places: Where each tensor of the network is stored.
        state: Parameters and buffers of the candidate as it was built.
        again: Those of a second build with another seed; None if there is none.
    """
    convs = [place for place in places if isinstance(_op(network, place), Conv2d)]
    if again is not None and convs and all(_equal(state, again, place.name) for place in convs):
        return Initial(not_applicable=NOT_DRAWN)
    found = list(_values(network, inits, places, state))
    drawn = [values for values in found if values.among[SPECIFIED].shape is not Shape.CONSTANT]
    together = [[values for values in drawn if values.among[SPECIFIED].shape is shape] for shape in Shape]
    samples = (*map(_sample, found), *(_together(group) for group in together if len(group) > 1))
    return Initial(samples=tuple(samples))


def _op(network: Network, place: Place) -> Op:
    return network[place.source.rpartition(".")[0]].op


def _equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor], name: str) -> bool:
    return name in right and left[name].shape == right[name].shape and bool((left[name] == right[name]).all())


def _values(network: Network, inits: Inits, places: Sequence[Place], state: Mapping[str, Tensor]) -> Iterator[_Values]:
    for place in places:
        path, _, role = place.source.rpartition(".")
        op = network[path].op
        names = [SPECIFIED] if isinstance(op, BatchNorm) else list(inits)
        of = {name: distribution(op, role, inits.get(name, {}).get(path)) for name in names}
        among = {name: value for name, value in of.items() if value is not None}
        if SPECIFIED in among:
            yield _Values(place=place, tensor=place.read(state[place.name]).double().flatten(), among=among)


def _sample(values: _Values) -> Sample:
    tensor = values.tensor
    part = tensor[:: -(-len(tensor) // TESTED)].sort().values
    return Sample(
        path=values.place.source.rpartition(".")[0],
        role=values.place.source.rpartition(".")[2],
        candidate_path=values.place.name,
        count=len(tensor),
        mean=float(tensor.mean()),
        square=float(tensor.square().mean()),
        greatest=float(tensor.abs().max()),
        tested=len(part),
        fits=tuple((name, entry, _apart(tensor, part, entry)) for name, entry in values.among.items()),
    )


def _apart(tensor: Tensor, part: Tensor, among: Distribution) -> float:
    """Return the largest difference of two distribution functions; for a constant, of a value."""
    if among.shape is Shape.CONSTANT:
        return float((tensor - among.scale).abs().max())
    below = _distribution_function(part, among)
    steps = torch.arange(len(part) + 1, dtype=torch.float64) / len(part)
    return float(torch.maximum((below - steps[:-1]).abs(), (below - steps[1:]).abs()).max())


def _distribution_function(values: Tensor, among: Distribution) -> Tensor:
    scaled = values / among.scale
    match among.shape:
        case Shape.UNIFORM:
            return ((scaled + 1) / 2).clamp(0, 1)
        case Shape.TRUNCATED:
            low = 0.5 * math.erfc(CUT / math.sqrt(2))
            return ((_normal_function(scaled) - low) / (1 - 2 * low)).clamp(0, 1)
        case _:
            return _normal_function(scaled)


def _normal_function(values: Tensor) -> Tensor:
    return (1 + torch.erf(values / math.sqrt(2))) / 2


def _together(group: Sequence[_Values]) -> Sample:
    """Sample tensors whose distributions have the same shape together, each divided by its scale."""
    scales = [values.among[SPECIFIED].scale for values in group]
    parts = [
        values.tensor[:: -(-len(values.tensor) // TESTED)] / scale for values, scale in zip(group, scales, strict=True)
    ]
    part = torch.cat(parts).sort().values
    count = sum(len(values.tensor) for values in group)
    pairs = list(zip(group, scales, strict=True))
    unit = Distribution(shape=group[0].among[SPECIFIED].shape, scale=1.0)
    return Sample(
        path=group[0].place.source.rpartition(".")[0],
        role=group[0].place.source.rpartition(".")[2],
        candidate_path=None,
        tensors=len(group),
        count=count,
        mean=sum(float(values.tensor.sum()) / scale for values, scale in pairs) / count,
        square=sum(float(values.tensor.square().sum()) / scale**2 for values, scale in pairs) / count,
        greatest=max(float(values.tensor.abs().max()) / scale for values, scale in pairs),
        tested=len(part),
        fits=((SPECIFIED, unit, _apart(part, part, unit)),),
    )


def specified_inits(plan: SpecifiedPlan) -> Inits:
    """Return the specified initialisation, and that of every value of the choice ``init``."""
    others = {value.value: choose(plan.choices, {"init": value}) for value in Initialisation}
    classes = plan.request.class_count
    return {
        name: initials(rows(choices, plan.output_stride, classes))
        for name, choices in {SPECIFIED: plan.choices, **others}.items()
    }
