"""Samples the weights that a candidate was built with, and compares them with distributions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.evidence import Initial, JointTest, Sample
from deeplab_spec.judge.training.joint_tests import (
    Result,
    standard,
    test_of_builds,
    tests_of,
    tests_of_magnitudes,
    tests_of_others,
    trace,
)
from deeplab_spec.spec.choices import AS_HEAD, Initialisation, choose
from deeplab_spec.spec.distributions import CUT, Distribution, Shape, distribution, initials
from deeplab_spec.spec.network import rows
from deeplab_spec.spec.rows import Init

TESTED: Final = 4096
"""The number of values of a tensor that are sorted; the other tests use all values."""

PLANTED: Final = 4096
"""The joint tests are tried on the smallest tensor of at least so many values, else on the largest."""

FLOAT32: Final = torch.finfo(torch.float32)

EXISTED: Final = "the module was built before, so how its weights were drawn was not seen"

NOT_DRAWN: Final = (
    "two builds with different seeds have the same weights (a checkpoint, or a seed of its own), so how they are drawn "
    "was not seen; judge what builds it without pretrained weights and without a seed, or leave out the level training"
)

Inits = Mapping[str, Mapping[str, Init]]
"""The initialisation of the weight of a convolution, by choice and by path, including the specified one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """The values of one tensor."""

    place: Place
    tensor: Tensor
    again: Tensor | None  # the values in another build, if there is one
    among: Mapping[str, Distribution]  # the distributions by choice

    @property
    def specified(self) -> Distribution:
        """The specified distribution."""
        return self.among[SPECIFIED]

    @property
    def drawn(self) -> bool:
        """Whether the values are random."""
        return self.specified.shape is not Shape.CONSTANT

    @property
    def path(self) -> str:
        """The specification's node."""
        return self.place.source.rpartition(".")[0]

    @property
    def role(self) -> str:
        """The role of the tensor there."""
        return self.place.source.rpartition(".")[2]

    def test(self, result: Result) -> JointTest:
        """Return the result of a joint test of these values."""
        return JointTest(**asdict(result), path=self.path, role=self.role, candidate_path=self.place.name)


def sample_weights(
    network: Network,
    inits: Inits,
    places: Sequence[Place],
    state: Mapping[str, Tensor],
    again: Mapping[str, Tensor] | None,
) -> Initial:
    """Sample the weights that a candidate was built with.

    ``state`` are its parameters and buffers; ``again`` are those of a second build with another seed, if there is one.
    """
    found = list(_values(network, inits, places, state, again))
    drawn = [values for values in found if values.drawn]
    if drawn and all(_fixed(values) and values.tensor.min() < values.tensor.max() for values in drawn):
        return Initial(undecided=NOT_DRAWN)
    parts = [_part(values.tensor) for values in found]
    samples = [_sample(values, part) for values, part in zip(found, parts, strict=True)]
    together = [_together(shape, found, parts, samples) for shape in {values.specified.shape for values in drawn}]
    return Initial(
        samples=(*samples, *(sample for sample in together if sample)),
        joint=tuple(_joint(drawn)),
        planted=_planted(drawn),
    )


def _values(
    network: Network,
    inits: Inits,
    places: Sequence[Place],
    state: Mapping[str, Tensor],
    again: Mapping[str, Tensor] | None,
) -> Iterator[_Values]:
    for place in places:
        path, _, role = place.source.rpartition(".")
        op = network[path].op
        names = [SPECIFIED] if isinstance(op, BatchNorm) else list(inits)
        of = {name: distribution(op, role, inits.get(name, {}).get(path)) for name in names}
        among = {name: value for name, value in of.items() if value is not None}
        if SPECIFIED in among:
            first, second = state[place.name], (again or {}).get(place.name)
            if second is not None:
                second = place.read(second.to(first.dtype)) if second.shape == first.shape else None
            yield _Values(place=place, tensor=place.read(first), again=second, among=among)


