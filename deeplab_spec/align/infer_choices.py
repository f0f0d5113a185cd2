"""Infers from a candidate the values of choices that are numbers, which have no list of possible values."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.parts import features_of
from deeplab_spec.graph.ops import Add, BatchNorm, Concat, Conv2d, Pool
from deeplab_spec.spec.choices import Choices, ChoiceValue, names
from deeplab_spec.spec.layer_choices import scaled_channels

Decision = tuple[str, ChoiceValue]

_STAGES: Final = 4
_MOST_EPS: Final = 4
_PARTS: Final = (10, 100, 8, 16, 32, 64, 128, 10**3, 10**4, 10**5)
"""Round numbers are whole numbers of such parts of one; the first are the roundest."""


def read_width(candidate: Shaped, base: Sequence[int], usual: float = 1.0) -> float:
    """Return the multiplier that explains the channel counts of most nodes.

    ``base`` has the channel counts of a family at width 1; ``usual`` is returned unless another width explains more.
    """
    counts = Counter(
        channels
        for node in candidate.network
        if isinstance(node.op, Conv2d)
        for channels in (node.op.channels_in, node.op.channels_out)
    )
    made = sorted({node.op.channels_out for node in candidate.network if isinstance(node.op, Conv2d)})
    widths = (wide / count for wide in made[:-3:-1] for count in reversed(base) if 0 < wide <= 4 * count)
    covered = {width: _covered(counts, base, width) for width in (usual, *widths)}
    most = max(covered.values())
    best = [width for width, count in covered.items() if count == most]
    if usual in best:
        return usual
    return next((width for width in _rounded(best) if _covered(counts, base, width) >= most), best[0])


def _rounded(widths: Sequence[float]) -> Iterator[float]:
    """Yield numbers near some widths, the roundest first: many widths give the same channels."""
    for parts in _PARTS:
        for exact in (width * parts for width in widths):
            yield from (whole / parts for whole in (round(exact), math.floor(exact), math.ceil(exact)) if whole)


def _covered(counts: Counter[int], base: Sequence[int], width: float) -> int:
    return sum(counts[channels] for channels in scaled_channels(base, width).values())


def infer_choices(candidate: Shaped, known: Shaped, choices: Choices) -> Iterator[Decision]:
    """Return choices with the candidate's own numbers.

    ``known`` is the network of the current choices.
    """
    features = features_of(candidate.network)
    yield from _rates(candidate, features)
    yield from _eps(candidate)
    decided = names(type(choices))
    if "exit2_rates" in decided:
        at_16, at_8 = getattr(choices, "exit2_rates")  # noqa: B009 - only one family has it
        for rate in _last_rates(candidate, features):
            yield "exit2_rates", (rate, at_8)
            yield "exit2_rates", (at_16, rate)
    if "middle_blocks" in decided:
        for blocks in dict.fromkeys(_blocks(candidate, known, getattr(choices, "middle_blocks"))):  # noqa: B009 - as above
            if blocks > 0:
                yield "middle_blocks", blocks
    if "stage_units" in decided:
        yield from _stages(candidate)


def _rates(candidate: Shaped, features: str | None) -> Iterator[Decision]:
    rates = sorted(
        node.op.rate[0]
        for node in candidate.network
        if isinstance(node.op, Conv2d) and not node.op.pointwise and features in node.inputs
    )
    if features:
        yield "aspp_rates", tuple(rates)


def _last_rates(candidate: Shaped, features: str | None) -> Iterator[int]:
    """Return the rate of the last depthwise convolution before the features, or before an output."""
    for end in [features] if features else [node.path for node in candidate.network.outputs]:
        conv = _back(candidate, end, lambda op: op.depthwise)
        if conv:
            yield conv.rate[0]


def _back(candidate: Shaped, path: str, found: Callable[[Conv2d], bool]) -> Conv2d | None:
    """Walk back over nodes of one input to the first convolution for which a condition holds."""
    while path:
        node = candidate.network[path]
        if isinstance(node.op, Conv2d) and found(node.op):
            return node.op
        path = node.inputs[0] if len(node.inputs) == 1 else ""
    return None


def _eps(candidate: Shaped) -> Iterator[Decision]:
    counts = Counter(node.op.eps for node in candidate.network if isinstance(node.op, BatchNorm))
    for eps, _ in counts.most_common(_MOST_EPS):
        yield "backbone_norm_eps", eps
        yield "head_norm_eps", eps


def _stages(candidate: Shaped) -> Iterator[Decision]:
    """Return the units of four stages, each of sums with its own channels, and what surrounds them."""
    sums = Counter(candidate.channels(node.path) for node in candidate.network if isinstance(node.op, Add))
    if len(sums) == _STAGES:
        yield "stage_units", tuple(sums[channels] for channels in sorted(sums))
    yield from _stem(candidate)
    yield from _multi_grid(candidate, sums[max(sums, default=0)])


def _stem(candidate: Shaped) -> Iterator[Decision]:
    """Return the channels of the convolutions before the first pooling."""
    channels: list[int] = []
    for node in candidate.network:
        if isinstance(node.op, Pool):
            yield "stem_channels", tuple(channels)
        if isinstance(node.op, Pool | Add | Concat):
            break
        if isinstance(node.op, Conv2d):
            channels.append(node.op.channels_out)


def _multi_grid(candidate: Shaped, units: int) -> Iterator[Decision]:
    """Return the factors between the rates of the last stage's units."""
    sums = [node for node in candidate.network if isinstance(node.op, Add)][-units:] if units else []
    convs = (_back(candidate, node.inputs[0], lambda op: not op.pointwise) for node in sums)
    rates = [conv.rate[0] for conv in convs if conv]
    if rates and len(rates) == units and all(rate % rates[0] == 0 for rate in rates):
        yield "multi_grid", tuple(rate // rates[0] for rate in rates)


def _blocks(candidate: Shaped, known: Shaped, blocks: int) -> Iterator[int]:
    """Return possible numbers of middle blocks: each block ends in a sum of the same shape."""
    candidate_sums, known_sums = _sums(candidate), _sums(known)
    yield blocks + max(candidate_sums.values(), default=0) - max(known_sums.values(), default=0)
    more = candidate_sums.total() - known_sums.total()
    yield from (blocks + more + step for step in (0, -2, 2))


def _sums(shaped: Shaped) -> Counter[tuple[int, ...]]:
    return Counter(tuple(shaped.shapes[node.path]) for node in shaped.network if isinstance(node.op, Add))