def _fixed(values: _Values) -> bool:
    return values.again is not None and torch.equal(values.tensor, values.again)


def _part(tensor: Tensor) -> Tensor:
    """Return some values of a tensor, at even distances."""
    flat = tensor.flatten()
    return flat[:: -(-len(flat) // TESTED)].double()


def _sample(values: _Values, part: Tensor) -> Sample:
    tensor = values.tensor.flatten()
    tensor = tensor if values.drawn else tensor.double()
    least, most = tensor.aminmax()
    ordered = part.sort().values
    return Sample(
        path=values.path,
        role=values.role,
        candidate_path=values.place.name,
        count=len(tensor),
        mean=float(tensor.mean()),
        square=float(tensor.square().mean()),
        greatest=max(-float(least), float(most)),
        tested=len(part),
        fixed=values.drawn and _fixed(values),
        fits={name: (entry, _apart(tensor, ordered, entry)) for name, entry in values.among.items()},
    )


def _joint(drawn: Sequence[_Values]) -> Iterator[JointTest]:
    """Test the values of every tensor jointly, and those of every two."""
    traces = []
    for values in drawn:
        normal = standard(values.tensor.float(), values.specified)
        traces.append(trace(normal, coarse=torch.finfo(values.tensor.dtype).eps > FLOAT32.eps))
        results = [*tests_of(normal), *tests_of_magnitudes(traces[-1])]
        if values.again is not None and not _fixed(values):
            builds = (standard(_part(tensor), values.specified) for tensor in (values.tensor, values.again))
            results.append(test_of_builds(*builds))
        yield from map(values.test, results)
    for number, result in tests_of_others(traces, [values.path for values in drawn]):
        yield drawn[number].test(result)


def _planted(drawn: Sequence[_Values]) -> tuple[JointTest, ...]:
    """Test one of the tensors with the values of the first output channel in all of them."""
    ordered = sorted(drawn, key=lambda values: values.tensor.numel())
    one = next((values for values in ordered if values.tensor.numel() >= PLANTED), ordered[-1] if ordered else None)
    if one is None:
        return ()
    copies = one.tensor[:1].float().expand_as(one.tensor)
    return tuple(map(one.test, tests_of(standard(copies, one.specified))))


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


def _together(
    shape: Shape, found: Sequence[_Values], parts: Sequence[Tensor], samples: Sequence[Sample]
) -> Sample | None:
    """Sample all tensors whose distributions have a shape together, each divided by its scale; None if it is one."""
    group = [
        (sample, part, values.specified.scale)
        for values, part, sample in zip(found, parts, samples, strict=True)
        if values.specified.shape is shape
    ]
    if not group[1:]:
        return None
    count = sum(sample.count for sample, _, _ in group)
    part = torch.cat([part / scale for _, part, scale in group]).sort().values
    unit = Distribution(shape=shape, scale=1.0)
    return Sample(
        path=group[0][0].path,
        role=group[0][0].role,
        candidate_path=None,
        tensors=len(group),
        count=count,
        mean=sum(sample.count * sample.mean / scale for sample, _, scale in group) / count,
        square=sum(sample.count * sample.square / scale**2 for sample, _, scale in group) / count,
        greatest=max(sample.greatest / scale for sample, _, scale in group),
        tested=len(part),
        fits={SPECIFIED: (unit, _apart(part, part, unit))},
    )


def specified_inits(plan: SpecifiedPlan) -> Inits:
    """Return the specified initialisation, and that of every value of the choices ``init`` and ``backbone_init``."""
    own = {} if plan.choices.backbone_init == AS_HEAD else {"backbone_init"}
    others = {value.value: choose(plan.choices, dict.fromkeys({"init", *own}, value)) for value in Initialisation}
    classes = plan.request.class_count
    return {
        name: initials(rows(choices, plan.output_stride, classes))
        for name, choices in {SPECIFIED: plan.choices, **others}.items()
    }
